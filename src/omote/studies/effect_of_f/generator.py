"""A class-conditional denoiser of latents that generates RGB-D faces of a given category (Rombach et al., §3.2).

The path is that of `omote.diffusion.flow`, with EDM's preconditioning (`omote.diffusion.flow.path_scale`). Networks for latents
of different size have the same number of parameters as nearly as their widths allow (`widths_for`), so that first stages of
different f can be compared by the faces generated with them; f = 1 is diffusion of pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin, UNet2DModel
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float, Int
from torch import Tensor, nn

from omote.diffusion.flow import guided, initial_noise, noised, path_scale
from omote.diffusion.objective import Objective, Prediction, velocity_of
from omote.diffusion.sampling import sampled
from omote.diffusion.settings import SamplerName
from omote.engine.seeds import step_generator
from omote.head.expressions import CATEGORIES
from omote.studies.effect_of_f.training import FaceTask, nearest

# The null class, for dropout and guidance.
ANY = len(CATEGORIES)
ATTENTION_SIDE = 16
SMALLEST_SIDE = 4
MOST_LEVELS = 4
GROUPS = 4
HEAD_CHANNELS = 8
OBJECTIVE = Objective(at_noise=0.05)
# Share of samples without their category, for guidance.
DROP_CATEGORY = 0.1


class LatentGenerator(ModelMixin, ConfigMixin):
    """Denoiser of latents scaled to unit standard deviation.

    Args:
        sample_size: side of the latents in pixels.
        latent_channels: channels of the latents.
        channels: U-Net widths per resolution.
        prediction: prediction of the U-Net (`omote.diffusion.objective`); `forward` returns the velocity for all of them.
    """

    @register_to_config
    def __init__(
        self,
        *,
        sample_size: int,
        latent_channels: int,
        channels: Sequence[int] = (64, 128),
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
            layers_per_block=1,
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
            t: times in [0, 1].
            category: indices into `CATEGORIES`, or `ANY`.
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
        """New scaled latents.

        Args:
            category: categories, as in `forward`.
            seeds: seed of each sample's noise.
            steps: number of sampler steps.
            sampler: name of the sampler.
            guidance_scale: scale of classifier-free guidance; 1 means none.
        """
        config: Any = self.config
        noise = initial_noise((config.latent_channels, config.sample_size, config.sample_size), list(seeds))
        z, free = noise.to(category.device), torch.full_like(category, ANY)
        velocity = guided(lambda z, t: self(z, t, category), lambda z, t: self(z, t, free), guidance_scale)
        for step in sampled(velocity, z, steps, sampler, seeds=seeds):
            z = step.z
        return z


def num_levels(side: int) -> int:
    """Number of resolutions of a U-Net on latents of ``side`` pixels: halved down to 4, at most four of them."""
    levels = 1
    while levels < MOST_LEVELS and side % 2 == 0 and side // 2 >= SMALLEST_SIDE:
        side, levels = side // 2, levels + 1
    return levels


def widths_for(parameters: int, *, sample_size: int, latent_channels: int) -> tuple[int, ...]:
    """The widths, multiples of 4 that double with depth, whose network has closest to ``parameters`` parameters."""

    def network(widths: tuple[int, ...]) -> LatentGenerator:
        return LatentGenerator(sample_size=sample_size, latent_channels=latent_channels, channels=widths)

    return nearest(parameters, _growing(num_levels(sample_size)), network)


def _growing(levels: int) -> Iterator[tuple[int, ...]]:
    """Widths that increase one level at a time."""
    last: tuple[int, ...] = ()
    for quarter in range(4 * HEAD_CHANNELS, 400 * HEAD_CHANNELS):
        exact = (quarter / 4 * min(2**i, 4) for i in range(levels))
        widths = tuple(max(HEAD_CHANNELS, GROUPS * round(width / GROUPS)) for width in exact)
        if widths != last:
            last = widths
            yield widths


@dataclass(frozen=True, kw_only=True)
class GeneratorBatch:
    """A batch to denoise.

    Attributes:
        z_0: scaled latents.
        noise: standard normal noise.
        t: times in [0, 1].
        category: indices into `CATEGORIES`, or `ANY`.
    """

    z_0: Tensor
    noise: Tensor
    t: Tensor
    category: Tensor


class GeneratorModule(nn.Module):
    """The denoiser with its loss as forward."""

    def __init__(self, generator: LatentGenerator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, batch: GeneratorBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error of the velocity, weighted by the objective."""
        device = next(self.parameters()).device
        z_0, noise, t = batch.z_0.to(device), batch.noise.to(device), batch.t.to(device)
        velocity = self.generator(noised(z_0, noise, t), t, batch.category.to(device))
        loss = (OBJECTIVE.weight(t).view(-1, 1, 1, 1) * (velocity - (noise - z_0)) ** 2).mean()
        return loss, {"flow": loss.detach()}


class GeneratorTask(FaceTask):
    """Training of a `LatentGenerator` of about ``parameters`` parameters; packed images are latents of f = 1."""

    def __init__(self, folder: Path, *, parameters: int, held_out_share: float = 0.1, seed: int = 0) -> None:
        super().__init__(folder, held_out_share, seed)
        channels, side = self.set.values.shape[1:3]
        widths = widths_for(parameters, sample_size=side, latent_channels=channels)
        self.module = GeneratorModule(
            LatentGenerator(
                sample_size=side, latent_channels=channels, channels=widths, prediction=OBJECTIVE.prediction
            )
        )

    def batch(self, step: int, seed: int, size: int, part: int, parts: int) -> GeneratorBatch:
        """Latents, noise and times."""
        z_0, category = self.draw(step, seed, size, part, parts)
        generator, mine = step_generator(seed, step), slice(part * size, (part + 1) * size)
        total = size * parts
        t = OBJECTIVE.draw(total, generator)[mine]
        dropped = (torch.rand(total, generator=generator) < DROP_CATEGORY)[mine]
        noise = torch.randn((total, *z_0.shape[1:]), generator=generator)[mine]
        return GeneratorBatch(z_0=z_0, noise=noise, t=t, category=torch.where(dropped, ANY, category))
