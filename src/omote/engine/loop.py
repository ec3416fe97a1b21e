"""The training loop: the one file that knows accelerate.

A run is a folder: ``config.json``, ``stats.jsonl``, ``checkpoint/`` (`omote.engine.checkpoint`), ``export/``, and what
TensorBoard reads in ``tensorboard/``. The same command resumes it, and so does ``accelerate launch`` of it over many
processes. Progress is counted in images. Every batch is a pure function of (seed, step) and is cut into parts over
processes and accumulated micro-batches, so an interrupted or a divided run sees what an undisturbed one sees.
"""

from __future__ import annotations

import contextlib
import dataclasses
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
from torch import Tensor, nn

from omote.config import Range, to_json
from omote.engine.checkpoint import CURRENT, Progress, load_checkpoint, progress_of, save_checkpoint
from omote.engine.log import RunLog, StepReport
from omote.engine.precision import FORMATS, RECORD, autocast, candidates, measure
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
    """How long and how to optimise.

    Attributes:
        total_images: images to see; the learning rate cools down to zero over the last share.
        batch_size: images per optimiser step, over all processes.
        accumulation: micro-batches that a process adds up to its share of a step, where memory is short.
        precision: of convolutions and matrix products; weights, averages, optimiser and loss stay float32. "auto" is what is
            fastest on the machine that a run begins on (`omote.engine.precision`), and is then kept; "fp32" is exact.
        memory_layout: of images inside the network; "auto" is the fastest of those that the precision leaves open, and
            "contiguous" with ``precision = "fp32"``.
        learning_rate: AdamW's, after warm-up.
        momentum: AdamW's β₁.
        warmup_images: linear warm-up.
        cooldown: share of ``total_images`` over which the rate falls (1 - sqrt, Hägele et al. 2024).
        max_seconds: of training, over all resumptions, after which the run ends too; reports, pictures, checkpoints and who
            reads the reports do not count. The rate then cools down over the last share of whichever is spent first. 0: none.
        clock: of those seconds: on the wall, or of this process's computing, which other work on a machine does not change.
        weight_decay: AdamW's.
        ema_images: half-life of the weights' moving average, in images (EDM, Karras et al. 2022, counts it so).
        more_ema_images: half-lives of further averages, exported to ``export_ema_<images>``: which is best differs by task
            and is known only afterwards (Karras et al., "Analyzing and Improving the Training Dynamics", CVPR 2024, §3).
        clip_norm: gradient norm bound.
        checkpoint_s: seconds between checkpoints.
        log_images: images between reports.
        grid_images: images between picture grids; 0 for none.
        seed: of everything drawn.
        threads: torch threads; 0 leaves torch's own choice.
        prefetch: make the next batch, in a thread of its own, while this one is learned from.
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


@runtime_checkable
class Task(Protocol):
    """What is trained: a module, and the loss of the batch at a step."""

    @property
    def module(self) -> nn.Module:
        """Everything with gradients, as one module whose forward is the loss, and named means to be shown beside it.

        A loss and its means are of a part of a batch: those of all parts have the same names, and average to the whole's.
        """
        ...

    def batch(self, step: int, seed: int, size: int, part: int, parts: int) -> Any:
        """One part, of ``size`` images, of a step's batch. The parts together are the same batch whatever their number.

        A function of its arguments alone: it is called ahead of its step, and from another thread.
        """
        ...

    def schedule(self, images: int) -> None:
        """Called before each step with the images seen so far, to open gates and ramp weights."""
        ...

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Write the averaged weights in the shipped format."""
        ...

    def preview(self) -> Float[Tensor, "3 h w"] | None:
        """A picture in [0, 1] of what the module makes now, the same persons each time; None where there is none."""
        ...


class BaseTask:
    """What tasks have in common: nothing changes along the run, nothing is shown, and networks export by their names.

    Attributes:
        module: of `Task`.
    """

    module: nn.Module

    @property
    def device(self) -> torch.device:
        """Where the module lies."""
        return next(self.module.parameters()).device

    def schedule(self, images: int) -> None:
        """Nothing changes along the run."""

    def preview(self) -> Float[Tensor, "3 h w"] | None:
        """There is nothing to look at."""
        return None

    def averaged(self, name: str, weights: Mapping[str, Tensor]) -> Any:
        """The network ``module.<name>``, a model of diffusers, with the averaged weights of a run."""
        network: Any = getattr(self.module, name)
        average, prefix = type(network).from_config(network.config), f"{name}."
        average.load_state_dict({k.removeprefix(prefix): v.cpu() for k, v in weights.items() if k.startswith(prefix)})
        return average


def learning_rate(config: EngineConfig, images: int, seconds: float = 0.0) -> float:
    """Warm-up, constant, cool-down: so that a run can be extended before its cool-down begins."""
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
        weights: by name.
        half_life: in images.
    """

    weights: dict[str, Tensor]
    half_life: int

    @torch.no_grad()
    def update(self, model: nn.Module, batch_size: int, images: int) -> None:
        """One step. A young average would remember the initial weights: at most a fifth of what was seen."""
        decay = 0.5 ** (batch_size / min(self.half_life, max(images / 5, 1)))
        for key, value in model.state_dict().items():
            if value.dtype.is_floating_point:
                self.weights[key].lerp_(value, 1 - decay)
            else:
                self.weights[key].copy_(value)


def train(task: Task, config: EngineConfig, run: Path, resolved: object) -> Iterator[StepReport]:
    """Train ``task`` to ``config.total_images`` or ``config.max_seconds`` in the folder ``run``, resuming what is there.

    Args:
        task: what is trained.
        config: how.
        run: its folder; made if missing.
        resolved: the complete recipe, written beside the checkpoints with ``config`` as its ``engine``.

    Raises:
        ConfigError: the run was trained with other settings.
        CheckpointError: the folder holds a checkpoint of another network, or a damaged one.
        OutputError: the folder cannot be written, or another process trains in it.
        OmoteError: the loss or its gradient stopped being a number; the step that did it is named.
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
    # A batch decoded without its source leaves parameters out: every process must know.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    # Accelerate scales fp16's loss. For bf16 it would keep one precision for all runs of a process.
    precision = "fp16" if config.precision == "fp16" else "no"
    accelerator = Accelerator(mixed_precision=precision, kwargs_handlers=[unused])
    if config.precision == "fp16" and accelerator.device.type == "cpu":
        # Accelerate would quietly train in float32.
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
    """The config with its precision and memory layout settled by the run's record or by measuring, and what was measured."""
    choices, note = candidates(config, recorded), ""
    task.module.to(accelerator.device)
    if config.precision != "fp32" and accelerator.device.type == "cuda":
        # TensorFloat-32 for what stays in float32.
        torch.set_float32_matmul_precision("high")
    if len(choices) > 1:
        if accelerator.is_main_process:
            measured = measure(task, config, choices, accelerator.device)
            measured.write(run / RECORD)
            choices, note = [measured.best], str(measured)
        choices = broadcast_object_list(choices[:1])
    (choice,) = choices
    # An average follows a module that lies as it does; AdamW's moments lie as their weights do.
    task.module.to(memory_format=FORMATS[choice.layout])  # type: ignore[call-overload]
    return dataclasses.replace(config, precision=choice.precision, memory_layout=choice.layout), note


def _steps(
    task: Task, config: EngineConfig, run: Path, accelerator: Accelerator, progress: Progress
) -> Iterator[StepReport]:
    """What is left of a run whose settings are settled."""
    parts, device = accelerator.num_processes * config.accumulation, accelerator.device
    assert config.precision != "auto"
    torch.manual_seed(config.seed)
    optimiser = optimiser_of(task, config)
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
    # Processes with a GPU each can only add up what lies there.
    meeting = accelerator.device if accelerator.num_processes > 1 else torch.device("cpu")
    log = RunLog(run, progress.images) if accelerator.is_main_process else None
    clock, start_images, saved_at = time.monotonic(), progress.images, time.monotonic()
    if (log is not None or sharded) and progress.images and (_done(progress, config) or not (run / EXPORT).exists()):
        # Killed between its last checkpoint and its export, perhaps.
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
            # What a forward draws without a generator of its own is the same after a resume.
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
        # Half precision skips such a step and scales its loss down; others would spoil the weights, and the next checkpoint.
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
        # Processes must agree on when to stop.
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
            # All take part in gathering what one writes, when that one's clock says so.
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
    """AdamW over what has gradients."""
    return torch.optim.AdamW(
        [p for p in task.module.parameters() if p.requires_grad],
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        betas=(config.momentum, 0.99),
        # One pass over weights, gradients and moments instead of a dozen: on a CPU they don't fit its caches.
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


def _done(progress: Progress, config: EngineConfig) -> bool:
    return progress.images >= config.total_images or 0 < config.max_seconds <= progress.seconds


def _passed(images: int, interval: int, batch_size: int) -> bool:
    return images // interval != (images - batch_size) // interval


def _not_a_number(
    run: Path, config: EngineConfig, progress: Progress, model: nn.Module, batch: object, what: str, value: Tensor
) -> OmoteError:
    """What to say of a number that is none: its likely cause, and its batch saved beside the run."""
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
        # A gradient is everybody's: all processes of a run may come here at once.
        with atomic_path(path) as temporary:
            save_file(tensors, temporary)
        batch_told = f"its batch is in {path}"
    except (OutputError, SafetensorError) as error:
        batch_told = f"its batch could not be kept ({error})"
    kept = f"; the last checkpoint is in {run / CURRENT}" if (run / CURRENT).exists() else ""
    return OmoteError(f"{run}: {what} (seed {config.seed}) is {float(value.detach())}; {cause}; {batch_told}{kept}")


def tensors_of(batch: object, name: str = "batch") -> dict[str, Tensor]:
    """Every tensor in nested dataclasses and sequences, by its path."""
    if isinstance(batch, Tensor):
        return {name: batch}
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        items = [(f.name, getattr(batch, f.name)) for f in dataclasses.fields(batch)]
    elif isinstance(batch, tuple | list):
        items = [(str(i), item) for i, item in enumerate(batch)]
    else:
        return {}
    return {key: value for k, item in items for key, value in tensors_of(item, f"{name}.{k}").items()}
