"""A partial scan in the views of a rig, as images that diffusion can complete, and the way back from images to the head.

The fitted head, moved onto the points where there are any, is rendered in every view; a second image marks the pixels that the
scan supports. What a sample changes in depth displaces the head's vertices along their normals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from omote.completion.base import PartialScan
from omote.completion.coarse_head import coarse_head
from omote.completion.scan_batch import UNIT_MM, measured_at
from omote.geometry.camera import project
from omote.geometry.mesh import vertex_normals
from omote.geometry.rig import Rig
from omote.head.model import HeadModel
from omote.lift.points import sample_image
from omote.rendering.rgbd import interpolate
from omote.rendering.zbuffer import rasterize
from omote.rgbd.codec import DEPTH, DEPTH_SCALE_MM, MASK, pack, reference_depth_mm
from omote.types import Camera

# A vertex is seen by a view whose depth there is its own within this.
VISIBLE_MM = 3.0
# Views that see a vertex count by their squared cosines; with less in total, a vertex is out of view.
LEAST_WEIGHT = 0.05


@dataclass(frozen=True, kw_only=True)
class PartialViews:
    """The head of a partial scan in V views.

    Attributes:
        composite: packed views of the fitted head, moved onto the points where there are any.
        supported: the same with a mask of the pixels that the scan supports.
        cameras: cameras of the views, in the frame of the vertices.
        vertices_mm: coarse vertices of the composite head.
        normals: their outward unit normals.
        seen: coarse vertices that points support.
        weight: how well each view sees each of them, 0 to 1.
    """

    composite: Float[Tensor, "v 5 s s"]
    supported: Float[Tensor, "v 5 s s"]
    cameras: tuple[Camera, ...]
    vertices_mm: Float[np.ndarray, "n 3"]
    normals: Float[np.ndarray, "n 3"]
    seen: Bool[np.ndarray, " n"]
    weight: Float[np.ndarray, "v n"]


def partial_views(partial: PartialScan, head: HeadModel, rig: Rig, size: int) -> PartialViews:
    """Views of a partial scan.

    Args:
        partial: partial scan, in the frame of the rig.
        head: head model that was fitted to it.
        rig: cameras.
        size: side of a view, pixels.
    """
    coarse = coarse_head(head)
    fitted = partial.fitted_mm.astype(np.float64)
    outward = vertex_normals(fitted, head.faces)
    outer = coarse.outer
    colors = partial.colors if partial.colors is not None else np.full_like(partial.points_mm, -1.0)
    measured, seen = measured_at(
        fitted[outer], outward[outer], np.zeros((len(outer), 3)), partial.points_mm, partial.normals, colors
    )
    surface = fitted.copy()
    surface[outer] += UNIT_MM * measured[:, :1] * outward[outer] * seen[:, None]

    known = seen & (measured[:, 12] > 0.1)
    rgb = np.full((len(outer), 3), 0.5)
    if known.any():
        rgb[known] = 0.5 + measured[known, 9:12] / measured[known, 3:4]
        rgb[~known] = rgb[known].mean(axis=0)
    attributes = np.zeros((len(fitted), 4), np.float32)
    attributes[outer] = np.column_stack([np.clip(rgb, 0, 1), seen])

    cameras = rig.cameras(size)
    faces = coarse.surface_faces(head)
    images = np.stack([_rendered(camera, surface, faces, attributes) for camera in cameras])
    x = torch.from_numpy(images).movedim(3, 1)
    rgb_x, supported, depth, mask = x[:, :3], x[:, 3:4], x[:, 4:5], x[:, 5:6]
    at, normals = surface[coarse.ids], vertex_normals(surface, head.faces)[coarse.ids]
    return PartialViews(
        composite=pack(rgb_x, depth, mask),
        supported=pack(rgb_x, depth, mask * (supported > 0.5)),
        cameras=tuple(cameras),
        vertices_mm=at,
        normals=normals,
        seen=seen[coarse.within],
        weight=np.stack([_weights(c, i[..., 4], i[..., 5], at, normals) for c, i in zip(cameras, images, strict=True)]),
    )


def _rendered(
    camera: Camera,
    vertices_mm: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "f 3"],
    attributes: Float[np.ndarray, "v 4"],
) -> Float[np.ndarray, "s s 6"]:
    """Colour, support, depth less the reference, and mask of a surface."""
    raster = rasterize(camera, np.ascontiguousarray(vertices_mm, np.float32), faces, cull_back=True)
    seen = interpolate(raster.face_id, raster.barycentric, faces, attributes)
    mask = raster.face_id >= 0
    depth = np.where(mask, raster.depth_mm - reference_depth_mm(camera), 0.0)
    return np.concatenate([seen, depth[..., None], mask[..., None]], axis=-1, dtype=np.float32)


def _weights(
    camera: Camera,
    depth_mm: Float[np.ndarray, "s s"],
    mask: Float[np.ndarray, "s s"],
    vertices_mm: Float[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"],
) -> Float[np.ndarray, " n"]:
    """Squared cosine of the angle at which a camera sees each vertex; 0 where it does not."""
    uvz = project(camera, vertices_mm)
    ray = _rays(camera, vertices_mm, uvz)
    cosine = -(normals * ray).sum(axis=1) / np.linalg.norm(ray, axis=1)
    size = len(mask)
    inside = ((uvz[:, :2] > 1) & (uvz[:, :2] < size - 1)).all(axis=1) & (uvz[:, 2] > 0)
    layers = np.stack([depth_mm, mask], axis=-1).astype(np.float64)
    found = sample_image(layers, np.where(inside[:, None], uvz[:, :2], 0.0))
    own = uvz[:, 2] - reference_depth_mm(camera)
    shown = inside & (found[:, 1] > 0.999) & (np.abs(found[:, 0] - own) < VISIBLE_MM / np.maximum(cosine, 0.2))
    return np.where(shown & (cosine > 0.1), cosine**2, 0.0)


def _rays(
    camera: Camera, places_mm: Float[np.ndarray, "n 3"], uvz: Float[np.ndarray, "n 3"]
) -> Float[np.ndarray, "n 3"]:
    """Lines of sight to some places, as long as unit z-depth."""
    return (places_mm - np.linalg.inv(camera.cam_from_world)[:3, 3]) / uvz[:, 2:]


def displacement(
    views: PartialViews, changed: Float[np.ndarray, "v 5 s s"]
) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """How far the coarse vertices of a composite move along their normals, and which of them any view sees.

    A surface that moves by d along its normal n changes the z-depth of the pixel with line of sight r (of unit z-depth) by
    d / (n · r). Views are averaged, weighted by squared cosines. Vertices out of view do not move.

    Args:
        views: the composite.
        changed: packed views of the head that it is to become.
    """
    total = np.zeros(len(views.vertices_mm))
    moved = np.zeros(len(views.vertices_mm))
    before = views.composite.numpy()
    for k, camera in enumerate(views.cameras):
        uvz = project(camera, views.vertices_mm)
        change = (changed[k, DEPTH] - before[k, DEPTH])[0] * DEPTH_SCALE_MM
        both = ((changed[k, MASK] > 0) & (before[k, MASK] > 0))[0].astype(np.float64)
        found = sample_image(np.stack([change * both, both], axis=-1).astype(np.float64), uvz[:, :2])
        weight = views.weight[k] * (found[:, 1] > 0.5)
        toward = (views.normals * _rays(camera, views.vertices_mm, uvz)).sum(axis=1)
        moved += weight * found[:, 0] / np.maximum(found[:, 1], 0.5) * toward
        total += weight
    in_view = total > LEAST_WEIGHT
    return np.where(in_view, moved / np.maximum(total, LEAST_WEIGHT), 0.0), in_view
