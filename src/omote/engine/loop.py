"""The training loop, the only module that imports accelerate.

A run is a folder with ``config.json``, ``stats.jsonl``, ``checkpoint/`` (`omote.engine.checkpoint`), ``export/`` and
TensorBoard's files in ``tensorboard/``. The same command resumes it, also under ``accelerate launch`` with several processes.
Progress is counted in images. Every batch is a pure function of (seed, step), divided into parts over processes and accumulated
micro-batches, so an interrupted or distributed run sees the same images as an uninterrupted run of one process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, distributed, nn

from omote.config import Range, to_json
from omote.engine.checkpoint import CURRENT, Progress, load_checkpoint, progress_of, save_checkpoint
from omote.engine.log import RunLog, StepReport
from omote.engine.precision import RECORD, autocast, candidates, lay_out, measure
from omote.engine.prefetch import batches
from omote.engine.record import recorded_engine, settle, write_record
from omote.engine.sharded import is_sharded, own_part, unsharded, whole, whole_state
from omote.errors import ConfigError, OmoteError, OutputError, of_extra
from omote.files import atomic_folder, atomic_path, locked, make_folder

with of_extra("train"):
    from accelerate import Accelerator, DistributedDataParallelKwargs, DistributedType
    from accelerate.utils import broadcast_object_list

EXPORT = "export"


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Length of a run, its optimiser and how it executes.

    Attributes:
        total_images: number of training images; the learning rate falls to zero over the last share of them (``cooldown``).
        batch_size: images per optimiser step, over all processes.
        accumulation: number of micro-batches per process and step, to save memory.
        precision: number format of convolutions and matrix products; weights, averages, optimiser and loss stay float32. "auto"
            measures which is fastest when a run begins (`omote.engine.precision`) and keeps it; "fp32" is exact.
        memory_layout: memory layout of images inside the network; "auto" measures which is fastest, except that it is
            "contiguous" with ``precision = "fp32"``.
        learning_rate: learning rate of AdamW after warm-up.
        momentum: β₁ of AdamW.
        warmup_images: length of the linear warm-up in images.
        cooldown: share of the run over which the learning rate falls at its end (1 - sqrt, Hägele et al. 2024).
        max_seconds: limit on the seconds of training over all resumptions; 0 for none. Time spent on reports, pictures and
            checkpoints, or by the caller between reports, does not count. The learning rate cools down over the last share
            of whichever limit, images or seconds, is reached first.
        clock: clock of those seconds: wall time, or the CPU time of this process, which other programs do not affect.
        weight_decay: weight decay of AdamW.
        ema_images: half-life of the weights' moving average in images (as in EDM, Karras et al. 2022).
        more_ema_images: half-lives of further averages, exported to ``export_ema_<images>``: the best one differs by task
            and is known only afterwards (Karras et al., "Analyzing and Improving the Training Dynamics", CVPR 2024, §3).
        clip_norm: largest norm of the gradient; longer gradients are scaled down to it.
        checkpoint_s: seconds between checkpoints.
        log_images: images between reports.
        grid_images: images between picture grids; 0 for none.
        seed: seed of every random draw.
        threads: torch threads; 0 leaves torch's own choice.
        prefetch: whether a thread makes the next batch during a training step; for a GPU, it is also put into pinned memory.
        compile: whether to compile the network (`torch.compile`), which takes minutes at the start of a run; for long runs on a
            GPU.
    """

    total_images: int
    batch_size: Annotated[int, Range(1)] = 32
    accumulation: Annotated[int, Range(1)] = 1
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    memory_layout: Literal["auto", "contiguous", "channels_last"] = "auto"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    warmup_images: int = 2_000
    cooldown: float = 0.3
    max_seconds: float = 0.0
    clock: Literal["wall", "cpu"] = "wall"
    weight_decay: float = 1e-4
    ema_images: int = 4_000
    more_ema_images: tuple[int, ...] = ()
    clip_norm: float = 1.0
    checkpoint_s: float = 120.0
    log_images: int = 640
    grid_images: int = 10_000
    seed: int = 0
    threads: int = 0
    prefetch: bool = True
    compile: bool = False


@runtime_checkable
class Task(Protocol):
    """A training task: a module whose forward is the loss, and the batch of each step."""

    @property
    def module(self) -> nn.Module:
        """Everything with gradients, as one module whose forward returns the loss of a part of a batch, and metrics by name.

        Every part has the same metrics, and the loss and metrics of a batch are the means over its parts.
        """
        ...

    def batch(self, step: int, seed: int, size: int, part: int, parts: int) -> Any:
        """One part of a step's batch, of ``size`` images. The parts together are the same batch whatever their number.

        The result must depend on the arguments alone: this is called before its step, and from another thread.
        """
        ...

    def schedule(self, images: int) -> None:
        """Open gates and ramp loss weights; called before each step with the number of images seen so far."""
        ...

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Write the averaged weights in the shipped format."""
        ...

    def preview(self) -> Float[Tensor, "3 h w"] | None:
        """A picture in [0, 1] of the module's current output, for the same persons each time; None if the task has none."""
        ...


class BaseTask:
    """Base class of tasks, without a schedule or a preview.

    Attributes:
        module: module with the loss as forward (`Task.module`).
    """

    module: nn.Module

    @property
    def device(self) -> torch.device:
        """Device of the module."""
        return next(self.module.parameters()).device

    def schedule(self, images: int) -> None:
        """Do nothing: the task does not change during a run."""

    def preview(self) -> Float[Tensor, "3 h w"] | None:
        """None: the task has no picture to show."""
        return None

    def averaged(self, name: str, weights: Mapping[str, Tensor]) -> Any:
        """A copy of the network ``module.<name>``, a model of diffusers, with the averaged weights of a run."""
        network: Any = getattr(self.module, name)
        average, prefix = type(network).from_config(network.config), f"{name}."
        average.load_state_dict({k.removeprefix(prefix): v.cpu() for k, v in weights.items() if k.startswith(prefix)})
        return average


def learning_rate(config: EngineConfig, images: int, seconds: float = 0.0) -> float:
    """Learning rate: warm-up, constant, cool-down, so that a run can be extended before its cool-down begins."""
    if images < config.warmup_images:
        return config.learning_rate * (images + 1) / config.warmup_images
    start = config.total_images * (1 - config.cooldown)
    done = min((images - start) / max(config.total_images - start, 1), 1.0) if images > start else 0.0
    if config.max_seconds and config.cooldown and seconds > config.max_seconds * (1 - config.cooldown):
        done = max(done, min(1 - (1 - seconds / config.max_seconds) / config.cooldown, 1.0))
    return config.learning_rate * (1 - math.sqrt(done))


@dataclass(frozen=True, kw_only=True)
class Average:
    """A moving average of weights.

    Attributes:
        weights: averaged weights by name.
        half_life: half-life of the average in images.
    """

    weights: dict[str, Tensor]
    half_life: int

    @torch.no_grad()
    def update(self, model: nn.Module, batch_size: int, images: int) -> None:
        """Update the average after a step; its half-life is at most a fifth of the images seen, to forget initial weights."""
        decay = 0.5 ** (batch_size / min(self.half_life, max(images / 5, 1)))
        for key, value in model.state_dict().items():
            if value.dtype.is_floating_point:
                self.weights[key].lerp_(value, 1 - decay)
            else:
                self.weights[key].copy_(value)


def train(task: Task, config: EngineConfig, run: Path, resolved: object) -> Iterator[StepReport]:
    """Train ``task`` to ``config.total_images`` or ``config.max_seconds``, resuming from the checkpoint in ``run`` if any.

    Args:
        task: training task.
        config: length and optimiser.
        run: folder of the run; made if missing.
        resolved: complete recipe, written beside the checkpoints with ``config`` as its ``engine``.

    Raises:
        ConfigError: the run was trained with other settings.
        CheckpointError: the folder holds a checkpoint of another network, or a damaged one.
        OutputError: the folder cannot be written, or another process trains in it.
        OmoteError: the loss or its gradient is not finite; the message names the step.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    accelerator = _accelerator(config)
    make_folder(run)
    with locked(run) if accelerator.is_main_process else contextlib.nullcontext():
        progress = progress_of(run)
        config, note = _chosen(task, config, run, accelerator, recorded_engine(progress, run))
        asked = {**to_json(resolved), "engine": to_json(config)}
        settle(progress, asked, run, goes_on=not _done(progress, config))
        for report in _steps(task, config, run, accelerator, progress):
            yield dataclasses.replace(report, note=note)
            note = ""


def _accelerator(config: EngineConfig) -> Accelerator:
    # A batch that is decoded without a source leaves some parameters unused, which DDP has to look for.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    # Accelerate scales the loss for fp16. Given bf16, it would keep that precision for every later run in this process.
    precision = "fp16" if config.precision == "fp16" else "no"
    accelerator = Accelerator(mixed_precision=precision, kwargs_handlers=[unused])
    if config.precision == "fp16" and accelerator.device.type == "cpu":
        # Accelerate would train in float32 without a warning.
        raise ConfigError("engine.precision: expected bf16 or fp32 without a GPU, got fp16")
    if accelerator.distributed_type == DistributedType.FSDP and not accelerator.is_fsdp2:
        raise ConfigError("accelerate: expected FSDP version 2, got 1; launch with --fsdp_version 2")
    if config.batch_size % (accelerator.num_processes * config.accumulation):
        raise ConfigError(
            f"engine.batch_size: expected a multiple of {accelerator.num_processes} processes x accumulation "
            f"{config.accumulation}, got {config.batch_size}"
        )
    return accelerator


def _chosen(
    task: Task, config: EngineConfig, run: Path, accelerator: Accelerator, recorded: Mapping[str, Any]
) -> tuple[EngineConfig, str]:
    """The config with its precision and memory layout resolved, from the run's record or by measuring, and a note on that."""
    choices, note = candidates(config, recorded), ""
    task.module.to(accelerator.device)
    if config.precision != "fp32" and accelerator.device.type == "cuda":
        # TensorFloat-32 for the products that stay in float32.
        torch.set_float32_matmul_precision("high")
    if len(choices) > 1:
        if accelerator.is_main_process:
            parts = accelerator.num_processes * config.accumulation
            measured = measure(task, config, choices, accelerator.device, parts=parts)
            measured.write(run / RECORD)
            choices, note = [measured.best], str(measured)
        choices = broadcast_object_list(choices[:1])
    (choice,) = choices
    # Done before averages and AdamW's moments are made, which take over the memory layout of the weights.
    lay_out(task.module, choice.layout)
    return dataclasses.replace(config, precision=choice.precision, memory_layout=choice.layout), note


def _steps(
    task: Task, config: EngineConfig, run: Path, accelerator: Accelerator, progress: Progress
) -> Iterator[StepReport]:
    """The remaining steps of a run, whose settings are resolved."""
    parts, device = accelerator.num_processes * config.accumulation, accelerator.device
    assert config.precision != "auto"
    torch.manual_seed(config.seed)
    optimiser = optimiser_of(task, config)
    if config.compile:
        task.module.compile()  # in place: names of weights stay
    model, optimiser = accelerator.prepare(task.module, optimiser)
    raw = accelerator.unwrap_model(model)
    sharded = is_sharded(raw)

    averages = {
        name: Average(weights={k: v.detach().clone() for k, v in raw.state_dict().items()}, half_life=images)
        for name, images in {"ema": config.ema_images, **{f"ema_{n}": n for n in config.more_ema_images}}.items()
    }
    weights_of = {name: average.weights for name, average in averages.items()}
    load_checkpoint(run, raw, weights_of, optimiser, accelerator.device)
    if accelerator.is_main_process:
        write_record(progress, run)

    # Processes with a GPU each can only reduce tensors that are on their GPUs.
    meeting = accelerator.device if accelerator.num_processes > 1 else torch.device("cpu")
    log = RunLog(run, progress.images) if accelerator.is_main_process else None
    clock, start_images, saved_at = time.monotonic(), progress.images, time.monotonic()

    if (log is not None or sharded) and progress.images and (_done(progress, config) or not (run / EXPORT).exists()):
        # The run may have been killed between its last checkpoint and its export.
        _export(task, weights_of, run, writes=log is not None)

    now = time.monotonic if config.clock == "wall" else time.process_time
    first = accelerator.process_index * config.accumulation
    coming = batches(
        task,
        first_step=progress.images // config.batch_size,
        seed=config.seed,
        size=config.batch_size // parts,
        mine=range(first, first + config.accumulation),
        parts=parts,
        ahead=config.prefetch,
        pin=device.type == "cuda",
    )

    while not _done(progress, config):
        began = now()
        step = progress.images // config.batch_size
        task.schedule(progress.images)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(config, progress.images, progress.seconds)

        metrics: dict[str, Tensor] = {}
        for micro in range(config.accumulation):
            part, batch = first + micro, next(coming)
            # Makes draws from torch's global generator in a forward pass the same after a resume.
            torch.manual_seed(config.seed * 1_000_003 + step * parts + part)
            last = micro + 1 == config.accumulation
            with contextlib.nullcontext() if last else accelerator.no_sync(model):
                with accelerator.autocast() if config.precision == "fp16" else autocast(device, config.precision):
                    loss, terms = model(batch)
                if not math.isfinite(float(loss.detach())):
                    raise _not_a_number(run, config, progress, raw, batch, f"the loss of step {step} part {part}", loss)
                accelerator.backward(loss / config.accumulation)
            for key, item in {**terms, "loss": loss.detach()}.items():
                value = torch.as_tensor(item, dtype=torch.float64).detach() / config.accumulation
                metrics[key] = metrics[key] + value if key in metrics else value

        norm = whole(torch.as_tensor(accelerator.clip_grad_norm_(model.parameters(), config.clip_norm)))
        # fp16 skips such a step and lowers its loss scale; in other formats it would ruin the weights and the next checkpoint.
        if config.precision != "fp16" and not math.isfinite(float(norm)):
            raise _not_a_number(run, config, progress, raw, batch, f"the gradient's norm of step {step}", norm)
        metrics["grad_norm"] = norm

        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        progress.images += config.batch_size
        for average in averages.values():
            average.update(raw, config.batch_size, progress.images)

        shared = torch.stack([torch.as_tensor(item, dtype=torch.float64).to(meeting) for item in metrics.values()])
        for key, item in zip(metrics, accelerator.reduce(shared, "mean").tolist(), strict=True):
            progress.sums[key] = progress.sums.get(key, 0.0) + item
        progress.steps += 1
        spent = torch.tensor(now() - began, dtype=torch.float64, device=meeting)
        # All processes must stop at the same step.
        progress.seconds += float(accelerator.reduce(spent, "mean")) if config.max_seconds else float(spent)

        done = _done(progress, config)
        if done or _passed(progress.images, config.log_images, config.batch_size):
            report = StepReport(
                images=progress.images,
                total_images=config.total_images,
                seconds=progress.seconds,
                images_per_s=(progress.images - start_images) / (time.monotonic() - clock),
                metrics={k: v / progress.steps for k, v in progress.sums.items()},
            )
            if log is not None:
                log.write(report)
            progress.sums, progress.steps = {}, 0
            clock, start_images = time.monotonic(), progress.images
            yield report

        saves = done or time.monotonic() - saved_at > config.checkpoint_s
        if sharded:
            # Every process takes part in gathering a checkpoint, at the time given by the clock of the one that writes it.
            asked = torch.tensor(float(saves and log is not None), device=meeting)
            saves = bool(accelerator.reduce(asked, "sum") > 0)
        if log is None and not sharded:
            continue

        if config.grid_images and (done or _passed(progress.images, config.grid_images, config.batch_size)):
            with unsharded(raw) if sharded else contextlib.nullcontext():
                picture = task.preview()
            if log is not None:
                log.picture(picture, progress.images)
        if saves:
            save_checkpoint(run, raw, weights_of, optimiser, progress, writes=log is not None)
            _export(task, weights_of, run, writes=log is not None)
            saved_at = time.monotonic()

    if log is not None:
        log.close()


def optimiser_of(task: Task, config: EngineConfig) -> torch.optim.AdamW:
    """AdamW over the parameters with gradients."""
    return torch.optim.AdamW(
        [p for p in task.module.parameters() if p.requires_grad],
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        betas=(config.momentum, 0.99),
        # One pass over weights, gradients and moments instead of a dozen: they do not fit into a CPU's caches.
        fused=True,
    )


def _export(task: Task, averages: Mapping[str, Mapping[str, Tensor]], run: Path, *, writes: bool) -> None:
    for name, weights in averages.items():
        gathered = whole_state(weights)
        folder = run / (EXPORT if name == "ema" else f"{EXPORT}_{name}")
        if not writes:
            continue
        try:
            with atomic_folder(folder, replace=True) as new:
                task.export(gathered, new)
        except SafetensorError as error:
            raise OutputError(f"cannot write {folder}: {error}; make room and resume") from None


def leave_group() -> None:
    """Leave the group of processes of a launch, if there is one: the last thing that a program does.

    The group's threads must have ended before the interpreter does, which aborts otherwise, after a complete run. A wrapped
    model is part of reference cycles and keeps the group alive until they are collected.
    """
    if distributed.is_initialized():
        gc.collect()
        distributed.barrier()
        distributed.destroy_process_group()


def _done(progress: Progress, config: EngineConfig) -> bool:
    return progress.images >= config.total_images or 0 < config.max_seconds <= progress.seconds


def _passed(images: int, interval: int, batch_size: int) -> bool:
    return images // interval != (images - batch_size) // interval


def _not_a_number(
    run: Path, config: EngineConfig, progress: Progress, model: nn.Module, batch: object, what: str, value: Tensor
) -> OmoteError:
    """The error for a loss or gradient that is not finite: names its likely cause, and saves its batch in the run's folder."""
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors_of(batch).items()}
    bad = next((k for k, v in tensors.items() if not v.isfinite().all()), None)
    if bad is not None:
        cause = f"{bad} holds numbers that are not finite: check the data"
    elif not all(own_part(p).isfinite().all() for p in model.parameters()):
        cause = "weights were not finite before this step: start from other weights"
    else:
        rate = learning_rate(config, progress.images, progress.seconds)
        precision = "" if config.precision == "fp32" else f" or of engine.precision={config.precision}"
        cause = (
            f"its batch and the weights are finite, so a learning rate of {rate:.2g}{precision} is the likely cause: train "
            "with a lower engine.learning_rate in a new --run folder"
        )
    path = run / "bad_batch.safetensors"
    try:
        # Gradients are shared, so all processes of a run may write this file at once.
        with atomic_path(path) as temporary:
            save_file(tensors, temporary)
        batch_told = f"its batch is in {path}"
    except (OutputError, SafetensorError) as error:
        batch_told = f"its batch could not be kept ({error})"
    kept = f"; the last checkpoint is in {run / CURRENT}" if (run / CURRENT).exists() else ""
    return OmoteError(f"{run}: {what} (seed {config.seed}) is {float(value.detach())}; {cause}; {batch_told}{kept}")


def tensors_of(batch: object, name: str = "batch") -> dict[str, Tensor]:
    """All tensors in nested dataclasses and sequences, by their paths."""
    if isinstance(batch, Tensor):
        return {name: batch}
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        items = [(f.name, getattr(batch, f.name)) for f in dataclasses.fields(batch)]
    elif isinstance(batch, tuple | list):
        items = [(str(i), item) for i, item in enumerate(batch)]
    else:
        return {}
    return {key: value for k, item in items for key, value in tensors_of(item, f"{name}.{k}").items()}
