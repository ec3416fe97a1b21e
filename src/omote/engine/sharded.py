"""Weights divided over processes (torch's ``fully_shard``): gathered to be written, divided to be read.

Checkpoints and exports hold whole tensors whatever the number of processes, so a run may go on with another number of them.
All but `own_part` is collective where tensors are divided: all processes call it alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def is_sharded(model: nn.Module) -> bool:
    """Whether the weights are divided."""
    return torch.distributed.is_available() and any(_divided(p) for p in model.parameters())


def whole(value: Tensor) -> Tensor:
    """A tensor as it is on one process: gathered on the CPU if it is divided, else itself."""
    if not _divided(value):
        return value
    gathered: Tensor = value.full_tensor()  # type: ignore[attr-defined]
    return gathered.cpu()


def whole_state(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`whole` of each."""
    return {name: whole(value) for name, value in tensors.items()}


def own_part(value: Tensor) -> Tensor:
    """What of a tensor lies on this process; no other process takes part."""
    return value.to_local() if _divided(value) else value  # type: ignore[attr-defined]


def placed_as(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, divided and laid out in memory as another of its shape is; fused optimisers go by addresses."""
    if value.shape != like.shape:
        return value
    if not _divided(like):
        return torch.empty_like(like, dtype=value.dtype, device=value.device).copy_(value)
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)  # type: ignore[attr-defined]


@contextmanager
def unsharded(model: nn.Module) -> Iterator[None]:
    """Whole weights in the model for as long as the block lasts, so that its parts can be called by themselves."""
    from torch.distributed.fsdp import FSDPModule

    parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for part in parts:
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.reshard()


def _divided(value: Tensor) -> bool:
    if not torch.distributed.is_available():
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(value, DTensor)
