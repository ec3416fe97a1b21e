"""Distances between sets of images, as pure functions of their features: features → statistics → metric.

The network that gives the features is named in a metric's key (``fd/face_id``), and unknown here. Results depend on the sets, not
on their batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial.distance import cdist

from omote.errors import OmoteError

BLOCK = 1024  # number of features per block when all pairs are compared


@dataclass(frozen=True, kw_only=True)
class FeatureStatistics:
    """Mean and covariance of a set's features.

    Attributes:
        mean: mean of each dimension.
        covariance: unbiased covariance.
        count: number of features.
        root: of a set no larger than its dimension, R with RᵀR the covariance: the centred features over √(count - 1).
    """

    mean: Float[np.ndarray, " d"]
    covariance: Float[np.ndarray, "d d"]
    count: int
    root: Float[np.ndarray, "n d"] | None = None


def feature_statistics(features: Float[np.ndarray, "n d"]) -> FeatureStatistics:
    """Statistics of features, in float64.

    Raises:
        OmoteError: fewer than two features.
    """
    if len(features) < 2:
        raise OmoteError(f"expected at least 2 features for a covariance, got {len(features)}")
    x = features.astype(np.float64)
    mean, covariance = x.mean(axis=0), np.atleast_2d(np.cov(x, rowvar=False))
    root = (x - mean) / np.sqrt(len(x) - 1) if len(x) <= x.shape[1] else None
    return FeatureStatistics(mean=mean, covariance=covariance, count=len(x), root=root)


def streamed_statistics(parts: Callable[[], Iterable[Float[np.ndarray, "n d"]]]) -> FeatureStatistics:
    """`feature_statistics` of a set that is too large for memory.

    Args:
        parts: function that yields the set's features in parts; it is called twice.

    Raises:
        OmoteError: fewer than two features.
    """
    count, total = 0, np.zeros(1)
    for part in parts():
        count, total = count + len(part), total + part.sum(axis=0, dtype=np.float64)
    if count < 2:
        raise OmoteError(f"expected at least 2 features for a covariance, got {count}")
    mean = total / count
    products = np.zeros((len(mean), len(mean)))
    for part in parts():
        apart = part.astype(np.float64) - mean
        products += apart.T @ apart
    return FeatureStatistics(mean=mean, covariance=products / (count - 1), count=count)


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """|μ_a - μ_b|² + tr(Σ_a + Σ_b - 2 (Σ_a Σ_b)^½) (Heusel et al., NeurIPS 2017, eq. 6).

    The trace of the square root is the sum of the square roots of the eigenvalues of R Σ_b Rᵀ, which is symmetric, for any R with
    RᵀR = Σ_a. This avoids a general matrix square root, which needs a correction term for singular covariances (fewer images than
    dimensions). For these, R is the few images themselves, and the eigenvalues are as few.
    """
    if a.root is None and b.root is not None:
        a, b = b, a
    root = a.root
    if root is None:
        values, vectors = np.linalg.eigh(a.covariance)
        root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    shared = np.linalg.eigvalsh(root @ b.covariance @ root.T)
    distance = (
        np.sum((a.mean - b.mean) ** 2)
        + np.trace(a.covariance)
        + np.trace(b.covariance)
        - 2 * np.sum(np.sqrt(np.maximum(shared, 0.0)))
    )
    return float(max(distance, 0.0))


@dataclass(frozen=True, kw_only=True)
class KernelDistance:
    """KID over random subsets.

    Attributes:
        mean: mean over the subsets.
        std: standard deviation over the subsets.
        num_subsets: number of subsets.
        subset_size: number of features of each set in a subset.
    """

    mean: float
    std: float
    num_subsets: int
    subset_size: int


def kernel_distance(
    a: Float[np.ndarray, "n d"],
    b: Float[np.ndarray, "m d"],
    *,
    num_subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 0,
) -> KernelDistance:
    """KID: the unbiased squared MMD with k(x, y) = (x·y / d + 1)³ (Bińkowski et al., ICLR 2018, §4 and eq. 4).

    Args:
        a: features of one set.
        b: features of the other set.
        num_subsets: number of subsets, each drawn without replacement.
        subset_size: size of the subsets, at most that of the smaller set.
        seed: seed of the subsets.
    """
    size = min(subset_size, len(a), len(b))
    if size < 2:
        raise OmoteError(f"expected at least 2 features in each set for a kernel distance, got {len(a)} and {len(b)}")
    rng = np.random.default_rng(seed)
    distances = []
    for _ in range(num_subsets):
        x, y = (s[rng.choice(len(s), size, replace=False)].astype(np.float64) for s in (a, b))
        xx, yy, xy = (_cubic(p, q) for p, q in ((x, x), (y, y), (x, y)))
        within = (xx.sum() - np.trace(xx) + yy.sum() - np.trace(yy)) / (size * (size - 1))
        distances.append(within - 2 * xy.mean())
    return KernelDistance(
        mean=float(np.mean(distances)), std=float(np.std(distances)), num_subsets=num_subsets, subset_size=size
    )


def _cubic(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "n m"]:
    return (x @ y.T / x.shape[1] + 1) ** 3


@dataclass(frozen=True, kw_only=True)
class PrecisionRecall:
    """Improved precision and recall.

    Attributes:
        precision: share of the generated features inside the real set's manifold.
        recall: share of the real features inside the generated set's manifold.
    """

    precision: float
    recall: float


def precision_recall(
    real: Float[np.ndarray, "n d"], generated: Float[np.ndarray, "m d"], *, k: int = 3
) -> PrecisionRecall:
    """Precision and recall by nearest neighbours (Kynkäänniemi et al., NeurIPS 2019, eq. 1).

    A feature counts as inside the other set if it lies in one of its balls, each as wide as the distance to its k-th neighbour.

    Distances are computed in blocks: memory grows with the sizes of the sets, not with their product.

    Raises:
        OmoteError: a set has at most k features.
    """
    if min(len(real), len(generated)) <= k:
        raise OmoteError(f"expected more than k = {k} features in each set, got {len(real)} and {len(generated)}")
    radius_real, radius_generated = (
        np.concatenate([np.partition(cdist(s[rows], s), k, axis=1)[:, k] for rows in _blocks(len(s))])
        for s in (real, generated)
    )
    inside_real, inside_generated = np.zeros(len(generated), bool), np.zeros(len(real), bool)
    for rows in _blocks(len(real)):
        between = cdist(real[rows], generated)
        inside_real |= (between <= radius_real[rows, None]).any(axis=0)
        inside_generated[rows] = (between <= radius_generated[None, :]).any(axis=1)
    return PrecisionRecall(precision=float(inside_real.mean()), recall=float(inside_generated.mean()))


def _blocks(count: int) -> list[slice]:
    return [slice(start, start + BLOCK) for start in range(0, count, BLOCK)]


def nearest_depth_mm(
    drawn_mm: Float[np.ndarray, "n h w"], real_mm: Float[np.ndarray, "m h w"], real_mask: Bool[np.ndarray, "m h w"]
) -> Float[np.ndarray, "n"]:
    """The least mean |d - g| of each generated depth image over a real one's mask: a generated face has no truth of its own."""
    truth, inside = (x.reshape(len(x), -1) for x in (real_mm, real_mask.astype(np.float32)))
    inside = inside / np.maximum(inside.sum(axis=1, keepdims=True), 1)
    flat = drawn_mm.reshape(len(drawn_mm), -1)
    return np.array([(np.abs(truth - d) * inside).sum(axis=1).min() for d in flat], np.float64)


def inception_score(probabilities: Float[np.ndarray, "n c"], *, num_splits: int = 10) -> tuple[float, float]:
    """Exp E KL(p(y|x) ‖ p(y)), mean and standard deviation over splits (Salimans et al., NeurIPS 2016, §4).

    Args:
        probabilities: class probabilities by a network that the metric's key names.
        num_splits: number of consecutive parts, at most the number of images.
    """
    scores = []
    for part in np.array_split(probabilities.astype(np.float64), min(num_splits, len(probabilities))):
        marginal = part.mean(axis=0, keepdims=True)
        log_ratio = np.log(np.maximum(part, 1e-300)) - np.log(np.maximum(marginal, 1e-300))
        scores.append(float(np.exp(np.sum(part * log_ratio, axis=1).mean())))
    return float(np.mean(scores)), float(np.std(scores))
