"""A scan of any kind as points: coarse ones of the whole scan, or dense ones around a face."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from omote.errors import ScanError
from omote.geometry.camera import rgbd_points
from omote.geometry.cloud import estimate_normals, sample_surface
from omote.rendering.scans import sample_texture
from omote.types import FusedMesh, Mesh, Rgbd, Scan

FINDER_POINTS = 30_000
VIEW_POINTS = 12_000  # points drawn from the ball around a face
MOST_POINTS = 1_000_000  # most points kept of a cloud; the face alone still has more points than any fit uses
MIN_POINTS = 300


def _spread(count: int, most: int) -> Int[np.ndarray, " k"]:
    """At most ``most`` of ``count`` ids, one random id per equal slice: no duplicates, and no pattern of scan lines."""
    if count <= most:
        return np.arange(count)
    slices = np.arange(most) + np.random.default_rng(0).uniform(size=most)
    ids = (slices * (count / most)).astype(np.int64)
    return ids[np.diff(ids, prepend=-1) > 0]


@dataclass(frozen=True, kw_only=True)
class Colors:
    """The colours of a scan's vertices or points, or its texture.

    Attributes:
        per_point: colour of each vertex or point in [0, 1], or None.
        uv: texture coordinates, or None.
        faces_uv: ids into ``uv`` per face corner, or None.
        texture: texture image in [0, 1] with row 0 at the top, or None.
    """

    per_point: Float[np.ndarray, "n 3"] | None = None
    uv: Float[np.ndarray, "t 2"] | None = None
    faces_uv: Int[np.ndarray, "f 3"] | None = None
    texture: Float[np.ndarray, "h w 3"] | None = None

    def on_faces(
        self, faces: Int[np.ndarray, "f 3"], face: Int[np.ndarray, " k"], weights: Float[np.ndarray, "k 3"]
    ) -> Float[np.ndarray, "k 3"] | None:
        """Colours at barycentric points of faces, or None if there are no colours."""
        if self.texture is not None and self.uv is not None and self.faces_uv is not None:
            return sample_texture(self.texture, np.einsum("kic,ki->kc", self.uv[self.faces_uv[face]], weights))
        if self.per_point is None:
            return None
        return np.einsum("kic,ki->kc", self.per_point[faces[face]], weights).astype(np.float32)


class ScanSurface:
    """Points of a cloud, or a mesh that is sampled by area; everything in scan coordinates.

    Attributes:
        points: points of a cloud, or vertices of a mesh.
        normals: normals of the points, of either sign, or None.
        faces: triangles of a mesh, or None for a cloud.
        coarse: at most `FINDER_POINTS` points of the whole scan.
        toward_camera: unit direction from the scan to its only camera, or None.
        gapped: whether a mesh has gaps where no frame saw the surface, as one fused of depth frames does.
    """

    def __init__(
        self,
        points: Float[np.ndarray, "n 3"],
        normals: Float[np.ndarray, "n 3"] | None,
        faces: Int[np.ndarray, "f 3"] | None,
        *,
        colors: Colors | None = None,
        toward_camera: Float[np.ndarray, "3"] | None = None,
        gapped: bool = False,
    ) -> None:
        colors = Colors() if colors is None else colors
        if faces is None and len(points) > MOST_POINTS:
            kept = _spread(len(points), MOST_POINTS)
            points, normals = points[kept], None if normals is None else normals[kept]
            colors = Colors(per_point=None if colors.per_point is None else colors.per_point[kept])
        self.points, self.normals, self.faces, self.colors = points, normals, faces, colors
        self.toward_camera, self.gapped = toward_camera, gapped
        if faces is not None:
            self.coarse, _, face, weights = sample_surface(points, faces, FINDER_POINTS, np.random.default_rng(0))
            self._coarse_colors = colors.on_faces(faces, face, weights)
        else:
            ids = _spread(len(points), FINDER_POINTS)
            self.coarse = points[ids]
            self._coarse_colors = None if colors.per_point is None else colors.per_point[ids]

    def _in_ball(self, canonical_from_scan: Float[np.ndarray, "4 4"], points: np.ndarray) -> Bool[np.ndarray, " n"]:
        # The box of the canonical frame, as a ball in scan coordinates: one pass over millions of points.
        inverse = np.linalg.inv(canonical_from_scan)
        center = inverse[:3, :3] @ np.array([0.0, -30.0, -20.0]) + inverse[:3, 3]
        radius = 165.0 * np.cbrt(np.linalg.det(inverse[:3, :3]))
        return np.asarray(np.sum((points - center) ** 2, axis=1) < radius**2)

    def near(
        self, canonical_from_scan: Float[np.ndarray, "4 4"], most: int
    ) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
        """Points with normals in a ball around the face, in scan coordinates.

        Args:
            canonical_from_scan: pose of the face.
            most: largest number of points.
        """
        inside = self._in_ball(canonical_from_scan, self.points)
        if self.faces is not None:
            faces = self.faces[inside[self.faces].any(axis=1)]
            if not len(faces):
                return np.zeros((0, 3)), np.zeros((0, 3))
            points, normals, _, _ = sample_surface(self.points, faces, most, np.random.default_rng(0))
            return points, normals
        ids = np.flatnonzero(inside)
        ids = ids[_spread(len(ids), most)]
        points = self.points[ids]
        if self.normals is not None and np.abs(self.normals[ids]).sum(axis=1).all():
            return points, self.normals[ids]
        return points, estimate_normals(points) if len(points) > 3 else np.zeros_like(points)

    def shown(
        self, canonical_from_scan: Float[np.ndarray, "4 4"]
    ) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"] | None]:
        """Points of a view of the face, with their colours: the coarse ones if there are enough, else `VIEW_POINTS` of the ball.

        Args:
            canonical_from_scan: pose of the face.
        """
        coarse = self._in_ball(canonical_from_scan, self.coarse)
        whole = self.faces is None and len(self.coarse) == len(self.points)
        if whole or coarse.sum() >= VIEW_POINTS:
            return self.coarse[coarse], None if self._coarse_colors is None else self._coarse_colors[coarse]
        inside = self._in_ball(canonical_from_scan, self.points)
        if self.faces is None:
            ids = np.flatnonzero(inside)
            ids = ids[_spread(len(ids), VIEW_POINTS)]
            return self.points[ids], None if self.colors.per_point is None else self.colors.per_point[ids]
        kept = np.flatnonzero(inside[self.faces].any(axis=1))
        if not len(kept):
            return np.zeros((0, 3)), None
        points, _, face, weights = sample_surface(self.points, self.faces[kept], VIEW_POINTS, np.random.default_rng(0))
        return points, self.colors.on_faces(self.faces, kept[face], weights)


def surface_of(scan: Scan) -> ScanSurface:
    """The surface of any scan.

    Raises:
        ScanError: too few points for a face.
    """
    points, normals, faces, colors = _arrays(scan)
    what = "points" if faces is None else "vertices"
    finite: Bool[np.ndarray, " n"] = np.isfinite(points).all(axis=1)
    if not finite.all():
        points = points[finite]
        normals = None if normals is None else normals[finite]
        whole = None if faces is None else finite[faces].all(axis=1)
        if faces is not None:
            faces = (np.cumsum(finite) - 1)[faces[whole]]
        colors = replace(
            colors,
            per_point=None if colors.per_point is None else colors.per_point[finite],
            faces_uv=None if colors.faces_uv is None else colors.faces_uv[whole],
        )
    if len(points) < MIN_POINTS or (faces is not None and not len(faces)):
        raise ScanError(f"a face needs at least {MIN_POINTS} {what}, the scan has {len(points)}; give a denser scan")
    if not np.ptp(points, axis=0).any():
        raise ScanError(f"all {len(points)} {what} lie at one place; give another scan")
    # A depth camera is at the origin of its frame's coordinates.
    toward = _toward(scan) if isinstance(scan, Rgbd) else None
    gapped = isinstance(scan, FusedMesh)
    return ScanSurface(points, normals, faces, colors=colors, toward_camera=toward, gapped=gapped)


def _arrays(
    scan: Scan,
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"] | None, Int[np.ndarray, "f 3"] | None, Colors]:
    if isinstance(scan, Mesh):
        colors = Colors(per_point=scan.vertex_colors, uv=scan.uv, faces_uv=scan.faces_uv, texture=scan.texture)
        return scan.vertices.astype(np.float64), None, scan.faces, colors
    if isinstance(scan, Rgbd):
        points, seen = rgbd_points(scan)
        return points.astype(np.float64), None, None, Colors(per_point=seen if np.ptp(scan.rgb) > 0 else None)
    normals = None if scan.normals is None else scan.normals.astype(np.float64)
    return scan.points.astype(np.float64), normals, None, Colors(per_point=scan.colors)


def _toward(frame: Rgbd) -> Float[np.ndarray, "3"]:
    return np.asarray(-frame.camera.cam_from_world[2, :3])
