"""How an edit is sampled; apart from the networks, which take seconds to import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    pass

SamplerName = Literal["flow_euler", "flow_heun", "ddpm", "ddim", "pndm", "euler", "heun", "dpmsolver++", "unipc"]


@dataclass(frozen=True, kw_only=True)
class EditSettings:
    """How to sample.

    Attributes:
        steps: of the sampler; a network evaluation each, but for `heun`s and `pndm` (`omote.diffusion.sampling.sampled`).
        sampler: how they are taken.
        guidance_scale: of what is wanted; 1 means none.
        source_scale: of the source image; 1 means none, others need an editor trained with source dropout.
        guidance_interval: of t in [0, 1] in which guidance acts; 1 is pure noise.
        strength: how far the source is noised before it is sampled anew, in (0, 1]; 1 begins at pure noise (SDEdit).
        inversion_steps: the source is carried to its own noise by as many steps of the flow, without any wish, and edited from
            there; 0 begins at drawn noise.
        shift: above 1 spends more steps of the flow's samplers near the noise (Esser et al. 2024, §5.3.2), where a whole
            person's coarse features are decided; an edit has few of those.
        seed: of the noise; sample i of a batch uses seed + i, whatever the batch.
    """

    steps: int = 1
    sampler: SamplerName = "flow_euler"
    guidance_scale: float = 1.0
    source_scale: float = 1.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    strength: float = 1.0
    inversion_steps: int = 0
    shift: float = 1.0
    seed: int = 0


# A person is a draw from a distribution, and one step gives its mean. The first components of a population's latents deviate by
# some forty times the noise: even steps would draw everybody alike (Euler at 25: half of that deviation; these: 97 %).
DRAW_SETTINGS = EditSettings(steps=25, sampler="flow_heun", shift=4.0)
