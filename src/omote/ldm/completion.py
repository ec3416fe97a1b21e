"""What a depth camera lost of a head's outline, from the head that was fitted to the rest.

Structured light and time of flight find nothing where a surface turns away, so that a face comes without its rim, ears and
half of its neck, while the colour camera saw them. A spline cannot tell how far they went; a fitted head can.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from omote.geometry.camera import resize
from omote.geometry.holes import closed, holes_of
from omote.head.rest_face import RestFace
from omote.head.shipped import shipped_head
from omote.render.zbuffer import rasterize
from omote.types import Rgbd

# Share of the head that is holes and bays, from which on an outline is not believed. Renders have .004 at most, depth cameras .1.
RAGGED = 0.02
# A fitted head lies before or behind the person by little; more is another surface, such as hair.
MAX_DEPARTURE_MM = 15.0


def is_ragged(image: Rgbd) -> bool:
    """Whether an image lost so many pixels that its outline is the camera's and not the head's."""
    return bool(holes_of(image).sum() > RAGGED * image.mask.sum())


def completed(image: Rgbd, face: RestFace) -> Rgbd:
    """An image with depth wherever the fitted head has some: the head's, moved to meet the nearest pixel that was measured.

    Args:
        image: its ``rgb`` holds the head's colour where depth was lost.
        face: fitted to it, in a camera that sees what the image's does.

    Returns:
        The same image where the fitted head shows nothing more.
    """
    image = closed(image)
    vertices = np.ascontiguousarray(face.vertices_mm, np.float32)
    camera = resize(face.camera, width=image.camera.width, height=image.camera.height)
    head_mm = rasterize(camera, vertices, shipped_head().faces, cull_back=True).depth_mm
    lost, measured = (head_mm > 0) & ~image.mask, (head_mm > 0) & image.mask
    if not lost.any() or not measured.any():
        return image
    _, (rows, columns) = ndimage.distance_transform_edt(~measured, return_indices=True)
    departure = (image.depth_mm - head_mm)[rows[lost], columns[lost]]
    depth = image.depth_mm.copy()
    depth[lost] = head_mm[lost] + np.clip(departure, -MAX_DEPARTURE_MM, MAX_DEPARTURE_MM)
    return replace(image, depth_mm=depth, mask=image.mask | lost)
