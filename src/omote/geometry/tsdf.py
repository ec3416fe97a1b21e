"""Several posed depth images of one rigid surface → one triangle mesh: a truncated signed distance, and its zero level.

    depth images ─ integrate ×n → distance and weight per voxel ─ surface nets → mesh with colours

References:
    Curless and Levoy, A Volumetric Method for Building Complex Models from Range Images, SIGGRAPH 1996 (the weighted mean).
    Gibson, Constrained Elastic Surface Nets, MICCAI 1998 (one vertex per cell that the surface crosses).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from omote.compiled import kernel
from omote.errors import ScanError
from omote.geometry.depth import depth_normals, facing
from omote.types import Mesh, Rgbd

VOXEL_MM = 2.0
TRUNCATION_MM = 8.0
# Bounds memory: 20 bytes a voxel, and a few masks.
MOST_VOXELS = 24_000_000
# A pixel seen at a flatter angle than this measures its neighbour's surface as much as its own.
_LEAST_COSINE = 0.2


def fused(
    frames: Sequence[Rgbd],
    *,
    low_mm: Float[np.ndarray, "3"],
    high_mm: Float[np.ndarray, "3"],
    voxel_mm: float = VOXEL_MM,
    truncation_mm: float = TRUNCATION_MM,
) -> Mesh:
    """The surface that posed depth images agree on, as an open mesh with colours.

    A voxel holds the mean of its signed distances along the surface's normal, weighted by the squared cosine of the slant.

    Args:
        frames: images whose cameras share one world, mm.
        low_mm: least corner of the box that is fused, world axes.
        high_mm: greatest corner.
        voxel_mm: edge of a voxel.
        truncation_mm: distance from the surface that a measurement reaches; above the noise and the voxel's diagonal.

    Raises:
        ScanError: no surface in the box, or a box of too many voxels.
    """
    low, high = np.asarray(low_mm, np.float64), np.asarray(high_mm, np.float64)
    shape = np.maximum(np.ceil((high - low) / voxel_mm).astype(np.int64) + 1, 2)
    if (count := int(np.prod(shape))) > MOST_VOXELS:
        raise ScanError(f"expected a box of at most {MOST_VOXELS:,} voxels, got {count:,}; give larger voxels")
    distance, weight = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    color = np.zeros((*shape, 3), np.float32)
    for frame in frames:
        normals, seen = depth_normals(frame.depth_mm[None], frame.mask[None], frame.camera.intrinsics[None])
        _integrate(
            distance,
            weight,
            color,
            low,
            voxel_mm,
            truncation_mm,
            frame.camera.intrinsics.astype(np.float64),
            frame.camera.cam_from_world.astype(np.float64),
            frame.depth_mm.astype(np.float32),
            frame.rgb.astype(np.float32),
            np.where(seen[0], facing(normals[0], frame.camera.intrinsics), 0.0).astype(np.float32),
        )
    known = weight > 0.0
    distance[known] /= weight[known]
    color[known] /= weight[known][:, None]
    cells, place, faces = _surface_net(distance, known)
    if not len(faces):
        raise ScanError("expected depth images of one surface in the box, found none; check their poses")
    # A cell beside unknown ones may belong to no face.
    used, faces = np.unique(faces, return_inverse=True)
    cells, place, faces = cells[used], place[used], faces.reshape(-1, 3)
    nearest = np.minimum(np.rint(place).astype(np.int64), shape - 1)
    nearest = np.where(known[tuple(nearest.T)][:, None], nearest, cells)
    return Mesh(
        vertices=low + voxel_mm * place,
        faces=faces,
        vertex_colors=np.clip(color[tuple(nearest.T)].astype(np.float64), 0.0, 1.0),
    )


@kernel()
def _integrate(
    distance: np.ndarray,
    weight: np.ndarray,
    color: np.ndarray,
    low: np.ndarray,
    voxel: float,
    truncation: float,
    k: np.ndarray,
    pose: np.ndarray,
    depth: np.ndarray,
    rgb: np.ndarray,
    cosine: np.ndarray,
) -> None:
    """Add one image's weighted distances and colours to every voxel that it sees near a surface."""
    height, width = depth.shape
    for i in range(distance.shape[0]):
        for j in range(distance.shape[1]):
            for n in range(distance.shape[2]):
                px, py, pz = low[0] + i * voxel, low[1] + j * voxel, low[2] + n * voxel
                z = pose[2, 0] * px + pose[2, 1] * py + pose[2, 2] * pz + pose[2, 3]
                if z <= 0.0:
                    continue
                x = (pose[0, 0] * px + pose[0, 1] * py + pose[0, 2] * pz + pose[0, 3]) / z
                y = (pose[1, 0] * px + pose[1, 1] * py + pose[1, 2] * pz + pose[1, 3]) / z
                u, v = k[0, 0] * x + k[0, 2] - 0.5, k[1, 1] * y + k[1, 2] - 0.5
                if not (0.0 <= u < width - 1 and 0.0 <= v < height - 1):
                    continue
                c, r = int(u), int(v)
                a, b = u - c, v - r
                least, most, flattest = np.inf, 0.0, 1.0
                for q in range(4):
                    d = depth[r + q // 2, c + q % 2]
                    least, most = min(least, d), max(most, d)
                    flattest = min(flattest, cosine[r + q // 2, c + q % 2])
                # Pixels on both sides of an outline, and those that float between, belong to no surface.
                if flattest < _LEAST_COSINE or most - least > truncation:
                    continue
                w00, w01, w10, w11 = (1 - a) * (1 - b), a * (1 - b), (1 - a) * b, a * b
                seen = w00 * depth[r, c] + w01 * depth[r, c + 1] + w10 * depth[r + 1, c] + w11 * depth[r + 1, c + 1]
                slant = w00 * cosine[r, c] + w01 * cosine[r, c + 1]
                slant += w10 * cosine[r + 1, c] + w11 * cosine[r + 1, c + 1]
                signed = (seen - z) * np.sqrt(x * x + y * y + 1.0) * slant
                if signed < -truncation:
                    continue
                # In front of the surface the truncated distance still says that nothing is there.
                signed = min(signed, truncation)
                w = slant * slant
                distance[i, j, n] += w * signed
                weight[i, j, n] += w
                for channel in range(3):
                    color[i, j, n, channel] += w * (
                        w00 * rgb[r, c, channel]
                        + w01 * rgb[r, c + 1, channel]
                        + w10 * rgb[r + 1, c, channel]
                        + w11 * rgb[r + 1, c + 1, channel]
                    )


def _surface_net(distance: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(cells that the zero level crosses, their vertices in voxels, faces that look to where the distance is positive)."""
    inside = distance < 0.0
    size = np.array(distance.shape) - 1
    corners = [np.array([q >> 2 & 1, q >> 1 & 1, q & 1]) for q in range(8)]

    def at(values: np.ndarray, corner: np.ndarray) -> np.ndarray:
        return values[tuple(slice(c, c + s) for c, s in zip(corner, size, strict=True))]

    whole, some, every = np.ones(size, bool), np.zeros(size, bool), np.ones(size, bool)
    for corner in corners:
        whole &= at(known, corner)
        some |= at(inside, corner)
        every &= at(inside, corner)
    cells = np.argwhere(whole & some & ~every)
    ids = np.full(size, -1, np.int64)
    ids[tuple(cells.T)] = np.arange(len(cells))

    total, crossings = np.zeros((len(cells), 3)), np.zeros((len(cells), 1))
    for axis in range(3):
        step = np.eye(3, dtype=np.int64)[axis]
        for corner in corners:
            if corner[axis]:
                continue
            first = distance[tuple((cells + corner).T)].astype(np.float64)
            second = distance[tuple((cells + corner + step).T)].astype(np.float64)
            crossed = (first < 0.0) != (second < 0.0)
            share = np.divide(first, first - second, out=np.zeros_like(first), where=crossed)
            total[crossed] += (corner + share[:, None] * step)[crossed]
            crossings[crossed] += 1
    place = cells + total / np.maximum(crossings, 1)

    faces = []
    for axis in range(3):
        e, f, g = np.roll(np.eye(3, dtype=np.int64), -axis, axis=0)
        head = inside[tuple(slice(0, s) if d == axis else slice(1, s) for d, s in enumerate(size))]
        tail = inside[tuple(slice(1, s + 1) if d == axis else slice(1, s) for d, s in enumerate(size))]
        for leaving in (True, False):  # whether the edge runs out of the surface
            edges = np.argwhere(head & ~tail if leaving else tail & ~head) + f + g
            quad = np.stack([ids[tuple((edges - o).T)] for o in (f + g, g, 0 * e, f)], axis=1)
            quad = quad[(quad >= 0).all(axis=1)]
            quad = quad if leaving else quad[:, ::-1]
            faces += [quad[:, [0, 1, 2]], quad[:, [0, 2, 3]]]
    return cells, place, np.concatenate(faces)
