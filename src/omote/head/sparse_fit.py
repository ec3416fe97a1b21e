"""A head's fit to sparse points, whose surface lies between them: matched to the model's skin, from two starts."""

from __future__ import annotations

from copy import copy

import numpy as np
from jaxtyping import Float

from omote.geometry.camera import transform
from omote.head.pairs import ScanSurface, Skin
from omote.head.solver import EFFECTIVE_POINTS, LANDMARK_SIGMA_MM, SURFACE_SIGMA_MM, Solver

# The scan starts where the landmarks put it, and above: landmarks on sparse points lie too high more often than too low.
STARTS_MM = (0.0, 6.0)
# Steps with the scan's normals and then with the model's; how far settled the latter begin; and their landmarks' weight, which is
# small since landmarks on sparse points err by more, and together.
COARSE, FINE, SETTLED, LANDMARKS = 7, 5, 0.4, 0.15
MISFIT_MM = 10.0  # points farther away are hair or clothing, not face


def fitted_sparsely(
    solver: Solver,
    similarity: Float[np.ndarray, "4 4"],
    landmarks: Float[np.ndarray, "68 3"],
    confidence: Float[np.ndarray, "68"],
    points_mm: Float[np.ndarray, "n 3"],
    normals_mm: Float[np.ndarray, "n 3"],
) -> tuple[Solver, Float[np.ndarray, "4 4"]]:
    """The fit of least energy of those from several starts, with its canonical_from_scan.

    A face that sparse points show fits about as well some millimetres higher or lower, with a minimum at either place.
    """
    scan_from = np.linalg.inv(similarity)
    skin = Skin(solver)
    found = []
    for raised_mm in STARTS_MM:
        one, surface, change = copy(solver), ScanSurface(points_mm, normals_mm), np.eye(4)
        change[1, 3] = raised_mm
        pose, moved = change @ similarity, transform(scan_from, transform(similarity, landmarks) - change[:3, 3])
        for i in range(COARSE):
            settle = i / (2 * COARSE - 1)
            pairs = surface.correspond(one, change, settle)
            pose = one.step(pose, moved, confidence * (1 - 0.4 * settle), pairs)
            change = pose @ scan_from
        for settle in np.linspace(SETTLED, 1.0, FINE):
            pairs = skin.correspond(transform(change, points_mm), one.coefficients, settle)
            pose = one.step(pose, landmarks, confidence * LANDMARKS, pairs)
            change = pose @ scan_from
        energy = _energy(one, skin, transform(change, points_mm), transform(pose, landmarks), confidence)
        found.append((energy, one, pose))
    _, best, pose = min(found, key=lambda each: each[0])
    return best, pose


def _energy(
    solver: Solver,
    skin: Skin,
    points_mm: Float[np.ndarray, "n 3"],
    landmarks_mm: Float[np.ndarray, "68 3"],
    confidence: Float[np.ndarray, "68"],
) -> float:
    """What the last steps of a sparse fit minimise: robust distances, landmarks and the prior."""
    misfit, weight = skin.misfit(points_mm, solver.coefficients, MISFIT_MM)
    away = np.sum((solver.landmarks() - landmarks_mm) ** 2, axis=1)
    return (
        min(EFFECTIVE_POINTS, weight) * misfit / SURFACE_SIGMA_MM**2
        + LANDMARKS * float(confidence @ away) / LANDMARK_SIGMA_MM**2
        + float(np.sum((solver.coefficients / solver.sigma) ** 2))
    )
