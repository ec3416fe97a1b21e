"""What the study of diffusion adds to the suite's numbers, and what it refuses."""

from pathlib import Path

import pytest

import omote
from omote.errors import ConfigError
from omote.studies.diffusion import WhereDiffusionPays, against_regression


def test_rows_asked_by_category_are_compared_with_the_regression() -> None:
    numbers = {
        "depth/mae_mm_best_of/flow_category_8": 3.0,
        "depth/mae_mm_best_of/flow_prior_1": 1.0,
        "depth/mae_mm_best_of/flow_arkit_1": 0.5,
        "depth/mae_mm_best_of/regression_category_1": 2.0,
        "diversity/depth_mm/flow_prior_1": 0.4,
        "diversity/depth_mm/regression_category_1": 0.0,
        "count/persons": 2.0,
    }
    assert against_regression(numbers) == {
        "against_regression/depth/mae_mm_best_of/flow_category_8": 1.5,
        "against_regression/depth/mae_mm_best_of/flow_prior_1": 0.5,
        "against_regression/depth/mae_mm_best_of/regression_category_1": 1.0,
    }


def test_without_a_regression_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected one of a folder named regression, got flow"):
        omote.study(WhereDiffusionPays(runs=(tmp_path / "flow",)), out=tmp_path / "out")
