"""Intervals cover what they claim to, tests reject as often as they claim to, and both can be repeated."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from omote.evaluation.statistics import bootstrap, bootstrap_macro_mean, bootstrap_mean, paired_test


def test_intervals_of_a_normal_mean_cover_it_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    covered, trials = 0, 400
    for _ in range(trials):
        got = bootstrap_mean(rng.normal(3.0, 2.0, 60), num_resamples=500)
        covered += got.low <= 3.0 <= got.high
    # Binomial: 95 % ± 1.1 %; the percentile interval of 60 is known to be about 1 % short.
    assert 0.90 < covered / trials < 0.98


def test_an_interval_is_as_wide_as_the_normal_one() -> None:
    x = np.random.default_rng(1).normal(0, 5, 400)
    got = bootstrap_mean(x, num_resamples=4000)
    expected = 1.96 * x.std() / math.sqrt(len(x))
    assert got.value == pytest.approx(x.mean())
    assert (got.high - got.low) / 2 == pytest.approx(expected, rel=0.05)


def test_the_fast_mean_draws_what_the_plain_bootstrap_draws() -> None:
    x = np.random.default_rng(2).normal(size=23)
    plain = bootstrap(lambda i: float(x[i].mean()), len(x), num_resamples=300, seed=7)
    fast = bootstrap_mean(x, num_resamples=300, seed=7)
    assert (fast.value, fast.low, fast.high) == pytest.approx((plain.value, plain.low, plain.high), rel=1e-12)
    assert bootstrap_mean(x, seed=7) == bootstrap_mean(x, seed=7)
    assert bootstrap_mean(x, seed=7) != bootstrap_mean(x, seed=8)


def test_weights_count_persons_by_their_images() -> None:
    x, w = np.array([1.0, 4.0, np.nan]), np.array([3.0, 1.0, 0.0])
    got = bootstrap_mean(x, weights=w)
    assert got.value == pytest.approx((3 * 1 + 1 * 4) / 4)
    assert got.num_persons == 2


def test_a_macro_mean_is_the_plain_bootstrap_of_the_mean_over_classes() -> None:
    rng = np.random.default_rng(5)
    x, w = rng.random((20, 3)), rng.integers(0, 3, (20, 3)).astype(float)
    x[w == 0] = np.nan

    def macro(drawn: np.ndarray) -> float:
        return float(np.mean([np.nansum((w * x)[drawn, c]) / w[drawn, c].sum() for c in range(3)]))

    plain = bootstrap(macro, 20, num_resamples=300, seed=3)
    fast = bootstrap_macro_mean(x, w, num_resamples=300, seed=3)
    assert (fast.value, fast.low, fast.high) == pytest.approx((plain.value, plain.low, plain.high), rel=1e-12)


def test_nothing_measured_and_one_person_have_no_interval() -> None:
    for x in (np.array([np.nan, np.nan]), np.array([2.0])):
        got = bootstrap_mean(x)
        assert math.isnan(got.low)
        assert math.isnan(got.high)
    assert math.isnan(paired_test(np.array([2.0]), np.array([1.0])).p_value)


def test_few_persons_are_tested_exactly() -> None:
    a, b = np.array([1.0, 2.0, 4.0, 3.0, 7.0]), np.array([0.5, 2.5, 1.0, 1.0, 2.0])
    d = a - b
    sums = [abs(sum(s * v for s, v in zip(signs, d, strict=True))) for signs in itertools.product((1, -1), repeat=5)]
    expected = sum(s >= abs(d.sum()) - 1e-12 for s in sums) / 32
    got = paired_test(a, b)
    assert got.num_permutations == 32
    assert got.p_value == pytest.approx(expected)
    # All differences of one sign: only that pattern and its mirror are as large.
    assert paired_test(b + 1 + np.abs(d), b).p_value == pytest.approx(2 / 32)


def test_equal_rows_are_rejected_as_often_as_the_level_says() -> None:
    rng = np.random.default_rng(3)
    p = [paired_test(rng.normal(size=30), rng.normal(size=30), num_permutations=500).p_value for _ in range(400)]
    assert 0.025 < np.mean(np.array(p) <= 0.05) < 0.08
    assert 0.4 < np.mean(np.array(p) <= 0.5) < 0.6


def test_pairing_finds_what_lies_below_the_spread_between_persons() -> None:
    rng = np.random.default_rng(4)
    person = rng.normal(0, 10, 60)
    a, b = person + 0.3 + rng.normal(0, 0.3, 60), person + rng.normal(0, 0.3, 60)
    got = paired_test(a, b)
    assert got.p_value < 0.001
    assert got.p_value > 0
    assert got.difference.low > 0
    assert got.difference.value == pytest.approx((a - b).mean())
    assert paired_test(b, a).difference.value == pytest.approx(-got.difference.value)


def test_persons_without_a_value_in_either_row_are_left_out() -> None:
    a, b = np.array([1.0, np.nan, 3.0, 5.0]), np.array([0.0, 1.0, np.nan, 3.0])
    got = paired_test(a, b)
    assert got.difference.num_persons == 2
    assert got.difference.value == pytest.approx(1.5)
