"""Start one network from another's exported weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch

from omote.errors import CheckpointError

Model = TypeVar("Model")


def load_pretrained(kind: type[Model], folder: Path) -> Model:
    """``kind.from_pretrained(folder)`` with one clear line when there is nothing usable."""
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder}: expected config.json and safetensors weights; train that stage first")
    try:
        model: Model = kind.from_pretrained(folder, low_cpu_mem_usage=False)  # type: ignore[attr-defined]
    except (OSError, RuntimeError, ValueError) as error:
        line = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{folder}: weights do not load ({line})") from None
    return model


@torch.no_grad()
def load_extended(kind: type[Model], folder: Path, **changes: Any) -> Model:
    """A network with more to it than the one in ``folder``, which it otherwise equals.

    New parameters keep their initialisation. A convolution that reads further channels reads them with zeros at first, so
    that it says what it said before (as Brooks et al., "InstructPix2Pix", CVPR 2023, §3.2).

    Args:
        kind: diffusers' model class.
        folder: of exported weights.
        changes: of its config; none gives `load_pretrained`'s.

    Raises:
        CheckpointError: no usable weights there, or a tensor that the changed network has no place for.
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
