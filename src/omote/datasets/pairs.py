"""Augmented batches of (source, targets) pairs of the same person, as tensors.

Targets keep the source's exposure and white balance (the editor must not change a scan's lighting) and its crop (the editor
must not invent a neck), but are clean; only the source has the noise, holes and blur of a capture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from omote.datasets.cache import DEPTH_UNIT_MM, Shard
from omote.datasets.population import REST_SHARE
from omote.head.model import HeadModel
from omote.head.rest_face import RestFace

CAPTURE_SHARE = 0.35


@dataclass(frozen=True, kw_only=True)
class RgbdBatch:
    """Image tensors: colour in [0, 1], depth in mm relative to the head's reference plane, and a mask of 0 or 1."""

    rgb: Float[Tensor, "b 3 s s"]
    depth_mm: Float[Tensor, "b 1 s s"]
    mask: Float[Tensor, "b 1 s s"]


@dataclass(frozen=True, kw_only=True)
class PairBatch:
    """A batch of S sources with T targets each; targets are ordered source by source (b = S·T).

    Attributes:
        source: source images, with simulated capture noise.
        target: ground-truth target images.
        landmarks: projections of the 68 landmarks of each target, in pixels.
        rest_landmarks: projections of the 68 landmarks of each target's person at rest, in pixels.
        category: index of each target's category in `CATEGORIES`, or `NO_CATEGORY`.
        intensity: intensity of each target's expression, in [0, 1].
        arkit: ARKit weights of each target.
        faces: fitted face at rest of each target's person.
    """

    source: RgbdBatch
    target: RgbdBatch
    landmarks: Float[Tensor, "b 68 2"]
    rest_landmarks: Float[Tensor, "b 68 2"]
    category: Int[Tensor, "b"]
    intensity: Float[Tensor, "b"]
    arkit: Float[Tensor, "b 52"]
    faces: tuple[RestFace, ...]


def images_of(shard: Shard, person: int, which: Sequence[int] | np.ndarray | int) -> RgbdBatch:
    """Selected images of one person in a shard."""
    ids = np.atleast_1d(which)
    rgb = torch.from_numpy(shard.rgb[person, ids].astype(np.float32) / 255).permute(0, 3, 1, 2)
    depth = torch.from_numpy(shard.depth[person, ids].astype(np.float32) * DEPTH_UNIT_MM)[:, None]
    mask = torch.from_numpy(shard.mask[person, ids].astype(np.float32))[:, None]
    return RgbdBatch(rgb=rgb.contiguous(), depth_mm=depth, mask=mask)


def _joined(parts: Sequence[RgbdBatch]) -> RgbdBatch:
    return RgbdBatch(**{k: torch.cat([getattr(p, k) for p in parts]) for k in ("rgb", "depth_mm", "mask")})


@dataclass(frozen=True, kw_only=True)
class Pick:
    """The chosen source and targets of a person in a shard, with their own random generator."""

    shard: Shard
    person: int
    source: int
    targets: Int[np.ndarray, "t"]
    rng: np.random.Generator


def draw_pairs(
    shards: Sequence[Shard],
    rngs: Sequence[np.random.Generator],
    head: HeadModel,
    *,
    targets_per_source: int,
    augment: bool = True,
    one_each: bool = False,
) -> PairBatch:
    """Draw sources and targets, each source with its own generator, so that a batch can be drawn in parts.

    Args:
        shards: shards of the population.
        rngs: one random generator per source.
        head: head model that is fitted to the population.
        targets_per_source: number of targets per source.
        augment: whether to simulate capture conditions (`augmented`).
        one_each: whether to draw source i from shard i instead of a random shard.
    """
    sizes = np.array([s.num_persons for s in shards])
    picks = []
    for i, rng in enumerate(rngs):
        shard = shards[i] if one_each else shards[rng.choice(len(shards), p=sizes / sizes.sum())]
        person = int(rng.integers(shard.num_persons))
        source = draw_source(shard, rng)
        # A dataset's subject may have fewer scans than the requested number of targets.
        chosen = rng.choice(shard.num_images, targets_per_source, replace=shard.num_images < targets_per_source)
        picks.append(Pick(shard=shard, person=person, source=source, targets=chosen, rng=rng))
    return pairs_of(picks, head, augment=augment)


def draw_source(shard: Shard, rng: np.random.Generator) -> int:
    """Index of the source image: the person at rest with probability `REST_SHARE`, otherwise a random image."""
    return 0 if rng.random() < REST_SHARE else int(rng.integers(shard.num_images))


def pairs_of(picks: Sequence[Pick], head: HeadModel, *, augment: bool = True) -> PairBatch:
    """The picked sources and targets, with the same number of targets per source, and the fitted faces of their persons."""
    sources, targets = [], []
    rows: dict[str, list[np.ndarray]] = {k: [] for k in ("landmarks", "category", "intensity", "arkit")}
    rest: list[np.ndarray] = []
    faces: list[RestFace] = []
    for pick in picks:
        shard, person = pick.shard, pick.person
        pair = images_of(shard, person, pick.source), images_of(shard, person, pick.targets)
        if augment:
            pair = augmented(*pair, pick.rng)
        sources.append(pair[0])
        targets.append(pair[1])
        faces += [shard.face(person, head)] * len(pick.targets)
        rest.append(np.repeat(shard.landmarks[person, :1], len(pick.targets), 0))
        for key, values in rows.items():
            values.append(np.asarray(getattr(shard, key)[person, pick.targets]))
    tensors = {k: torch.from_numpy(np.concatenate(v)) for k, v in {**rows, "rest_landmarks": rest}.items()}
    return PairBatch(source=_joined(sources), target=_joined(targets), faces=tuple(faces), **tensors)


def augmented(source: RgbdBatch, target: RgbdBatch, rng: np.random.Generator) -> tuple[RgbdBatch, RgbdBatch]:
    """Apply photometric augmentation to source and target, and capture noise to the source alone."""
    count = len(source.rgb)
    repeat = len(target.rgb) // count
    draw = partial(_uniform, rng, count)
    per_target = partial(torch.repeat_interleave, repeats=repeat, dim=0)

    # Exposure, white balance and gamma of the capturing camera.
    strength = draw(0.0, 1.0, 1, 1, 1)
    gain = torch.exp(strength * draw(-0.45, 0.35, 1, 1, 1) + strength * draw(-0.12, 0.12, 3, 1, 1))
    gamma = torch.exp(strength * draw(-0.25, 0.25, 1, 1, 1))
    target_rgb = _exposed(target.rgb, per_target(gain), per_target(gamma))
    rgb = _exposed(source.rgb, gain, gamma)

    # Most sources stay clean; the rest simulate captures. With more of the latter, the editor mostly learns denoising.
    capture = (draw(0.0, 1.0, 1, 1, 1) < CAPTURE_SHARE).float()
    size = rgb.shape[-1]
    color_noise = torch.from_numpy(rng.standard_normal(rgb.shape).astype(np.float32))
    rgb = (rgb + capture * draw(0.0, 0.04, 1, 1, 1) * color_noise).clamp(0, 1)
    blurred = F.avg_pool2d(rgb, 3, 1, 1)
    rgb = torch.lerp(rgb, blurred, capture * (draw(0.0, 1.0, 1, 1, 1) < 0.4).float() * draw(0.2, 1.0, 1, 1, 1))
    # Depth noise is correlated over a few pixels, like that of window-based stereo matching.
    fine = torch.from_numpy(rng.standard_normal(source.depth_mm.shape).astype(np.float32))
    coarse = torch.from_numpy(rng.standard_normal((count, 1, size // 4, size // 4)).astype(np.float32))
    coarse = F.interpolate(coarse, size=(size, size), mode="bilinear", align_corners=False)
    sigma = capture * draw(0.0, 1.0, 1, 1, 1) ** 2
    depth = source.depth_mm + sigma * (1.2 * fine + 1.2 * coarse)
    # Holes: a smooth random field above a threshold, preferably at depth edges.
    field = torch.from_numpy(rng.standard_normal((count, 1, size // 8, size // 8)).astype(np.float32))
    field = F.interpolate(field, size=(size, size), mode="bicubic", align_corners=False)
    slope = (F.max_pool2d(source.depth_mm, 3, 1, 1) + F.max_pool2d(-source.depth_mm, 3, 1, 1)) / 20
    level = draw(1.6, 3.2, 1, 1, 1)
    holed = capture * (draw(0.0, 1.0, 1, 1, 1) < 0.6).float()
    mask = source.mask * (1 - holed * (field + slope.clamp(0, 1) > level).float())
    # Crops: scans end at the neck, the ears or the hair.
    yy = torch.linspace(0, 1, size).view(1, 1, -1, 1)
    xx = torch.linspace(-1, 1, size).view(1, 1, 1, -1)
    cropped = (draw(0.0, 1.0, 1, 1, 1) < 0.35).float()
    outside = (
        (yy > draw(0.86, 1.05, 1, 1, 1)) | (yy < draw(-0.05, 0.16, 1, 1, 1)) | (xx.abs() > draw(0.66, 1.0, 1, 1, 1))
    )
    kept = 1 - cropped * outside.float()
    return (
        RgbdBatch(rgb=rgb, depth_mm=depth, mask=mask * kept),
        RgbdBatch(rgb=target_rgb, depth_mm=target.depth_mm, mask=target.mask * per_target(kept)),
    )


def _uniform(rng: np.random.Generator, count: int, low: float, high: float, *shape: int) -> Tensor:
    """Uniform draws of a shape for each of ``count`` items."""
    return torch.from_numpy(rng.uniform(low, high, (count, *shape)).astype(np.float32))


def _exposed(rgb: Tensor, gain: Tensor, gamma: Tensor) -> Tensor:
    """Colours as a camera of another exposure and gamma captures them."""
    return (gain * rgb.clamp_min(1e-4) ** gamma).clamp(0, 1)
