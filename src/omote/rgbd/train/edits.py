"""What an editor learns from: latents of a source, the differences of its targets, and everything known about these."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from omote.datasets.cache import NO_CATEGORY
from omote.datasets.pairs import PairBatch
from omote.head.rest_face import RestFace
from omote.rgbd.conditions.base import Condition, make_condition, with_motion
from omote.rgbd.conditions.geometry import GEOMETRY
from omote.rgbd.conditions.motion import IMAGE_SIZE
from omote.rgbd.identity_stage import FirstStage
from omote.rgbd.train.autoencoder import packed


@dataclass(frozen=True, kw_only=True)
class Edits:
    """A batch, source by source, a row per target.

    Attributes:
        source: scaled source latents.
        delta: target - source, in units of the differences' deviation.
        condition: everything known about the targets.
        landmarks_px: of the source's person at rest, in an image of `IMAGE_SIZE` pixels.
        faces: whom the weights move, where motion images are not drawn yet: most of what is known may yet be forgotten.
    """

    source: Float[Tensor, "b d h w"]
    delta: Float[Tensor, "b d h w"]
    condition: Condition
    landmarks_px: Float[Tensor, "b 68 2"]
    faces: tuple[RestFace, ...] | None


@torch.no_grad()
def encoded(
    autoencoder: FirstStage, pairs: PairBatch, device: torch.device | str = "cpu", *, unit_style: bool = True
) -> Edits:
    """Pairs → what the editor learns from; networks run on ``device``, where the latents stay.

    Args:
        autoencoder: the first stage.
        pairs: sources and targets.
        device: of the networks.
        unit_style: faces move by the units of people like them, not by the head model's alone.
    """
    target = packed(pairs.target)
    source, delta = encode_pairs(autoencoder, packed(pairs.source).to(device), target.to(device))
    return Edits(
        source=source,
        delta=delta,
        condition=known_of_batch(pairs, geometry=target[:, GEOMETRY]),
        landmarks_px=pairs.rest_landmarks * (IMAGE_SIZE / target.shape[-1]),
        faces=pairs.faces if unit_style else tuple(face.unstyled() for face in pairs.faces),
    )


@torch.no_grad()
def encode_pairs(autoencoder: FirstStage, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Packed images, some targets for each source → (scaled source latents, scaled differences), both per target."""
    z_source = autoencoder.encode(source).mode().repeat_interleave(len(target) // len(source), 0)
    z_target = autoencoder.encode(target).mode()
    return autoencoder.scale(z_source), (z_target - z_source) / autoencoder.delta_std


def condition_of_batch(pairs: PairBatch) -> Condition:
    """What is wanted and whose faces these are, with motion images; the targets' geometry stays unknown."""
    return with_motion(known_of_batch(pairs), pairs.faces)


def known_of_batch(pairs: PairBatch, *, geometry: Float[Tensor, "b 2 s s"] | None = None) -> Condition:
    """Everything known about the targets, without motion images.

    Args:
        pairs: with the targets.
        geometry: depth and mask of the packed targets; None leaves it unknown.
    """
    named = pairs.category != NO_CATEGORY
    every = torch.ones_like(named)
    return make_condition(
        category=pairs.category.clamp_min(0),
        intensity=pairs.intensity,
        arkit=pairs.arkit,
        has_category=named,
        has_arkit=every,
        faces=pairs.faces,
        geometry=geometry,
        has_geometry=None if geometry is None else every,
    )
