"""Telling persons apart by a distance, and how far a judge's confidence is from being right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata

NUM_FOLDS = 10
NUM_BINS = 10


@dataclass(frozen=True, kw_only=True)
class PairVerification:
    """Telling persons apart by a distance.

    Attributes:
        accuracy: share of same and different pairs told rightly, both kinds counting half, at a threshold chosen on the
            other folds' persons; NaN where a fold has no pair of a kind.
        threshold: mean of the folds'.
        auc: how often a same-person pair is nearer than a different-person pair.
    """

    accuracy: float
    threshold: float
    auc: float


def verification(same: Float[np.ndarray, " p"], different: Float[np.ndarray, "p p"]) -> PairVerification:
    """Tell pairs by a threshold, chosen on nine tenths of the persons and judged on the last (as LFW's protocol does).

    Args:
        same: distance of each person's two captures.
        different: distances between persons, symmetric.
    """
    count = len(same)
    upper = np.triu(np.ones((count, count), bool), 1)
    ranks = rankdata(np.concatenate([same, different[upper]]))
    pairs = int(upper.sum())
    farther = (ranks[count:].sum() - pairs * (pairs + 1) / 2) / (count * pairs) if pairs else float("nan")
    folds = np.arange(count) % min(NUM_FOLDS, count)
    accuracies, thresholds = [], []
    for fold in range(min(NUM_FOLDS, count)):
        held = folds == fold
        rest_pairs = different[upper & ~held[:, None] & ~held[None, :]]
        # Pairs of which one person is held out have a side that no threshold was chosen on.
        held_pairs = different[upper & (held[:, None] | held[None, :])]
        if not len(rest_pairs) or not len(held_pairs):
            continue
        threshold = best_threshold(same[~held], rest_pairs)
        thresholds.append(threshold)
        accuracies.append(0.5 * float((same[held] < threshold).mean() + (held_pairs >= threshold).mean()))
    if not accuracies:
        return PairVerification(accuracy=float("nan"), threshold=float("nan"), auc=farther)
    return PairVerification(accuracy=float(np.mean(accuracies)), threshold=float(np.mean(thresholds)), auc=farther)


def best_threshold(same: Float[np.ndarray, " n"], different: Float[np.ndarray, " m"]) -> float:
    """Where most of both kinds are told rightly, both counting half: midway between the neighbours of the best cut."""
    values = np.unique(np.concatenate([same, different]))
    cuts = np.concatenate([values[:1] - 1e-6, (values[1:] + values[:-1]) / 2, values[-1:] + 1e-6])
    below = np.searchsorted(np.sort(same), cuts) / len(same)
    above = 1 - np.searchsorted(np.sort(different), cuts) / len(different)
    return float(cuts[np.argmax(below + above)])


def calibration_error(confidence: Float[np.ndarray, " n"], hits: Bool[np.ndarray, " n"]) -> float:
    """Expected calibration error: |accuracy - confidence| in ten equal bins, weighed by their images (Guo et al., ICML 2017)."""
    bins = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)
    total = 0.0
    for k in np.unique(bins):
        here = bins == k
        total += abs(hits[here].mean() - confidence[here].mean()) * here.mean()
    return float(total)
