"""What the study of diffusion adds to the suite's numbers, and what it refuses."""

from pathlib import Path

import pytest

import omote
from omote.errors import ConfigError
from omote.evaluation.records import Row
from omote.studies.diffusion import WhereDiffusionPays, against_regression

BEST, DIVERSITY = "depth/mae_mm_best_of_8", "diversity/depth_mm"


def test_rows_asked_by_category_are_compared_with_the_regression() -> None:
    def row(name: str, condition: str, steps: int) -> Row:
        return Row(name).under(condition=condition, steps=steps)

    table = {
        row("flow", "category", 8): {BEST: 3.0, f"ratio/{BEST}": 1.5},
        row("flow_category_1", "prior", 1): {BEST: 1.0, DIVERSITY: 0.4},
        row("flow", "arkit", 1): {BEST: 0.5},
        row("regression", "category", 1): {BEST: 2.0, DIVERSITY: 0.0},
        Row("ceiling"): {BEST: 1.0},
    }
    found = against_regression(table)
    ratios = {of: cells[f"against_regression/{BEST}"] for of, cells in found.items()}
    assert ratios == {
        row("flow", "category", 8): 1.5, row("flow_category_1", "prior", 1): 0.5, row("regression", "category", 1): 1.0,
    }  # fmt: skip
    # What the regression has none of is no ratio, and nor are ratios.
    added = {key for cells in found.values() for key in cells if key.startswith("against_regression/")}
    assert added == {f"against_regression/{BEST}"}


def test_without_a_checkout_the_default_runs_are_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omote.studies.diffusion.SHIPPED", (tmp_path / "rivals/flow", tmp_path / "rivals/regression"))
    with pytest.raises(ConfigError, match="not with its wheel: give --runs DIR"):
        omote.study(
            WhereDiffusionPays(runs=(tmp_path / "rivals/flow", tmp_path / "rivals/regression")), out=tmp_path / "out"
        )


def test_without_a_regression_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a folder named regression among them, got flow"):
        omote.study(WhereDiffusionPays(runs=(tmp_path / "flow",)), out=tmp_path / "out")
