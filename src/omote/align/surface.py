"""A scan as points that can be drawn coarsely everywhere or densely around a face, whatever it came as."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from omote.errors import ScanError
from omote.geometry.camera import rgbd_points
from omote.geometry.cloud import estimate_normals, sample_surface
from omote.types import Mesh, Rgbd, Scan

FINDER_POINTS = 30_000
MOST_POINTS = 1_000_000  # of a cloud; the face alone then still has more than any fit uses
MIN_POINTS = 300


def _spread(count: int, most: int) -> Int[np.ndarray, " k"]:
    """At most ``most`` of ``count`` ids, one random one of each equal slice: no duplicates, no pattern of a scan line."""
    if count <= most:
        return np.arange(count)
    slices = np.arange(most) + np.random.default_rng(0).uniform(size=most)
    ids = (slices * (count / most)).astype(np.int64)
    return ids[np.diff(ids, prepend=-1) > 0]


class ScanSurface:
    """Points, or a mesh that is sampled by area; everything in scan coordinates."""

    def __init__(
        self, points: Float[np.ndarray, "n 3"], normals: Float[np.ndarray, "n 3"] | None, faces: np.ndarray | None
    ) -> None:
        if faces is None and len(points) > MOST_POINTS:
            kept = _spread(len(points), MOST_POINTS)
            points, normals = points[kept], None if normals is None else normals[kept]
        self.points, self.normals, self.faces = points, normals, faces
        self.rng = np.random.default_rng(0)
        if faces is not None:
            self.coarse = sample_surface(points, faces, FINDER_POINTS, self.rng)[0]
        else:
            self.coarse = self.points[_spread(len(self.points), FINDER_POINTS)]

    def near(
        self, canonical_from_scan: Float[np.ndarray, "4 4"], most: int
    ) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
        """Points with normals in a box around the face, scan coordinates."""
        # The box of the canonical frame, as a ball in scan coordinates: one pass over millions of points.
        inverse = np.linalg.inv(canonical_from_scan)
        center = inverse[:3, :3] @ np.array([0.0, -30.0, -20.0]) + inverse[:3, 3]
        radius = 165.0 * np.cbrt(np.linalg.det(inverse[:3, :3]))
        inside = np.sum((self.points - center) ** 2, axis=1) < radius**2
        if self.faces is not None:
            faces = self.faces[inside[self.faces].any(axis=1)]
            if not len(faces):
                return np.zeros((0, 3)), np.zeros((0, 3))
            points, normals, _, _ = sample_surface(self.points, faces, most, self.rng)
            return points, normals
        ids = np.flatnonzero(inside)
        ids = ids[_spread(len(ids), most)]
        points = self.points[ids]
        if self.normals is not None and np.abs(self.normals[ids]).sum(axis=1).all():
            return points, self.normals[ids]
        return points, estimate_normals(points) if len(points) > 3 else np.zeros_like(points)


def surface_of(scan: Scan) -> ScanSurface:
    """The surface of any scan.

    Raises:
        ScanError: too few points for a face.
    """
    points, normals, faces = _arrays(scan)
    what = "points" if faces is None else "vertices"
    finite: Bool[np.ndarray, " n"] = np.isfinite(points).all(axis=1)
    if not finite.all():
        points = points[finite]
        normals = None if normals is None else normals[finite]
        if faces is not None:
            faces = (np.cumsum(finite) - 1)[faces[finite[faces].all(axis=1)]]
    if len(points) < MIN_POINTS or (faces is not None and not len(faces)):
        raise ScanError(f"a face needs at least {MIN_POINTS} {what}, the scan has {len(points)}; give a denser scan")
    if not np.ptp(points, axis=0).any():
        raise ScanError(f"all {len(points)} {what} lie at one place; give another scan")
    return ScanSurface(points, normals, faces)


def _arrays(
    scan: Scan,
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"] | None, Int[np.ndarray, "f 3"] | None]:
    if isinstance(scan, Mesh):
        return scan.vertices.astype(np.float64), None, scan.faces
    if isinstance(scan, Rgbd):
        return rgbd_points(scan)[0].astype(np.float64), None, None
    return scan.points.astype(np.float64), None if scan.normals is None else scan.normals.astype(np.float64), None
