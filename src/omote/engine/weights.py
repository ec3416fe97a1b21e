"""Networks from exported weights, and networks that extend others."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers.utils import logging as diffusers_logging
from safetensors import safe_open

from omote.errors import CheckpointError
from omote.files import reading

Model = TypeVar("Model")
FREE_SIZE = 1024  # numbers of a config that are no side of a tensor, such as an image's


def load_pretrained(
    kind: type[Model], folder: Path, *others: type[Model], hint: str = "train that stage first"
) -> Model:
    """A network from a folder with ``config.json`` and safetensors weights, by diffusers' ``from_pretrained``.

    Args:
        kind: the expected class, a model of diffusers.
        folder: exported weights.
        others: further classes that are accepted; ``config.json`` names the one that it is.
        hint: what to do about missing weights.

    Raises:
        CheckpointError: weights that are missing, damaged, of another class, or that lack parameters.
    """
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder}: expected config.json and safetensors weights; {hint}")
    with reading(folder / "config.json", CheckpointError, "weights do not load", hint):
        name = json.loads((folder / "config.json").read_text(encoding="utf-8"))["_class_name"]
    found: Any = {k.__name__: k for k in (kind, *others)}
    if not isinstance(name, str) or name not in found:
        got = str(name)[:60]
        raise CheckpointError(f"{folder}: expected a network of class {' or '.join(found)}, got {got!r}; {hint}")
    # A library stays silent.
    diffusers_logging.disable_progress_bar()
    with reading(folder, CheckpointError, "weights do not load", "export or install them again"):
        _check_size(found[name], folder)
        model: Model
        # Nothing is looked for elsewhere: of a folder that is damaged, diffusers would ask the hub.
        model, told = found[name].from_pretrained(
            folder, low_cpu_mem_usage=False, local_files_only=True, output_loading_info=True
        )
        # What is missing would be left as it was drawn, with no more than a warning.
        if wrong := sorted([*told["missing_keys"], *told["unexpected_keys"]]):
            raise ValueError(
                f"{wrong[0]} is {'missing' if wrong[0] in told['missing_keys'] else 'not of this network'}"
            )
    return model


def _check_size(kind: Any, folder: Path) -> None:
    """Compare the network that a config describes with the weights beside it, before any of it is allocated."""
    shapes: list[list[int]] = []
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            shapes += [file.get_slice(key).get_shape() for key in file.keys()]  # noqa: SIM118 (no mapping)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    most = max(FREE_SIZE, len(shapes), *(size for shape in shapes for size in shape))
    if large := next((f"{key} is {value}" for key, value in config.items() if _largest(value) > most), None):
        raise ValueError(f"{large[:60]}, the weights have no side over {most:,}")
    with torch.device("meta"):
        wanted = sum(tensor.numel() for tensor in kind.from_config(config).state_dict().values())
    if wanted > (held := sum(map(prod, shapes))):
        raise ValueError(f"config.json is of {wanted:,} numbers, the weights are {held:,}")


def _largest(value: object) -> float:
    if isinstance(value, list | tuple):
        return max(map(_largest, value), default=0.0)
    return float(value) if isinstance(value, int | float) else 0.0


def built(kind: Callable[..., Model], config: object, **others: Any) -> Model:
    """A network whose arguments are the fields of the same names of a config.

    Args:
        kind: class of the network.
        config: dataclass with some of the network's arguments.
        others: arguments that are not fields; they win.
    """
    fields = {name: getattr(config, name) for name in inspect.signature(kind).parameters if hasattr(config, name)}
    return kind(**{**fields, **others})


@torch.no_grad()
def load_extended(kind: type[Model], folder: Path, **changes: Any) -> Model:
    """The network in ``folder`` with a changed config.

    New parameters keep their initialisation. A convolution that reads further channels reads them with zeros at first, so
    that its output is the same as before (as Brooks et al., "InstructPix2Pix", CVPR 2023, §3.2).

    Args:
        kind: the expected class, a model of diffusers.
        folder: exported weights.
        changes: entries of the config that change.

    Raises:
        CheckpointError: no usable weights, or a tensor that the changed network has no place for.
    """
    old: Any = load_pretrained(kind, folder)
    if all(old.config[key] == value for key, value in changes.items()):
        return old
    new: Any = kind.from_config(old.config, **changes)  # type: ignore[attr-defined]
    own = new.state_dict()
    for key, value in old.state_dict().items():
        if key in own and own[key].shape == value.shape:
            own[key].copy_(value)
        elif key in own and value.ndim == 4 and own[key][:, : value.shape[1]].shape == value.shape:
            own[key].zero_()
            own[key][:, : value.shape[1]] = value
        else:
            raise CheckpointError(f"{folder}: {key} has no place in a network with {changes}; start without it")
    return new
