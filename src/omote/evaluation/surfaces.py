"""Distances between a scan and a surface, in both directions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

from omote.evaluation.metrics import DistanceSummary, distance_summary
from omote.geometry.cloud import closest_on_mesh, sample_surface
from omote.types import Mesh

# A vertex that an expression moves farther is a moving one.
MOVING_MM = 2.0


@dataclass(frozen=True, kw_only=True)
class SurfaceErrors:
    """Distances in both directions: a mesh may lie on the scan but miss half of it, or cover it and extend beyond.

    Attributes:
        scan_to_surface: distances from the scan's points to the nearest point of the surface.
        surface_to_scan: distances from points on the surface to the nearest point of the scan.
    """

    scan_to_surface: DistanceSummary
    surface_to_scan: DistanceSummary


def surface_errors(
    scan_mm: Float[np.ndarray, "n 3"],
    surface: Mesh,
    *,
    shown: Int[np.ndarray, "f 3"] | None = None,
    whole: Mesh | None = None,
    num_samples: int = 20_000,
    seed: int = 0,
) -> SurfaceErrors:
    """Distances between a scan's points and a surface in the same frame; nothing is aligned here.

    Args:
        scan_mm: points of the measured part of the scan.
        surface: mesh in millimetres.
        shown: faces of the surface that the scan shows, from which samples are drawn; all if None.
        whole: the whole scan's surface, which may be nearer to a sample than ``scan_mm``; ``scan_mm`` if None.
        num_samples: number of points drawn uniformly by area, so that finely meshed parts do not count more.
        seed: seed of the samples.
    """
    outward, _, _ = closest_on_mesh(scan_mm, surface.vertices, surface.faces)
    faces = surface.faces if shown is None else shown
    points, _, _, _ = sample_surface(surface.vertices, faces, num_samples, np.random.default_rng(seed))
    if whole is None:
        inward, _ = cKDTree(scan_mm).query(points)
    else:
        inward, _, _ = closest_on_mesh(points, whole.vertices.astype(np.float64), whole.faces)
    return SurfaceErrors(scan_to_surface=distance_summary(outward), surface_to_scan=distance_summary(inward))


def vertex_errors(
    made_mm: Float[np.ndarray, "n 3"],
    true_mm: Float[np.ndarray, "n 3"],
    rest_mm: Float[np.ndarray, "n 3"],
    faces: Int[np.ndarray, "f 3"],
    region: Bool[np.ndarray, " n"],
) -> dict[str, float]:
    """Errors of a mesh in correspondence, by the keys of the catalogue's ``mesh/`` metrics; NaN if nothing moves.

    Args:
        made_mm: vertices of the generated mesh.
        true_mm: vertices of the true mesh.
        rest_mm: vertices of the person's true mesh at rest.
        faces: triangles of the true surface.
        region: mask of the measured vertices.
    """
    apart = np.linalg.norm(made_mm - true_mm, axis=1)
    moving = region & (np.linalg.norm(true_mm - rest_mm, axis=1) > MOVING_MM)
    distance = np.zeros(len(made_mm))
    counted = np.flatnonzero(region)
    distance[counted], _, _ = closest_on_mesh(made_mm[counted].astype(np.float64), true_mm.astype(np.float64), faces)
    return {
        "mesh/vertex_mm": float(apart[region].mean()),
        "mesh/vertex_mm_moving": float(apart[moving].mean()) if moving.any() else np.nan,
        "mesh/surface_mm": float(np.median(distance[region])),
        "mesh/surface_mm_moving": float(distance[moving].mean()) if moving.any() else np.nan,
    }
