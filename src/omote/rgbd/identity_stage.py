"""The identity as a first stage (f = 1): diffusion in pixel space, the baseline of the other first stages.

The latent is the packed image, so encoding and decoding are exact. Unlike the decoder of `omote.rgbd.autoencoder`, this one takes
nothing from the source, and the editor has to generate every pixel. Only the units are measured, as for other latents.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diffusers.configuration_utils import register_to_config
from jaxtyping import Float
from torch import Tensor

from omote.engine.weights import load_pretrained
from omote.rgbd.autoencoder import LatentStage, RgbdAutoencoder
from omote.rgbd.codec import NUM_CHANNELS


@dataclass(frozen=True, kw_only=True)
class ExactLatent:
    """Output of the identity: a point instead of a distribution (`Posterior`).

    Attributes:
        pooled: packed image.
    """

    pooled: Float[Tensor, "b 5 s s"]

    def mode(self) -> Float[Tensor, "b 5 s s"]:
        """The latent."""
        return self.pooled


class IdentityStage(LatentStage):
    """The identity as a first stage.

    Args:
        sample_size: pixels of a side.
    """

    @register_to_config
    def __init__(self, sample_size: int = 128) -> None:
        super().__init__()
        self.factor = 1
        self.latent_channels = NUM_CHANNELS
        self.register_units(NUM_CHANNELS)

    def encode(self, x: Float[Tensor, "b 5 s s"]) -> ExactLatent:
        """Packed image, each channel in about [-1, 1] → itself."""
        return ExactLatent(pooled=x)

    def decode(
        self,
        z: Float[Tensor, "b 5 s s"],
        source: Float[Tensor, "b 5 s s"] | None = None,
        motion: Float[Tensor, "b 9 m m"] | None = None,
    ) -> Float[Tensor, "b 5 s s"]:
        """Latent → itself; source and motion are ignored."""
        return z


FirstStage = RgbdAutoencoder | IdentityStage


def load_first_stage(folder: Path) -> FirstStage:
    """The first stage exported to a folder, of whichever class it is.

    Raises:
        CheckpointError: no usable weights, or another network's.
    """
    stage: FirstStage = load_pretrained(RgbdAutoencoder, folder, IdentityStage)
    return stage
