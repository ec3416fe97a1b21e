"""Verification of persons by a distance, and calibration of a judge's confidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata

NUM_FOLDS = 10
NUM_BINS = 10


@dataclass(frozen=True, kw_only=True)
class PairVerification:
    """Verification of persons by a distance.

    Attributes:
        accuracy: accuracy on pairs of the same and of different persons, both kinds counting half, with a threshold chosen
            on the other folds' persons; NaN if a fold has no pair of one kind.
        threshold: mean of the folds' thresholds.
        auc: how often a pair of the same person is closer than a pair of different persons.
    """

    accuracy: float
    threshold: float
    auc: float


def verification(same: Float[np.ndarray, " p"], different: Float[np.ndarray, "p p"]) -> PairVerification:
    """Verify pairs with a threshold chosen on nine tenths of the persons and tested on the rest (LFW's protocol).

    Args:
        same: distance of each person's two captures.
        different: symmetric matrix of distances between persons.
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
        # Pairs with only one held-out person are left out: the threshold was chosen on the other one.
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
    """The threshold with the best accuracy, both kinds counting half: midway between the neighbours of the best cut."""
    values = np.unique(np.concatenate([same, different]))
    cuts = np.concatenate([values[:1] - 1e-6, (values[1:] + values[:-1]) / 2, values[-1:] + 1e-6])
    below = np.searchsorted(np.sort(same), cuts) / len(same)
    above = 1 - np.searchsorted(np.sort(different), cuts) / len(different)
    return float(cuts[np.argmax(below + above)])


def calibration_error(confidence: Float[np.ndarray, " n"], hits: Bool[np.ndarray, " n"]) -> float:
    """Expected calibration error: |accuracy - confidence| in ten equal bins, weighted by images (Guo et al., ICML 2017)."""
    bins = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)
    total = 0.0
    for k in np.unique(bins):
        here = bins == k
        total += abs(hits[here].mean() - confidence[here].mean()) * here.mean()
    return float(total)
