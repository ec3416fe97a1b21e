"""Points seen from any side as small geometry images: the input of the face finder and the landmark network.

Scans have points of any density and unit. An image is orthographic and its depth is measured in pixels, so a face looks the
same in every unit. Splats grow with the spacing of the points, which closes the gaps between them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import label, uniform_filter

from omote.compiled import kernel

CHANNELS = 5  # normal x and y; whether surface is seen; depth from the window's centre; depth from the local mean
COLOR_CHANNELS = 4  # red, green and blue in deviations from the view's mean; whether there is colour


DEPTH_REACH_PX, RELIEF_PX = 64.0, 8.0  # limits of the two depth features


def splat(points_px: Float[np.ndarray, "n 3"], size: int, radius: int) -> Int[np.ndarray, "size size"]:
    """Id of the nearest point in each pixel; -1 where there is none.

    Args:
        points_px: points (u, v, depth) in pixels, OpenCV axes.
        size: width and height of the image.
        radius: radius of a point's square of (2 radius + 1)² pixels.
    """
    out = np.full((size, size), -1, np.int32)
    _splat(np.ascontiguousarray(points_px, np.float32), radius, out)
    return out


@kernel()
def _splat(points: np.ndarray, radius: int, out: np.ndarray) -> None:
    size = out.shape[0]
    for i in range(len(points)):
        u, v = math.floor(points[i, 0]), math.floor(points[i, 1])
        if u < -radius or v < -radius or u >= size + radius or v >= size + radius:
            continue
        for y in range(max(0, v - radius), min(size, v + radius + 1)):
            for x in range(max(0, u - radius), min(size, u + radius + 1)):
                if out[y, x] < 0 or points[i, 2] < points[out[y, x], 2]:
                    out[y, x] = i


def splat_radius(points_px: Float[np.ndarray, "n 3"], size: int) -> int:
    """The radius in pixels that closes the surface, estimated from the number of points in each occupied pixel."""
    # On a coarse grid of 4 px blocks a surface has no gaps, so this counts points per pixel of surface.
    blocks = np.zeros((size // 4 + 1, size // 4 + 1), np.bool_)
    inside = _fill(np.ascontiguousarray(points_px, np.float32), size, blocks)
    if not inside:
        return 1
    per_pixel = inside / (np.count_nonzero(blocks) * 16.0)
    return int(np.clip(np.ceil(0.75 / np.sqrt(max(per_pixel, 1e-3)) - 0.25), 1, 4))


@kernel()
def _fill(points: np.ndarray, size: int, blocks: np.ndarray) -> int:
    """Mark the blocks of 4 px with points, and count the points inside the view."""
    inside = 0
    for i in range(len(points)):
        u, v = points[i, 0], points[i, 1]
        if 0 <= u < size and 0 <= v < size:
            inside += 1
            blocks[int(u) // 4, int(v) // 4] = True
    return inside


@dataclass(frozen=True, kw_only=True)
class View:
    """An orthographic view of points.

    Attributes:
        planes: `CHANNELS` feature planes.
        depth_px: smoothed depth in pixels, 0 at the window's centre; infinite where no surface is seen.
        nearest: id of the point in each pixel; -1 where there is none.
    """

    planes: Float[np.ndarray, "5 size size"]
    depth_px: Float[np.ndarray, "size size"]
    nearest: Int[np.ndarray, "size size"]


def geometry_view(points_px: Float[np.ndarray, "n 3"], size: int) -> View:
    """The feature planes of points seen along z.

    Args:
        points_px: points (u, v, depth) in pixels, OpenCV axes.
        size: width and height of the view.
    """
    points_px = np.ascontiguousarray(points_px, np.float32)
    nearest = splat(points_px, size, splat_radius(points_px, size))
    seen = nearest >= 0
    z = np.where(seen, points_px[nearest, 2] if len(points_px) else 0.0, 0.0).astype(np.float32)
    smooth = _masked_mean(z, seen, 3)
    local = _masked_mean(z, seen, 15)
    padded, valid = np.pad(smooth, 1), np.pad(seen, 1)

    def slope(axis: int) -> np.ndarray:
        middle = slice(1, -1)
        ahead = (slice(2, None), middle) if axis == 0 else (middle, slice(2, None))
        behind = (slice(None, -2), middle) if axis == 0 else (middle, slice(None, -2))
        a, b = valid[ahead], valid[behind]
        up, down = padded[ahead] - smooth, smooth - padded[behind]
        return np.where(a & b, (up + down) / 2, np.where(a, up, np.where(b, down, 0.0)))

    dx, dy = slope(1), slope(0)
    length = np.sqrt(1.0 + dx**2 + dy**2)
    planes = np.stack([dx / length, dy / length, seen, np.clip(smooth / DEPTH_REACH_PX, -1, 1),
                       np.clip((smooth - local) / RELIEF_PX, -1, 1)])  # fmt: skip
    return View(planes=(planes * seen).astype(np.float32), depth_px=np.where(seen, smooth, np.inf), nearest=nearest)


def color_planes(view: View, colors: Float[np.ndarray, "n 3"] | None) -> Float[np.ndarray, "4 size size"]:
    """`COLOR_CHANNELS` planes of a view without its exposure and white balance; zeros if there are no colours.

    Args:
        view: view of the points.
        colors: colour of each point in [0, 1], or None.
    """
    out = np.zeros((COLOR_CHANNELS, *view.nearest.shape), np.float32)
    seen = view.nearest >= 0
    if colors is None or not seen.any():
        return out
    shown = np.stack(
        [_masked_mean(np.where(seen, c[view.nearest], 0.0).astype(np.float32), seen, 3)[seen] for c in colors.T]
    )
    contrast = shown - shown.mean(axis=1, keepdims=True)
    out[:3, seen] = np.clip(contrast / (contrast.std() + 0.02), -3, 3) / 3
    out[3] = seen
    return out


def _masked_mean(z: Float[np.ndarray, "h w"], seen: np.ndarray, size: int) -> Float[np.ndarray, "h w"]:
    weight = uniform_filter(seen.astype(np.float32), size, mode="constant")
    return uniform_filter(z, size, mode="constant") / np.maximum(weight, 1e-6)


def sphere_directions(count: int) -> Float[np.ndarray, "count 3"]:
    """Directions spread evenly over the sphere (a Fibonacci lattice)."""
    k = np.arange(count) + 0.5
    polar, turn = np.arccos(1 - 2 * k / count), np.pi * (1 + 5**0.5) * k
    return np.stack([np.cos(turn) * np.sin(polar), np.sin(turn) * np.sin(polar), np.cos(polar)], axis=1)


def view_rotation(direction: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """Rotation into an OpenCV camera that looks from ``direction`` to the origin."""
    z = -direction / np.linalg.norm(direction)
    helper = np.array([0.0, 1.0, 0.0]) if abs(z[1]) < 0.9 else np.array([1.0, 0.0, 0.0])
    x = np.cross(z, helper)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z])


def robust_ball(points: Float[np.ndarray, "n 3"]) -> tuple[Float[np.ndarray, "3"], float]:
    """Centre and radius of most of a scan; the outermost percent on each side is ignored."""
    low, high = np.quantile(points, [0.01, 0.99], axis=0)
    center = (low + high) / 2
    return center, float(np.quantile(np.linalg.norm(points - center, axis=1), 0.98)) * 1.06


def large_parts(
    points: Float[np.ndarray, "n 3"], *, cells: int = 32, least: float = 0.04, most: int = 4
) -> list[Float[np.ndarray, "k 3"]]:
    """The connected parts of a scan that have a large share of its points; all points if there is only one part.

    Args:
        points: points of the scan.
        cells: number of cells along the longest side of the grid whose neighbouring cells count as connected.
        least: smallest share of the points.
        most: largest number of parts.
    """
    low, high = np.quantile(points, [0.005, 0.995], axis=0)
    cell = np.clip((points - low) / max(float((high - low).max()), 1e-12) * cells, 0, cells - 1).astype(int)
    grid = np.zeros((cells,) * 3, bool)
    grid[tuple(cell.T)] = True
    labels, _ = label(grid, np.ones((3, 3, 3)))
    part = labels[tuple(cell.T)]
    count = np.bincount(part)
    large = [k for k in np.argsort(-count)[:most] if count[k] >= least * len(points)]
    return [points[part == k] for k in large] if len(large) > 1 else [points]
