"""Estimate of a run's time and memory, measured before it starts."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass

import psutil
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from omote.engine.loop import EngineConfig, Task, optimiser_of
from omote.engine.precision import autocast, candidates, lay_out, measure

LARGE = 50_000_000
MOST_PARTS = 16
# torch counts fused attention on GPUs alone. Shapes: query, key, value; in the backward pass the gradient before them.
FUSED_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda grad, q, k, v, *_, **__: sdpa_backward_flop_count(grad, q, k, v)
    ),
}


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Time and memory of a run on this machine.

    Attributes:
        parameters: number of trained parameters.
        frozen_parameters: number of parameters without gradients.
        precision: number format: that of the config, or the fastest one for "auto".
        memory_layout: memory layout of images: that of the config, or the fastest one for "auto".
        gflop_per_image: 10⁹ floating-point operations of convolutions, matrix products and attention per image, in both passes.
            Divided by what a machine does per second, they are the least time that an image takes there.
        images_per_s: training rate, measured over a few steps.
        hours: hours for all images at that rate.
        memory_mb: resident memory after those steps, or the GPU's memory if there is a GPU.
    """

    parameters: int
    frozen_parameters: int
    precision: str
    memory_layout: str
    gflop_per_image: float
    images_per_s: float
    hours: float
    memory_mb: float


def estimate(task: Task, config: EngineConfig, *, num_steps: int = 3) -> Estimate:
    """Time a few training steps without writing anything; the first step, a warm-up, is not timed.

    Without a GPU, a large network takes one step of a sixteenth of a batch, which is enough to see that it needs a GPU.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    on_gpu = torch.cuda.is_available()
    task.module.to("cuda" if on_gpu else "cpu")

    parts = 1
    if not on_gpu and sum(p.numel() for p in task.module.parameters()) > LARGE:
        num_steps, parts = 1, math.gcd(config.batch_size, MOST_PARTS)
    device = next(task.module.parameters()).device

    choices = candidates(config, {})
    choice = choices[0] if len(choices) == 1 or parts > 1 else measure(task, config, choices, device).best
    lay_out(task.module, choice.layout)
    optimiser = optimiser_of(task, config)

    counter, size = FlopCounterMode(display=False, custom_mapping=FUSED_ATTENTION), config.batch_size // parts
    start = time.monotonic()
    for step in range(num_steps + 1):
        if step == 1:
            start = time.monotonic()
        task.schedule(step * config.batch_size)
        batch = task.batch(step, config.seed, size, 0, parts)
        with contextlib.nullcontext() if step else counter:
            with autocast(device, choice.precision):
                loss, _ = task.module(batch)
            loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    if on_gpu:
        torch.cuda.synchronize()
    rate = num_steps * size / (time.monotonic() - start)
    counts = [sum(p.numel() for p in task.module.parameters() if p.requires_grad == g) for g in (True, False)]
    return Estimate(
        parameters=counts[0],
        frozen_parameters=counts[1],
        precision=choice.precision,
        memory_layout=choice.layout,
        gflop_per_image=counter.get_total_flops() / size / 1e9,
        images_per_s=rate,
        hours=config.total_images / rate / 3600,
        memory_mb=(torch.cuda.max_memory_allocated() if on_gpu else psutil.Process().memory_info().rss) / 2**20,
    )
