"""How an edit is sampled; apart from the networks, which take seconds to import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SamplerName = Literal["flow_euler", "flow_heun", "ddpm", "ddim", "pndm", "euler", "heun", "dpmsolver++", "unipc"]


@dataclass(frozen=True, kw_only=True)
class EditSettings:
    """How to sample.

    Attributes:
        steps: sampler steps; one network evaluation each, except for `heun`s and `pndm` (`omote.diffusion.sampling.sampled`).
        sampler: name of the sampler.
        guidance_scale: guidance by everything that is wanted; 1 means none.
        kind_scales: guidance by some kinds of condition alone: their names, joined by "+", and a scale. Each scale acts against
            the same condition without these kinds.
        source_scale: guidance by the source image; 1 means none, others need an editor trained with source dropout.
        guidance_interval: interval of t in [0, 1] in which guidance acts; 1 is pure noise.
        strength: how far the source is noised before it is sampled anew, in (0, 1]; 1 begins at pure noise (SDEdit).
        inversion_steps: steps of the unconditional flow that carry the source to its own noise, from which it is edited; 0 begins
            at random noise.
        shift: above 1 spends more steps of the flow's samplers near the noise (Esser et al. 2024, §5.3.2), where a whole
            person's coarse features are decided; an edit has few of those.
        seed: seed of the noise; sample i of a batch uses seed + i, whatever the batch.
        threads: torch threads of the networks; 0 leaves torch's own choice. Changes an answer by rounding alone.
    """

    steps: int = 1
    sampler: SamplerName = "flow_euler"
    guidance_scale: float = 1.0
    kind_scales: tuple[tuple[str, float], ...] = ()
    source_scale: float = 1.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    strength: float = 1.0
    inversion_steps: int = 0
    shift: float = 1.0
    seed: int = 0
    threads: int = 0


# One step gives the mean of the distribution that a person is sampled from. The first components of a population's latents
# deviate by some forty times the noise: even steps would sample all persons alike (Euler at 25: half of that deviation; these:
# 97 %).
DRAW_SETTINGS = EditSettings(steps=25, sampler="flow_heun", shift=4.0)
