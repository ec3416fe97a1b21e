"""Point clouds drawn by surface splats: each point is a disc in its tangent plane, as large as the points' spacing.

A disc in the picture's plane has one depth and widens an outline by its radius; one in the tangent plane has the surface's slope
and is thin where the surface turns away.

Source: Zwicker, Pfister, van Baar and Gross, "Surface Splatting" (SIGGRAPH 2001); Botsch, Hornung, Zwicker and Kobbelt,
"High-Quality Surface Splatting on Today's GPUs" (2005), the two passes.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage
from scipy.spatial import cKDTree

from omote.compiled import kernel
from omote.cores import num_cores
from omote.geometry.camera import project, transform
from omote.types import Camera, PointCloud

# The sixth neighbour, since six are around a point. A disc reaches over edges if it is larger than this share of the distance to
# it, and leaves holes that are closed worse if it is smaller.
NEIGHBOURS, RADIUS = 7, 0.6
# Points that share a cell of so many pixels across and millimetres deep are one: a picture shows no more of a dense scan.
CELL_PX, CELL_MM = 0.5, 4.0
# A disc's weight falls to a hundredth at its rim.
FALLOFF = 4.6
# In the middle of a surface, what lies farther behind it than this is what shows through between its points.
SEEN_THROUGH_MM = 15.0
# Pixels: no disc is larger, whatever the points' spacing.
MAX_RADIUS_PX = 16.0


def disc_radii_mm(points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
    """Each point's disc, by the points' spacing around it; strays have four times the median at most.

    A point without neighbours has no spacing: a micron, which the pixel that holds it shows.
    """
    if not len(points):
        return np.zeros(0)
    distance, _ = cKDTree(points).query(points, k=min(NEIGHBOURS, len(points)), workers=num_cores())
    found: Float[np.ndarray, " n"] = distance.reshape(len(points), -1)[:, -1]
    return np.maximum(RADIUS * np.minimum(found, 4 * np.median(found)), 1e-3)


def thinned(
    cloud: PointCloud, camera: Camera
) -> tuple[Float[np.ndarray, "m 3"], Float[np.ndarray, "m 3"] | None, Float[np.ndarray, "m 3"] | None]:
    """Points that a camera sees, with their normals and colours; those closer together than its pixels averaged.

    Args:
        cloud: millimetres, in the camera's world.
        camera: camera of the image.
    """
    points = np.asarray(cloud.points, np.float64)
    pixel = project(camera, points)
    near = pixel[:, 2] > 1.0
    size = (camera.width, camera.height)
    for axis in (0, 1):
        near &= (pixel[:, axis] > -MAX_RADIUS_PX) & (pixel[:, axis] < size[axis] + MAX_RADIUS_PX)
    cell = np.floor(pixel[near] / (CELL_PX, CELL_PX, CELL_MM)).astype(np.int64)
    # One number a cell: rows and columns are a few thousand at most, depths anything.
    key = (cell[:, 2] << 32) + ((cell[:, 1] + (1 << 15)) << 16) + cell[:, 0] + (1 << 15)
    _, index, count = np.unique(key, return_inverse=True, return_counts=True)

    def mean(values: Float[np.ndarray, "n 3"] | None) -> Float[np.ndarray, "m 3"] | None:
        if values is None:
            return None
        sums = [np.bincount(index, values[near, axis], len(count)) for axis in range(3)]
        out: Float[np.ndarray, "m 3"] = np.column_stack(sums) / np.maximum(count, 1)[:, None]
        return out

    normals = mean(cloud.normals)
    if normals is not None:
        normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    kept = mean(points)
    assert kept is not None
    return kept, normals, mean(cloud.colors)


def splat(
    points: Float[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"],
    radius_mm: Float[np.ndarray, " n"],
    colors: Float[np.ndarray, "n 3"],
    camera: Camera,
) -> tuple[Float[np.ndarray, "h w 3"], Float[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """Colour, depth (mm; 0 where there is none) and mask of points in a camera's world.

    Args:
        points: millimetres, before the camera.
        normals: unit length, of either sign.
        radius_mm: radius of each point's disc.
        colors: sRGB [0, 1].
        camera: camera of the image.
    """
    seen = transform(camera.cam_from_world, np.ascontiguousarray(points, np.float64))
    turned = np.ascontiguousarray(normals, np.float64) @ camera.cam_from_world[:3, :3].T
    size = (camera.height, camera.width)
    nearest, nearest_radius_px = np.full(size, np.inf), np.zeros(size)
    rgb, depth, weight = np.zeros((*size, 3)), np.zeros(size), np.zeros(size)
    _splat(
        seen,
        turned,
        np.ascontiguousarray(radius_mm, np.float64),
        np.ascontiguousarray(colors, np.float64),
        np.ascontiguousarray(camera.intrinsics, np.float64),
        float(np.median(radius_mm)) + 1.0 if len(radius_mm) else 1.0,
        nearest,
        nearest_radius_px,
        rgb,
        depth,
        weight,
    )
    mask = weight > 0
    if mask.any():
        mask &= ~_seen_through(depth, mask, float(np.median(nearest_radius_px[mask])))
    depth = np.where(mask, depth, 0.0)
    return rgb, depth, mask


def _seen_through(
    depth_mm: Float[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"], radius_px: float
) -> Bool[np.ndarray, "h w"]:
    """Pixels that show something far behind a surface around them: a morphological opening by a disc removes them.

    A surface that a nearer one hides in part, as a chin a neck, is as wide as the disc somewhere, so it stays.
    """
    reach = math.ceil(max(1.5, radius_px))
    rows, columns = np.indices((2 * reach + 1, 2 * reach + 1)) - reach
    disc = rows**2 + columns**2 <= (reach + 0.3) ** 2
    far = np.where(mask, depth_mm, np.float64(np.finfo(np.float32).max))
    found: Bool[np.ndarray, "h w"] = mask & (
        far - ndimage.grey_opening(far, footprint=disc, mode="nearest") > SEEN_THROUGH_MM
    )
    return found


@kernel()
def _splat(
    points: np.ndarray,
    normals: np.ndarray,
    radius_mm: np.ndarray,
    colors: np.ndarray,
    intrinsics: np.ndarray,
    tolerance_mm: float,
    nearest: np.ndarray,
    nearest_radius: np.ndarray,
    rgb: np.ndarray,
    depth: np.ndarray,
    weight: np.ndarray,
) -> None:
    height, width = weight.shape
    fx, fy, cx, cy = intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]

    for second in range(2):
        for i in range(len(points)):
            px, py, pz = points[i, 0], points[i, 1], points[i, 2]
            if pz <= 1.0:
                continue
            nx, ny, nz = normals[i, 0], normals[i, 1], normals[i, 2]
            u, v = fx * px / pz + cx, fy * py / pz + cy
            r = radius_mm[i]
            r_px = min(r * fx / pz, MAX_RADIUS_PX)
            offset = px * nx + py * ny + pz * nz
            for y in range(max(0, math.floor(v - r_px)), min(height, math.ceil(v + r_px) + 1)):
                for x in range(max(0, math.floor(u - r_px)), min(width, math.ceil(u + r_px) + 1)):
                    # Where the pixel's ray meets the point's plane.
                    dx, dy = (x + 0.5 - cx) / fx, (y + 0.5 - cy) / fy
                    facing = dx * nx + dy * ny + nz
                    share = 2.0
                    z = pz
                    if abs(facing) > 1e-6:
                        z = offset / facing
                        share = ((z * dx - px) ** 2 + (z * dy - py) ** 2 + (z - pz) ** 2) / (r * r)
                    # The pixel that holds the point shows it, however thin its disc is from here.
                    if share > 1.0:
                        if not (math.floor(u) == x and math.floor(v) == y):
                            continue
                        z, share = min(max(z, pz - r), pz + r), 1.0
                    if second == 0:
                        if z < nearest[y, x]:
                            nearest[y, x] = z
                            nearest_radius[y, x] = r_px
                    elif z <= nearest[y, x] + tolerance_mm:
                        w = np.exp(-FALLOFF * share)
                        weight[y, x] += w
                        depth[y, x] += w * z
                        for k in range(3):
                            rgb[y, x, k] += w * colors[i, k]

    for y in range(height):
        for x in range(width):
            if weight[y, x] > 0:
                depth[y, x] /= weight[y, x]
                for k in range(3):
                    rgb[y, x, k] /= weight[y, x]
