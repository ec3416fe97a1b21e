"""Rectified flow: one straight path between noise and data, its loss, its samplers, and guidance.

z_t = (1 - t) z_0 + t ε; the network predicts v = ε - z_0, the constant velocity of that path (Liu et al., "Flow Straight
and Fast", ICLR 2023, eq. 1; Lipman et al., "Flow Matching", ICLR 2023). Sampling integrates dz = v dt from t = 1 to 0, so
it ends on the clean image by construction at any number of steps.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Velocity = Callable[[Float[Tensor, "b *d"], Float[Tensor, "b"]], Float[Tensor, "b *d"]]


def noised(z_0: Float[Tensor, "b *d"], noise: Float[Tensor, "b *d"], t: Float[Tensor, "b"]) -> Float[Tensor, "b *d"]:
    """The point of the straight path at time t."""
    t = t.view(-1, *[1] * (z_0.ndim - 1))
    return (1 - t) * z_0 + t * noise


def guided(
    conditional: Velocity,
    unconditional: Velocity,
    guidance_scale: float,
    *,
    source_free: Velocity | None = None,
    source_scale: float = 1.0,
    partial: Sequence[tuple[Velocity, float]] = (),
    interval: tuple[float, float] = (0.0, 1.0),
) -> Velocity:
    """Classifier-free guidance (Ho & Salimans 2022), with separate scales for the source image and for parts of the condition.

    v = v(∅, ∅) + s_source (v(source, ∅) - v(∅, ∅)) + s (v(source, c) - v(source, ∅))  (Brooks et al., "InstructPix2Pix", CVPR
    2023, eq. 3). Each part of the condition c adds (s_part - 1) (v(source, c) - v(source, c without the part))  (Liu et al.,
    "Compositional Visual Generation", ECCV 2022, eq. 11). A scale of 1 means no guidance and costs no network evaluation.

    Args:
        conditional: velocity v(source, c) of the source and the condition.
        unconditional: velocity v(source, ∅) of the source alone.
        guidance_scale: scale s of the whole condition.
        source_free: velocity v(∅, ∅) without a source; required if ``source_scale`` is not 1.
        source_scale: scale s_source of the source.
        partial: velocity v(source, c without the part) and scale s_part of each part.
        interval: interval of t in which guidance acts; outside it, the conditional velocity is used (Kynkäänniemi et al.,
            "Applying Guidance in a Limited Interval", NeurIPS 2024).

    Raises:
        ValueError: a ``source_scale`` other than 1 without a ``source_free`` velocity.
    """
    partial = [(without, scale) for without, scale in partial if scale != 1.0]
    if guidance_scale == 1.0 and source_scale == 1.0 and not partial:
        return conditional
    if source_scale != 1.0 and source_free is None:
        raise ValueError("source_scale needs source_free")
    low, high = interval

    def velocity(z_t: Tensor, t: Tensor) -> Tensor:
        wanted = conditional(z_t, t)
        if not bool(((t >= low) & (t <= high)).all()):
            return wanted
        out = wanted
        if guidance_scale != 1.0 or source_scale != 1.0:
            free = unconditional(z_t, t)
            out = free + guidance_scale * (wanted - free)
            if source_free is not None and source_scale != 1.0:
                out = out + (source_scale - 1) * (free - source_free(z_t, t))
        for without, scale in partial:
            out = out + (scale - 1) * (wanted - without(z_t, t))
        return out

    return velocity


@dataclass(frozen=True, kw_only=True)
class SampleStep:
    """One step of a sampler.

    Attributes:
        index: index of the step, from 0.
        total: number of steps.
        t: time after the step.
        z: latents at that time.
        z_0: clean latents predicted by the step.
    """

    index: int
    total: int
    t: float
    z: Tensor
    z_0: Tensor


def euler(
    velocity: Velocity,
    noise: Float[Tensor, "b *d"],
    num_steps: int,
    *,
    shift: float = 1.0,
    start: float = 1.0,
    end: float = 0.0,
) -> Iterator[SampleStep]:
    """Euler integration from t = 1 to 0, or between other times.

    Args:
        velocity: velocity of the network, with its guidance.
        noise: latents z at ``start``, by default z_1; with one generator per sample (`initial_noise`), the size of a batch
            never changes a sample.
        num_steps: number of network evaluations.
        shift: shift of the times; above 1, more steps lie near the noise (Esser et al. 2024, §5.3.2).
        start: time of the first step; below 1 for a partly noised image (SDEdit, Meng et al., ICLR 2022).
        end: time after the last step; above ``start``, the integration runs towards noise (inversion, Song et al., "DDIM", ICLR
            2021, §4.3).
    """
    u = torch.linspace(1, 0, num_steps + 1)
    times = (end + (start - end) * shift * u / (1 + (shift - 1) * u)).tolist()
    z = noise
    for i in range(num_steps):
        t = torch.full((len(z),), times[i], dtype=z.dtype, device=z.device)
        v = velocity(z, t)
        z_0 = z - times[i] * v
        z = z + (times[i + 1] - times[i]) * v
        yield SampleStep(index=i, total=num_steps, t=times[i + 1], z=z, z_0=z_0)


def heun(
    velocity: Velocity, noise: Float[Tensor, "b *d"], num_steps: int, *, shift: float = 1.0, start: float = 1.0
) -> Iterator[SampleStep]:
    """Heun's second-order integration from t = 1 to 0 or between (Karras et al. 2022, algorithm 1), with a last Euler step.

    Args:
        velocity: velocity of the network, with its guidance.
        noise: latents z at ``start``, by default standard normal noise z_1.
        num_steps: number of sampler steps; all but the last take two network evaluations.
        shift: shift of the times, as in `euler`.
        start: time of the first step, as in `euler`.
    """
    u = torch.linspace(1, 0, num_steps + 1)
    times = (start * shift * u / (1 + (shift - 1) * u)).tolist()
    z = noise
    for i, (now, then) in enumerate(itertools.pairwise(times)):
        v = velocity(z, z.new_full((len(z),), now))
        z_0 = z - now * v
        reached = z + (then - now) * v
        if then > 0:
            v = (v + velocity(reached, z.new_full((len(z),), then))) / 2
            reached = z + (then - now) * v
        z = reached
        yield SampleStep(index=i, total=num_steps, t=then, z=z, z_0=z_0)


def initial_noise(shape: tuple[int, ...], seeds: list[int]) -> Float[Tensor, "b ..."]:
    """Standard normal noise (len(seeds), *shape), each sample from its own generator."""
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(s)) for s in seeds])


def path_scale(t: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
    """Standard deviation of z_t for data of unit deviation: s = √((1-t)² + t²) (`omote.diffusion.objective`).

    v prediction is the preconditioning of EDM (Karras et al. 2022, table 1) for this path: its target has unit deviation at
    every t and the network never has to copy noise to its output.
    """
    return torch.sqrt((1 - t) ** 2 + t**2)
