"""Training of the prior of expressions: which ARKit weights a population shows for each category and intensity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from omote.datasets.cache import NO_CATEGORY, read_shard, shard_folders
from omote.diffusion.flow import noised
from omote.diffusion.objective import Objective
from omote.engine.loop import BaseTask, EngineConfig
from omote.engine.seeds import step_generator
from omote.errors import ConfigError
from omote.rgbd.expression_prior import FOLDER, ExpressionPrior


@dataclass(frozen=True, kw_only=True)
class ExpressionPriorConfig:
    """A run of the prior of expressions.

    Attributes:
        population: folder of rendered shards; expressions without a category are ignored.
        engine: length and optimiser; an "image" is an expression.
        width, depth: of `ExpressionPrior`.
        objective: distribution of training times; the prediction is the flow.
    """

    population: Path
    engine: EngineConfig
    width: int = 192
    depth: int = 4
    objective: Objective = Objective(prediction="flow", weighting="flow", at_noise=0.05)


@dataclass(frozen=True, kw_only=True)
class ExpressionBatch:
    """Expressions on their way to noise.

    Attributes:
        weights: scaled ARKit weights z_0.
        category: index into `CATEGORIES`.
        intensity: [0, 1].
        t: times.
        noise: z_1.
    """

    weights: Float[Tensor, "b 52"]
    category: Int[Tensor, " b"]
    intensity: Float[Tensor, " b"]
    t: Float[Tensor, " b"]
    noise: Float[Tensor, "b 52"]


class ExpressionPriorModule(nn.Module):
    """The prior with its loss as forward."""

    def __init__(self, prior: ExpressionPrior, objective: Objective) -> None:
        super().__init__()
        self.prior = prior
        self.objective = objective

    def forward(self, batch: ExpressionBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """w(t)‖v_θ - (ε - z_0)‖²."""
        z_t = noised(batch.weights, batch.noise, batch.t)
        v = self.prior(z_t, batch.t, batch.category, batch.intensity)
        error = (v - (batch.noise - batch.weights)).square().mean(dim=1)
        return (self.objective.weight(batch.t) * error).mean(), {"mse": error.detach().mean()}


class ExpressionPriorTask(BaseTask):
    """The prior of expressions as an `omote.engine.loop.Task`.

    Raises:
        ConfigError: a population without categories.
    """

    module: ExpressionPriorModule

    def __init__(self, config: ExpressionPriorConfig) -> None:
        self.config = config
        shards = [read_shard(folder) for folder in shard_folders(config.population)]
        category = np.concatenate([np.asarray(s.category).ravel() for s in shards])
        named = category != NO_CATEGORY
        if not named.any():
            raise ConfigError(f"{config.population}: expected expressions with a category, got none")
        weights = np.concatenate([np.asarray(s.arkit).reshape(-1, s.arkit.shape[-1]) for s in shards])[named]
        intensity = np.concatenate([np.asarray(s.intensity).ravel() for s in shards])[named]
        self.category = torch.from_numpy(category[named].astype(np.int64))
        self.intensity = torch.from_numpy(intensity.astype(np.float32))
        torch.manual_seed(config.engine.seed)
        prior = ExpressionPrior(width=config.width, depth=config.depth)
        known = torch.from_numpy(weights.astype(np.float32))
        prior.use_units_of(known)
        self.weights = prior.scale(known)
        self.module = ExpressionPriorModule(prior, config.objective)

    def batch(self, step: int, seed: int, size: int, part: int, parts: int) -> ExpressionBatch:
        """Expressions of a step, drawn from (seed, step)."""
        generator, mine = step_generator(seed, step), slice(part * size, (part + 1) * size)
        total = size * parts
        chosen = torch.randint(len(self.category), (total,), generator=generator)[mine]
        t = self.config.objective.draw(total, generator)[mine]
        noise = torch.randn(total, self.weights.shape[1], generator=generator)[mine]
        device = self.device
        return ExpressionBatch(
            weights=self.weights[chosen].to(device),
            category=self.category[chosen].to(device),
            intensity=self.intensity[chosen].to(device),
            t=t.to(device),
            noise=noise.to(device),
        )

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Averaged weights in diffusers' format."""
        self.averaged("prior", weights).save_pretrained(folder / FOLDER)
