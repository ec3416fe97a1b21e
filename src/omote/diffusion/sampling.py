"""Samplers by name: those of rectified flow, and diffusers' for variance-preserving diffusion, with the same trained network.

A network that predicts the velocity of the straight path z_t = (1 - t) z_0 + t ε predicts the clean latent at every ratio of
noise to signal. A point z = α z_0 + σ ε of a variance-preserving path is the straight path's point z / (α + σ) at
t = σ / (α + σ). So every sampler of the DDPM family runs on the network unchanged: samplers differ in what they do with its
output, not in its input.

The variance-preserving schedule is the cosine schedule (Nichol & Dhariwal 2021, eq. 17), cut at a largest ratio of noise to
signal so that samplers in σ stay exact in float32. Timestep spacing is always "trailing": a sampler must start at the last
timestep and end on the clean image, and "leading" spacing leaves noise in it (Lin et al., "Common Diffusion Noise Schedules and
Sample Steps are Flawed", WACV 2024, §3.3).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from omote.diffusion.flow import SampleStep, Velocity, euler, heun, noised
from omote.diffusion.settings import SamplerName

NUM_TIMESTEPS = 1000
LARGEST_NOISE_RATIO = 100.0
FLOW_SAMPLERS: dict[str, Callable[..., Iterator[SampleStep]]] = {
    "flow_euler": euler,
    "flow_heun": heun,
}


@lru_cache(maxsize=1)
def cosine_betas() -> tuple[float, ...]:
    """β_1 … β_T of α = cos φ, σ = sin φ, with φ evenly spaced from 0 to where σ / α is `LARGEST_NOISE_RATIO`."""
    last = math.atan(LARGEST_NOISE_RATIO)
    signals = [math.cos(last * t / NUM_TIMESTEPS) ** 2 for t in range(NUM_TIMESTEPS + 1)]
    return tuple(1 - then / now for now, then in itertools.pairwise(signals))


def make_scheduler(name: SamplerName, betas: Sequence[float] | None = None) -> Any:
    """The diffusers scheduler of a sampler, with v prediction and `cosine_betas` or other β."""
    # Imported here because it is slow, and making an avatar needs none of them.
    import diffusers

    common = {
        "num_train_timesteps": NUM_TIMESTEPS,
        "trained_betas": list(cosine_betas() if betas is None else betas),
        "prediction_type": "v_prediction",
        "timestep_spacing": "trailing",
    }
    match name:
        case "ddpm":
            return diffusers.DDPMScheduler(**common, clip_sample=False, variance_type="fixed_small")
        case "ddim":
            return diffusers.DDIMScheduler(**common, clip_sample=False, set_alpha_to_one=True)
        case "pndm":
            return diffusers.PNDMScheduler(**common, skip_prk_steps=True, set_alpha_to_one=True)
        case "euler":
            return diffusers.EulerDiscreteScheduler(**common)
        case "heun":
            return diffusers.HeunDiscreteScheduler(**common)
        case "dpmsolver++":
            return diffusers.DPMSolverMultistepScheduler(**common, algorithm_type="dpmsolver++")
        case "unipc":
            return diffusers.UniPCMultistepScheduler(**common)
    raise ValueError(f"{name}: expected one of {', '.join(get_args(SamplerName))}")


def sampled(
    velocity: Velocity,
    noise: Float[Tensor, "b *d"],
    num_steps: int,
    sampler: SamplerName = "flow_euler",
    *,
    seeds: Sequence[int] | None = None,
    shift: float = 1.0,
    betas: Sequence[float] | None = None,
    source: Float[Tensor, "b *d"] | None = None,
    start: float = 1.0,
) -> Iterator[SampleStep]:
    """Integrate from noise, or from a noised source (SDEdit, Meng et al., ICLR 2022), to clean latents.

    Args:
        velocity: velocity of the network on the straight path, with its guidance.
        noise: standard normal noise.
        num_steps: number of sampler steps; all but the last step of the two Heun samplers take two network evaluations, and
            `pndm` takes one more in total.
        sampler: name of the sampler.
        seeds: seeds of the noise that `ddpm` adds, one per sample; 0, 1, … if None.
        shift: shift of the times of the rectified-flow samplers (`euler`).
        betas: β of the variance-preserving schedule; those of the cosine schedule if None.
        source: latents to begin from.
        start: time up to which the source is noised. Variance-preserving samplers then take those of their steps that begin at
            no later time.
    """
    if sampler in FLOW_SAMPLERS:
        first = noise if source is None else noised(source, noise, noise.new_full((len(noise),), start))
        yield from FLOW_SAMPLERS[sampler](velocity, first, num_steps, shift=shift, start=start)
        return
    scheduler = make_scheduler(sampler, betas)
    scheduler.set_timesteps(num_steps)
    timesteps = _from_time(scheduler, sampler, start)
    generators = [torch.Generator().manual_seed(s) for s in (seeds if seeds is not None else range(len(noise)))]
    extra = {"generator": generators} if sampler == "ddpm" else {}
    z = noise * float(scheduler.init_noise_sigma)
    if source is not None:
        alpha, sigma = _alpha_sigma(scheduler, timesteps[0])
        # Some samplers hold z / α instead of z.
        z = (alpha * source + sigma * noise) / scheduler.scale_model_input(torch.ones(1), timesteps[0])
    total = len(timesteps)
    for i, timestep in enumerate(timesteps):
        x = scheduler.scale_model_input(z, timestep)
        alpha, sigma = _alpha_sigma(scheduler, timestep)
        t = sigma / (alpha + sigma)
        straight = x / (alpha + sigma)
        z_0 = straight - t * velocity(straight, straight.new_full((len(x),), t))
        # v = α ε - σ z_0 (Salimans & Ho 2022), with the ε that this clean latent implies.
        v = alpha * (x - alpha * z_0) / sigma - sigma * z_0
        z = scheduler.step(v, timestep, z, **extra).prev_sample
        if sampler == "pndm" and i + 1 == total:
            # The scheduler's last step extrapolates from earlier noise, and the error of that would stay in the image.
            z = z_0
        yield SampleStep(index=i, total=total, t=t if i + 1 < total else 0.0, z=z, z_0=z_0)


def _alpha_sigma(scheduler: Any, timestep: Any) -> tuple[float, float]:
    signal = float(scheduler.alphas_cumprod[int(timestep)])
    return math.sqrt(signal), math.sqrt(1 - signal)


def _from_time(scheduler: Any, sampler: SamplerName, start: float) -> list[Any]:
    """The scheduler's timesteps from time ``start`` on, at least the last one."""
    timesteps = list(scheduler.timesteps)
    if start >= 1:
        return timesteps

    def before(timestep: Any) -> bool:
        alpha, sigma = _alpha_sigma(scheduler, timestep)
        return sigma / (alpha + sigma) > start

    first = min(sum(map(before, timesteps)), len(timesteps) - 1)
    if sampler == "pndm":
        # Its second timestep comes twice, wherever it begins.
        once = list(dict.fromkeys(map(int, timesteps[first:])))
        return [once[0], *once[1:2], *once[1:]]
    if sampler == "heun":
        # All timesteps but the first and last come in pairs, of which the first begins a step.
        first += first % 2
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    return timesteps[first:]
