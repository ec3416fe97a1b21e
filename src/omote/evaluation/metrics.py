"""Metrics as pure functions of arrays: per image first, averaged over images by the caller (`mean_over_images`).

Depth errors that compare raw millimetres and those after an affine alignment are different metrics: align with
`affine_aligned` and say so in the name (``_metric``, ``_affine_aligned``). An image without any pixel to measure
gives NaN and does not count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.ndimage import gaussian_filter

MOVING_MM = 2.0  # a pixel moves when its true depth changes by more
MAX_PSNR_DB = 100.0  # of identical images
DELTA1 = 1.25
CONFUSING_PAIRS = (("fearful", "surprised"), ("angry", "disgusted"))
_MIN_DEPTH_MM = 1e-3  # a predicted depth at or behind the camera has no logarithm


@dataclass(frozen=True, kw_only=True)
class DepthErrors:
    """Depth errors per image over its valid pixels; NaN where an image has none.

    Attributes:
        mae_mm: mean |d − g|.
        rmse_mm: root of the mean (d − g)².
        absrel: mean |d − g| / g.
        delta1: share of pixels with max(d/g, g/d) < 1.25.
        silog: 100 × the standard deviation of log d − log g (Eigen et al., NeurIPS 2014, with λ = 1).
    """

    mae_mm: Float[np.ndarray, "n"]
    rmse_mm: Float[np.ndarray, "n"]
    absrel: Float[np.ndarray, "n"]
    delta1: Float[np.ndarray, "n"]
    silog: Float[np.ndarray, "n"]


@dataclass(frozen=True, kw_only=True)
class DistanceSummary:
    """A set of distances in millimetres, summarised."""

    median_mm: float
    mean_mm: float
    p90_mm: float
    max_mm: float


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """How often the first-ranked class is the true one.

    Attributes:
        per_class: top-1 accuracy of each true class; NaN where a class never occurs.
        macro: mean over the classes that occur.
        confusion: rows are true classes and sum to 1 (or are all NaN), columns the judged ones.
    """

    per_class: Float[np.ndarray, "c"]
    macro: float
    confusion: Float[np.ndarray, "c c"]


def mean_over_images(per_image: Float[np.ndarray, "n"]) -> float:
    """Mean of the images that had something to measure; NaN if none had."""
    measured = per_image[~np.isnan(per_image)]
    return float(measured.mean()) if len(measured) else float("nan")


def _masked_mean(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean over each image's masked pixels, NaN where there are none."""
    axes = tuple(range(1, values.ndim))
    count = mask.sum(axis=axes)
    total = np.where(mask, values, 0.0).sum(axis=axes)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def depth_errors(
    predicted_mm: Float[np.ndarray, "n h w"], truth_mm: Float[np.ndarray, "n h w"], mask: Bool[np.ndarray, "n h w"]
) -> DepthErrors:
    """Depth errors of each image, as given: not aligned.

    Args:
        predicted_mm: z-depth.
        truth_mm: z-depth, positive where ``mask``.
        mask: the pixels that count: the truth's own valid ones, so that a model cannot choose where it is judged.
    """
    d = predicted_mm.astype(np.float64)
    g = np.where(mask, truth_mm.astype(np.float64), 1.0)
    error = np.abs(d - g)
    positive = np.maximum(d, _MIN_DEPTH_MM)
    log_ratio = np.log(positive / g)
    mean_log = _masked_mean(log_ratio, mask)
    variance = _masked_mean((log_ratio - np.nan_to_num(mean_log)[:, None, None]) ** 2, mask)
    return DepthErrors(
        mae_mm=_masked_mean(error, mask),
        rmse_mm=np.sqrt(_masked_mean(error**2, mask)),
        absrel=_masked_mean(error / g, mask),
        delta1=_masked_mean((np.abs(log_ratio) < np.log(DELTA1)).astype(np.float64), mask),
        silog=100.0 * np.sqrt(variance),
    )


def affine_aligned(
    predicted_mm: Float[np.ndarray, "n h w"], truth_mm: Float[np.ndarray, "n h w"], mask: Bool[np.ndarray, "n h w"]
) -> Float[np.ndarray, "n h w"]:
    """Each prediction scaled and shifted to its truth by least squares over the mask.

    A prediction that is constant over the mask only shifts; an image without pixels is returned as it came.
    """
    d, g = predicted_mm.astype(np.float64), truth_mm.astype(np.float64)
    mean_d = np.nan_to_num(_masked_mean(d, mask))[:, None, None]
    mean_g = np.nan_to_num(_masked_mean(g, mask))[:, None, None]
    covariance = np.nan_to_num(_masked_mean((d - mean_d) * (g - mean_g), mask))
    variance = np.nan_to_num(_masked_mean((d - mean_d) ** 2, mask))
    scale = np.where(variance > 1e-12, covariance / np.maximum(variance, 1e-12), 1.0)[:, None, None]
    aligned = scale * (d - mean_d) + mean_g
    has_pixels = np.logical_or.reduce(mask, axis=(1, 2), keepdims=True)
    return np.where(has_pixels, aligned, d)


def moving_mask(
    truth_mm: Float[np.ndarray, "n h w"],
    truth_mask: Bool[np.ndarray, "n h w"],
    source_mm: Float[np.ndarray, "n h w"],
    source_mask: Bool[np.ndarray, "n h w"],
) -> Bool[np.ndarray, "n h w"]:
    """Mark the pixels whose true depth differs from the (true) source's by more than `MOVING_MM`; valid in both."""
    both = truth_mask & source_mask
    return both & (np.abs(truth_mm.astype(np.float64) - source_mm) > MOVING_MM)


def psnr_db(
    predicted: Float[np.ndarray, "n h w 3"], truth: Float[np.ndarray, "n h w 3"], mask: Bool[np.ndarray, "n h w"]
) -> Float[np.ndarray, "n"]:
    """Peak signal-to-noise ratio of colours in [0, 1] over each image's masked pixels (at most `MAX_PSNR_DB`)."""
    squared = ((predicted.astype(np.float64) - truth) ** 2).mean(axis=-1)
    return -10.0 * np.log10(np.maximum(_masked_mean(squared, mask), 10.0 ** (-MAX_PSNR_DB / 10.0)))


def ssim(
    predicted: Float[np.ndarray, "n h w 3"], truth: Float[np.ndarray, "n h w 3"], mask: Bool[np.ndarray, "n h w"]
) -> Float[np.ndarray, "n"]:
    """Structural similarity of colours in [0, 1], the mean over each image's masked pixels and the channels.

    Wang et al., "Image Quality Assessment", IEEE TIP 2004, eq. 13: a Gaussian window of 1.5 pixels cut at 11 × 11,
    K₁ = 0.01, K₂ = 0.03.
    """

    def blurred(x: np.ndarray) -> np.ndarray:
        out: np.ndarray = gaussian_filter(x, (0.0, 1.5, 1.5, 0.0), truncate=10 / 3)
        return out

    a, b = predicted.astype(np.float64), truth.astype(np.float64)
    mean_a, mean_b = blurred(a), blurred(b)
    variances = blurred(a * a) - mean_a**2 + blurred(b * b) - mean_b**2
    covariance = blurred(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    similar = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    index = similar / ((mean_a**2 + mean_b**2 + c1) * (variances + c2))
    return _masked_mean(index.mean(axis=-1), mask)


def box_mask(boxes_px: Float[np.ndarray, "n 4"], *, height: int, width: int) -> Bool[np.ndarray, "n h w"]:
    """Mark the pixels whose centre lies in each image's box (left, top, right, bottom)."""
    u, v = np.arange(width) + 0.5, np.arange(height) + 0.5
    left, top, right, bottom = (boxes_px[:, k, None] for k in range(4))
    in_u, in_v = (u >= left) & (u < right), (v >= top) & (v < bottom)
    return in_v[:, :, None] & in_u[:, None, :]


def mouth_boxes(landmarks_px: Float[np.ndarray, "n 68 2"], *, margin: float = 0.3) -> Float[np.ndarray, "n 4"]:
    """(left, top, right, bottom) around the mouth's landmarks 48-67, padded by ``margin`` of the mouth's width."""
    mouth = landmarks_px[:, 48:68]
    low, high = mouth.min(axis=1), mouth.max(axis=1)
    pad = margin * (high[:, :1] - low[:, :1])
    return np.concatenate([low - pad, high + pad], axis=1)


def normals_error_deg(
    predicted: Float[np.ndarray, "n h w 3"], truth: Float[np.ndarray, "n h w 3"], mask: Bool[np.ndarray, "n h w"]
) -> Float[np.ndarray, "n"]:
    """Mean angle between normals (of any length) over each image's masked pixels, in degrees."""
    a, b = predicted.astype(np.float64), truth.astype(np.float64)
    # atan2 keeps its precision where arccos of a dot product near 1 loses it.
    angle = np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), (a * b).sum(axis=-1))
    return np.degrees(_masked_mean(angle, mask))


def distance_summary(distances_mm: Float[np.ndarray, "n"]) -> DistanceSummary:
    """Summarise scan-to-surface or surface-to-scan distances; all NaN if there are none."""
    if len(distances_mm) == 0:
        return DistanceSummary(median_mm=np.nan, mean_mm=np.nan, p90_mm=np.nan, max_mm=np.nan)
    median, p90 = np.percentile(distances_mm, [50.0, 90.0])
    return DistanceSummary(
        median_mm=float(median),
        mean_mm=float(distances_mm.mean()),
        p90_mm=float(p90),
        max_mm=float(distances_mm.max()),
    )


def rigid_displacement_mm(
    vertices_mm: Float[np.ndarray, "v 3"], neutral_mm: Float[np.ndarray, "v 3"], rigid_vertices: Int[np.ndarray, "r"]
) -> DistanceSummary:
    """How far the vertices that no expression moves (forehead, nose bridge, ears) moved; no alignment."""
    moved = vertices_mm[rigid_vertices].astype(np.float64) - neutral_mm[rigid_vertices]
    return distance_summary(np.linalg.norm(moved, axis=1))


def confusion_counts(
    truth: Int[np.ndarray, "n"], judged: Int[np.ndarray, "n"], num_classes: int
) -> Int[np.ndarray, "c c"]:
    """How often each true class (row) was judged as each class (column)."""
    return np.bincount(truth * num_classes + judged, minlength=num_classes**2).reshape(num_classes, num_classes)


def accuracy(truth: Int[np.ndarray, "n"], judged: Int[np.ndarray, "n"], num_classes: int) -> Accuracy:
    """Top-1 accuracy per class and macro, with the row-normalised confusion matrix."""
    counts = confusion_counts(truth, judged, num_classes).astype(np.float64)
    total = counts.sum(axis=1, keepdims=True)
    confusion = np.where(total > 0, counts / np.maximum(total, 1.0), np.nan)
    per_class = np.diag(confusion).copy()
    return Accuracy(per_class=per_class, macro=mean_over_images(per_class), confusion=confusion)


def mean_symmetric_confusion_rate(confusion: Float[np.ndarray, "c c"], pairs: tuple[tuple[int, int], ...]) -> float:
    """mSCR: the mean over confusing pairs of ½ (C_ij + C_ji), of a row-normalised confusion matrix; lower is better."""
    return float(np.mean([0.5 * (confusion[i, j] + confusion[j, i]) for i, j in pairs]))


def relative_expression_gain(
    model: Float[np.ndarray, "n"], source: Float[np.ndarray, "n"], truth: Float[np.ndarray, "n"]
) -> float:
    """Share of the true change in the asked class's probability that the model reaches, over all images together.

    Copying the source scores 0, the true render 1. A ratio of means, since a single image's true change may be nil.
    """
    change = float((truth - source).mean())
    return float((model - source).mean()) / change if change != 0.0 else float("nan")


def identity_distance(embedding: Float[np.ndarray, "n d"], truth: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n"]:
    """Euclidean distance between descriptors of one extractor, per image; its name belongs in the metric's."""
    return np.linalg.norm(embedding.astype(np.float64) - truth, axis=1)


def identity_cosine(embedding: Float[np.ndarray, "n d"], truth: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n"]:
    """Cosine similarity between descriptors of one extractor, per image."""
    a, b = embedding.astype(np.float64), truth.astype(np.float64)
    return (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
