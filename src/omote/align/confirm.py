"""Confirmation of a found or given face by a fit of the head model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from omote.align.surface import ScanSurface
from omote.errors import AlignmentError
from omote.head.fit import LANDMARK_WEIGHT, Fit, fit_head, umeyama
from omote.head.model import HeadModel

MM_PER_UNIT = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "in": 25.4}
UNIT_TOLERANCE = 1.3  # a unit is chosen if a fit's free scale is within this factor; adult heads differ far less
CHECK_POINTS = 8_000
MIN_GIVEN_LANDMARKS = 6


@dataclass(frozen=True, kw_only=True)
class Located:
    """A face with its landmarks in scan coordinates, and a quick fit of the head model to them.

    Attributes:
        landmarks: the 68 landmarks; NaN for unknown ones.
        confidence: confidence of each landmark, in [0, 1].
        fit: quick fit with few identity modes and no expression.
        score: `confidence_of` the fit.
    """

    landmarks: Float[np.ndarray, "68 3"]
    confidence: Float[np.ndarray, " 68"]
    fit: Fit
    score: float


def confirmed(
    head: HeadModel,
    surface: ScanSurface,
    landmarks: Float[np.ndarray, "68 3"],
    confidence: Float[np.ndarray, " 68"],
    *,
    mm_per_unit: float | None = None,
) -> Located | None:
    """A quick fit to landmarks, or None if there is nothing to fit to.

    Args:
        head: head model to fit.
        surface: surface of the scan.
        landmarks: the 68 landmarks in scan coordinates; NaN for unknown ones.
        confidence: confidence of each landmark, in [0, 1].
        mm_per_unit: scale of the scan's unit; if None, the landmarks decide.
    """
    given = np.isfinite(landmarks).all(axis=1)
    mean = head.landmarks(head.template_mm.astype(np.float64))
    pose = umeyama(landmarks[given], mean[given], LANDMARK_WEIGHT[given] * confidence[given] + 1e-9)
    scale = mm_per_unit if mm_per_unit is not None else unit_of(pose)[1]
    points, normals = surface.near(pose, CHECK_POINTS)
    if len(points) < 100:
        return None
    try:
        fit = fit_head(
            head, points, landmarks=landmarks, normals=normals, landmark_weights=confidence,
            fixed_scale=scale, num_identity=30, iterations=8, expression=False,
        )  # fmt: skip
    except AlignmentError:
        return None
    return Located(landmarks=landmarks, confidence=confidence, fit=fit, score=confidence_of(fit, confidence))


def confirmed_given(head: HeadModel, surface: ScanSurface, landmarks: Float[np.ndarray, "68 3"]) -> Located:
    """`confirmed` for landmarks given by the user.

    Raises:
        AlignmentError: too few landmarks, or no scan points near them.
    """
    given = np.isfinite(landmarks).all(axis=1)
    if given.sum() < MIN_GIVEN_LANDMARKS:
        raise AlignmentError(
            f"landmarks: expected at least {MIN_GIVEN_LANDMARKS} known points, got {given.sum()}; see docs/scan-input.md"
        )
    located = confirmed(head, surface, landmarks.astype(np.float64), given.astype(np.float64))
    if located is None:
        raise AlignmentError("no scan points near the given landmarks; are they in the scan's own coordinates?")
    return located


def confidence_of(fit: Fit, landmark_confidence: Float[np.ndarray, " 68"]) -> float:
    """Confidence in [0, 1]: high only if the fit lies on the scan, covers much of the face and agrees with confident landmarks.

    A product of logistic steps. The midpoint of each lies between the values of faces and those of the objects that look most
    like faces, measured on scans of the kinds of `benchmarks/align.py` with seeds that the benchmark does not use.

    Args:
        fit: fit of the head model.
        landmark_confidence: confidence of each landmark, in [0, 1].
    """
    inner = np.arange(68) >= 17
    w = LANDMARK_WEIGHT * landmark_confidence * inner * np.isfinite(fit.landmark_residual_mm)
    residual = float(w @ np.nan_to_num(fit.landmark_residual_mm) / max(w.sum(), 1e-9)) if w.sum() > 0 else 20.0
    known = np.where(np.isfinite(fit.landmark_residual_mm), landmark_confidence, np.nan)
    return (
        _step(fit.coverage, 0.40, 0.045) * _step(-min(fit.median_mm, 99.0), -1.7, 0.15)
        * _step(-min(fit.p90_mm, 99.0), -5.6, 0.3) * _step(-residual, -8.0, 0.9) * most_confidence(known)
        * _step(-float(np.sqrt(np.mean(fit.identity**2))), -1.5, 0.12)
    )  # fmt: skip


def most_confidence(landmark_confidence: Float[np.ndarray, " 68"]) -> float:
    """The factor of `confidence_of` that needs no fit: its largest value for these landmarks.

    Args:
        landmark_confidence: [0, 1] of each landmark; NaN where unknown.
    """
    inner = landmark_confidence[17:]
    known = inner[np.isfinite(inner)]
    return _step(float(known.mean()) if len(known) else 0.0, 0.55, 0.045)


def _step(value: float, middle: float, width: float) -> float:
    return float(1 / (1 + np.exp(np.clip((middle - value) / width, -40, 40))))


def unit_of(canonical_from_scan: Float[np.ndarray, "4 4"]) -> tuple[str, float | None]:
    """The unit whose scale is close to a pose's, and its mm per unit; ("unknown", None) if there is none."""
    scale = float(np.cbrt(np.linalg.det(canonical_from_scan[:3, :3])))
    unit = min(MM_PER_UNIT, key=lambda u: abs(np.log(MM_PER_UNIT[u] / scale)))
    near = abs(np.log(MM_PER_UNIT[unit] / scale)) < np.log(UNIT_TOLERANCE)
    return (unit, MM_PER_UNIT[unit]) if near else ("unknown", None)
