"""Loading a network's weights from a file of tensors, with a one-line error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from omote.errors import CheckpointError

Network = TypeVar("Network", bound=nn.Module)


def read_tensors(path: Path, name: str) -> dict[str, Tensor]:
    """The tensors of a .safetensors file.

    Args:
        path: path of the file.
        name: name of the expected network, for the error.

    Raises:
        CheckpointError: no such file, or not a safetensors file.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: expected {name} as a .safetensors file, got no such file; check the path")
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        line = str(error).strip().splitlines()[0]
        raise CheckpointError(
            f"{path}: expected {name} as a .safetensors file ({line}); convert a .pth file with "
            "safetensors.torch.save_file(torch.load(FILE, weights_only=True), OUT)"
        ) from None
    return tensors


def fill(module: Network, tensors: Mapping[str, Tensor], complaint: str, ignored: Sequence[str] = ()) -> Network:
    """Load tensors into a network, for evaluation.

    Args:
        module: network to fill.
        tensors: tensors with every expected name and shape.
        complaint: beginning of the error message.
        ignored: prefixes of further names that may be present.

    Raises:
        CheckpointError: a name or a shape differs.
    """
    expected = {k: v for k, v in module.state_dict().items() if not k.endswith("num_batches_tracked")}
    given = {
        k: v for k, v in tensors.items()
        if not k.endswith(("num_batches_tracked", "position_ids")) and not k.startswith(tuple(ignored))
    }  # fmt: skip
    wrong = sorted(expected.keys() ^ given.keys())
    wrong += sorted(k for k in expected.keys() & given.keys() if expected[k].shape != given[k].shape)
    if wrong:
        first = wrong[0]
        had = "no such tensor" if first not in given else f"shape {tuple(given[first].shape)}"
        wanted = "none" if first not in expected else f"shape {tuple(expected[first].shape)}"
        raise CheckpointError(f"{complaint}: {first}: expected {wanted}, got {had} (and {len(wrong) - 1} more)")
    module.load_state_dict({k: v.float() for k, v in given.items()}, strict=False)
    return module.eval().requires_grad_(False)


def load_checked(module: Network, path: Path | None, name: str, ignored: Sequence[str] = ()) -> Network:
    """`fill` a network from a user's file.

    Raises:
        CheckpointError: no path, no such file, not a safetensors file, or another architecture.
    """
    if path is None:
        raise CheckpointError(f"{name} does not come with omote: give the path of its weights (.safetensors)")
    return fill(module, read_tensors(path, name), f"{path}: not {name}", ignored)
