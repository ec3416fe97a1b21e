"""Errors of surfaces: between scan and mesh, between meshes in correspondence, between the normals of depth images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

from omote.evaluation.metrics import DistanceSummary, distance_summary
from omote.geometry.cloud import closest_on_mesh, sample_surface
from omote.types import Mesh


@dataclass(frozen=True, kw_only=True)
class SurfaceErrors:
    """Both directions: a mesh may lie on the scan and miss half of it, or cover it and reach beyond.

    Attributes:
        scan_to_surface: of the scan's points to the nearest point of the surface.
        surface_to_scan: of points on the surface to the nearest point of the scan.
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
        scan_mm: points of the part that counts.
        surface: in millimetres.
        shown: faces of the surface that the scan shows, which samples are drawn on; all if None.
        whole: the scan's own surface, which may be nearer to a sample than its points; ``scan_mm`` if None.
        num_samples: points drawn on the surface, uniform in area, so that fine parts of a mesh do not count more.
        seed: of them.
    """
    outward, _, _ = closest_on_mesh(scan_mm, surface.vertices, surface.faces)
    faces = surface.faces if shown is None else shown
    points, _, _, _ = sample_surface(surface.vertices, faces, num_samples, np.random.default_rng(seed))
    if whole is None:
        inward, _ = cKDTree(scan_mm).query(points)
    else:
        inward, _, _ = closest_on_mesh(points, whole.vertices.astype(np.float64), whole.faces)
    return SurfaceErrors(scan_to_surface=distance_summary(outward), surface_to_scan=distance_summary(inward))


def registered_error_mm(vertices_mm: Float[np.ndarray, "v 3"], truth_mm: Float[np.ndarray, "v 3"]) -> DistanceSummary:
    """Per-vertex distances of two meshes in correspondence, in the same frame; nothing is aligned here."""
    return distance_summary(np.linalg.norm(vertices_mm.astype(np.float64) - truth_mm, axis=1))


@dataclass(frozen=True, kw_only=True)
class DepthNormals:
    """Normals of depth images.

    Attributes:
        normals: unit, in the camera's frame (x right, y down, z forward), towards the camera; 0 where ``mask`` is False.
        mask: the pixels that have one.
    """

    normals: Float[np.ndarray, "n h w 3"]
    mask: Bool[np.ndarray, "n h w"]


def depth_normals(
    depth_mm: Float[np.ndarray, "n h w"], mask: Bool[np.ndarray, "n h w"], intrinsics: Float[np.ndarray, "3 3"]
) -> DepthNormals:
    """Normals by central differences of the unprojected points; a pixel needs its four neighbours.

    Args:
        depth_mm: z-depth.
        mask: where it is valid.
        intrinsics: in pixels, of all images; pixel centres lie at integer + 0.5.
    """
    n, height, width = depth_mm.shape
    z = depth_mm.astype(np.float64)
    u, v = np.arange(width) + 0.5, np.arange(height) + 0.5
    x = z * (u - intrinsics[0, 2])[None, None, :] / intrinsics[0, 0]
    y = z * (v - intrinsics[1, 2])[None, :, None] / intrinsics[1, 1]
    points = np.stack([x, y, z], axis=-1)
    normals, valid = np.zeros((n, height, width, 3)), np.zeros((n, height, width), bool)
    across = points[:, 1:-1, 2:] - points[:, 1:-1, :-2]
    down = points[:, 2:, 1:-1] - points[:, :-2, 1:-1]
    # Down × across points against the optical axis: a wall that faces the camera has normal (0, 0, -1).
    crossed = np.cross(down, across)
    length = np.linalg.norm(crossed, axis=-1)
    four = mask[:, 1:-1, 2:] & mask[:, 1:-1, :-2] & mask[:, 2:, 1:-1] & mask[:, :-2, 1:-1]
    valid[:, 1:-1, 1:-1] = four & mask[:, 1:-1, 1:-1] & (length > 0)
    normals[:, 1:-1, 1:-1] = crossed / np.maximum(length, 1e-12)[..., None]
    return DepthNormals(normals=np.where(valid[..., None], normals, 0.0), mask=valid)
