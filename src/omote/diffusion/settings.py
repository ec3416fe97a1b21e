"""Settings of sampling an edit, in a module without the networks, which take seconds to import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SamplerName = Literal["flow_euler", "flow_heun", "ddpm", "ddim", "pndm", "euler", "heun", "dpmsolver++", "unipc"]


@dataclass(frozen=True, kw_only=True)
class EditSettings:
    """Settings of sampling.

    Attributes:
        steps: number of sampler steps, with one network evaluation each; the Heun samplers and `pndm` take more
            (`omote.diffusion.sampling.sampled`).
        sampler: name of the sampler.
        guidance_scale: scale of guidance by the whole condition; 1 means none.
        kind_scales: scales of guidance by some kinds of condition: names of kinds joined by "+", and their scale. The baseline of
            each scale is the same condition without these kinds.
        source_scale: scale of guidance by the source image; 1 means none, other values need an editor trained with source
            dropout.
        guidance_interval: interval of t in [0, 1] in which guidance acts; t = 1 is pure noise.
        strength: time t in (0, 1] up to which the source is noised before sampling (SDEdit); 1 starts from pure noise.
        inversion_steps: number of steps of the unconditional flow that map the source to its own noise, from which the edit
            starts; 0 starts from random noise.
        shift: shift of the times of the rectified-flow samplers; above 1, more steps lie near the noise (Esser et al. 2024,
            §5.3.2), where the coarse features of a whole person are decided; an edit changes few of those.
        seed: seed of the noise; sample i of a batch uses seed + i.
        threads: torch threads of the networks; 0 leaves torch's own choice. Results differ by rounding alone.
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


# A single step gives the mean of all persons. The first principal components of a population's latents have about forty times the
# deviation of the noise, so evenly spaced steps sample persons that are too much alike: 25 Euler steps reach half of that
# deviation, these settings 97 %.
DRAW_SETTINGS = EditSettings(steps=25, sampler="flow_heun", shift=4.0)
