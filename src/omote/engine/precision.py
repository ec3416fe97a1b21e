"""Choice of the number format and memory layout that a network trains fastest in, measured before a run's first step.

bfloat16 is several times as fast as float32 on processors that multiply matrices in it (AMX, a recent GPU), up to twice as fast
on those with dot products in it (AVX-512 BF16), and slower on all others; its convolutions are fast only in the channels-last
layout. No list of processors says what a given network gains, so it is timed. Weights, averages, the optimiser and loss terms
always stay float32; other parts that must are marked in the networks (`omote.nets.precision`).
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from omote.files import atomic_path

if TYPE_CHECKING:
    from omote.engine.loop import EngineConfig, Task

Precision = Literal["fp32", "bf16", "fp16"]
Layout = Literal["contiguous", "channels_last"]
RECORD = "precision.json"
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
# A choice other than the first, contiguous float32, must take at most this share of its time.
MARGIN = 0.97
# A step is timed repeatedly for this long, or once if it takes longer.
SECONDS_EACH = 0.25
LONG_STEP = 8 * SECONDS_EACH
ROUNDS = 2


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A number format and memory layout.

    Attributes:
        precision: format of convolutions and matrix products.
        layout: memory layout of images.
    """

    precision: Precision
    layout: Layout

    def __str__(self) -> str:
        return f"{self.precision} {self.layout.replace('_', '-')}"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The fastest choice, with the timings.

    Attributes:
        best: fastest choice.
        step_ms: milliseconds of one forward and backward pass, for each choice.
        images: batch size of the timed passes.
        threads: number of torch threads.
    """

    best: Choice
    step_ms: Mapping[Choice, float]
    images: int
    threads: int

    def __str__(self) -> str:
        times = ", ".join(f"{choice} {ms:.0f} ms" for choice, ms in self.step_ms.items())
        return f"{self.best} is the fastest here ({times} for {self.images} images on {self.threads} threads)"

    def write(self, path: Path) -> None:
        """Write the timings as JSON.

        Raises:
            OutputError: the file cannot be written.
        """
        told = {
            "precision": self.best.precision,
            "memory_layout": self.best.layout,
            "step_ms": {str(choice): round(ms, 2) for choice, ms in self.step_ms.items()},
            "images": self.images,
            "threads": self.threads,
            "processor": torch.backends.cpu.get_cpu_capability(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        }
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(told, indent=2) + "\n")


def autocast(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager[object]:
    """Context manager that runs convolutions and matrix products in ``precision``."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, HALF[precision])


def lay_out(module: nn.Module, layout: Layout) -> None:
    """Change the memory layout of a module's weights, in place; those of convolutions over volumes have five axes."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.dim() in CHANNELS_LAST:
            wanted = torch.contiguous_format if layout == "contiguous" else CHANNELS_LAST[tensor.dim()]
            tensor.data = tensor.data.contiguous(memory_format=wanted)


def candidates(config: EngineConfig, recorded: Mapping[str, Any]) -> list[Choice]:
    """The choices that a config leaves open.

    Args:
        config: engine config of a run.
        recorded: ``engine`` of the config that its weights were trained with, whose choice is kept; empty for a new run.
    """
    precision, layout = config.precision, config.memory_layout
    if recorded:
        precision = recorded.get("precision", "fp32") if precision == "auto" else precision
        layout = recorded.get("memory_layout", "contiguous") if layout == "auto" else layout
    formats: tuple[Precision, ...] = ("fp32", "bf16") if precision == "auto" else (precision,)
    # float32 that is asked for by name keeps the contiguous layout, so that its results are reproduced to the bit.
    layouts: tuple[Layout, ...] = (layout,) if layout != "auto" else ("contiguous", "channels_last")
    if precision == "fp32" and layout == "auto":
        layouts = ("contiguous",)
    return [Choice(precision=p, layout=m) for p in formats for m in layouts]


def measure(
    task: Task, config: EngineConfig, choices: list[Choice], device: torch.device, *, parts: int = 1
) -> Measured:
    """Time a forward and backward pass of the task's own module on its first batch, or what one pass has of it.

    Fewer images would favour float32: in bfloat16, every pass converts all weights once, however many images it has. The module
    is restored afterwards; its gradients are cleared.

    Args:
        task: training task whose module is on ``device``.
        config: engine config of the run.
        choices: one or more choices; the first is preferred unless another is clearly faster.
        device: device of the module.
        parts: number of passes that share a batch, in all processes together.
    """
    module, size = task.module, config.batch_size // parts
    batch = task.batch(0, config.seed, size, 0, parts)
    # In the middle of the run, the gates and losses that open during it take part.
    task.schedule(config.total_images // 2)
    step_ms: dict[Choice, float] = {}
    with _untouched(module):
        for _ in range(ROUNDS):
            for choice in choices:
                if step_ms.get(choice, 0.0) > 1e3 * LONG_STEP:
                    continue  # too long for the machine's other work to matter
                lay_out(module, choice.layout)

                def step(precision: Precision = choice.precision) -> None:
                    with autocast(device, precision):
                        loss, _ = module(batch)
                    loss.backward()
                    module.zero_grad(set_to_none=True)
                    if device.type == "cuda":
                        torch.cuda.synchronize()

                least_ms = min(step_ms.values(), default=math.inf)
                step_ms[choice] = min(step_ms.get(choice, math.inf), 1e3 * _seconds(step, 2e-3 * least_ms))
    first = choices[0]
    best = min(step_ms, key=step_ms.__getitem__)
    if step_ms[best] > MARGIN * step_ms[first]:
        best = first
    return Measured(best=best, step_ms=step_ms, images=size, threads=torch.get_num_threads())


def _seconds(step: Callable[[], None], hopeless: float) -> float:
    """Seconds of the fastest of several steps after a warm-up step; of the warm-up step itself if that takes too long."""
    start = time.perf_counter()
    step()
    best = time.perf_counter() - start
    if best > min(hopeless, LONG_STEP):
        return best
    while time.perf_counter() - start < SECONDS_EACH + best:
        began = time.perf_counter()
        step()
        best = min(best, time.perf_counter() - began)
    return best


@contextmanager
def _untouched(module: nn.Module) -> Iterator[None]:
    """Restore a module's buffers and memory layout, which a forward pass in training may change."""
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    try:
        yield
    finally:
        lay_out(module, "contiguous")
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                buffer.copy_(buffers[name])
        module.zero_grad(set_to_none=True)
