"""Errors of completed heads where the scan saw the surface and where it did not, and whether their uncertainty is true."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

from omote.geometry.cloud import closest_on_mesh

# Surface with no point of the scan this near is missing.
SEEN_MM = 3.0
# Largest error of depth or surface that counts: pixels where one surface's outline passes another's would decide the mean.
MOST_MM = 20.0
LEAST_COUNT = 20  # fewer vertices or pixels say nothing


def missing_from(true_mm: Float[np.ndarray, "n 3"], scan_mm: Float[np.ndarray, "p 3"]) -> Bool[np.ndarray, " n"]:
    """Mask of true points without a point of the scan within `SEEN_MM`."""
    distance, _ = cKDTree(scan_mm).query(true_mm)
    return np.asarray(distance > SEEN_MM)


def in_both(errors: Float[np.ndarray, " n"], missing: Bool[np.ndarray, " n"]) -> tuple[float, float]:
    """Mean error, at most `MOST_MM` each, where the scan saw and where it did not; NaN for too few values."""
    clipped = np.minimum(np.abs(errors), MOST_MM)
    parts = [clipped[where & np.isfinite(clipped)] for where in (~missing, missing)]
    seen, lost = (float(part.mean()) if len(part) >= LEAST_COUNT else np.nan for part in parts)
    return seen, lost


def surface_distance(
    true_mm: Float[np.ndarray, "n 3"], vertices_mm: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]
) -> Float[np.ndarray, " n"]:
    """Distance of true points to a completed surface, whose unknown vertices (NaN) are left out; NaN if there are no others."""
    known = np.isfinite(vertices_mm).all(axis=1)
    kept = faces[known[faces].all(axis=1)]
    if not len(kept):
        return np.full(len(true_mm), np.nan)
    distance, _, _ = closest_on_mesh(true_mm, np.where(known[:, None], vertices_mm, 0.0), kept)
    return distance


def calibration(errors: Float[np.ndarray, " n"], sigma: Float[np.ndarray, " n"]) -> dict[str, float]:
    """Shares of errors within one and two standard deviations, and the mean error in σ's top decile over that in its bottom one.

    Args:
        errors: errors, of either sign; not finite where there is none.
        sigma: their standard deviations; NaN where a completion does not say.
    """
    there = np.isfinite(errors) & np.isfinite(sigma)
    size, sigma = np.abs(errors[there]), sigma[there]
    if len(size) < LEAST_COUNT:
        return {"within_1_sigma": np.nan, "within_2_sigma": np.nan, "decile_ratio": np.nan}
    low, high = np.quantile(sigma, (0.1, 0.9))
    bottom, top = size[sigma <= low].mean(), size[sigma >= high].mean()
    return {
        "within_1_sigma": float((size <= sigma).mean()),
        "within_2_sigma": float((size <= 2 * sigma).mean()),
        "decile_ratio": float(top / max(bottom, 1e-6)),
    }
