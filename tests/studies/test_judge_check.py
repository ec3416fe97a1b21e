"""The judges' self-test on descriptors and probabilities whose answers are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from omote.datasets.population import PopulationConfig
from omote.evaluation.judges import JudgeError, locate
from omote.head.expressions import CATEGORIES
from omote.studies.judge_check import (
    JudgeCheck,
    best_threshold,
    calibration_error,
    check_judges,
    expression_numbers,
    identity_numbers,
    table_rows,
    verification,
)


def persons(spread: float, count: int = 40) -> np.ndarray:
    """Descriptors at rest, in two expressions and in another capture; persons are ~1.4 × √8 apart."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, 1, 8)) + spread * rng.normal(size=(count, 4, 8))


def test_a_network_that_knows_persons_is_told_from_one_that_does_not() -> None:
    good = identity_numbers(persons(0.05))
    assert good["verification_accuracy"] > 0.97
    assert good["auc"] > 0.999
    assert good["same_other_capture_p95"] < good["threshold"] < good["different_p05"]
    clueless = np.random.default_rng(1).normal(size=(60, 4, 8))
    bad = identity_numbers(clueless)
    assert 0.35 < bad["verification_accuracy"] < 0.65
    assert 0.35 < bad["auc"] < 0.65


def test_auc_is_the_share_of_pairs_in_order() -> None:
    rng = np.random.default_rng(2)
    same, d = rng.random(7), rng.random((7, 7)) + 0.2
    d = (d + d.T) / 2
    others = d[np.triu_indices(7, 1)]
    expected = np.mean([[float(o > s) for o in others] for s in same])
    assert verification(same, d).auc == pytest.approx(expected)


def test_the_best_threshold_is_the_best_of_all() -> None:
    rng = np.random.default_rng(3)
    same, different = rng.normal(0.4, 0.1, 50), rng.normal(0.6, 0.1, 80)
    got = best_threshold(same, different)

    def told(t: float) -> float:
        return float((same < t).mean() + (different >= t).mean())

    assert told(got) == pytest.approx(max(told(t + 1e-9) for t in (*same, *different)), abs=1e-9)
    assert best_threshold(np.array([0.1, 0.2]), np.array([0.4])) == pytest.approx(0.3)


def test_two_persons_have_distances_but_no_verification() -> None:
    got = identity_numbers(persons(0.05, count=2))
    assert np.isnan(got["verification_accuracy"])
    assert got["different_mean"] > 0


def test_confidence_is_calibrated_when_it_is_right_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    confidence = rng.uniform(0.2, 1, 20_000)
    assert calibration_error(confidence, rng.random(20_000) < confidence) < 0.02
    assert calibration_error(np.full(10, 0.9), np.zeros(10, bool)) == pytest.approx(0.9)
    assert calibration_error(np.array([1.0, 1.0]), np.array([True, True])) == 0.0


def test_expression_numbers_of_a_known_judge() -> None:
    category = np.repeat(np.arange(7), 4)
    probabilities = np.full((28, 7), 0.05)
    probabilities[np.arange(28), np.where(category == 3, 6, category)] = 0.7
    got = expression_numbers(probabilities, category)
    assert got["top1"] == pytest.approx(6 / 7)
    assert got["top1_angry"] == 0.0
    assert got["confusion_angry_disgusted"] == 1.0
    assert got["confidence_mean"] == pytest.approx(0.7)


def test_a_check_can_be_cut_short_and_gives_the_same(tmp_path: Path) -> None:
    try:
        locate()
    except JudgeError as error:
        pytest.skip(str(error))
    population = PopulationConfig(split="test", size=64)
    config = JudgeCheck(population=population, num_persons=2)
    list(check_judges(config, tmp_path / "whole"))
    work = check_judges(config, tmp_path / "cut")
    next(work)
    work.close()
    assert not (tmp_path / "cut/metrics.json").exists()
    list(check_judges(config, tmp_path / "cut"))
    for name in ("metrics.json", "table.csv"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    numbers = json.loads((tmp_path / "whole/metrics.json").read_text())
    assert numbers["identity/faceapi/same_other_capture_mean"] < numbers["identity/faceapi/different_mean"]
    lines = table_rows(numbers)
    assert [line[0] for line in lines] == ["identity", "faceapi", "expression", "faceapi", "fer", "both"]
    assert len(lines[2]) == len(lines[3]) == len(CATEGORIES) + 3
