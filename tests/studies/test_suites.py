"""The suites' options: what each stands for, what it refuses, and which networks are measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import omote
from omote.errors import CheckpointError, ConfigError, OutputError
from omote.progress import Step, Steps
from omote.studies import release
from omote.studies.base import ModelStudy, Results, Work
from omote.studies.suites import JudgeSuite, QuickSuite, ReleaseSuite


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[ReleaseSuite]:
    """The suites that are asked for, in the place of measuring; without shipped rivals."""
    got: list[ReleaseSuite] = []

    def measured(suite: ReleaseSuite, work: Work) -> Steps[Results]:
        got.append(suite)
        yield Step(stage="load")
        return Results(numbers={"count/persons": suite.persons}, facts=suite.facts())

    (tmp_path / "shipped").mkdir()
    monkeypatch.setattr("omote.studies.suites.SHIPPED_WEIGHTS", tmp_path / "shipped")
    monkeypatch.setattr(ModelStudy, "model", lambda self: None)
    monkeypatch.setattr(release, "measure_release", measured)
    return got


def test_quick_is_the_release_suite_of_few_persons_with_sets(asked: list[ReleaseSuite], tmp_path: Path) -> None:
    omote.evaluate(QuickSuite(weights=tmp_path), out=tmp_path / "quick")
    omote.evaluate(ReleaseSuite(weights=tmp_path), out=tmp_path / "release")
    quick, full = asked
    assert (quick.persons, quick.sets, quick.best_of, quick.best_of_persons) == (10, True, 4, 4)
    assert (full.persons, full.sets, full.best_of, full.best_of_persons) == (200, False, 8, 40)
    assert quick.unseen() == full.unseen()


def test_rivals_without_weights_are_said_to_be_missing(asked: list[ReleaseSuite], tmp_path: Path) -> None:
    plain = QuickSuite(weights=tmp_path)
    omote.evaluate(plain, out=tmp_path / "none")
    run = json.loads((tmp_path / "none/run.json").read_text())
    assert run["run/missing_regression"]
    assert run["run/missing_pixel_diffusion"]
    assert plain.summary({}).startswith(
        "not measured: pixel_diffusion, regression; their weights come with omote's repository"
    )
    assert asked[-1].rivals_by_row() == {}

    (tmp_path / "shipped/rivals/pixel_diffusion").mkdir(parents=True)
    omote.evaluate(QuickSuite(weights=tmp_path, regression=tmp_path / "mine"), out=tmp_path / "both")
    run = json.loads((tmp_path / "both/run.json").read_text())
    assert not any(key.startswith("run/missing") for key in run)
    assert asked[-1].rivals_by_row() == {
        "regression": tmp_path / "mine",
        "pixel_diffusion": tmp_path / "shipped/rivals/pixel_diffusion",
    }
    # A folder without these rows must not grow them half way.
    with pytest.raises(OutputError, match="other settings"):
        omote.evaluate(plain, out=tmp_path / "none")
    with pytest.raises(ConfigError, match="persons or rows are others"):
        omote.evaluate(QuickSuite(weights=tmp_path, rivals=tmp_path / "none"), out=tmp_path / "taken")
    taken = QuickSuite(weights=tmp_path, regression=tmp_path / "mine", rivals=tmp_path / "both")
    omote.evaluate(taken, out=tmp_path / "taken2")
    with pytest.raises(ConfigError, match="expected the result folder of an earlier release evaluation"):
        omote.evaluate(QuickSuite(weights=tmp_path, rivals=tmp_path), out=tmp_path / "taken3")


@pytest.mark.parametrize(
    ("suite", "error", "message"),
    [
        (lambda folder: QuickSuite(test_set="cross-model"), ConfigError, "give --ict"),
        (lambda folder: JudgeSuite(arcface=folder / "wrong"), CheckpointError, "expected arcface_r50"),
        (lambda folder: QuickSuite(arcface=folder / "wrong"), CheckpointError, "expected arcface_r50"),
    ],
)
def test_what_cannot_be_measured_does_not_claim_the_folder(
    suite: Callable[[Path], ReleaseSuite], error: type[Exception], message: str, tmp_path: Path
) -> None:
    (tmp_path / "wrong").write_bytes(b"no")
    with pytest.raises(error, match=message):
        omote.evaluate(suite(tmp_path), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
