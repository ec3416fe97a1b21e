"""First stage for views: a KL-regularised autoencoder, f = 8, of colour alone (candidate 1) or colour and depth (candidate 2).

Part of the latent is the view itself, average-pooled by f, which is neither noised nor regularised (`omote.rgbd.autoencoder`);
the learned channels hold what pooling loses. The decoder reads the latent alone, without a source image.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float
from torch import Tensor, nn

from omote.engine.weights import load_pretrained
from omote.errors import ConfigError
from omote.rgbd.autoencoder import GROUPS, LatentStage, Posterior, ResBlock
from omote.rgbd.codec import NUM_CHANNELS

Modality = Literal["rgb", "rgbd"]
# Channels of a packed view that each modality holds; colour comes with the mask.
CHANNELS: dict[Modality, tuple[int, ...]] = {"rgb": (0, 1, 2, 4), "rgbd": (0, 1, 2, 3, 4)}
FACTOR, PATCH = 8, 4


@runtime_checkable
class ViewFirstStage(Protocol):
    """What a view editor needs of a first stage: ours, or another model's with its latent scaling built in.

    ``channels`` are the channels of a packed view that it encodes (`CHANNELS`); ``latent_channels`` counts those of its latents.
    """

    channels: tuple[int, ...]
    latent_channels: int

    @property
    def image_size(self) -> int:
        """Side of a view, pixels."""
        ...

    def encoded(self, x: Float[Tensor, "b 5 s s"]) -> Float[Tensor, "b d h w"]:
        """Latents of zero mean and unit standard deviation."""
        ...

    def decoded(
        self, z: Float[Tensor, "b d h w"], like: Float[Tensor, "b 5 s s"] | None = None
    ) -> Float[Tensor, "b 5 s s"]:
        """Packed views from latents; a stage without depth keeps the depth of ``like``."""
        ...


class ViewAutoencoder(LatentStage):
    """Autoencoder of packed views.

    Args:
        modality: colour and mask, or colour, mask and depth.
        sample_size: side of a view, pixels.
        learned_channels: number of latent channels beside the pooled ones.
        widths: channels of the convolutions at s/4 and s/8.
        fine_width: channels of the decoder's last stage, at s/2.
    """

    @register_to_config
    def __init__(
        self,
        *,
        modality: Modality = "rgb",
        sample_size: int = 128,
        learned_channels: int = 8,
        widths: Sequence[int] = (64, 96),
        fine_width: int = 32,
    ) -> None:
        super().__init__()
        self.channels = CHANNELS[modality]
        count, (wide, deep) = len(self.channels), widths
        self.latent_channels = count + learned_channels

        self.encoder = nn.Sequential(
            nn.Conv2d(count * PATCH**2, wide, 3, padding=1),
            ResBlock(wide, wide),
            nn.Conv2d(wide, deep, 3, stride=2, padding=1),
            ResBlock(deep, deep),
            nn.GroupNorm(GROUPS, deep),
            nn.SiLU(),
            nn.Conv2d(deep, 2 * learned_channels, 3, padding=1),
        )

        self.decoder = nn.Sequential(
            nn.Conv2d(self.latent_channels, deep, 3, padding=1),
            ResBlock(deep, deep),
            ResBlock(deep, deep),
            nn.Conv2d(deep, wide, 1),
            nn.Upsample(scale_factor=2.0),
            ResBlock(wide, wide),
            ResBlock(wide, wide),
            nn.Conv2d(wide, fine_width, 1),
            nn.Upsample(scale_factor=2.0),
        )

        # The finest layers also read the upsampled pooled view, so that the features need not carry it.
        self.fine = nn.Sequential(
            nn.Conv2d(fine_width + 4 * count, fine_width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(fine_width, fine_width, 3, padding=1),
            nn.SiLU(),
        )

        self.to_pixels = nn.Conv2d(fine_width, 4 * count, 3, padding=1)
        nn.init.zeros_(self.to_pixels.weight)
        self.register_units(self.latent_channels)

    @property
    def image_size(self) -> int:
        """Side of a view, pixels."""
        return int(self.config.sample_size)

    @property
    def latent_size(self) -> int:
        """Side of a latent, pixels."""
        return int(self.config.sample_size) // FACTOR

    def encode(self, x: Float[Tensor, "b 5 s s"]) -> Posterior:
        """Posterior distribution of a packed view's latents, unscaled."""
        own = x[:, self.channels]
        mean, log_variance = self.encoder(F.pixel_unshuffle(own, PATCH)).chunk(2, dim=1)
        pooled = F.avg_pool2d(own, FACTOR)
        return Posterior(pooled=pooled, mean=mean, log_variance=log_variance.clamp(-20.0, 4.0))

    def decode(self, z: Float[Tensor, "b d h w"]) -> Float[Tensor, "b c s s"]:
        """Channels of the stage's modality, decoded from unscaled latents."""
        base = F.interpolate(
            z[:, : len(self.channels)], scale_factor=float(FACTOR), mode="bilinear", align_corners=False
        )
        h = self.fine(torch.cat([self.decoder(z), F.pixel_unshuffle(base, 2)], dim=1))
        out: Tensor = base + F.pixel_shuffle(self.to_pixels(h), 2)
        return out

    def encoded(self, x: Float[Tensor, "b 5 s s"]) -> Float[Tensor, "b d h w"]:
        """Scaled latents of packed views: the mode of the posterior."""
        return self.scale(self.encode(x).mode())

    def decoded(
        self, z: Float[Tensor, "b d h w"], like: Float[Tensor, "b 5 s s"] | None = None
    ) -> Float[Tensor, "b 5 s s"]:
        """Packed views from scaled latents.

        Args:
            z: latents of zero mean and unit standard deviation.
            like: packed views whose depth is kept by a stage without depth; if None, the depth is zero.
        """
        own = self.decode(z * self.latent_std + self.latent_mean)
        if len(self.channels) == NUM_CHANNELS:
            return own
        depth = torch.zeros_like(own[:, :1]) if like is None else like[:, 3:4].to(own.dtype)
        return torch.cat([own[:, :3], depth, own[:, 3:]], dim=1)


def load_frozen(folder: Path, size: int) -> ViewAutoencoder:
    """An exported first stage, which further networks are trained on.

    Args:
        folder: exported first stage.
        size: side of the population's views, pixels.

    Raises:
        CheckpointError: no usable weights.
        ConfigError: it encodes views of another size.
    """
    stage: ViewAutoencoder = load_pretrained(ViewAutoencoder, folder).eval().requires_grad_(False)
    if stage.image_size != size:
        raise ConfigError(
            f"first_stage: expected one of views of {size} × {size} pixels, as the population's are, got {stage.image_size} × "
            f"{stage.image_size}; train it on this population"
        )
    return stage
