"""The aligned scan as the networks see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree

from omote.cores import num_cores
from omote.geometry.camera import orbit_camera, rgbd_points
from omote.geometry.holes import closed, holes_of, with_colors_in_holes
from omote.head.model import HeadModel
from omote.rendering.appearance import default_appearance
from omote.rendering.rgbd import render_head
from omote.rendering.scans import render_mesh, render_points
from omote.types import Camera, Mesh, PointCloud, Rgbd


def has_color(scan: Mesh | PointCloud) -> bool:
    """Whether a scan has colour."""
    if isinstance(scan, PointCloud):
        return scan.colors is not None
    return scan.vertex_colors is not None or (scan.texture is not None and scan.uv is not None)


# Hair and clothing farther than this from the fitted head are left out of the source image.
CROP_MM = 22.0


def source_image(
    scan: Mesh | PointCloud,
    model: HeadModel,
    vertices_mm: Float[np.ndarray, "v 3"],
    size: int,
    *,
    parts: Sequence[str] = ("skin",),
    camera: Camera | None = None,
) -> Rgbd:
    """The aligned scan as the networks see it: hair and clothing cropped, holes closed.

    A scan without colour is shown in plain skin, as the texture of its avatar will be.

    Args:
        scan: canonical frame, mm.
        model: head model of the fit.
        vertices_mm: fitted to the scan.
        size: pixels.
        parts: parts of the head that the crop keeps; an open mouth needs more than its skin.
        camera: camera of the image; the standard one if None.
    """
    camera = orbit_camera(size=size) if camera is None else camera
    if not has_color(scan):
        # Colour comes from the head model, geometry from the scan.
        dressed = render_head(model, vertices_mm, camera, appearance=default_appearance())
        bare = render_mesh(scan, camera) if isinstance(scan, Mesh) else render_points(scan, camera)
        rgb = np.where(dressed.mask[..., None], dressed.rgb, bare.rgb)
        image = replace(bare, rgb=rgb.astype(np.float32))
    else:
        image = render_mesh(scan, camera) if isinstance(scan, Mesh) else render_points(scan, camera)
    points, _ = rgbd_points(image)
    kept = model.part_vertices(*parts)
    distance, _ = cKDTree(vertices_mm[kept]).query(points, workers=num_cores())
    mask = image.mask.copy()
    mask[image.mask] = distance < CROP_MM
    rgb = np.where(mask[..., None], image.rgb, 0.5).astype(np.float32)
    cropped = replace(image, rgb=rgb, depth_mm=np.where(mask, image.depth_mm, 0).astype(np.float32), mask=mask)
    holes = holes_of(cropped)
    return closed(with_colors_in_holes(cropped, holes), holes)
