"""The training loop: the one file that knows accelerate.

A run is a folder: ``config.json``, ``stats.jsonl``, ``checkpoint/`` (weights, EMA, optimiser, progress; replaced whole, never
half). The same command resumes it. Progress is counted in images. Every batch is a pure function of (seed, step), so an
interrupted run draws what an undisturbed one would have drawn.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from omote.config import to_json
from omote.errors import CheckpointError, OmoteError


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """How long and how to optimise.

    Attributes:
        total_images: images to see; the learning rate cools down to zero over the last share.
        batch_size: images per optimiser step, over all processes.
        learning_rate: AdamW's, after warm-up.
        warmup_images: linear warm-up.
        cooldown: share of ``total_images`` over which the rate falls (1 - sqrt, Hägele et al. 2024).
        weight_decay: AdamW's.
        ema_images: half-life of the weights' moving average, in images (EDM, Karras et al. 2022, counts it so).
        clip_norm: gradient norm bound.
        checkpoint_s: seconds between checkpoints.
        log_images: images between reports.
        seed: of everything drawn.
        threads: torch threads; 0 leaves torch's own choice.
    """

    total_images: int
    batch_size: int = 32
    learning_rate: float = 1e-3
    warmup_images: int = 2_000
    cooldown: float = 0.3
    weight_decay: float = 1e-4
    ema_images: int = 4_000
    clip_norm: float = 1.0
    checkpoint_s: float = 120.0
    log_images: int = 640
    seed: int = 0
    threads: int = 0


@runtime_checkable
class Task(Protocol):
    """What is trained: a module, and the loss of the batch at a step."""

    @property
    def module(self) -> nn.Module:
        """Everything with gradients, as one module whose forward is the loss."""
        ...

    def batch(self, step: int, seed: int, size: int, rank: int, world: int) -> Any:
        """The batch of a step: the same for the same arguments."""
        ...

    def schedule(self, images: int) -> None:
        """Called before each step with the images seen so far, to open gates and ramp weights."""
        ...

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Write the averaged weights in the shipped format."""
        ...


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What a training loop yields now and then.

    Attributes:
        images: seen so far.
        total_images: of the run.
        images_per_s: since the last report.
        metrics: means since the last report.
    """

    images: int
    total_images: int
    images_per_s: float
    metrics: dict[str, float]


def learning_rate(config: EngineConfig, images: int) -> float:
    """Warm-up, constant, cool-down: so that a run can be extended before its cool-down begins."""
    if images < config.warmup_images:
        return config.learning_rate * (images + 1) / config.warmup_images
    start = config.total_images * (1 - config.cooldown)
    if images <= start:
        return config.learning_rate
    done = min((images - start) / max(config.total_images - start, 1), 1.0)
    return config.learning_rate * (1 - math.sqrt(done))


def train(task: Task, config: EngineConfig, run: Path, resolved: object) -> Iterator[StepReport]:
    """Train ``task`` to ``config.total_images`` in the folder ``run``, resuming what is there.

    Args:
        task: what is trained.
        config: how.
        run: its folder; made if missing.
        resolved: the complete recipe, written beside the checkpoints.

    Raises:
        CheckpointError: the folder holds a checkpoint of another network.
        OmoteError: the loss stopped being a number; the step that did it is named.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    accelerator = Accelerator()
    run.mkdir(parents=True, exist_ok=True)
    if accelerator.is_main_process:
        (run / "config.json").write_text(json.dumps(to_json(resolved), indent=2) + "\n")
    optimiser = torch.optim.AdamW(
        [p for p in task.module.parameters() if p.requires_grad],
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        betas=(0.9, 0.99),
    )
    model, optimiser = accelerator.prepare(task.module, optimiser)
    raw = accelerator.unwrap_model(model)
    ema = {k: v.detach().clone() for k, v in raw.state_dict().items()}
    images = _resume(run, raw, ema, optimiser, accelerator.device)
    world, rank = accelerator.num_processes, accelerator.process_index
    sums: dict[str, float] = {}
    count, since, saved_at = 0, time.monotonic(), time.monotonic()
    start_images = images
    while images < config.total_images:
        step = images // config.batch_size
        task.schedule(images)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(config, images)
        batch = task.batch(step, config.seed, config.batch_size // world, rank, world)
        loss, metrics = model(batch)
        if not math.isfinite(float(loss.detach())):
            raise OmoteError(f"{run}: the loss of step {step} (seed {config.seed}) is {float(loss.detach())}; "
                             f"the last checkpoint is intact; lower the learning rate and resume")  # fmt: skip
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        images += config.batch_size
        # A young average would remember the initial weights: it is never longer than a fifth of what was seen.
        half_life = min(config.ema_images, max(images / 5, 1))
        decay = 0.5 ** (config.batch_size / half_life)
        with torch.no_grad():
            for key, value in raw.state_dict().items():
                if value.dtype.is_floating_point:
                    ema[key].lerp_(value, 1 - decay)
                else:
                    ema[key].copy_(value)
        for key, item in {**metrics, "loss": loss.detach(), "grad_norm": norm}.items():
            sums[key] = sums.get(key, 0.0) + float(item)
        count += 1
        done = images >= config.total_images
        if images // config.log_images != (images - config.batch_size) // config.log_images or done:
            seconds = time.monotonic() - since
            report = StepReport(
                images=images,
                total_images=config.total_images,
                images_per_s=(images - start_images) / seconds,
                metrics={k: v / count for k, v in sums.items()},
            )
            if accelerator.is_main_process:
                with (run / "stats.jsonl").open("a") as file:
                    row = {"images": images, "images_per_s": report.images_per_s, **report.metrics}
                    file.write(json.dumps(row) + "\n")
            yield report
            sums, count, since, start_images = {}, 0, time.monotonic(), images
        if accelerator.is_main_process and (done or time.monotonic() - saved_at > config.checkpoint_s):
            _save(run, raw, ema, optimiser, images)
            task.export(ema, run / "export")
            saved_at = time.monotonic()


def _save(run: Path, raw: nn.Module, ema: Mapping[str, Tensor], optimiser: torch.optim.Optimizer, images: int) -> None:
    """Write a checkpoint beside the old one, then swap: a kill at any moment leaves one that loads."""
    new, current, old = run / "checkpoint.new", run / "checkpoint", run / "checkpoint.old"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    save_file({k: v.contiguous() for k, v in raw.state_dict().items()}, new / "weights.safetensors")
    save_file({k: v.contiguous() for k, v in ema.items()}, new / "ema.safetensors")
    state = optimiser.state_dict()["state"]
    flat = {f"{i}.{k}": torch.as_tensor(v).contiguous() for i, s in state.items() for k, v in s.items()}
    save_file(flat, new / "optimiser.safetensors")
    (new / "progress.json").write_text(json.dumps({"images": images}))
    for path in new.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    shutil.rmtree(old, ignore_errors=True)
    if current.exists():
        current.rename(old)
    new.rename(current)
    shutil.rmtree(old, ignore_errors=True)


def _resume(
    run: Path, raw: nn.Module, ema: dict[str, Tensor], optimiser: torch.optim.Optimizer, device: torch.device
) -> int:
    """Load the newest whole checkpoint in place; returns the images seen (0 for a fresh run)."""
    current = next((p for p in (run / "checkpoint", run / "checkpoint.old") if (p / "progress.json").exists()), None)
    if current is None:
        return 0
    try:
        raw.load_state_dict(load_file(current / "weights.safetensors"))
    except RuntimeError as error:
        line = str(error).splitlines()[-1].strip()
        raise CheckpointError(f"{current}: holds another network ({line}); give a new --run folder") from None
    for key, value in load_file(current / "ema.safetensors").items():
        ema[key].copy_(value)
    flat = load_file(current / "optimiser.safetensors")
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in flat.items():
        index, name = key.split(".", 1)
        # AdamW keeps its step count on the CPU, its moments beside the weights.
        state.setdefault(int(index), {})[name] = value if name == "step" else value.to(device)
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    return int(json.loads((current / "progress.json").read_text())["images"])
