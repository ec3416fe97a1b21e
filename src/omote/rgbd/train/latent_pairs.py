"""Training data of the second stage: latents of sources, the differences of their targets, and the targets' conditions."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from omote.datasets.pairs import PairBatch
from omote.head.rest_face import RestFace
from omote.rgbd.conditions.arkit import Arkit
from omote.rgbd.conditions.base import Condition, Kind
from omote.rgbd.conditions.kinds import KINDS, condition_of_pairs
from omote.rgbd.conditions.motion import Motion
from omote.rgbd.identity_stage import FirstStage
from omote.rgbd.train.autoencoder import packed
from omote.rgbd.warp import IMAGE_SIZE


@dataclass(frozen=True, kw_only=True)
class LatentPairs:
    """A batch, source by source, a row per target.

    Attributes:
        source: scaled source latents.
        delta: target - source, in units of the differences' deviation.
        condition: everything known about the targets.
        landmarks_px: landmarks of the source's person at rest, in an image of `IMAGE_SIZE` pixels.
        faces: faces of the sources, if motion images are not drawn yet: dropout may make most of them unnecessary.
    """

    source: Float[Tensor, "b d h w"]
    delta: Float[Tensor, "b d h w"]
    condition: Condition
    landmarks_px: Float[Tensor, "b 68 2"]
    faces: tuple[RestFace, ...] | None

    def with_motion(self) -> LatentPairs:
        """The edits with motion images of the given ARKit weights."""
        if self.faces is None:
            return self
        motion = Motion.drawn(self.condition[Arkit], self.faces)
        return replace(self, condition=self.condition.including(motion), faces=None)


@torch.no_grad()
def encode_batch(
    autoencoder: FirstStage,
    pairs: PairBatch,
    device: torch.device | str = "cpu",
    *,
    unit_style: bool = True,
    kinds: Collection[type[Kind]] = KINDS,
) -> LatentPairs:
    """Pairs → training data of the second stage; networks run on ``device``, where the latents stay.

    Args:
        autoencoder: the first stage.
        pairs: sources and targets.
        device: device of the networks.
        unit_style: faces move in their own style of units, not by the head model's units alone.
        kinds: kinds of condition to build.
    """
    target = packed(pairs.target)
    source, delta = encode_pairs(autoencoder, packed(pairs.source).to(device), target.to(device))
    return LatentPairs(
        source=source,
        delta=delta,
        condition=condition_of_pairs(pairs, target, kinds),
        landmarks_px=pairs.rest_landmarks * (IMAGE_SIZE / target.shape[-1]),
        faces=pairs.faces if unit_style else tuple(face.unstyled() for face in pairs.faces),
    )


@torch.no_grad()
def encode_pairs(autoencoder: FirstStage, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Packed images, some targets for each source → (scaled source latents, scaled differences), both per target."""
    z_source = autoencoder.encode(source).mode().repeat_interleave(len(target) // len(source), 0)
    z_target = autoencoder.encode(target).mode()
    return autoencoder.scale(z_source), (z_target - z_source) / autoencoder.delta_std
