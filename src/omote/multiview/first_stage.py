"""First stage of views: KL-regularised, f = 8, colour alone (candidate 1) or with depth (candidate 2).

Part of the latent is the view itself, average-pooled by f, which is neither noised nor regularised (`omote.rgbd.autoencoder`);
the learned channels hold what pooling loses. No source is read: a view of the latent is all that a decoder gets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float
from torch import Tensor, nn

from omote.rgbd.autoencoder import GROUPS, LatentStage, Posterior, ResBlock
from omote.rgbd.codec import NUM_CHANNELS

Modality = Literal["rgb", "rgbd"]
# Channels of a packed view; colour comes with its mask.
CHANNELS: dict[Modality, tuple[int, ...]] = {"rgb": (0, 1, 2, 4), "rgbd": (0, 1, 2, 3, 4)}
FACTOR, PATCH = 8, 4


@runtime_checkable
class ViewFirstStage(Protocol):
    """What an editor of views asks of a first stage: ours, or another's with its units inside.

    ``channels`` are the channels of a packed view that it holds, of `CHANNELS`; ``latent_channels`` those of its latents.
    """

    channels: tuple[int, ...]
    latent_channels: int

    @property
    def image_size(self) -> int:
        """Pixels of a side of a view."""
        ...

    def encoded(self, x: Float[Tensor, "b 5 s s"]) -> Float[Tensor, "b d h w"]:
        """Latents of zero mean and unit deviation."""
        ...

    def decoded(
        self, z: Float[Tensor, "b d h w"], like: Float[Tensor, "b 5 s s"] | None = None
    ) -> Float[Tensor, "b 5 s s"]:
        """Packed views of latents; where the stage has no depth, that of ``like`` is kept."""
        ...


class ViewAutoencoder(LatentStage):
    """Autoencoder of packed views.

    Args:
        modality: colour and mask, or depth too.
        sample_size: pixels of a side.
        learned_channels: latent channels beside the pooled ones.
        widths: at s/4 and s/8.
        fine_width: of the decoder's last stage, at s/2.
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
        # The finest layers read the upsampled pooled view, so that they need not carry it.
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
        """Pixels of a side of a view."""
        return int(self.config.sample_size)

    @property
    def latent_size(self) -> int:
        """Latent pixels of a side."""
        return int(self.config.sample_size) // FACTOR

    def encode(self, x: Float[Tensor, "b 5 s s"]) -> Posterior:
        """A packed view's distribution of latents, unscaled."""
        own = x[:, self.channels]
        mean, log_variance = self.encoder(F.pixel_unshuffle(own, PATCH)).chunk(2, dim=1)
        pooled = F.avg_pool2d(own, FACTOR)
        return Posterior(pooled=pooled, mean=mean, log_variance=log_variance.clamp(-20.0, 4.0))

    def decode(self, z: Float[Tensor, "b d h w"]) -> Float[Tensor, "b c s s"]:
        """Unscaled latents → the stage's own channels."""
        base = F.interpolate(
            z[:, : len(self.channels)], scale_factor=float(FACTOR), mode="bilinear", align_corners=False
        )
        h = self.fine(torch.cat([self.decoder(z), F.pixel_unshuffle(base, 2)], dim=1))
        out: Tensor = base + F.pixel_shuffle(self.to_pixels(h), 2)
        return out

    def encoded(self, x: Float[Tensor, "b 5 s s"]) -> Float[Tensor, "b d h w"]:
        """Scaled latents of packed views: the mode."""
        return self.scale(self.encode(x).mode())

    def decoded(
        self, z: Float[Tensor, "b d h w"], like: Float[Tensor, "b 5 s s"] | None = None
    ) -> Float[Tensor, "b 5 s s"]:
        """Scaled latents → packed views.

        Args:
            z: zero mean, unit deviation.
            like: packed views whose depth is kept where the stage has none; depth is zero if None.
        """
        own = self.decode(z * self.latent_std + self.latent_mean)
        if len(self.channels) == NUM_CHANNELS:
            return own
        depth = torch.zeros_like(own[:, :1]) if like is None else like[:, 3:4].to(own.dtype)
        return torch.cat([own[:, :3], depth, own[:, 3:]], dim=1)
