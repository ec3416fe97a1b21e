"""Networks from exported weights, and networks that extend others."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers.utils import logging as diffusers_logging

from omote.errors import CheckpointError

Model = TypeVar("Model")


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
    try:
        name = json.loads((folder / "config.json").read_text(encoding="utf-8"))["_class_name"]
    except OSError:
        raise CheckpointError(f"{folder}: expected config.json and safetensors weights; {hint}") from None
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(
            f"{folder / 'config.json'}: weights do not load (not a network's config); {hint}"
        ) from None
    found: Any = {k.__name__: k for k in (kind, *others)}
    if name not in found:
        raise CheckpointError(f"{folder}: expected a network of class {' or '.join(found)}, got {name}; {hint}")
    # A library stays silent.
    diffusers_logging.disable_progress_bar()
    try:
        model: Model
        model, told = found[name].from_pretrained(folder, low_cpu_mem_usage=False, output_loading_info=True)
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{folder}: weights do not load ({line}); export or install them again") from None
    if missing := told["missing_keys"]:
        raise CheckpointError(f"{folder}: weights do not load (no {sorted(missing)[0]}); export or install them again")
    return model


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
