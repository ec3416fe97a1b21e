"""RGB-D image → clean points with normals: without the pixels that straddle two surfaces."""

from __future__ import annotations

import numba
import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import binary_erosion, maximum_filter, minimum_filter

from omote.geometry.camera import pixel_grid, unproject
from omote.types import Camera, PointCloud, Rgbd

# A slope of 76° at 700 mm and 1.8 mm pixels; steeper than any cheek that a frontal camera sees well.
MAX_STEP_MM_PER_PIXEL_MM = 4.0


def pixel_size_mm(camera: Camera, depth_mm: float) -> float:
    """Width that one pixel sees at a depth."""
    return depth_mm / float(camera.intrinsics[0, 0])


def clean_mask(rgbd: Rgbd, *, border_px: int = 1) -> Bool[np.ndarray, "height width"]:
    """Valid pixels that lie on one surface: away from depth jumps and from the mask's border.

    Args:
        rgbd: the image.
        border_px: how many pixels the mask's border takes with it.
    """
    mask = rgbd.mask & np.isfinite(rgbd.depth_mm) & (rgbd.depth_mm > 0)
    if not mask.any():
        return mask
    limit = MAX_STEP_MM_PER_PIXEL_MM * pixel_size_mm(rgbd.camera, float(np.median(rgbd.depth_mm[mask])))
    high = maximum_filter(np.where(mask, rgbd.depth_mm, -np.inf), size=3)
    low = minimum_filter(np.where(mask, rgbd.depth_mm, np.inf), size=3)
    # A step is measured across three pixels.
    flat = (high - low) < 2 * limit
    return binary_erosion(mask, iterations=border_px) & flat if border_px else mask & flat


def clean_points(rgbd: Rgbd, *, border_px: int = 1) -> PointCloud:
    """Canonical points (mm), colours, and unit normals towards the camera, of an image's clean pixels.

    Normals are the cross product of the neighbours' differences, so a pixel needs its four neighbours.
    """
    keep = clean_mask(rgbd, border_px=max(border_px, 1))
    grid = pixel_grid(rgbd.camera)
    depth = np.where(rgbd.mask, rgbd.depth_mm, 0.0)
    world = unproject(rgbd.camera, np.concatenate([grid, depth.reshape(-1, 1)], axis=1))
    world = world.reshape(*depth.shape, 3)
    across = np.zeros_like(world)
    down = np.zeros_like(world)
    across[:, 1:-1] = world[:, 2:] - world[:, :-2]
    down[1:-1] = world[2:] - world[:-2]
    # Right × down points away from the viewer in OpenCV axes; towards the camera is its opposite.
    normals = np.cross(down, across)
    length = np.linalg.norm(normals, axis=-1)
    keep &= length > 1e-9
    return PointCloud(
        points=world[keep], colors=rgbd.rgb[keep].astype(np.float64), normals=normals[keep] / length[keep][:, None]
    )


def sample_image(
    image: Float[np.ndarray, "height width c"], uv_px: Float[np.ndarray, "n 2"]
) -> Float[np.ndarray, "n c"]:
    """Bilinear values at pixel coordinates (centres at integer + .5); outside, the border's value."""
    return _bilinear(np.ascontiguousarray(image), np.ascontiguousarray(uv_px, np.float64))


@numba.njit(cache=True, nogil=True)
def _bilinear(image: np.ndarray, uv: np.ndarray) -> np.ndarray:
    height, width, channels = image.shape
    out = np.empty((len(uv), channels))
    for i in range(len(uv)):
        x, y = uv[i, 0] - 0.5, uv[i, 1] - 0.5
        # So written, not-a-number lands on the border too.
        x = min(x, width - 1.000001) if x > 0 else 0.0
        y = min(y, height - 1.000001) if y > 0 else 0.0
        x0, y0 = int(x), int(y)
        x1, y1 = min(x0 + 1, width - 1), min(y0 + 1, height - 1)
        fx, fy = x - x0, y - y0
        for c in range(channels):
            top = image[y0, x0, c] * (1 - fx) + image[y0, x1, c] * fx
            bottom = image[y1, x0, c] * (1 - fx) + image[y1, x1, c] * fx
            out[i, c] = top * (1 - fy) + bottom * fy
    return out
