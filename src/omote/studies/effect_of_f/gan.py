"""A small generative adversarial network of RGB-D faces: the one-pass baseline beside diffusion.

Noise and category → 4 × 4 features → residual blocks that double the side each → a packed image. The discriminator is
`omote.nets.discriminator.PatchDiscriminator`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float, Int
from torch import Tensor, nn

from omote.diffusion.flow import initial_noise
from omote.engine.seeds import step_generator
from omote.head.expressions import CATEGORIES
from omote.nets.discriminator import PatchDiscriminator
from omote.rgbd.autoencoder import GROUPS, ResBlock
from omote.rgbd.codec import NUM_CHANNELS
from omote.studies.effect_of_f.training import FaceTask, nearest

FIRST_SIDE = 4
NOISE_SIZE = 128
SMALLEST_WIDTH = 16
# Width of the discriminator's first layer.
JUDGE_WIDTH = 48
# Weight of the squared gradient at true images (R1: Mescheder et al., "Which Training Methods for GANs do actually
# Converge?", ICML 2018, eq. 9), applied in every eighth step with eight times the weight (Karras et al. 2020, §2: "lazy").
PENALTY, PENALTY_EVERY = 1.0, 8


class FaceGenerator(ModelMixin, ConfigMixin):
    """Noise and category → packed image.

    Args:
        sample_size: side of the images in pixels: 4 × 2^n.
        width: width of the first block; halved at each doubling of the side after the second one.
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
    def draw(self, category: Int[Tensor, "b"], seeds: list[int], **_: Any) -> Float[Tensor, "b 5 s s"]:
        """New images, each sample with its own random generator, in one pass; other settings of sampling are ignored."""
        image: Tensor = self(initial_noise((NOISE_SIZE,), seeds).to(category.device), category)
        return image


def width_for(parameters: int, sample_size: int) -> int:
    """The width whose generator has closest to ``parameters`` parameters."""
    widths = range(SMALLEST_WIDTH, 100 * GROUPS, GROUPS)
    return nearest(parameters, widths, lambda width: FaceGenerator(sample_size=sample_size, width=width))


@dataclass(frozen=True, kw_only=True)
class GanBatch:
    """A batch for generator and discriminator.

    Attributes:
        real: scaled packed images of real faces.
        category: categories of the real and of the generated images.
        noise: noise of the generated images.
        penalised: whether the discriminator's gradient is penalised in this step.
    """

    real: Tensor
    category: Tensor
    noise: Tensor
    penalised: bool


class GanModule(nn.Module):
    """Generator and discriminator, each with its own loss (hinge loss: Lim & Ye, "Geometric GAN", 2017)."""

    def __init__(self, generator: FaceGenerator, judge: PatchDiscriminator) -> None:
        super().__init__()
        self.generator = generator
        self.judge = judge

    def forward(self, batch: GanBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of both losses; neither network gets gradients from the other's loss."""
        device = next(self.parameters()).device
        category, real = batch.category.to(device), batch.real.to(device)
        wanted = F.one_hot(category, len(CATEGORIES)).to(real.dtype)[:, :, None, None]
        planes = wanted.expand(-1, -1, *real.shape[-2:])
        drawn = self.generator(batch.noise.to(device), category)
        if batch.penalised:
            real.requires_grad_(True)
        true_logits = self.judge(real, planes)[-1]
        own = F.relu(1 - true_logits).mean() + F.relu(1 + self.judge(drawn.detach(), planes)[-1]).mean()
        paid = -self.judge.frozen(drawn, planes)[-1].mean()
        loss = own + paid
        if batch.penalised:
            slope = torch.autograd.grad(true_logits.mean(dim=(1, 2, 3)).sum(), real, create_graph=True)[0]
            loss = loss + 0.5 * PENALTY * PENALTY_EVERY * slope.square().sum(dim=(1, 2, 3)).mean()
        return loss, {"discriminator": own.detach(), "generator": paid.detach()}


class GanTask(FaceTask):
    """Training of a `FaceGenerator` of about ``parameters`` parameters on packed images."""

    def __init__(self, folder: Path, *, parameters: int, held_out_share: float = 0.1, seed: int = 0) -> None:
        super().__init__(folder, held_out_share, seed)
        size = self.set.values.shape[-1]
        generator = FaceGenerator(sample_size=size, width=width_for(parameters, size))
        # Layers down to logits that see the whole face.
        halvings = (size // (2 * FIRST_SIDE)).bit_length() - 1
        judge = PatchDiscriminator(len(CATEGORIES), JUDGE_WIDTH, image_channels=NUM_CHANNELS, halvings=halvings)
        self.module = GanModule(generator, judge)

    def batch(self, step: int, seed: int, size: int, part: int, parts: int) -> GanBatch:
        """Real images and noise."""
        real, category = self.draw(step, seed, size, part, parts)
        noise = torch.randn((size * parts, NOISE_SIZE), generator=step_generator(seed, step))
        return GanBatch(
            real=real,
            category=category,
            noise=noise[part * size : (part + 1) * size],
            penalised=step % PENALTY_EVERY == 0,
        )
