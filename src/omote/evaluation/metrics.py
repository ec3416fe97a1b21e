"""Metrics as pure functions of arrays: per image first, then averaged over images by the caller (`mean_over_images`).

Depth errors in raw millimetres and those after an affine alignment are different metrics: align with `affine_aligned` and name
the metric accordingly (``_metric``, ``_affine_aligned``). An image without any pixel to measure gives NaN and is not counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from PIL import Image, ImageDraw
from scipy import ndimage

from omote.errors import ConfigError
from omote.geometry.depth import depth_normals

MOVING_MM = 2.0  # a pixel moves if its true depth changes by more
# A pixel that moves by less is still: forehead, bridge of the nose, ears.
STILL_MM = 0.1
LEAST_DISPLACEMENT_MM = 1.0
FOREHEAD_WIDTH = 0.92  # width of the forehead, relative to the jaw line's
MAX_PSNR_DB = 100.0  # value for identical images
DELTA1 = 1.25
# Window and constants of the structural similarity for a range of 1 (Wang et al., IEEE TIP 2004, §III-C).
SSIM_SIGMA_PX = 1.5
SSIM_RADIUS_PX = 5
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2
CONFUSING_PAIRS = (("fearful", "surprised"), ("angry", "disgusted"))
_MIN_DEPTH_MM = 1e-3  # a predicted depth at or behind the camera has no logarithm


@dataclass(frozen=True, kw_only=True)
class DepthErrors:
    """Depth errors per image over its valid pixels; NaN where an image has none.

    Attributes:
        mae_mm: mean of |d − g|.
        rmse_mm: root of the mean of (d − g)².
        absrel: mean of |d − g| / g.
        delta1: share of pixels with max(d/g, g/d) < 1.25.
        delta2: share of pixels below 1.25².
        delta3: share of pixels below 1.25³.
        silog: 100 × the standard deviation of log d − log g (Eigen et al., NeurIPS 2014, with λ = 1).
    """

    mae_mm: Float[np.ndarray, "n"]
    rmse_mm: Float[np.ndarray, "n"]
    absrel: Float[np.ndarray, "n"]
    delta1: Float[np.ndarray, "n"]
    delta2: Float[np.ndarray, "n"]
    delta3: Float[np.ndarray, "n"]
    silog: Float[np.ndarray, "n"]


@dataclass(frozen=True, kw_only=True)
class DistanceSummary:
    """Summary of a set of distances in millimetres."""

    median_mm: float
    mean_mm: float
    p90_mm: float
    max_mm: float


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Top-1 accuracy of a classifier.

    Attributes:
        per_class: accuracy on each true class; NaN if a class does not occur.
        macro: mean over the classes that occur.
        confusion: matrix of true classes (rows, which sum to 1 or are all NaN) and predicted classes (columns).
    """

    per_class: Float[np.ndarray, "c"]
    macro: float
    confusion: Float[np.ndarray, "c c"]


def mean_over_images(per_image: Float[np.ndarray, "n"]) -> float:
    """Mean over the images with a value; NaN if there are none."""
    measured = per_image[~np.isnan(per_image)]
    return float(measured.mean()) if len(measured) else float("nan")


def _masked_mean(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean over each image's masked pixels; NaN if there are none."""
    axes = tuple(range(1, values.ndim))
    count = mask.sum(axis=axes)
    total = np.where(mask, values, 0.0).sum(axis=axes)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def depth_errors(
    predicted_mm: Float[np.ndarray, "n h w"], truth_mm: Float[np.ndarray, "n h w"], mask: Bool[np.ndarray, "n h w"]
) -> DepthErrors:
    """Depth errors of each image without alignment.

    Args:
        predicted_mm: predicted z-depth.
        truth_mm: true z-depth, positive inside ``mask``.
        mask: the ground truth's valid pixels, so that a model cannot choose where it is judged.
    """
    d = predicted_mm.astype(np.float64)
    g = np.where(mask, truth_mm.astype(np.float64), 1.0)
    error = np.abs(d - g)
    positive = np.maximum(d, _MIN_DEPTH_MM)
    log_ratio = np.log(positive / g)
    mean_log = _masked_mean(log_ratio, mask)
    within = [
        _masked_mean((np.abs(log_ratio) < power * np.log(DELTA1)).astype(np.float64), mask) for power in (1, 2, 3)
    ]
    variance = _masked_mean((log_ratio - np.nan_to_num(mean_log)[:, None, None]) ** 2, mask)
    return DepthErrors(
        mae_mm=_masked_mean(error, mask),
        rmse_mm=np.sqrt(_masked_mean(error**2, mask)),
        absrel=_masked_mean(error / g, mask),
        delta1=within[0],
        delta2=within[1],
        delta3=within[2],
        silog=100.0 * np.sqrt(variance),
    )


def affine_aligned(
    predicted_mm: Float[np.ndarray, "n h w"], truth_mm: Float[np.ndarray, "n h w"], mask: Bool[np.ndarray, "n h w"]
) -> Float[np.ndarray, "n h w"]:
    """Predictions scaled and shifted to the ground truth by least squares over the mask.

    A prediction that is constant over the mask is only shifted; an image without pixels is returned unchanged.
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
    """Mask of the pixels, valid in both, whose true depth differs from the (true) source's by more than `MOVING_MM`."""
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
    """Structural similarity of colours in [0, 1] (Wang et al., IEEE TIP 2004, eq. 13), averaged over channels and masked pixels.

    Windows are Gaussian, 11 × 11 with σ = 1.5, centred on masked pixels at least 5 pixels from the image's border. Near the
    mask's border they include background, which is the same in both images.
    """
    window = (0.0, SSIM_SIGMA_PX, SSIM_SIGMA_PX, 0.0)

    def local(values: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(values, window, radius=(0, SSIM_RADIUS_PX, SSIM_RADIUS_PX, 0))

    x, y = predicted.astype(np.float64), truth.astype(np.float64)
    mean_x, mean_y = local(x), local(y)
    variance_x, variance_y = local(x * x) - mean_x**2, local(y * y) - mean_y**2
    covariance = local(x * y) - mean_x * mean_y
    similarity = ((2 * mean_x * mean_y + SSIM_C1) * (2 * covariance + SSIM_C2)) / (
        (mean_x**2 + mean_y**2 + SSIM_C1) * (variance_x + variance_y + SSIM_C2)
    )
    inside = np.zeros_like(mask)
    inside[:, SSIM_RADIUS_PX:-SSIM_RADIUS_PX, SSIM_RADIUS_PX:-SSIM_RADIUS_PX] = True
    return _masked_mean(similarity.mean(axis=-1), mask & inside)


def box_mask(boxes_px: Float[np.ndarray, "n 4"], *, height: int, width: int) -> Bool[np.ndarray, "n h w"]:
    """Mask of the pixels whose centre is inside each image's box (left, top, right, bottom)."""
    u, v = np.arange(width) + 0.5, np.arange(height) + 0.5
    left, top, right, bottom = (boxes_px[:, k, None] for k in range(4))
    in_u, in_v = (u >= left) & (u < right), (v >= top) & (v < bottom)
    return in_v[:, :, None] & in_u[:, None, :]


def mouth_boxes(landmarks_px: Float[np.ndarray, "n 68 2"], *, margin: float = 0.3) -> Float[np.ndarray, "n 4"]:
    """(left, top, right, bottom) of the mouth's landmarks 48-67, padded by ``margin`` of the mouth's width."""
    mouth = landmarks_px[:, 48:68]
    low, high = mouth.min(axis=1), mouth.max(axis=1)
    pad = margin * (high[:, :1] - low[:, :1])
    return np.concatenate([low - pad, high + pad], axis=1)


def face_masks(landmarks_px: Float[np.ndarray, "n 68 2"], *, height: int, width: int) -> Bool[np.ndarray, "n h w"]:
    """Mask of the face: inside the jaw line and an arc above the brows by a quarter of the face's width."""
    out = []
    for landmarks in landmarks_px:
        jaw, top = landmarks[:17], landmarks[17:27, 1].min()
        angle = np.linspace(0, np.pi, 20)
        center, half = (jaw[0, 0] + jaw[16, 0]) / 2, (jaw[16, 0] - jaw[0, 0]) / 2
        arc = np.stack([center + FOREHEAD_WIDTH * half * np.cos(angle), top - np.abs(half) * np.sin(angle) / 2], axis=1)
        image = Image.new("1", (width, height))
        ImageDraw.Draw(image).polygon([*map(tuple, jaw.tolist()), *map(tuple, arc.tolist())], fill=1)
        out.append(np.asarray(image, bool))
    return np.stack(out)


def normals_error_deg(
    predicted: Float[np.ndarray, "n h w 3"], truth: Float[np.ndarray, "n h w 3"], mask: Bool[np.ndarray, "n h w"]
) -> Float[np.ndarray, "n"]:
    """Mean angle between normals (of any length) over each image's masked pixels, in degrees."""
    a, b = predicted.astype(np.float64), truth.astype(np.float64)
    # atan2 keeps its precision where arccos of a dot product near 1 loses it.
    angle = np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), (a * b).sum(axis=-1))
    return np.degrees(_masked_mean(angle, mask))


def depth_normals_error_deg(
    predicted_mm: Float[np.ndarray, "n h w"],
    truth_mm: Float[np.ndarray, "n h w"],
    mask: Bool[np.ndarray, "n h w"],
    intrinsics: Float[np.ndarray, "n 3 3"],
) -> Float[np.ndarray, "n"]:
    """`normals_error_deg` of the normals of depth images, where all neighbours are valid in the ground truth.

    Args:
        predicted_mm: predicted z-depth without holes.
        truth_mm: true z-depth, positive inside ``mask``.
        mask: the ground truth's valid pixels.
        intrinsics: intrinsics of each image's camera, in pixels.
    """
    predicted, _ = depth_normals(predicted_mm, np.ones_like(mask), intrinsics)
    truth, seen = depth_normals(truth_mm, mask, intrinsics)
    return normals_error_deg(predicted, truth, seen)


def high_frequency_ratio(
    predicted: Float[np.ndarray, "n h w 3"], truth: Float[np.ndarray, "n h w 3"], mask: Bool[np.ndarray, "n h w"]
) -> Float[np.ndarray, "n"]:
    """Energy of colour's second differences inside the mask, relative to the truth's: noise is above 1, blur below 1."""

    def energy(rgb: np.ndarray) -> np.ndarray:
        across, down = np.diff(rgb, 2, axis=2)[:, 1:-1], np.diff(rgb, 2, axis=1)[:, :, 1:-1]
        squared = (across**2).sum(axis=-1) + (down**2).sum(axis=-1)
        return np.where(mask[:, 1:-1, 1:-1], squared, 0.0).sum(axis=(1, 2))

    return energy(predicted.astype(np.float64)) / np.maximum(energy(truth.astype(np.float64)), 1e-12)


def displacement_mm(change_mm: Float[np.ndarray, "n h w"], mask: Bool[np.ndarray, "n h w"]) -> Float[np.ndarray, "n"]:
    """Root mean square of a change of depth over each image's masked pixels."""
    return np.sqrt(_masked_mean(change_mm.astype(np.float64) ** 2, mask))


def displacement_ratio(
    change_mm: Float[np.ndarray, "n h w"], true_change_mm: Float[np.ndarray, "n h w"], mask: Bool[np.ndarray, "n h w"]
) -> Float[np.ndarray, "n"]:
    """A change of depth projected onto the true change, relative to the true change: 1 for the true motion, 0 for none.

    NaN if the true change is below `LEAST_DISPLACEMENT_MM`: faces at rest differ by .3 mm from image to image, a quarter of an
    expression moves by 2 mm.
    """
    change, true_change = change_mm.astype(np.float64), true_change_mm.astype(np.float64)
    along, asked = _masked_mean(change * true_change, mask), _masked_mean(true_change**2, mask)
    return np.where(asked > LEAST_DISPLACEMENT_MM**2, along / np.where(asked > 0, asked, 1.0), np.nan)


def mask_iou(predicted: Bool[np.ndarray, "n h w"], truth: Bool[np.ndarray, "n h w"]) -> Float[np.ndarray, "n"]:
    """Intersection over union of two masks, per image."""
    return (predicted & truth).sum(axis=(1, 2)) / (predicted | truth).sum(axis=(1, 2))


def distance_summary(distances_mm: Float[np.ndarray, "n"]) -> DistanceSummary:
    """Summary of scan-to-surface or surface-to-scan distances; all NaN if there are none."""
    if len(distances_mm) == 0:
        return DistanceSummary(median_mm=np.nan, mean_mm=np.nan, p90_mm=np.nan, max_mm=np.nan)
    median, p90 = np.percentile(distances_mm, [50.0, 90.0])
    return DistanceSummary(
        median_mm=float(median),
        mean_mm=float(distances_mm.mean()),
        p90_mm=float(p90),
        max_mm=float(distances_mm.max()),
    )


def confusion_counts(
    truth: Int[np.ndarray, "n"], judged: Int[np.ndarray, "n"], num_classes: int
) -> Int[np.ndarray, "c c"]:
    """Number of images of each true class (row) and predicted class (column).

    Raises:
        ConfigError: an invalid class.
    """
    if not all(np.isin(classes, range(num_classes)).all() for classes in (truth, judged)):
        raise ConfigError(f"expected classes from 0 to {num_classes - 1}; the results are damaged, measure them again")
    return np.bincount(truth * num_classes + judged, minlength=num_classes**2).reshape(num_classes, num_classes)


def accuracy(truth: Int[np.ndarray, "n"], judged: Int[np.ndarray, "n"], num_classes: int) -> Accuracy:
    """Top-1 accuracy per class and macro average, with the row-normalised confusion matrix."""
    counts = confusion_counts(truth, judged, num_classes).astype(np.float64)
    total = counts.sum(axis=1, keepdims=True)
    confusion = np.where(total > 0, counts / np.maximum(total, 1.0), np.nan)
    per_class = np.diag(confusion).copy()
    return Accuracy(per_class=per_class, macro=mean_over_images(per_class), confusion=confusion)


def mean_symmetric_confusion_rate(confusion: Float[np.ndarray, "c c"], pairs: tuple[tuple[int, int], ...]) -> float:
    """mSCR: the mean of ½ (C_ij + C_ji) over confusable pairs in a row-normalised confusion matrix; lower is better."""
    return float(np.mean([0.5 * (confusion[i, j] + confusion[j, i]) for i, j in pairs]))


def relative_expression_gain(
    model: Float[np.ndarray, "n"], source: Float[np.ndarray, "n"], truth: Float[np.ndarray, "n"]
) -> float:
    """Share of the true change in the requested class's probability that the model reaches, over all images together.

    Copying the source scores 0, the true render 1. It is a ratio of means, since a single image's true change may be zero.
    """
    change = float((truth - source).mean())
    return float((model - source).mean()) / change if change != 0.0 else float("nan")


def intensity_correlation(
    asked: Float[np.ndarray, "n"], measured: Float[np.ndarray, "n"], category: Int[np.ndarray, "n"]
) -> float:
    """CLS: Pearson correlation of requested and measured intensity within each category, averaged over the categories.

    Within categories, because some expressions are easier to recognise at any intensity. A category with constant requested or
    measured intensities has no correlation and is not counted; NaN if none is left.
    """
    correlations = []
    for value in np.unique(category):
        a, b = (x[category == value].astype(np.float64) for x in (asked, measured))
        a, b = a - a.mean(), b - b.mean()
        norm = np.sqrt((a**2).sum() * (b**2).sum())
        correlations.append((a * b).sum() / norm if norm > 1e-12 else np.nan)
    return mean_over_images(np.array(correlations, dtype=np.float64))


def identity_distance(embedding: Float[np.ndarray, "n d"], truth: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n"]:
    """Euclidean distance between descriptors of one extractor, per image; the extractor's name belongs in the metric's key."""
    return np.linalg.norm(embedding.astype(np.float64) - truth, axis=1)


def identity_cosine(embedding: Float[np.ndarray, "n d"], truth: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n"]:
    """Cosine similarity between descriptors of one extractor, per image."""
    a, b = embedding.astype(np.float64), truth.astype(np.float64)
    return (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
