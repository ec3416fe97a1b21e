"""Depth images of one rigid surface → their poses: point-to-plane ICP over all overlapping pairs at once.

    images, first poses ─ smoothed points and normals ─ (pairs of near points ─ one linear step for all poses) ×n → poses

A point's partner is the pixel of the other image that it projects to, so no search is needed, and the poses of all images are
unknowns of one system: errors do not add up along a turn as they do from neighbour to neighbour.

References:
    Chen and Medioni, Object Modelling by Registration of Multiple Range Images, IVC 1992 (point to plane).
    Blais and Levine, Registering Multiview Range Data to Create 3D Computer Objects, PAMI 1995 (partners by projection).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from omote.geometry.camera import transform
from omote.geometry.depth import depth_normals, facing
from omote.types import Rgbd

SMOOTH_MM = 2.5  # σ of the filter that takes off noise and steps before normals are taken
APART_MM = 3.0  # a filtered pixel farther than this from its own depth lies across an edge
LEAST_COSINE = 0.3  # flatter pixels are mostly noise
ALIKE = 0.7  # least cosine between the normals of two partners
POINTS = 2500  # of each image in each pair
# Partners this near fit each other: several times the noise of a depth camera at arm's length, after filtering.
FITS_MM = 3.0
# Largest distance of two partners, step by step.
FAR_MM = (60.0, 45.0, 35.0, 28.0, 22.0, 17.0, 13.0, 10.0, 8.0, 6.0, 5.0, 4.0, 4.0, 4.0, 4.0)
NEAR_MM = (6.0, 5.0, 4.0, 4.0, 4.0, 4.0)
MOST_FURTHER = 40
LEVER_MM, LEAST_MM = 100.0, 0.03  # a motion smaller than this, at this distance from the centre, is none

Pose = Float[np.ndarray, "4 4"]
Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class View:
    """A depth image as it is registered.

    Attributes:
        points_mm: points of the filtered depth, in the camera's axes.
        normals: unit normals that face the camera.
        mask: pixels that have both.
        intrinsics: camera matrix, pixels.
    """

    points_mm: Float[np.ndarray, "h w 3"]
    normals: Float[np.ndarray, "h w 3"]
    mask: Bool[np.ndarray, "h w"]
    intrinsics: Float[np.ndarray, "3 3"]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How well two registered images fit each other.

    Attributes:
        overlap: share of the first image's points that the second one sees too.
        fits: share of those that lie within `FITS_MM` of the second one's surface.
    """

    overlap: float
    fits: float


@dataclass(frozen=True, kw_only=True)
class _Partners:
    """Points of one image and their partners in another, in the world's axes, with the distances along the partners' normals."""

    points_mm: Float[np.ndarray, "n 3"]
    normals: Float[np.ndarray, "n 3"]
    apart_mm: Float[np.ndarray, " n"]


def view_of(frame: Rgbd) -> View:
    """Filter a depth image, whatever its camera's pose.

    Args:
        frame: depth image, without background.
    """
    depth, mask, k = frame.depth_mm.astype(np.float64), frame.mask, frame.camera.intrinsics.astype(np.float64)
    center = float(np.median(depth[mask])) if mask.any() else 1.0
    width = SMOOTH_MM * float(k[0, 0]) / center
    weight = gaussian_filter(mask.astype(np.float64), width)
    smooth = gaussian_filter(np.where(mask, depth - center, 0.0), width) / np.maximum(weight, 1e-6) + center
    kept = mask & (np.abs(smooth - depth) < APART_MM)
    normals, seen = depth_normals(smooth[None], kept[None], k[None])
    v, u = np.mgrid[: depth.shape[0], : depth.shape[1]] + 0.5
    points = np.stack([smooth * (u - k[0, 2]) / k[0, 0], smooth * (v - k[1, 2]) / k[1, 1], smooth], axis=-1)
    return View(
        points_mm=points,
        normals=normals[0],
        mask=kept & seen[0] & (facing(normals[0], k) > LEAST_COSINE),
        intrinsics=k,
    )


def registered(
    views: Sequence[View],
    poses: Sequence[Pose],
    pairs: Collection[Pair],
    *,
    limits_mm: Sequence[float] = NEAR_MM,
    fixed: Collection[int] = (),
) -> list[Pose]:
    """Poses with which the images' surfaces lie on each other.

    Args:
        views: filtered images.
        poses: rigid world-from-camera of each, mm; where the search begins.
        pairs: images that see a common part of the surface, by their places in ``views``.
        limits_mm: largest distance of two partners at each step; further steps, until nothing moves, have the last one.
        fixed: images whose pose is kept; without any, the world may move as a whole.
    """
    out = [np.asarray(pose, np.float64) for pose in poses]
    free = [i for i in range(len(views)) if i not in set(fixed)]
    column = {i: 6 * n for n, i in enumerate(free)}
    both = sorted({(i, j) for i, j in pairs} | {(j, i) for i, j in pairs})
    both = [(i, j) for i, j in both if i in column or j in column]
    samples = {i: _sampled(views[i]) for i in {i for i, _ in both}}
    for n in range(len(limits_mm) + MOST_FURTHER):
        limit = limits_mm[min(n, len(limits_mm) - 1)]
        found = {(i, j): _partners(*samples[i], views[j], out[i], out[j], limit) for i, j in both}
        found = {pair: partners for pair, partners in found.items() if len(partners.apart_mm)}
        if not found:
            return out
        scale = max(2 * 1.4826 * float(np.median(np.abs(np.concatenate([p.apart_mm for p in found.values()])))), 0.4)
        center = np.mean([p.points_mm.mean(axis=0) for p in found.values()], axis=0)
        size = 6 * len(free)
        normal, right = np.zeros((size, size)), np.zeros(size)
        for (i, j), p in found.items():
            weight = 1 / (1 + (p.apart_mm / scale) ** 2) ** 2
            # A small motion of the first image moves its points; one of the second moves the planes as much the other way.
            rows = np.concatenate([np.cross(p.points_mm - center, p.normals), p.normals], axis=1)
            block, toward = rows.T @ (weight[:, None] * rows), rows.T @ (weight * p.apart_mm)
            a, b = column.get(i), column.get(j)
            for at, sign in ((a, 1), (b, -1)):
                if at is not None:
                    normal[at : at + 6, at : at + 6] += block
                    right[at : at + 6] -= sign * toward
            if a is not None and b is not None:
                normal[a : a + 6, b : b + 6] -= block
                normal[b : b + 6, a : a + 6] -= block
        # Directions that no pair determines stay as they are.
        damping = 1e-6 * np.diag(np.maximum(np.diag(normal), 1.0))
        step = np.linalg.solve(normal + damping, right)
        for i, at in column.items():
            out[i] = _moved(out[i], step[at : at + 6], center)
        if (
            n >= len(limits_mm) - 1
            and np.abs(step.reshape(-1, 6) @ np.diag([LEVER_MM] * 3 + [1.0] * 3)).max() < LEAST_MM
        ):
            break
    return out


def agreement(first: View, second: View, first_pose: Pose, second_pose: Pose) -> Agreement:
    """How much of the first image's surface the second one sees, and how much of that fits."""
    points, normals = _sampled(first)
    if not len(points):
        return Agreement(overlap=0.0, fits=0.0)
    q, inside, row, column = _projected(points, second, np.linalg.inv(second_pose) @ first_pose)
    relative = (np.linalg.inv(second_pose) @ first_pose)[:3, :3]
    turned = normals @ relative.T
    cosine = -np.einsum("nc,nc->n", turned, q) / np.maximum(np.linalg.norm(q, axis=1), 1e-9)
    seen = inside & (cosine > LEAST_COSINE)
    if not seen.any():
        return Agreement(overlap=0.0, fits=0.0)
    at = second.points_mm[row[seen], column[seen]]
    apart = np.einsum("nc,nc->n", q[seen] - at, second.normals[row[seen], column[seen]])
    return Agreement(overlap=float(seen.mean()), fits=float((np.abs(apart) < FITS_MM).mean()))


def distances(first: View, second: View, first_pose: Pose, second_pose: Pose, limit_mm: float) -> np.ndarray:
    """World points of the first image and their signed distances to the second one's surface, as rows (x, y, z, mm)."""
    partners = _partners(*_sampled(first), second, first_pose, second_pose, limit_mm)
    return np.concatenate([partners.points_mm, partners.apart_mm[:, None]], axis=1)


def _sampled(view: View) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
    chosen = np.flatnonzero(view.mask)
    # Every n-th pixel would lie on lines of the image; one at random of each slice does not.
    if len(chosen) > POINTS:
        slices = np.arange(POINTS) + np.random.default_rng(0).uniform(size=POINTS)
        chosen = chosen[(slices * (len(chosen) / POINTS)).astype(np.int64)]
    return view.points_mm.reshape(-1, 3)[chosen], view.normals.reshape(-1, 3)[chosen]


def _projected(
    points: Float[np.ndarray, "n 3"], view: View, relative: Pose
) -> tuple[Float[np.ndarray, "n 3"], Bool[np.ndarray, " n"], np.ndarray, np.ndarray]:
    """Points in the view's camera, whether they meet a pixel with a surface, and that pixel's row and column."""
    q = transform(relative, points)
    z = np.maximum(q[:, 2], 1e-6)
    k = view.intrinsics
    height, width = view.mask.shape
    u = np.floor(k[0, 0] * q[:, 0] / z + k[0, 2])
    v = np.floor(k[1, 1] * q[:, 1] / z + k[1, 2])
    inside = (q[:, 2] > 1e-6) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    row, column = np.where(inside, v, 0).astype(np.int64), np.where(inside, u, 0).astype(np.int64)
    return q, inside & view.mask[row, column], row, column


def _partners(
    points: Float[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"],
    view: View,
    pose: Pose,
    other: Pose,
    limit_mm: float,
) -> _Partners:
    relative = np.linalg.inv(other) @ pose
    q, there, row, column = _projected(points, view, relative)
    at, facing_it = view.points_mm[row, column], view.normals[row, column]
    there &= np.linalg.norm(q - at, axis=1) < limit_mm
    there &= np.einsum("nc,nc->n", normals @ relative[:3, :3].T, facing_it) > ALIKE
    apart = np.einsum("nc,nc->n", q - at, facing_it)[there]
    return _Partners(points_mm=transform(other, q[there]), normals=facing_it[there] @ other[:3, :3].T, apart_mm=apart)


def _moved(pose: Pose, step: Float[np.ndarray, "6"], center: Float[np.ndarray, "3"]) -> Pose:
    """A pose after a small rotation about a point and a translation, both in the world."""
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_rotvec(step[:3]).as_matrix()
    motion[:3, 3] = center + step[3:] - motion[:3, :3] @ center
    return np.asarray(motion @ pose)
