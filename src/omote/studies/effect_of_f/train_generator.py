"""Training of a latent generator: a denoiser that draws new faces of a category, on latents or on pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from omote.diffusion.flow import noised
from omote.diffusion.objective import Objective
from omote.engine.loop import EngineConfig
from omote.engine.seeds import step_generator
from omote.studies.effect_of_f.generator import ANY, LatentGenerator, widths_for
from omote.studies.effect_of_f.latents import LatentSet, read_latents


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """A run of a latent generator.

    Attributes:
        latents: folder of the set it learns (`omote.studies.effect_of_f.latents`); packed images are latents of f = 1.
        engine: length and optimiser.
        parameters: of the network, as nearly as its widths allow.
        layers_per_block: of `LatentGenerator`.
        held_out_share: of the persons, the last ones, that it never sees.
        drop_category: share of items that are told no category, for guidance.
        objective: prediction, weighting and times.
    """

    latents: Path
    engine: EngineConfig
    parameters: int = 1_000_000
    layers_per_block: int = 1
    held_out_share: float = 0.1
    drop_category: float = 0.1
    objective: Objective = Objective(at_noise=0.05)


@dataclass(frozen=True, kw_only=True)
class GeneratorBatch:
    """What to denoise.

    Attributes:
        z_0: scaled latents.
        noise: standard normal.
        t: [0, 1].
        category: index into `CATEGORIES`, or `ANY`.
    """

    z_0: Tensor
    noise: Tensor
    t: Tensor
    category: Tensor


class GeneratorModule(nn.Module):
    """The denoiser with its loss as forward."""

    def __init__(self, generator: LatentGenerator, objective: Objective) -> None:
        super().__init__()
        self.generator = generator
        self.objective = objective

    def forward(self, batch: GeneratorBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error of the velocity, weighted as the objective says."""
        device = next(self.parameters()).device
        z_0, noise, t = batch.z_0.to(device), batch.noise.to(device), batch.t.to(device)
        velocity = self.generator(noised(z_0, noise, t), t, batch.category.to(device))
        error = self.objective.weight(t).view(-1, 1, 1, 1) * (velocity - (noise - z_0)) ** 2
        loss = error.mean()
        return loss, {"flow": loss.detach()}


class SetSource:
    """Scaled items of a set, by step."""

    def __init__(self, folder: Path, held_out_share: float) -> None:
        self.set: LatentSet = read_latents(folder)
        self.training, _ = self.set.split(held_out_share)
        self.mean, self.std = (
            torch.from_numpy(np.asarray(x, np.float32)).view(1, -1, 1, 1) for x in (self.set.mean, self.set.std)
        )

    def draw(self, step: int, seed: int, size: int, part: int, parts: int) -> tuple[Tensor, Tensor]:
        """Part ``part`` of a step's batch: scaled values and their categories."""
        whole = np.random.default_rng([seed, step]).choice(self.training, size * parts)
        chosen = whole[part * size : (part + 1) * size]
        return (self.set.take(chosen) - self.mean) / self.std, torch.from_numpy(self.set.category[chosen])


class GeneratorTask:
    """The latent generator as a `training.engine.Task`."""

    def __init__(self, config: GeneratorConfig) -> None:
        self.config = config
        self.source = SetSource(config.latents, config.held_out_share)
        channels, side = self.source.set.values.shape[1:3]
        layers = config.layers_per_block
        widths = widths_for(config.parameters, sample_size=side, latent_channels=channels, layers_per_block=layers)
        torch.manual_seed(config.engine.seed)
        generator = LatentGenerator(
            sample_size=side,
            latent_channels=channels,
            channels=widths,
            layers_per_block=layers,
            prediction=config.objective.prediction,
        )
        self._module = GeneratorModule(generator, config.objective)

    @property
    def module(self) -> nn.Module:
        """The denoiser with its loss."""
        return self._module

    def batch(self, step: int, seed: int, size: int, part: int, parts: int) -> GeneratorBatch:
        """Latents, noise and times."""
        z_0, category = self.source.draw(step, seed, size, part, parts)
        generator, mine = step_generator(seed, step), slice(part * size, (part + 1) * size)
        total = size * parts
        t = self.config.objective.draw(total, generator)[mine]
        dropped = (torch.rand(total, generator=generator) < self.config.drop_category)[mine]
        noise = torch.randn((total, *z_0.shape[1:]), generator=generator)[mine]
        return GeneratorBatch(z_0=z_0, noise=noise, t=t, category=torch.where(dropped, ANY, category))

    def schedule(self, images: int) -> None:
        """Nothing changes on the way."""

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Averaged weights in diffusers' format."""
        generator = LatentGenerator.from_config(self._module.generator.config)
        generator.load_state_dict({k.removeprefix("generator."): v.cpu() for k, v in weights.items()})
        generator.save_pretrained(folder / "generator")

    def preview(self) -> None:
        """Drawing takes longer than a step is worth: whoever compares generators draws at the times they compare."""
        return
