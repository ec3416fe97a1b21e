"""The judges' self-test on descriptors and probabilities whose answers are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from omote.evaluation.judges.weights import JudgeError, locate
from omote.evaluation.records import Row, Table
from omote.evaluation.verification import best_threshold, calibration_error, verification
from omote.head.expressions import CATEGORIES
from omote.progress import finish
from omote.studies.base import run_study
from omote.studies.judge_check import identity_numbers, table_rows
from omote.studies.suites import JudgeSuite
from stand_ins import use_small_persons


def persons(spread: float, count: int = 40) -> np.ndarray:
    """Descriptors at rest, in two expressions and in another capture; persons are ~1.4 × √8 apart."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, 1, 8)) + spread * rng.normal(size=(count, 4, 8))


def of(table: Table, key: str, pairs: str = "") -> float:
    value = table[Row().under(pairs=pairs) if pairs else Row()][f"identity_pairs/{key}"]
    assert isinstance(value, float)
    return value


def test_verification_separates_good_networks_from_random_ones() -> None:
    good = identity_numbers(persons(0.05))
    assert of(good, "accuracy") > 0.97
    assert of(good, "auc") > 0.999
    threshold = of(good, "threshold")
    assert of(good, "distance_p95", "same_other_capture") < threshold < of(good, "distance_p05", "different")
    clueless = np.random.default_rng(1).normal(size=(60, 4, 8))
    bad = identity_numbers(clueless)
    assert 0.35 < of(bad, "accuracy") < 0.65
    assert 0.35 < of(bad, "auc") < 0.65


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
    assert np.isnan(of(got, "accuracy"))
    assert of(got, "distance_mean", "different") > 0


def test_confidence_is_calibrated_when_it_is_right_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    confidence = rng.uniform(0.2, 1, 20_000)
    assert calibration_error(confidence, rng.random(20_000) < confidence) < 0.02
    assert calibration_error(np.full(10, 0.9), np.zeros(10, bool)) == pytest.approx(0.9)
    assert calibration_error(np.array([1.0, 1.0]), np.array([True, True])) == 0.0


def test_a_check_can_be_cut_short_and_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        locate()
    except JudgeError as error:
        pytest.skip(str(error))
    use_small_persons(monkeypatch)
    suite = JudgeSuite(persons=2)
    finish(run_study(suite, tmp_path / "whole"))
    work = run_study(suite, tmp_path / "cut")
    assert [next(work).note for _ in range(3)] == ["", "000000", "000001"]
    work.close()
    assert not (tmp_path / "cut/metrics.json").exists()
    finish(run_study(suite, tmp_path / "cut"))
    for name in ("metrics.json", "table.csv"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    numbers = json.loads((tmp_path / "whole/metrics.json").read_text())
    same, different = (
        numbers[f"identity_pairs/distance_mean/faceapi/pairs={pairs}"] for pairs in ("same_other_capture", "different")
    )
    assert same < different
    # The ceiling of every accuracy, under the key that other suites have it by.
    per_class = [numbers[f"expression/top1_fer_{name}/ceiling"] for name in CATEGORIES]
    assert numbers["expression/top1_fer/ceiling"] == pytest.approx(np.mean(per_class))
    assert numbers["expression/confusion_fer/ceiling/true=happy/judged=happy"] == per_class[1]
    assert 0 < numbers["expression/confidence_both/ceiling"] < 1
    lines = table_rows(numbers)
    assert [line[0] for line in lines] == ["identity", "faceapi", "expression", "both", "faceapi", "fer"]
    assert len(lines[2]) == len(lines[3]) == len(CATEGORIES) + 3
    assert suite.summary(numbers).count("\n") == len(lines) - 1
    page = (tmp_path / "whole/report.html").read_text()
    assert "2 persons of the test split" in page
    assert page.count("<svg") == 3
