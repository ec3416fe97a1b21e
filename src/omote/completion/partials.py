"""Partial scans for training: views of a population with parts of them lost, and the head fitted to what remains.

Views are dropped, disturbed by noise of their own and by a smooth error, and lose pixels and regions in ways that may coincide:
at random, in blobs, at the outline, at grazing angles, where they are dark, beyond a plane, in spheres, outside a mask of the
face, at the eyes, and down to a few hundred points. The head is fitted to the rest by `fit_head`, with landmarks that are
off by millimetres, as it will be in use: a fit made from the truth would hide what real ones get wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage
from scipy.spatial import cKDTree

from omote.completion.base import PartialScan
from omote.datasets.cache import DEPTH_UNIT_MM
from omote.datasets.view_shards import ViewShard
from omote.errors import AlignmentError
from omote.geometry.camera import transform
from omote.geometry.depth import depth_normals, facing
from omote.head.fit import fit_head
from omote.head.model import HeadModel

NUM_VIEWS, VIEWS_ODDS = (1, 2, 3, 5), (0.55, 0.15, 0.15, 0.15)
NUM_LOSSES, LOSSES_ODDS = (0, 1, 2, 3), (0.1, 0.45, 0.3, 0.15)
LEAST_POINTS, FITTED_POINTS = 150, 3000
# The first iterations of the fit do nearly all: three err by .96 mm, all of them by .94 (benchmarks/completion.py).
FIT_ITERATIONS = 3
ATTEMPTS = 8
EYES, NOSE_TIP = range(36, 48), 30


@dataclass(frozen=True, kw_only=True)
class Views:
    """Some views of a head, before or after losses, in the rig's frame.

    Attributes:
        points_mm, normals: of each pixel; those outside the mask have no meaning.
        rgb: colours, [0, 1].
        mask: pixels that are seen.
        cosine: between each pixel's normal and its line of sight.
        landmarks_mm: the head's true landmarks.
    """

    points_mm: Float[np.ndarray, "v s s 3"]
    normals: Float[np.ndarray, "v s s 3"]
    rgb: Float[np.ndarray, "v s s 3"]
    mask: Bool[np.ndarray, "v s s"]
    cosine: Float[np.ndarray, "v s s"]
    landmarks_mm: Float[np.ndarray, "68 3"]


Loss = Callable[[Views, np.random.Generator], Bool[np.ndarray, "v s s"]]


def partial_scan(
    shard: ViewShard,
    row: int,
    image: int,
    truth_mm: Float[np.ndarray, "v 3"],
    head: HeadModel,
    rng: np.random.Generator,
) -> tuple[PartialScan, Float[np.ndarray, "4 4"]]:
    """A partial scan of a face in a shard, and the motion from the rig's frame into the scan's canonical one.

    Args:
        shard: view shard.
        row: person in the shard.
        image: face of the person.
        truth_mm: vertices of the face in the rig's frame, in the topology of ``head``.
        head: head model that is fitted.
        rng: random generator.

    Raises:
        AlignmentError: no fit succeeded, of several partial scans.
    """
    landmarks = head.landmarks(truth_mm)
    for attempt in range(ATTEMPTS):
        views = disturbed_views(shard, row, image, landmarks, rng)
        # At last, a scan that lacks nothing but what its views do not show.
        kept = seen_pixels(views, rng) if attempt + 1 < ATTEMPTS else np.flatnonzero(views.mask)
        if len(kept) < LEAST_POINTS:
            continue
        points, normals = views.points_mm.reshape(-1, 3)[kept], views.normals.reshape(-1, 3)[kept]
        some = rng.permutation(len(kept))[:FITTED_POINTS]
        try:
            fit = fit_head(
                head,
                points[some],
                landmarks=found_landmarks(landmarks, points, rng),
                normals=normals[some],
                fixed_scale=1.0,
                iterations=FIT_ITERATIONS,
                measured=False,
            )
        except AlignmentError:
            continue
        motion = fit.canonical_from_scan
        colors = None if rng.random() < 0.15 else views.rgb.reshape(-1, 3)[kept]
        partial = PartialScan(
            points_mm=transform(motion, points),
            normals=normals @ motion[:3, :3].T,
            colors=colors,
            fitted_mm=fit.vertices_mm,
        )
        return partial, motion
    raise AlignmentError(f"person {int(shard.person[row])}, face {image}: no head could be fitted to its views")


def disturbed_views(
    shard: ViewShard, row: int, image: int, landmarks_mm: Float[np.ndarray, "68 3"], rng: np.random.Generator
) -> Views:
    """Some of a face's views with noise on their depth, their normals from the noisy depth."""
    total = shard.depth.shape[2]
    number = min(int(rng.choice(NUM_VIEWS, p=VIEWS_ODDS)), total)
    chosen = np.sort(rng.permutation(total)[:number])
    mask = np.asarray(shard.mask[row, image, chosen]) > 0
    depth = np.asarray(shard.depth[row, image, chosen]).astype(np.float32) * DEPTH_UNIT_MM + shard.rig.distance_mm
    noise_mm = 0.0 if rng.random() < 0.25 else float(np.exp(rng.uniform(np.log(0.1), np.log(4.0))))
    correlated_px = float(rng.choice((0.0, 0.7, 1.5)))
    depth = depth + noise_mm * _noise(depth.shape, correlated_px, rng)
    if rng.random() < 0.5:
        depth = depth + rng.uniform(0, 1.5) * _noise(depth.shape, depth.shape[1] / 6, rng)
    if rng.random() < 0.2:
        step = rng.uniform(0.2, 2.0)
        depth = np.round(depth / step) * step
    if rng.random() < 0.2:
        # Flying pixels: depth between the outline and what lies behind it.
        edge = mask & ~ndimage.binary_erosion(mask, np.ones((1, 3, 3)))
        flying = edge & (rng.random(mask.shape) < 0.5)
        depth = np.where(flying, depth + rng.uniform(0, 40, mask.shape), depth)

    cameras = [shard.cameras[k] for k in chosen]
    intrinsics = np.stack([camera.intrinsics for camera in cameras])
    wide = 0.6 + 0.6 * noise_mm / (1 + correlated_px)
    weight = ndimage.gaussian_filter(mask.astype(np.float32), (0, wide, wide))
    center = float(depth[mask].mean()) if mask.any() else 0.0
    smooth = ndimage.gaussian_filter(np.where(mask, depth - center, 0).astype(np.float32), (0, wide, wide))
    normals, known = depth_normals(smooth / np.maximum(weight, 1e-3) + center, mask, intrinsics)
    points = np.empty((*mask.shape, 3))
    cosine = np.empty(mask.shape)
    for k, camera in enumerate(cameras):
        v, u = np.meshgrid(np.arange(camera.height) + 0.5, np.arange(camera.width) + 0.5, indexing="ij")
        ray = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(camera.intrinsics).T
        cosine[k] = facing(normals[k], camera.intrinsics)
        rotation, shift = camera.cam_from_world[:3, :3], camera.cam_from_world[:3, 3]
        # Several views are never registered exactly.
        error = rng.normal(0, 0.4, 3) if number > 1 and rng.random() < 0.5 else np.zeros(3)
        points[k] = (ray * depth[k, ..., None] - shift) @ rotation + error
        normals[k] = normals[k] @ rotation
    rgb = np.asarray(shard.rgb[row, image, chosen]).astype(np.float32) / 255
    return Views(
        points_mm=points, normals=normals, rgb=rgb, mask=mask & known, cosine=cosine, landmarks_mm=landmarks_mm
    )


def seen_pixels(views: Views, rng: np.random.Generator) -> np.ndarray:
    """Indices of the pixels that are left after some of the `LOSSES`."""
    kept = views.mask.copy()
    number = int(rng.choice(NUM_LOSSES, p=LOSSES_ODDS))
    for name in rng.permutation(list(LOSSES))[:number]:
        kept &= LOSSES[str(name)](views, rng)
    return np.flatnonzero(kept)


def found_landmarks(
    landmarks_mm: Float[np.ndarray, "68 3"], points_mm: Float[np.ndarray, "n 3"], rng: np.random.Generator
) -> Float[np.ndarray, "68 3"]:
    """Landmarks as a detector finds them: off by some millimetres, and some of those with nothing seen near them missing."""
    out = landmarks_mm + rng.normal(0, rng.uniform(0.5, 2.5), landmarks_mm.shape)
    away, _ = cKDTree(points_mm).query(landmarks_mm)
    missing = (away > 10.0) & (rng.random(len(out)) < 0.5)
    if (~missing).sum() >= 20:
        out[missing] = np.nan
    return out


def _noise(shape: tuple[int, ...], correlated_px: float, rng: np.random.Generator) -> Float[np.ndarray, "v s s"]:
    """Noise of unit variance, different in each view, correlated over a number of pixels."""
    if correlated_px > 4:  # a smooth field needs few values
        coarse = rng.standard_normal((shape[0], 7, 7)).astype(np.float32)
        field = ndimage.zoom(coarse, (1, shape[1] / 7, shape[2] / 7), order=2, mode="nearest", grid_mode=True)
        return field / field.std()
    field = rng.standard_normal(shape).astype(np.float32)
    if correlated_px:
        field = ndimage.gaussian_filter(field, (0, correlated_px, correlated_px))
        field /= field.std()
    return field


def _at_random(views: Views, rng: np.random.Generator) -> Bool[np.ndarray, "v s s"]:
    return rng.random(views.mask.shape) > rng.uniform(0.03, 0.6)


def _blobs(views: Views, rng: np.random.Generator) -> Bool[np.ndarray, "v s s"]:
    field = _noise(views.mask.shape, float(rng.uniform(1.0, 4.0)), rng)
    return field > np.quantile(field[views.mask], rng.uniform(0.05, 0.6)) if views.mask.any() else views.mask


def _outline(views: Views, rng: np.random.Generator) -> Bool[np.ndarray, "v s s"]:
    return ndimage.binary_erosion(views.mask, np.ones((1, 3, 3)), iterations=int(rng.integers(1, 11)))


def _grazing(views: Views, rng: np.random.Generator) -> Bool[np.ndarray, "v s s"]:
    return views.cosine > rng.uniform(0.2, 0.75)


def _dark(views: Views, rng: np.random.Generator) -> Bool[np.ndarray, "v s s"]:
    bright = ndimage.gaussian_filter(views.rgb.mean(axis=-1), (0, 1, 1))
    return bright > np.quantile(bright[views.mask], rng.uniform(0.05, 0.45)) if views.mask.any() else views.mask


def _beyond_a_plane(views: Views, rng: np.random.Generator) -> Bool[np.ndarray, "v s s"]:
    direction = rng.standard_normal(3) * (1.0, 0.7, 0.3)
    direction /= np.linalg.norm(direction)
    along = (views.points_mm - views.landmarks_mm[NOSE_TIP]) @ direction
    return along > rng.normal(0, 18.0)


def _spheres(views: Views, rng: np.random.Generator) -> Bool[np.ndarray, "v s s"]:
    kept = np.ones_like(views.mask)
    inside = views.points_mm[views.mask]
    for _ in range(int(rng.integers(1, 6)) if len(inside) else 0):
        center, radius = inside[rng.integers(len(inside))], rng.uniform(8, 45)
        kept &= ((views.points_mm - center) ** 2).sum(axis=-1) > radius**2
    return kept


def _masked(views: Views, rng: np.random.Generator) -> Bool[np.ndarray, "v s s"]:
    center = views.landmarks_mm[27:].mean(axis=0) + rng.normal(0, 6.0, 3)
    away = (views.points_mm - center) / rng.uniform((45, 50, 45), (75, 90, 80))
    return (away**2).sum(axis=-1) < 1.0


def _eyes(views: Views, rng: np.random.Generator) -> Bool[np.ndarray, "v s s"]:
    kept = np.ones_like(views.mask)
    eyes = list(EYES)
    for ids in (eyes[:6], eyes[6:], [NOSE_TIP]):
        if rng.random() < 0.7:
            center, radius = views.landmarks_mm[ids].mean(axis=0), rng.uniform(6, 18)
            kept &= ((views.points_mm - center) ** 2).sum(axis=-1) > radius**2
    return kept


def _few(views: Views, rng: np.random.Generator) -> Bool[np.ndarray, "v s s"]:
    wanted = np.exp(rng.uniform(np.log(300), np.log(5000)))
    return rng.random(views.mask.shape) < wanted / max(int(views.mask.sum()), 1)


LOSSES: dict[str, Loss] = {
    "at random": _at_random,
    "blobs": _blobs,
    "outline": _outline,
    "grazing": _grazing,
    "dark": _dark,
    "plane": _beyond_a_plane,
    "spheres": _spheres,
    "mask": _masked,
    "eyes": _eyes,
    "few": _few,
}
