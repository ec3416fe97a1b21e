"""Training of a small generative adversarial network on packed images: a baseline of generators by diffusion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omote.engine.loop import EngineConfig
from omote.engine.seeds import step_generator
from omote.head.expressions import CATEGORIES
from omote.nets.discriminator import PatchDiscriminator
from omote.rgbd.codec import NUM_CHANNELS
from omote.studies.effect_of_f.gan import FIRST_SIDE, NOISE_SIZE, FaceGenerator, width_for
from omote.studies.effect_of_f.train_generator import SetSource


@dataclass(frozen=True, kw_only=True)
class GanConfig:
    """A run of a small GAN.

    Attributes:
        images: folder of packed images (`omote.studies.effect_of_f.latents`).
        engine: length and optimiser of both networks.
        parameters: of the generator, as nearly as its width allows.
        judge_width: of the discriminator's first layer.
        held_out_share: of the persons, the last ones, that it never sees.
        penalty: weight of the squared gradient at true images (R1: Mescheder et al., "Which Training Methods for GANs do
            actually Converge?", ICML 2018, eq. 9), half of it as there.
        penalty_every: steps between the batches that pay it, that many times over (Karras et al. 2020, §2: "lazy").
    """

    images: Path
    engine: EngineConfig
    parameters: int = 1_000_000
    judge_width: int = 48
    held_out_share: float = 0.1
    penalty: float = 1.0
    penalty_every: int = 8


@dataclass(frozen=True, kw_only=True)
class GanBatch:
    """One step of both sides.

    Attributes:
        real: scaled packed images.
        category: theirs, and what is drawn.
        noise: of what is drawn.
        penalised: the discriminator's gradient is.
    """

    real: Tensor
    category: Tensor
    noise: Tensor
    penalised: bool


class GanModule(nn.Module):
    """Generator and discriminator, each paying for its own (hinge loss: Lim & Ye, "Geometric GAN", 2017)."""

    def __init__(self, generator: FaceGenerator, judge: PatchDiscriminator, config: GanConfig) -> None:
        super().__init__()
        self.generator = generator
        self.judge = judge
        self.config = config

    def forward(self, batch: GanBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of what both pay; neither has a gradient to the other."""
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
            r1 = slope.square().sum(dim=(1, 2, 3)).mean()
            loss = loss + 0.5 * self.config.penalty * self.config.penalty_every * r1
        return loss, {"discriminator": own.detach(), "generator": paid.detach()}


class GanTask:
    """The GAN as a `training.engine.Task`."""

    def __init__(self, config: GanConfig) -> None:
        self.config = config
        self.source = SetSource(config.images, config.held_out_share)
        size = self.source.set.values.shape[-1]
        torch.manual_seed(config.engine.seed)
        generator = FaceGenerator(sample_size=size, width=width_for(config.parameters, size))
        # Down to logits that see all of a face.
        halvings = (size // (2 * FIRST_SIDE)).bit_length() - 1
        judge = PatchDiscriminator(len(CATEGORIES), config.judge_width, image_channels=NUM_CHANNELS, halvings=halvings)
        self._module = GanModule(generator, judge, config)

    @property
    def module(self) -> nn.Module:
        """Both networks with their losses."""
        return self._module

    def batch(self, step: int, seed: int, size: int, part: int, parts: int) -> GanBatch:
        """True images and noise."""
        real, category = self.source.draw(step, seed, size, part, parts)
        noise = torch.randn((size * parts, NOISE_SIZE), generator=step_generator(seed, step))
        return GanBatch(
            real=real,
            category=category,
            noise=noise[part * size : (part + 1) * size],
            penalised=step % self.config.penalty_every == 0,
        )

    def schedule(self, images: int) -> None:
        """Nothing changes on the way."""

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """The generator's averaged weights in diffusers' format."""
        generator = FaceGenerator.from_config(self._module.generator.config)
        prefix = "generator."
        generator.load_state_dict({k.removeprefix(prefix): v.cpu() for k, v in weights.items() if k.startswith(prefix)})
        generator.save_pretrained(folder / "generator")

    def preview(self) -> None:
        """As `GeneratorTask.preview`."""
        return
