"""Checkpoints of a run: weights, averages, optimiser and progress, replaced whole and never half.

``checkpoint.new`` is written and flushed, then renamed over ``checkpoint``; a kill or a full disk at any moment leaves one
that loads. Only safetensors and JSON: nothing is unpickled.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from omote.engine.sharded import placed_as, whole, whole_state
from omote.errors import CheckpointError, OutputError


@dataclass(kw_only=True)
class Progress:
    """How far a run is.

    Attributes:
        images: seen.
        sums: of the metrics since the last report, so that a resumed run reports what an undisturbed one does.
        steps: those sums are over.
        seconds: of training, by the run's clock.
    """

    images: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    seconds: float = 0.0


def save_checkpoint(
    run: Path,
    model: nn.Module,
    averages: Mapping[str, Mapping[str, Tensor]],
    optimiser: torch.optim.Optimizer,
    progress: Progress,
    *,
    writes: bool = True,
) -> None:
    """Write ``run/checkpoint``; where weights are divided over processes all call it, and one ``writes``.

    Raises:
        OutputError: it cannot be written; the one before is untouched.
    """
    new, current, old = run / "checkpoint.new", run / "checkpoint", run / "checkpoint.old"
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
        (new / "progress.json").write_text(json.dumps(vars(progress)))
        for path in new.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    except (OSError, SafetensorError) as error:
        shutil.rmtree(new, ignore_errors=True)
        raise OutputError(
            f"{new}: cannot be written ({error}); the last checkpoint is intact: make room and resume"
        ) from None
    shutil.rmtree(old, ignore_errors=True)
    if current.exists():
        current.rename(old)
    new.rename(current)
    shutil.rmtree(old, ignore_errors=True)


def progress_of(run: Path) -> Progress:
    """How far the newest whole checkpoint of a run is; none is none.

    Raises:
        CheckpointError: it is damaged.
    """
    for current in (run / "checkpoint", run / "checkpoint.old"):
        if (current / "progress.json").exists():
            return _read_progress(current)
    return Progress()


def _read_progress(checkpoint: Path) -> Progress:
    try:
        return Progress(**json.loads((checkpoint / "progress.json").read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{checkpoint}: damaged ({str(error).splitlines()[0]})") from None


def load_checkpoint(
    run: Path,
    model: nn.Module,
    averages: Mapping[str, dict[str, Tensor]],
    optimiser: torch.optim.Optimizer,
    device: torch.device,
) -> Progress:
    """Load the newest whole checkpoint in place; a fresh run's progress is none.

    Raises:
        CheckpointError: it is damaged, or another network's; the tensor is named.
    """
    current = next((p for p in (run / "checkpoint", run / "checkpoint.old") if (p / "progress.json").exists()), None)
    if current is None:
        return Progress()
    try:
        weights, flat = (load_file(current / f"{n}.safetensors") for n in ("weights", "optimiser"))
        found = {name: load_file(current / f"{name}.safetensors") for name in averages}
        progress = Progress(**json.loads((current / "progress.json").read_text()))
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{current}: damaged ({str(error).splitlines()[0]}); delete it to start over, or give another --run folder"
        ) from None
    held = model.state_dict()
    _same_network(current, weights, held)
    for name, own in averages.items():
        _same_network(current, found[name], own)
    model.load_state_dict({key: placed_as(value, held[key]) for key, value in weights.items()})
    for name, own in averages.items():
        for key, value in found[name].items():
            own[key].copy_(placed_as(value, own[key]))
    state: dict[int, dict[str, Tensor]] = {}
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    for key, value in flat.items():
        index, name = key.split(".", 1)
        # AdamW keeps its step count on the CPU, its moments beside the weights.
        state.setdefault(int(index), {})[name] = (
            value if name == "step" else placed_as(value.to(device), parameters[int(index)])
        )
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    return progress


def _same_network(folder: Path, found: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    for key in own.keys() | found.keys():
        if key not in found or key not in own:
            what = f"{key} is {'missing' if key not in found else 'not of this network'}"
        elif found[key].shape != own[key].shape:
            what = f"{key} is {tuple(found[key].shape)}, expected {tuple(own[key].shape)}"
        else:
            continue
        raise CheckpointError(f"{folder}: holds another network ({what}); give a new --run folder")
