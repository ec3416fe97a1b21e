"""A small generator of RGB-D faces in one pass, for a generative adversarial network: a baseline beside diffusion.

Noise and a category → 4 × 4 features → residual blocks, doubling the side each time → a packed image. The discriminator it
plays against is `omote.nets.discriminator.PatchDiscriminator`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float, Int
from torch import Tensor, nn

from omote.diffusion.flow import initial_noise
from omote.head.expressions import CATEGORIES
from omote.rgbd.autoencoder import GROUPS, ResBlock
from omote.rgbd.codec import NUM_CHANNELS

FIRST_SIDE = 4
NOISE_SIZE = 128
SMALLEST_WIDTH = 16


class FaceGenerator(ModelMixin, ConfigMixin):
    """Noise and a category → a packed image.

    Args:
        sample_size: pixels of a side: 4 × 2^n.
        width: of the first block; halved at each doubling of the side after the second.
    """

    @register_to_config
    def __init__(self, *, sample_size: int, width: int = 128) -> None:
        super().__init__()
        doublings = (sample_size // FIRST_SIDE).bit_length() - 1
        widths = [max(SMALLEST_WIDTH, width // 2 ** max(0, i - 1) // GROUPS * GROUPS) for i in range(doublings + 1)]
        self.embedding = nn.Embedding(len(CATEGORIES), NOISE_SIZE)
        self.first = nn.Linear(2 * NOISE_SIZE, widths[0] * FIRST_SIDE**2)
        self.blocks = nn.ModuleList(ResBlock(a, b) for a, b in zip([widths[0], *widths[:-1]], widths, strict=True))
        self.norm = nn.GroupNorm(GROUPS, widths[-1])
        self.to_pixels = nn.Conv2d(widths[-1], NUM_CHANNELS, 3, padding=1)

    def forward(self, noise: Float[Tensor, "b n"], category: Int[Tensor, "b"]) -> Float[Tensor, "b 5 s s"]:
        """Standard normal noise and indices into `CATEGORIES` → packed images."""
        h = self.first(torch.cat([noise, self.embedding(category)], dim=1)).unflatten(1, (-1, FIRST_SIDE, FIRST_SIDE))
        for i, block in enumerate(self.blocks):
            h = block(F.interpolate(h, scale_factor=2.0, mode="nearest") if i else h)
        image: Tensor = self.to_pixels(F.silu(self.norm(h)))
        return image

    @torch.no_grad()
    def draw(self, category: Int[Tensor, "b"], seeds: list[int]) -> Float[Tensor, "b 5 s s"]:
        """New images; each sample from its own generator."""
        image: Tensor = self(initial_noise((NOISE_SIZE,), seeds).to(category.device), category)
        return image


def width_for(parameters: int, sample_size: int) -> int:
    """The width whose generator has nearest to ``parameters`` parameters."""

    def count(width: int) -> int:
        with torch.device("meta"):
            net: Any = FaceGenerator(sample_size=sample_size, width=width)
        return sum(p.numel() for p in net.parameters())

    best = SMALLEST_WIDTH
    for width in range(SMALLEST_WIDTH, 100 * GROUPS, GROUPS):
        if abs(count(width) - parameters) < abs(count(best) - parameters):
            best = width
        elif count(width) > 1.2 * parameters:
            break
    return best
