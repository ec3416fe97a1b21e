"""Loading of networks from exported weights, and of networks that extend exported ones."""

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
FREE_SIZE = 1024  # larger numbers in a config must be the size of a tensor; an image's side is smaller


def load_pretrained(
    kind: type[Model], folder: Path, *others: type[Model], hint: str = "train that stage first"
) -> Model:
    """Load a network from a folder with ``config.json`` and safetensors weights, by diffusers' ``from_pretrained``.

    Args:
        kind: expected class, a model of diffusers.
        folder: folder of the exported weights.
        others: further accepted classes; ``config.json`` names the class to load.
        hint: advice for the error message if weights are missing.

    Raises:
        CheckpointError: the weights are missing, damaged, of another class, or lack parameters.
    """
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder}: expected config.json and safetensors weights; {hint}")
    with reading(folder / "config.json", CheckpointError, "weights do not load", hint):
        name = json.loads((folder / "config.json").read_text(encoding="utf-8"))["_class_name"]
    found: Any = {k.__name__: k for k in (kind, *others)}
    if not isinstance(name, str) or name not in found:
        got = str(name)[:60]
        raise CheckpointError(f"{folder}: expected a network of class {' or '.join(found)}, got {got!r}; {hint}")
    # A library should not draw progress bars.
    diffusers_logging.disable_progress_bar()
    with reading(folder, CheckpointError, "weights do not load", "export or install them again"):
        _check_size(found[name], folder)
        model: Model
        # Without local_files_only, diffusers would ask the Hugging Face hub about a damaged folder.
        model, told = found[name].from_pretrained(
            folder, low_cpu_mem_usage=False, local_files_only=True, output_loading_info=True
        )
        # diffusers only warns about missing weights, and leaves them at their random initialisation.
        if wrong := sorted([*told["missing_keys"], *told["unexpected_keys"]]):
            raise ValueError(
                f"{wrong[0]} is {'missing' if wrong[0] in told['missing_keys'] else 'not of this network'}"
            )
    return model


def _check_size(kind: Any, folder: Path) -> None:
    """Compare the network that a config describes with the weights beside it, before memory is allocated for it."""
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
    """Build a network from the fields of a config that have the names of its arguments.

    Args:
        kind: class of the network.
        config: dataclass with some of the network's arguments.
        others: further arguments, which override the config's fields.
    """
    fields = {name: getattr(config, name) for name in inspect.signature(kind).parameters if hasattr(config, name)}
    return kind(**{**fields, **others})


def begin_from(network: Any, folder: Path, *others: Any) -> None:
    """Give a network the weights of an exported one of the same class and size, so that training goes on from there.

    Args:
        network: a model of diffusers, whose weights are replaced.
        folder: folder of the exported weights.
        others: further classes of the exported network, all of whose weights the network has.

    Raises:
        CheckpointError: the weights are not usable, or are of a network of another size.
    """
    weights = load_pretrained(type(network), folder, *others).state_dict()
    own = network.state_dict()
    shapes = {key: tuple(own[key].shape) if key in own else None for key in weights}
    if wrong := next((key for key, value in weights.items() if tuple(value.shape) != shapes[key]), None):
        raise CheckpointError(
            f"{folder}: {wrong} has shape {tuple(weights[wrong].shape)}, expected {shapes[wrong]}; "
            "give weights of the same recipe as initial"
        )
    network.load_state_dict({**own, **weights})


@torch.no_grad()
def load_extended(kind: type[Model], folder: Path, **changes: Any) -> Model:
    """Load the network in ``folder`` with a changed config.

    New parameters keep their initialisation. The weights of a convolution's additional input channels start at zero, so
    that its output is the same as before (Brooks et al., "InstructPix2Pix", CVPR 2023, §3.2).

    Args:
        kind: expected class, a model of diffusers.
        folder: folder of the exported weights.
        changes: changed entries of the config.

    Raises:
        CheckpointError: the weights are not usable, or a tensor does not fit the changed network.
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
