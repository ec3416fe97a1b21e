"""No first stage: f = 1, where the diffusion is of the images themselves. What a first stage brings is measured against it.

The latent is the packed image, so that nothing is lost on the way there and nothing is made up on the way back: unlike the
decoder of `omote.rgbd.autoencoder`, this one takes nothing from the source, and an editor has to draw every pixel itself. Only
the units are measured, as those of latents are.

image x (5, s, s) = latent z (5, s, s) = image.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float
from torch import Tensor

from omote.engine.weights import load_pretrained
from omote.rgbd.autoencoder import RgbdAutoencoder
from omote.rgbd.codec import NUM_CHANNELS


@dataclass(frozen=True, kw_only=True)
class ExactLatent:
    """What the identity gives: `Posterior`'s counterpart, without anything learned.

    Attributes:
        pooled: (b, 5, s, s), the image.
    """

    pooled: Float[Tensor, "b 5 s s"]

    def mode(self) -> Float[Tensor, "b 5 s s"]:
        """The latent."""
        return self.pooled


class IdentityStage(ModelMixin, ConfigMixin):
    """The identity in the place of `RgbdAutoencoder`; ``save_pretrained``/``from_pretrained`` are diffusers'.

    Args:
        sample_size: pixels of a side.
    """

    latent_mean: Tensor
    latent_std: Tensor
    delta_std: Tensor

    @register_to_config
    def __init__(self, sample_size: int = 128) -> None:
        super().__init__()
        self.factor = 1
        self.latent_channels = NUM_CHANNELS
        # Measured on a population, as `RgbdAutoencoder`'s.
        self.register_buffer("latent_mean", torch.zeros(NUM_CHANNELS, 1, 1))
        self.register_buffer("latent_std", torch.ones(NUM_CHANNELS, 1, 1))
        self.register_buffer("delta_std", torch.ones(NUM_CHANNELS, 1, 1))

    def encode(self, x: Float[Tensor, "b 5 s s"]) -> ExactLatent:
        """Packed image, each channel in about [-1, 1] → itself."""
        return ExactLatent(pooled=x)

    def scale(self, z: Float[Tensor, "b 5 s s"]) -> Float[Tensor, "b 5 s s"]:
        """Latent → zero mean, unit deviation per channel."""
        out: Tensor = (z - self.latent_mean) / self.latent_std
        return out

    def decode(
        self,
        z: Float[Tensor, "b 5 s s"],
        source: Float[Tensor, "b 5 s s"] | None = None,
        motion: Float[Tensor, "b 9 m m"] | None = None,
    ) -> Float[Tensor, "b 5 s s"]:
        """Latent → packed image, each channel in about [-1, 1]: itself.

        Args:
            z: latents, unscaled.
            source: not looked at; what `RgbdAutoencoder` decodes beside.
            motion: the same.
        """
        return z


FirstStage = RgbdAutoencoder | IdentityStage


def load_first_stage(folder: Path) -> FirstStage:
    """The first stage exported to a folder, of whichever class it is.

    Raises:
        CheckpointError: no usable weights, or another network's.
    """
    stage: FirstStage = load_pretrained(RgbdAutoencoder, folder, IdentityStage)
    return stage
