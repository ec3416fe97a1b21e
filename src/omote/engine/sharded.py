"""Weights sharded over processes (torch's ``fully_shard``): gathered for writing, sharded again after reading.

Checkpoints and exports hold whole tensors whatever the number of processes, so a run may continue with another number.
With sharded tensors, every function but `own_part` is collective: all processes must call it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def is_sharded(model: nn.Module) -> bool:
    """Whether the weights of a model are sharded."""
    return torch.distributed.is_available() and any(_divided(p) for p in model.parameters())


def whole(value: Tensor) -> Tensor:
    """The whole of a tensor: gathered on the CPU if it is sharded, else the tensor itself."""
    if not _divided(value):
        return value
    gathered: Tensor = value.full_tensor()  # type: ignore[attr-defined]
    return gathered.cpu()


def whole_state(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The `whole` of each tensor."""
    return {name: whole(value) for name, value in tensors.items()}


def own_part(value: Tensor) -> Tensor:
    """Shard of a tensor on the calling process, without communication."""
    return value.to_local() if _divided(value) else value  # type: ignore[attr-defined]


def placed_as(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor with the sharding and memory layout of ``like``, because fused optimisers ignore strides."""
    if value.shape != like.shape:
        return value
    if not _divided(like):
        return torch.empty_like(like, dtype=value.dtype, device=value.device).copy_(value)
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)  # type: ignore[attr-defined]


@contextmanager
def unsharded(model: nn.Module) -> Iterator[None]:
    """Context manager that gathers the weights of a model, so that its submodules can be called on their own."""
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
