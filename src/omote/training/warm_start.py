"""Start one network from another's exported weights."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

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
