"""Where a training step's time goes, by kind of operation, in float32 and in the fastest choice of this machine.

    make bench BENCH=training_profile OUT=dir

Forward and backward passes of `editor-cpu` (edits encoded before) and `autoencoder-cpu`, by torch's profiler on one thread, in
milliseconds of one step: the least of several. A kind is what an operation itself takes, without what it calls. Beside them: the
optimiser with clipping and average, a batch that is made in its own thread, and the share of the fastest matmul of the same
format that the passes reach (`torch.utils.flop_counter`).
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from omote.datasets.population import PopulationConfig, make_population
from omote.engine.loop import optimiser_of
from omote.engine.precision import FORMATS, HALF, Choice, Precision, autocast, candidates, measure
from omote.head.shipped import population_heads, shipped_head
from omote.recipes import RECIPES
from omote.rgbd.identity_stage import load_first_stage
from omote.rgbd.train.autoencoder import AutoencoderTask
from omote.rgbd.train.editor import EditorTask
from omote.rgbd.train.latent_cache import encode_population
from omote.rgbd.weights import SHIPPED_WEIGHTS
from training import matmul_peak_flops

CPU, EXACT = torch.device("cpu"), Choice(precision="fp32", layout="contiguous")
STEPS, PERSONS = 3, 6
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
# The first part of an operation's name that fits.
KINDS = {
    "convolution_ms": ("convolution", "conv2d"),
    "attention_ms": ("attention", "softmax"),
    "matmul_ms": ("mm", "addmm", "bmm", "baddbmm", "linear"),
    "norm_ms": ("group_norm", "layer_norm"),
    "activation_ms": ("silu", "gelu", "sigmoid"),
    "copy_ms": ("copy_", "cat", "pixel_shuffle", "pixel_unshuffle", "clone", "contiguous", "fill_", "zero_"),
    "resampling_ms": ("grid_sampler", "upsample", "avg_pool", "adaptive"),
}


def kind_of(name: str) -> str:
    """The key of an operation's kind."""
    bare = name.removeprefix("aten::")
    for kind, parts in KINDS.items():
        if any(part in bare for part in parts):
            return kind
    return "other_ms"


def profiled(task: EditorTask | AutoencoderTask, choice: Choice) -> dict[str, float]:
    """Milliseconds of a step by kind, and of everything besides the passes."""
    config, module = task.config.engine, task.module
    module.to(memory_format=FORMATS[choice.layout])  # type: ignore[call-overload]
    task.schedule(config.total_images // 2)
    start = time.perf_counter()
    batch = task.batch(0, config.seed, config.batch_size, 0, 1)
    made = time.perf_counter() - start
    optimiser = optimiser_of(task, config)
    average = {k: v.detach().clone() for k, v in module.state_dict().items()}

    def passes() -> None:
        with autocast(CPU, choice.precision):
            loss, _ = module(batch)
        loss.backward()

    with FlopCounterMode(display=False) as counter:
        passes()
    out: dict[str, float] = {}
    for _ in range(STEPS):
        module.zero_grad(set_to_none=True)
        start = time.perf_counter()
        passes()
        out["passes_ms"] = min(out.get("passes_ms", 1e9), 1e3 * (time.perf_counter() - start))
        start = time.perf_counter()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            for key, value in module.state_dict().items():
                average[key].lerp_(value, 0.01) if value.is_floating_point() else average[key].copy_(value)
        out["optimiser_ms"] = min(out.get("optimiser_ms", 1e9), 1e3 * (time.perf_counter() - start))
    with torch.profiler.profile() as profile:
        passes()
    kinds = dict.fromkeys((*KINDS, "other_ms"), 0.0)
    for event in profile.key_averages():
        kinds[kind_of(event.key)] += event.self_cpu_time_total / 1e3
    # The profiler's own time is spread as the operations' is.
    share = out["passes_ms"] / sum(kinds.values())
    dtype = HALF.get(choice.precision, torch.float32)
    return {
        **out,
        **{kind: share * value for kind, value in kinds.items()},
        "batch_ms": 1e3 * made,
        "share_of_peak": counter.get_total_flops() / (out["passes_ms"] / 1e3) / matmul_peak_flops(dtype),
    }


def blocks() -> dict[str, float]:
    """Milliseconds of the autoencoder's widest convolution, and of its norm with activation, in every choice."""
    x, out = torch.randn(16, 48, 64, 64), {}
    parts = {
        "conv": nn.Conv2d(48, 48, 3, padding=1),
        "norm_and_activation": nn.Sequential(nn.GroupNorm(8, 48), nn.SiLU()),
    }
    for name, part in parts.items():
        for choice in (Choice(precision=p, layout=m) for p in PRECISIONS for m in FORMATS):
            part.to(memory_format=FORMATS[choice.layout])  # type: ignore[call-overload]
            image = x.to(HALF.get(choice.precision, torch.float32), memory_format=FORMATS[choice.layout])
            best = 1e9
            for _ in range(1 + STEPS):
                start = time.perf_counter()
                with autocast(CPU, choice.precision):
                    answer = part(image.requires_grad_())
                answer.backward(torch.ones_like(answer))
                best = min(best, 1e3 * (time.perf_counter() - start))
            out[f"block/{name}_ms/{choice}"] = best
    return out


def run() -> dict[str, float | int | str]:
    """For ``make bench``."""
    torch.set_num_threads(1)
    out: dict[str, float | int | str] = {**blocks()}
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        config = PopulationConfig(num_images=8)
        list(make_population(config, population_heads(), runs / "population", num_persons=PERSONS))
        first_stage = load_first_stage(SHIPPED_WEIGHTS / "autoencoder").float().eval().requires_grad_(False)
        list(encode_population(runs / "population", first_stage, shipped_head(), runs / "edits"))
        editor = replace(
            RECIPES["editor-cpu"](runs),
            autoencoder=SHIPPED_WEIGHTS / "autoencoder",
            start_from=SHIPPED_WEIGHTS / "editor",
            latents=runs / "edits",
        )
        tasks = {
            "editor": EditorTask(editor, population_heads()),
            "autoencoder": AutoencoderTask(RECIPES["autoencoder-cpu"](runs), population_heads()),
        }
        for name, task in tasks.items():
            task.module.float()
            choice = measure(task, task.config.engine, candidates(task.config.engine, {}), CPU).best
            out[f"{name}/choice"] = str(choice)
            for label, made in (("fp32", EXACT), ("auto", choice)):
                out |= {f"{name}_{label}/{key}": value for key, value in profiled(task, made).items()}
    return out
