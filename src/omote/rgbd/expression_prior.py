"""Prior of expressions: diffusion of ARKit weights, conditioned on the category and its intensity.

A category does not determine which facial units express it, but given the weights of the units, an edit is nearly determined. So
the 52 weights are sampled by diffusion, and the editor takes one step from them, as sharply as if the user had given the weights:
p(image | source, category) = ∫ p(image | source, weights) p(weights | category) d weights. (A prior before a decoder, as in
Ramesh et al., "Hierarchical Text-Conditional Image Generation with CLIP Latents", 2022, §2.2.)

Rectified flow (`omote.diffusion.flow`) on weights in units of their own deviation; a residual MLP whose layers are scaled and
shifted by time, category and intensity (Peebles & Xie, "DiT", ICCV 2023, §3.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from jaxtyping import Float, Int
from torch import Tensor, nn

from omote.diffusion.flow import heun, initial_noise
from omote.engine.weights import load_pretrained
from omote.head.expressions import ARKIT_NAMES, CATEGORIES
from omote.nets.precision import keep_float32
from omote.types import Expression

FOLDER = "expressions"
STEPS = 20
# Sinusoidal embeddings are made for a thousand timesteps.
TIMESTEPS = 1000.0
FREQUENCIES = 64
# Smallest standard deviation of a weight, for units that hardly any face shows.
LEAST_STD = 0.02


class ExpressionPrior(ModelMixin, ConfigMixin):
    """Category and intensity → samples of the 52 ARKit weights.

    Args:
        width: width of the layers.
        depth: residual layers.
    """

    weight_mean: Tensor
    weight_std: Tensor

    @register_to_config
    def __init__(self, width: int = 192, depth: int = 4) -> None:
        super().__init__()
        num_units = len(ARKIT_NAMES)
        self.times = Timesteps(FREQUENCIES, flip_sin_to_cos=True, downscale_freq_shift=0.0)
        self.of_time = TimestepEmbedding(FREQUENCIES, width)
        self.of_category = nn.Embedding(len(CATEGORIES), width)
        self.of_intensity = nn.Linear(1, width)
        self.stem = nn.Linear(num_units, width)
        self.layers = nn.ModuleList(_Layer(width) for _ in range(depth))
        self.to_velocity = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, num_units))
        keep_float32(self.to_velocity)
        self.register_buffer("weight_mean", torch.zeros(num_units))
        self.register_buffer("weight_std", torch.ones(num_units))

    def use_units_of(self, weights: Float[Tensor, "n 52"]) -> None:
        """Take over the mean and deviation of a population's weights."""
        self.weight_mean.copy_(weights.mean(dim=0))
        self.weight_std.copy_(weights.std(dim=0).clamp_min(LEAST_STD))

    def scale(self, weights: Float[Tensor, "n 52"]) -> Float[Tensor, "n 52"]:
        """Weights → zero mean, unit deviation."""
        out: Tensor = (weights - self.weight_mean) / self.weight_std
        return out

    def forward(
        self,
        z_t: Float[Tensor, "n 52"],
        t: Float[Tensor, " n"],
        category: Int[Tensor, " n"],
        intensity: Float[Tensor, " n"],
    ) -> Float[Tensor, "n 52"]:
        """The flow's velocity ε - z_0.

        Args:
            z_t: scaled weights on the straight path.
            t: [0, 1], 1 is noise.
            category: index into `CATEGORIES`.
            intensity: [0, 1].
        """
        asked = self.of_time(self.times(t * TIMESTEPS).to(z_t))
        asked = asked + self.of_category(category) + self.of_intensity(intensity[:, None])
        h = self.stem(z_t)
        for layer in self.layers:
            h = layer(h, asked)
        out: Tensor = self.to_velocity(h)
        return out

    @torch.no_grad()
    def draw(
        self, category: Int[Tensor, " n"], intensity: Float[Tensor, " n"], seeds: Sequence[int], *, steps: int = STEPS
    ) -> Float[Tensor, "n 52"]:
        """Sample weights in [0, 1], each from the noise of its own seed."""
        noise = initial_noise((len(ARKIT_NAMES),), list(seeds)).to(self.weight_mean)
        z = noise
        for step in heun(lambda z, t: self(z, t, category, intensity), noise, steps):
            z = step.z
        return (z * self.weight_std + self.weight_mean).clamp(0, 1)

    def drawn(self, expressions: Sequence[Expression], seed: int) -> list[Expression]:
        """The expressions with sampled ARKit weights.

        Args:
            expressions: categories with intensities.
            seed: seed of the noise; expression i uses seed + i.
        """
        category = torch.tensor([CATEGORIES.index(e.category) for e in expressions])
        intensity = torch.tensor([float(e.intensity) for e in expressions])
        weights = self.draw(category, intensity, range(seed, seed + len(expressions))).numpy()
        return [replace(e, arkit=w.astype(np.float32)) for e, w in zip(expressions, weights, strict=True)]


class _Layer(nn.Module):
    """LayerNorm, scaled and shifted by the condition, → MLP, with a skip; starts as identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 3 * width))
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))
        last = self.modulation[1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, h: Tensor, asked: Tensor) -> Tensor:
        """(n, width), (n, width) → (n, width)."""
        scale, shift, gate = self.modulation(asked).chunk(3, dim=1)
        out: Tensor = h + gate * self.mlp(self.norm(h) * (1 + scale) + shift)
        return out


def load_expression_prior(weights: Path) -> ExpressionPrior:
    """The prior beside an editor's weights.

    Raises:
        CheckpointError: missing or damaged weights.
    """
    hint = "train it with `omote train expressions-cpu`"
    prior = load_pretrained(ExpressionPrior, weights / FOLDER, hint=hint)
    return prior.float().eval().requires_grad_(False)
