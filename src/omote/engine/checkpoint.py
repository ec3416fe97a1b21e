"""Checkpoints of a run: weights, moving averages, optimiser and progress, with checksums; the newest two are kept.

``checkpoint.new`` is written and flushed, then renamed to ``checkpoint``, whose predecessor stays as ``checkpoint.old``, so a
kill or a full disk at any moment leaves a checkpoint that loads. Files are safetensors and JSON; nothing is unpickled.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from omote.engine.sharded import placed_as, whole, whole_state
from omote.errors import CheckpointError, OutputError
from omote.files import refuse_special, sha256

CURRENT, BEFORE, CHECKSUMS, PROGRESS = "checkpoint", "checkpoint.old", "checksums.json", "progress.json"
ADAMW = ("step", "exp_avg", "exp_avg_sq")


@dataclass(kw_only=True)
class Progress:
    """Progress of a run, and the config that it was trained with.

    Attributes:
        images: number of images seen.
        sums: sums of the metrics since the last report, so that a resumed run reports the same as an uninterrupted one.
        steps: number of steps in those sums.
        seconds: seconds of training, by the run's clock.
        config: resolved config that the weights were trained with, as JSON.
        changes: settings that changed during the run, each with ``images`` seen by then, ``key``, ``old`` and ``new``.
    """

    images: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    seconds: float = 0.0
    config: dict[str, Any] = field(default_factory=dict)
    changes: list[dict[str, Any]] = field(default_factory=list)


def save_checkpoint(
    run: Path,
    model: nn.Module,
    averages: Mapping[str, Mapping[str, Tensor]],
    optimiser: torch.optim.Optimizer,
    progress: Progress,
    *,
    writes: bool = True,
) -> None:
    """Write ``run/checkpoint``. With sharded weights, every process calls this function, and one of them has ``writes`` True.

    Raises:
        OutputError: the checkpoint cannot be written; the previous one is untouched.
    """
    new, current, before = run / "checkpoint.new", run / CURRENT, run / BEFORE
    state = optimiser.state_dict()["state"]
    files: dict[str, Mapping[str, Tensor]] = {
        "weights": whole_state(model.state_dict()),
        **{name: whole_state(average) for name, average in averages.items()},
        "optimiser": {f"{i}.{k}": whole(torch.as_tensor(v)) for i, s in state.items() for k, v in s.items()},
    }
    if not writes:
        return
    try:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        for name, tensors in files.items():
            save_file({k: v.contiguous() for k, v in tensors.items()}, new / f"{name}.safetensors")
        (new / PROGRESS).write_text(json.dumps(vars(progress)))
        (new / CHECKSUMS).write_text(json.dumps({path.name: sha256(path) for path in sorted(new.iterdir())}))
        for path in new.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        if current.exists():
            shutil.rmtree(before, ignore_errors=True)
            current.rename(before)
        new.rename(current)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(new, ignore_errors=True)
        kept = next((f"; {path} is intact" for path in (current, before) if path.exists()), "")
        raise OutputError(f"{new}: cannot be written ({error}){kept}: make room and resume") from None


def progress_of(run: Path) -> Progress:
    """Progress of a run at its newest checkpoint; all zeros if there is none.

    Raises:
        CheckpointError: the checkpoint is damaged; the message names the file, and what to continue from.
    """
    # Between the two renames of `save_checkpoint`, only the previous checkpoint exists.
    current = next((path for path in (run / CURRENT, run / BEFORE) if path.exists()), None)
    if current is None:
        return Progress()
    try:
        return _checked(current)
    except CheckpointError as error:
        way_out = "delete it to start over, or give another --run folder"
        if current.name == CURRENT and (run / BEFORE).exists():
            try:
                images = _checked(run / BEFORE).images
                way_out = f"delete {current} to go on from the one before it ({images:,} images)"
            except CheckpointError as older:
                way_out = f"the one before it is damaged as well ({older}); {way_out}"
        raise CheckpointError(f"{error}; {way_out}") from None


def _checked(checkpoint: Path) -> Progress:
    """The progress in a checkpoint, once the checksums of all its files are verified."""
    name = CHECKSUMS
    try:
        refuse_special(checkpoint)
        checksums = dict(json.loads((checkpoint / CHECKSUMS).read_text()))
        for name in sorted({PROGRESS, *checksums, *(path.name for path in checkpoint.glob("*.safetensors"))}):
            if checksums.get(name) != sha256(checkpoint / name):
                raise ValueError("not what was written")
        name = PROGRESS
        progress = Progress(**json.loads((checkpoint / PROGRESS).read_text()))
        if not (isinstance(progress.images, int) and progress.images >= 0 and progress.seconds >= 0):
            raise ValueError(f"expected counts, got {progress.images!r} images in {progress.seconds!r} s")
        _check_kinds(progress)
        return progress
    except OSError as error:
        raise CheckpointError(f"{checkpoint / name}: cannot be read ({error.strerror or error})") from None
    except (ValueError, TypeError, RecursionError) as error:
        reason = str(error).partition("\n")[0][:100]
        raise CheckpointError(f"{checkpoint / name}: damaged ({reason})") from None


def _check_kinds(progress: Progress) -> None:
    changed = {"images", "key", "old", "new"}
    kinds = {
        "sums": isinstance(progress.sums, dict) and all(type(v) in (int, float) for v in progress.sums.values()),
        "steps": isinstance(progress.steps, int) and progress.steps >= 0,
        "config": isinstance(progress.config, dict),
        "changes": isinstance(progress.changes, list)
        and all(isinstance(change, dict) and changed <= change.keys() for change in progress.changes),
    }
    for name, is_right in kinds.items():
        if not is_right:
            raise ValueError(f"{name} is {str(getattr(progress, name))[:40]!r}")


def load_checkpoint(
    run: Path,
    model: nn.Module,
    averages: Mapping[str, dict[str, Tensor]],
    optimiser: torch.optim.Optimizer,
    device: torch.device,
) -> None:
    """Load the newest checkpoint in place, if there is one; `progress_of` must have verified it before.

    Raises:
        CheckpointError: the checkpoint is of another network or optimiser; the message names the tensor.
    """
    current = next((path for path in (run / CURRENT, run / BEFORE) if path.exists()), None)
    if current is None:
        return
    try:
        weights, flat = (load_file(current / f"{name}.safetensors") for name in ("weights", "optimiser"))
        found = {name: load_file(current / f"{name}.safetensors") for name in averages}
    except (OSError, SafetensorError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{current}: does not load ({reason}); give another --run folder") from None
    held = model.state_dict()
    _same_network(current, weights, held)
    for name, own in averages.items():
        _same_network(current, found[name], own)
    state = _optimiser_state(current, flat, optimiser, device)
    model.load_state_dict({key: placed_as(value, held[key]) for key, value in weights.items()})
    for name, own in averages.items():
        for key, value in found[name].items():
            own[key].copy_(placed_as(value, own[key]))
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def _optimiser_state(
    folder: Path, flat: Mapping[str, Tensor], optimiser: torch.optim.Optimizer, device: torch.device
) -> dict[int, dict[str, Tensor]]:
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in flat.items():
        index, _, name = key.partition(".")
        place = int(index) if index.isdecimal() else len(parameters)
        if place >= len(parameters) or name not in ADAMW:
            raise _foreign(folder, key)
        # AdamW keeps its step count on the CPU, and its moments on the device of the weights.
        if value.shape != (() if name == "step" else parameters[place].shape):
            raise _foreign(folder, f"{key} is {tuple(value.shape)}")
        state.setdefault(place, {})[name] = value if name == "step" else placed_as(value.to(device), parameters[place])
    for place, values in state.items():
        if len(values) < len(ADAMW):
            raise _foreign(folder, f"of parameter {place} only {', '.join(sorted(values))}")
    return state


def _foreign(folder: Path, what: str) -> CheckpointError:
    return CheckpointError(f"{folder}: holds another optimiser's state ({what}); give a new --run folder")


def _same_network(folder: Path, found: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    for key in own.keys() | found.keys():
        if key not in found or key not in own:
            what = f"{key} is {'missing' if key not in found else 'not of this network'}"
        elif found[key].shape != own[key].shape:
            what = f"{key} is {tuple(found[key].shape)}, expected {tuple(own[key].shape)}"
        else:
            continue
        raise CheckpointError(f"{folder}: holds another network ({what}); give a new --run folder")
