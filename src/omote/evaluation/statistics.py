"""How sure a number is: bootstrap intervals over persons, and paired tests of two rows on the same persons.

Persons are what is drawn, not images: a person's seven images share face, light and camera, and counting them apart would
make every interval too narrow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int

LEVEL = 0.95
NUM_RESAMPLES = 2000
NUM_PERMUTATIONS = 10_000


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate and its percentile bootstrap interval.

    Attributes:
        value: estimate of all persons.
        low: lower end; NaN where there are fewer than two persons.
        high: upper end.
        num_persons: number of measured persons.
    """

    value: float
    low: float
    high: float
    num_persons: int


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """Two rows on the same persons.

    Attributes:
        difference: first minus second, with its interval over persons.
        p_value: two-sided; how often random signs make as large a difference. NaN where there are fewer than two persons.
        num_permutations: tried; all of them where persons are few.
    """

    difference: Interval
    p_value: float
    num_permutations: int


def bootstrap(
    statistic: Callable[[Int[np.ndarray, " p"]], float],
    num_persons: int,
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap over persons (Efron & Tibshirani, *An Introduction to the Bootstrap*, 1993, §13.3).

    Args:
        statistic: statistic of a sample, given as indices of persons, each as often as it was drawn.
        num_persons: number of persons.
        num_resamples: samples drawn with replacement; those without anything to measure (NaN) do not count.
        seed: seed of the draws.
    """
    value = statistic(np.arange(num_persons))
    rng = np.random.default_rng(seed)
    values = [statistic(rng.integers(num_persons, size=num_persons)) for _ in range(num_resamples)]
    return _interval(value, np.array(values), num_persons)


def bootstrap_mean(
    per_person: Float[np.ndarray, " p"],
    *,
    weights: Float[np.ndarray, " p"] | None = None,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """`bootstrap` of a mean, all samples at once; the draws are `bootstrap`'s own.

    Args:
        per_person: NaN where a person had nothing to measure.
        weights: weights of persons, e.g. in how many images they had something to measure; equal if None.
        num_resamples: samples.
        seed: seed of the draws.
    """
    plain = np.ones(len(per_person)) if weights is None else weights.astype(np.float64)
    columns = per_person[:, None].astype(np.float64), plain[:, None]
    return bootstrap_macro_mean(*columns, num_resamples=num_resamples, seed=seed)


def bootstrap_macro_mean(
    per_person: Float[np.ndarray, "p c"],
    weights: Float[np.ndarray, "p c"],
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """`bootstrap_mean` of several classes, averaged over the classes that a sample holds.

    Args:
        per_person: a person's value in each class; NaN where they had nothing to measure.
        weights: weights of persons in each class.
        num_resamples: samples.
        seed: seed of the draws.
    """
    measured = ~np.isnan(per_person)
    w = np.where(measured, weights, 0.0)
    wx = w * np.where(measured, per_person, 0.0)
    total = int(measured.any(axis=1).sum())

    def macro(times: np.ndarray) -> np.ndarray:
        there = times @ w
        means = np.divide(times @ wx, there, out=np.full(there.shape, np.nan), where=there > 0)
        count = (there > 0).sum(axis=1)
        return np.where(count > 0, np.nansum(means, axis=1) / np.maximum(count, 1), np.nan)

    value = float(macro(np.ones((1, len(w))))[0])
    return _interval(value, macro(_times_drawn(len(w), num_resamples, seed)), total)


@lru_cache(maxsize=8)
def _times_drawn(num_persons: int, num_resamples: int, seed: int) -> np.ndarray:
    """How often each sample draws each person, as `bootstrap` draws them: (samples, persons)."""
    rng = np.random.default_rng(seed)
    drawn = [rng.integers(num_persons, size=num_persons) for _ in range(num_resamples)]
    return np.stack([np.bincount(d, minlength=num_persons) for d in drawn]).astype(np.float64)


def _interval(value: float, values: Float[np.ndarray, " r"], num_persons: int) -> Interval:
    """Of fewer than two persons, or samples that have nothing to measure, there is none."""
    kept, tail = values[~np.isnan(values)], 50.0 * (1.0 - LEVEL)
    if num_persons < 2 or not len(kept):
        return Interval(value=value, low=np.nan, high=np.nan, num_persons=num_persons)
    low, high = np.percentile(kept, [tail, 100.0 - tail])
    return Interval(value=value, low=float(low), high=float(high), num_persons=num_persons)


def paired_test(
    first: Float[np.ndarray, " p"],
    second: Float[np.ndarray, " p"],
    *,
    num_permutations: int = NUM_PERMUTATIONS,
    seed: int = 0,
) -> PairedTest:
    """Sign-flip permutation test of a mean difference over persons (Fisher, *The Design of Experiments*, 1935, §21).

    Under the null hypothesis the two rows could have changed places on every person. With few persons all sign patterns are
    tried; otherwise random ones, and the observed one counts among them, so that p is never 0.

    Args:
        first: a value per person; NaN where a person had nothing to measure, and then it does not count.
        second: values of the same persons in the same order.
        num_permutations: upper bound of the number of permutations.
        seed: seed of signs and of the interval's draws.
    """
    difference = first.astype(np.float64) - second
    kept = difference[~np.isnan(difference)]
    interval = bootstrap_mean(kept, seed=seed)
    count = len(kept)
    if count < 2:
        return PairedTest(difference=interval, p_value=float("nan"), num_permutations=0)
    observed = abs(kept.sum())
    # Rounding must not make a pattern that ties with the observed one smaller than it.
    bound = observed - 1e-9 * np.abs(kept).sum()
    if 2**count <= num_permutations:
        patterns = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
        sums = np.abs((1 - 2 * patterns) @ kept)
        return PairedTest(difference=interval, p_value=float((sums >= bound).mean()), num_permutations=2**count)
    rng = np.random.default_rng(seed)
    signs = rng.integers(0, 2, size=(num_permutations - 1, count), dtype=np.int8)
    sums = np.abs((1 - 2 * signs) @ kept)
    p_value = (1 + int((sums >= bound).sum())) / num_permutations
    return PairedTest(difference=interval, p_value=p_value, num_permutations=num_permutations)
