"""``omote.info``: versions, weights, head models, judges and the machine."""

from __future__ import annotations

from omote.errors import OmoteError
from omote.runs import Value, machine, versions


def info() -> dict[str, Value]:
    """Versions, weights, head models, judges and machine as a flat report."""
    from omote.rgbd.model import SHIPPED_WEIGHTS
    from omote.rgbd.weights import fingerprint

    weights = "missing"
    if any(SHIPPED_WEIGHTS.rglob("*.safetensors")):
        weights = f"{SHIPPED_WEIGHTS} ({fingerprint(SHIPPED_WEIGHTS)})"
    return {
        **versions(),
        **machine(),
        **_accelerator(),
        "weights/shipped": weights,
        "head/shipped": _head(),
        "judges": _judges(),
    }


def _accelerator() -> dict[str, Value]:
    import torch

    return {
        "machine/cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "machine/torch_threads": torch.get_num_threads(),
    }


def _head() -> str:
    from omote.head.shipped import shipped_head

    try:
        head = shipped_head()
    except (OmoteError, OSError) as error:
        return f"missing ({error})"
    return f"{head.name}: {head.num_vertices:,} vertices, {head.num_identity} identity modes"


def _judges() -> str:
    from omote.evaluation.judges.weights import INSTALL_COMMAND, locate

    try:
        return str(locate())
    except OmoteError:
        return f"not installed (optional: {INSTALL_COMMAND} DIR)"
