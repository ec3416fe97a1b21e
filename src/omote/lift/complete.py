"""Which of a head's vertices a camera saw, and which the head fit had to supply."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from omote.geometry.camera import project
from omote.geometry.mesh import vertex_normals
from omote.head.model import HeadModel
from omote.lift.points import clean_mask
from omote.rendering.zbuffer import rasterize
from omote.types import Camera, Head, Rgbd

SLACK_MM = 1.5


def visible_vertices(model: HeadModel, vertices_mm: Float[np.ndarray, "v 3"], camera: Camera) -> Bool[np.ndarray, "v"]:
    """Vertices that face a camera with nothing of the head before them."""
    raster = rasterize(camera, vertices_mm, model.faces)
    uvz = project(camera, vertices_mm)
    column = np.clip(uvz[:, 0].astype(int), 0, camera.width - 1)
    row = np.clip(uvz[:, 1].astype(int), 0, camera.height - 1)
    inside = (uvz[:, 0] >= 0) & (uvz[:, 0] < camera.width) & (uvz[:, 1] >= 0) & (uvz[:, 1] < camera.height)
    normals = vertex_normals(vertices_mm, model.faces)
    rotation = camera.cam_from_world[:3, :3]
    view = -rotation.T @ camera.cam_from_world[:3, 3] - vertices_mm
    cosine = np.einsum("nc,nc->n", view / np.linalg.norm(view, axis=1, keepdims=True), normals)
    # Within a pixel, a slanted surface comes nearer by its slope.
    pixel_mm = uvz[:, 2] / camera.intrinsics[0, 0]
    slack = SLACK_MM + pixel_mm / np.maximum(cosine, 0.15)
    return inside & (cosine > 0.1) & (uvz[:, 2] < raster.depth_mm[row, column] + slack)


def complete(
    model: HeadModel,
    neutral: Head,
    vertices_mm: Float[np.ndarray, "v 3"],
    generated: Rgbd | None = None,
) -> Head:
    """A registered expression as a whole head.

    What no camera saw is already there, moved by the head model's units; this says so per vertex.

    Args:
        model: the head model.
        neutral: the person at rest, with what its scan left to the fit.
        vertices_mm: registered, in correspondence with ``neutral``.
        generated: the image it was registered to; with it, vertices outside its view count as inferred where they move.
    """
    inferred = neutral.inferred.copy()
    if generated is not None:
        seen = visible_vertices(model, vertices_mm, generated.camera)
        uv = project(generated.camera, vertices_mm)[:, :2]
        row = np.clip(uv[:, 1].astype(int), 0, generated.camera.height - 1)
        column = np.clip(uv[:, 0].astype(int), 0, generated.camera.width - 1)
        seen &= clean_mask(generated, border_px=0)[row, column]
        moves = np.linalg.norm(vertices_mm - neutral.vertices_mm, axis=1) > 0.5
        inferred |= moves & ~seen
    return Head(model_name=neutral.model_name, vertices_mm=vertices_mm.astype(np.float32), inferred=inferred)
