"""A class-conditional denoiser of whole latents: it draws new RGB-D faces of a wanted category (Rombach et al., §3.2).

The path is that of `omote.diffusion.flow`, the preconditioning EDM's (`omote.diffusion.flow.path_scale`). Networks for latents of
different sides have as nearly as their widths allow the same number of parameters (`widths_for`), so that first stages of
different f can be compared by what is drawn behind them; f = 1 is diffusion of pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin, UNet2DModel
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float, Int
from torch import Tensor, nn

from omote.diffusion.flow import initial_noise, path_scale
from omote.diffusion.objective import Prediction, velocity_of
from omote.diffusion.sampling import sampled
from omote.diffusion.settings import SamplerName
from omote.head.expressions import CATEGORIES

# The class that says nothing: for dropout and guidance.
ANY = len(CATEGORIES)
ATTENTION_SIDE = 16
SMALLEST_SIDE = 4
MOST_LEVELS = 4
GROUPS = 4
HEAD_CHANNELS = 8


class LatentGenerator(ModelMixin, ConfigMixin):
    """Denoiser of latents scaled to unit deviation.

    Args:
        sample_size: latent pixels of a side.
        latent_channels: of the latent.
        channels: U-Net widths per resolution.
        layers_per_block: residual blocks per resolution.
        prediction: what the U-Net says (`omote.diffusion.objective`); `forward` gives the velocity whatever it is.
    """

    @register_to_config
    def __init__(
        self,
        *,
        sample_size: int,
        latent_channels: int,
        channels: Sequence[int] = (64, 128),
        layers_per_block: int = 1,
        prediction: Prediction = "v",
    ) -> None:
        super().__init__()
        attended = [sample_size >> i <= ATTENTION_SIDE for i in range(len(channels))]
        self.unet = UNet2DModel(
            sample_size=sample_size,
            in_channels=latent_channels,
            out_channels=latent_channels,
            down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attended),
            up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attended)),
            block_out_channels=tuple(channels),
            layers_per_block=layers_per_block,
            attention_head_dim=HEAD_CHANNELS,
            norm_num_groups=GROUPS,
            num_class_embeds=len(CATEGORIES) + 1,
            resnet_time_scale_shift="scale_shift",
        )
        nn.init.zeros_(self.unet.conv_out.weight)
        nn.init.zeros_(self.unet.conv_out.bias)

    def forward(
        self, z_t: Float[Tensor, "b d h w"], t: Float[Tensor, "b"], category: Int[Tensor, "b"]
    ) -> Float[Tensor, "b d h w"]:
        """The flow's velocity at time t.

        Args:
            z_t: scaled latent at time t (noise at t = 1, clean at t = 0).
            t: [0, 1].
            category: index into `CATEGORIES`, or `ANY`.
        """
        scale = path_scale(t).view(-1, 1, 1, 1)
        out = self.unet(z_t / scale, 1000 * t, class_labels=category, return_dict=False)[0]
        return velocity_of(self.config.prediction, out, z_t, t)

    @torch.no_grad()
    def draw(
        self,
        category: Int[Tensor, "b"],
        seeds: Sequence[int],
        *,
        steps: int,
        sampler: SamplerName = "flow_euler",
        guidance_scale: float = 1.0,
    ) -> Float[Tensor, "b d h w"]:
        """New latents, scaled.

        Args:
            category: wanted, as in `forward`.
            seeds: of each sample's noise.
            steps: of the sampler.
            sampler: by name.
            guidance_scale: 1 means none.
        """
        config: Any = self.config
        shape = (config.latent_channels, config.sample_size, config.sample_size)
        noise = initial_noise(shape, list(seeds)).to(category.device)

        def velocity(z_t: Tensor, t: Tensor) -> Tensor:
            v: Tensor = self(z_t, t, category)
            if guidance_scale != 1.0:
                free = self(z_t, t, torch.full_like(category, ANY))
                v = free + guidance_scale * (v - free)
            return v

        z = noise
        for step in sampled(velocity, noise, steps, sampler, seeds=seeds):
            z = step.z
        return z


def num_levels(side: int) -> int:
    """Resolutions of a U-Net on latents of ``side`` pixels: halved until 4, at most four of them."""
    levels = 1
    while levels < MOST_LEVELS and side % 2 == 0 and side // 2 >= SMALLEST_SIDE:
        side, levels = side // 2, levels + 1
    return levels


def widths_for(
    parameters: int, *, sample_size: int, latent_channels: int, layers_per_block: int = 1
) -> tuple[int, ...]:
    """The widths, in multiples of 4 and doubling with depth, whose network has nearest to ``parameters`` parameters."""
    levels = num_levels(sample_size)

    def count(widths: tuple[int, ...]) -> int:
        with torch.device("meta"):
            net = LatentGenerator(
                sample_size=sample_size,
                latent_channels=latent_channels,
                channels=widths,
                layers_per_block=layers_per_block,
            )
        return sum(p.numel() for p in net.parameters())

    best = (HEAD_CHANNELS,) * levels
    found = count(best)
    for widths in _growing(levels):
        now = count(widths)
        if abs(now - parameters) < abs(found - parameters):
            best, found = widths, now
        if now > 1.2 * parameters:
            break
    return best


def _growing(levels: int) -> Iterator[tuple[int, ...]]:
    """Widths that grow one level at a time."""
    last: tuple[int, ...] = ()
    for quarter in range(4 * HEAD_CHANNELS, 400 * HEAD_CHANNELS):
        exact = (quarter / 4 * min(2**i, 4) for i in range(levels))
        widths = tuple(max(HEAD_CHANNELS, GROUPS * round(width / GROUPS)) for width in exact)
        if widths != last:
            last = widths
            yield widths
