"""Uncertainty of results: bootstrap intervals over persons, and paired tests of two rows on the same persons.

The sampling unit is the person, not the image: a person's seven images share face, light and camera, and treating them as
independent would make every interval too narrow.
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
        value: estimate from all persons.
        low: lower bound; NaN for fewer than two persons.
        high: upper bound; NaN for fewer than two persons.
        num_persons: number of measured persons.
    """

    value: float
    low: float
    high: float
    num_persons: int


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """A paired test of two rows on the same persons.

    Attributes:
        difference: mean of first minus second, with its interval over persons.
        p_value: two-sided p-value: how often random signs give as large a difference; NaN for fewer than two persons.
        num_permutations: number of permutations tried; all of them for few persons.
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
        statistic: function from indices of persons, each repeated as often as it was drawn, to a statistic.
        num_persons: number of persons.
        num_resamples: number of samples drawn with replacement; samples without any value (NaN) are not counted.
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
    """`bootstrap` of a mean, computed for all samples at once with the same draws.

    Args:
        per_person: value of each person; NaN if there is none.
        weights: weights of persons, such as their number of measured images; equal if None.
        num_resamples: number of samples.
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
    """`bootstrap_mean` of several classes, averaged over the classes in a sample.

    Args:
        per_person: value of each person in each class; NaN if there is none.
        weights: weights of persons in each class.
        num_resamples: number of samples.
        seed: seed of the draws.
    """
    measured = ~np.isnan(per_person)
    w = np.where(measured, weights, 0.0).astype(np.float64)
    wx = w * np.where(measured, per_person, 0.0)
    total = int(measured.any(axis=1).sum())
    value = float(_macro(np.ones((1, len(w))), w, wx)[0])
    if total < 2:  # without bounds, whatever is drawn
        return Interval(value=value, low=np.nan, high=np.nan, num_persons=total)
    low, high = _bounds(w.tobytes(), wx.tobytes(), w.shape, num_resamples, seed)
    return Interval(value=value, low=low, high=high, num_persons=total)


@lru_cache(maxsize=1024)  # a report shows what its table holds, and its tables share most cells
def _bounds(w: bytes, wx: bytes, shape: tuple[int, ...], num_resamples: int, seed: int) -> tuple[float, float]:
    """Bounds of the mean over classes, from weights and weighted values of persons as bytes of arrays (person, class)."""
    columns = (np.frombuffer(data, np.float64).reshape(shape) for data in (w, wx))
    found = _interval(np.nan, _macro(_times_drawn(shape[0], num_resamples, seed), *columns), 2)
    return found.low, found.high


def _macro(
    times: Float[np.ndarray, "r p"], w: Float[np.ndarray, "p c"], wx: Float[np.ndarray, "p c"]
) -> Float[np.ndarray, " r"]:
    """The mean over classes of each sample, from how often it has each person, and weights and weighted values of persons."""
    there = times @ w
    means = np.divide(times @ wx, there, out=np.full(there.shape, np.nan), where=there > 0)
    count = (there > 0).sum(axis=1)
    return np.where(count > 0, np.nansum(means, axis=1) / np.maximum(count, 1), np.nan)


@lru_cache(maxsize=8)
def _times_drawn(num_persons: int, num_resamples: int, seed: int) -> np.ndarray:
    """How often each sample draws each person (sample, person), with the draws of `bootstrap`."""
    rng = np.random.default_rng(seed)
    drawn = [rng.integers(num_persons, size=num_persons) for _ in range(num_resamples)]
    return np.stack([np.bincount(d, minlength=num_persons) for d in drawn]).astype(np.float64)


def _interval(value: float, values: Float[np.ndarray, " r"], num_persons: int) -> Interval:
    """The interval of resampled values; NaN bounds for fewer than two persons, or without any value."""
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

    Under the null hypothesis, the two rows could be exchanged on every person. For few persons all sign patterns are tried;
    otherwise random ones and the observed one, so that p is never 0.

    Args:
        first: value of each person; NaN if there is none, which excludes the person.
        second: values of the same persons in the same order.
        num_permutations: largest number of permutations.
        seed: seed of the signs and of the interval's draws.
    """
    difference = first.astype(np.float64) - second
    kept = difference[~np.isnan(difference)]
    interval = bootstrap_mean(kept, seed=seed)
    count = len(kept)
    if count < 2:
        return PairedTest(difference=interval, p_value=float("nan"), num_permutations=0)
    observed = abs(kept.sum())
    # Rounding must not make a pattern that ties with the observed one count as smaller.
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
