"""What a run will take, measured before it starts."""

from __future__ import annotations

import time
from dataclasses import dataclass

import psutil
import torch

from omote.training.engine import EngineConfig, Task, optimiser_of


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run will take on this machine.

    Attributes:
        parameters: with gradients.
        frozen_parameters: the task's others.
        images_per_s: measured over a few steps.
        hours: for all images at that rate.
        memory_mb: resident memory after those steps.
    """

    parameters: int
    frozen_parameters: int
    images_per_s: float
    hours: float
    memory_mb: float


def estimate(task: Task, config: EngineConfig, *, num_steps: int = 3) -> Estimate:
    """Take a few steps in memory and write nothing; the first, which warms up, is not timed."""
    if config.threads:
        torch.set_num_threads(config.threads)
    optimiser = optimiser_of(task, config)
    start = time.monotonic()
    for step in range(num_steps + 1):
        if step == 1:
            start = time.monotonic()
        task.schedule(step * config.batch_size)
        loss, _ = task.module(task.batch(step, config.seed, config.batch_size, 0, 1))
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    rate = num_steps * config.batch_size / (time.monotonic() - start)
    counts = [sum(p.numel() for p in task.module.parameters() if p.requires_grad == g) for g in (True, False)]
    return Estimate(
        parameters=counts[0],
        frozen_parameters=counts[1],
        images_per_s=rate,
        hours=config.total_images / rate / 3600,
        memory_mb=psutil.Process().memory_info().rss / 2**20,
    )
