"""3D → views: a scan rendered from every camera of a rig, with masks of occluded and missing surface.

The conversion is purely geometric: nothing is learned or invented. Surface that a camera does not see is marked by its
cause: `Views.seen_by` for occlusion by the face itself, `Views.missing` for surface that the scan lacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import maximum_filter

from omote.geometry.camera import pixel_grid, project, rgbd_points, transform, unproject
from omote.geometry.depth import depth_normals
from omote.geometry.mesh import face_normals
from omote.geometry.rig import Rig
from omote.head.model import PARTS, HeadModel
from omote.lift.points import sample_image
from omote.rendering.scans import render_mesh, render_points
from omote.rendering.source import source_image
from omote.rendering.zbuffer import rasterize
from omote.types import Camera, Mesh, PointCloud, Rgbd, Scan

# Depth tolerance within which a surface point counts as seen; depth difference beyond which views show different surfaces.
SEEN_MM, SAME_MM = 2.5, 15.0
# If more than this share of a mesh faces away, its winding is reversed; it is not seen from inside.
MOST_BACK = 0.5


@dataclass(frozen=True, kw_only=True)
class Views:
    """V registered views of one surface.

    Attributes:
        images: one view per camera, all of the same size.
        seen_by: whether, at [i, j], the surface at a pixel of view i is also seen by view j, not occluded by the face itself.
        missing: pixels covered by the head but not by the scan; empty if the head is unknown.
    """

    images: tuple[Rgbd, ...]
    seen_by: Bool[np.ndarray, "v v h w"]
    missing: Bool[np.ndarray, "v h w"]


def views_of(
    scan: Scan,
    rig: Rig,
    size: int,
    *,
    head: HeadModel | None = None,
    vertices_mm: Float[np.ndarray, "v 3"] | None = None,
) -> Views:
    """Render a scan in the canonical frame as V registered images.

    Args:
        scan: scan in the canonical frame, mm; for an RGB-D image, that frame is the world frame of its camera.
        rig: camera rig of the views.
        size: side of a view, pixels.
        head: head model that was fitted to the scan, if any; views are then prepared as network input (`source_image`), with
            hair and clothing cropped and small holes closed, and ``missing`` is known.
        vertices_mm: vertices of the fitted head, mm.
    """
    cameras = rig.cameras(size)
    surface = _cloud(scan) if isinstance(scan, Rgbd) else scan
    bare = [_seen(surface, camera) for camera in cameras]
    images, missing = bare, np.zeros((len(cameras), size, size), bool)
    if head is not None and vertices_mm is not None:
        images = [source_image(surface, head, vertices_mm, size, camera=camera) for camera in cameras]
        faces = np.ascontiguousarray(head.faces[head.face_part == PARTS.index("skin")], np.int32)
        outline = [rasterize(c, np.ascontiguousarray(vertices_mm, np.float64), faces).face_id >= 0 for c in cameras]
        missing = np.stack([o & ~image.mask for o, image in zip(outline, bare, strict=True)])
    return Views(images=tuple(images), seen_by=seen_by(images), missing=missing)


def seen_by(images: Sequence[Rgbd]) -> Bool[np.ndarray, "v v h w"]:
    """Whether each view sees the surface at each pixel of each view (`Views.seen_by`); a view sees all of its own surface."""
    count, shape = len(images), images[0].mask.shape
    out = np.zeros((count, count, *shape), bool)
    for i, image in enumerate(images):
        points, _ = rgbd_points(image)
        for j, other in enumerate(images):
            out[i, j][image.mask] = True if i == j else _visible(points, other)
    return out


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """How far views differ at all pixels whose surface two of them see.

    Attributes:
        depth_mm: |depth of view i projected into view j - depth of view j|, z-depth in mm.
        color: mean of |colour of view i - colour of view j| over the channels, in [0, 1].
    """

    depth_mm: Float[np.ndarray, "n"]
    color: Float[np.ndarray, "n"]


def disagreement(images: Sequence[Rgbd]) -> Disagreement:
    """How far registered views of one surface differ from each other, in depth and in colour."""
    depths, colors = [np.empty(0)], [np.empty(0)]
    for i, image in enumerate(images):
        points, own = rgbd_points(image)
        for j, other in enumerate(images):
            if i == j or not len(points):
                continue
            uvz = project(other.camera, points)
            difference = np.abs(_depth_at(other, uvz) - uvz[:, 2])
            shared = _visible(points, other) & (difference < SAME_MM)
            depths.append(difference[shared])
            colors.append(np.abs(sample_image(other.rgb, uvz[shared, :2]) - own[shared]).mean(axis=1))
    return Disagreement(depth_mm=np.concatenate(depths), color=np.concatenate(colors))


def _visible(points_mm: Float[np.ndarray, "n 3"], image: Rgbd) -> Bool[np.ndarray, " n"]:
    uvz = project(image.camera, points_mm)
    column, row = (np.floor(np.nan_to_num(uvz[:, k], nan=-1.0, posinf=-1.0, neginf=-1.0)).astype(int) for k in (0, 1))
    height, width = image.mask.shape
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height) & (uvz[:, 2] > 0)
    column, row = np.clip(column, 0, width - 1), np.clip(row, 0, height - 1)
    # On a slanted surface, depth differs between neighbouring pixels, so the deepest neighbour is compared.
    deepest = maximum_filter(np.where(image.mask, image.depth_mm, 0.0), size=3)
    seen: Bool[np.ndarray, " n"] = inside & image.mask[row, column] & (uvz[:, 2] < deepest[row, column] + SEEN_MM)
    return seen


def _depth_at(image: Rgbd, uvz: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n"]:
    layers = np.stack([np.where(image.mask, image.depth_mm, 0.0), image.mask.astype(np.float64)], axis=-1)
    values = sample_image(layers, uvz[:, :2])
    depth: Float[np.ndarray, "n"] = np.where(values[:, 1] > 0.999, values[:, 0], np.inf)
    return depth


def _seen(scan: Mesh | PointCloud, camera: Camera) -> Rgbd:
    """A scan seen from outside: a camera sees nothing where it looks at the back of a surface."""
    if isinstance(scan, PointCloud):
        return render_points(scan, camera)
    image = render_mesh(scan, camera)
    vertices, faces = np.ascontiguousarray(scan.vertices, np.float64), np.ascontiguousarray(scan.faces, np.int32)
    hit = rasterize(camera, vertices, faces).face_id
    seen = transform(camera.cam_from_world, vertices)
    facing = np.einsum("fc,fc->f", face_normals(seen, faces), seen[faces].mean(axis=1)) < 0
    outside = (hit >= 0) & facing[np.maximum(hit, 0)]
    if outside.sum() < (1 - MOST_BACK) * max((hit >= 0).sum(), 1):
        return image
    mask = image.mask & outside
    return replace(image, mask=mask, depth_mm=np.where(mask, image.depth_mm, 0).astype(np.float32))


def _cloud(image: Rgbd) -> PointCloud:
    """Points of an image with surface normals, so that no other camera sees them from behind."""
    points, colors = rgbd_points(image)
    found, there = depth_normals(image.depth_mm[None], image.mask[None], image.camera.intrinsics[None])
    rays = unproject(replace(image.camera, cam_from_world=np.eye(4)), np.column_stack([pixel_grid(image.camera),
                     np.ones(image.mask.size)])).reshape(*image.mask.shape, 3)  # fmt: skip
    toward = -rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    normals = np.where(there[0][..., None], found[0], toward)[image.mask] @ image.camera.cam_from_world[:3, :3]
    return PointCloud(points=points, colors=colors, normals=normals)
