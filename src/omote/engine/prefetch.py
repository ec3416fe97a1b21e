"""Prefetching: the next batch is made during the current training step.

Drawing, warping and encoding images takes a CPU about as long as a step of the network, and both run mostly outside
Python's global lock. A batch is a function of (seed, step) alone, so prefetching changes no bit of the result.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any, Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class BatchSource(Protocol):
    """The part of a `Task` that prefetching needs."""

    def batch(self, step: int, seed: int, size: int, part: int, parts: int) -> Any:
        """One part of a step's batch, as in `Task`."""
        ...


def batches(
    task: BatchSource,
    *,
    first_step: int,
    seed: int,
    size: int,
    mine: Sequence[int],
    parts: int,
    ahead: bool = True,
    pin: bool = False,
) -> Iterator[Any]:
    """Yield this process's parts of every step's batch, in order, without end.

    Args:
        task: source of the batches; called from another thread if ``ahead``.
        first_step: first step.
        seed: seed of the run.
        size: number of images in a part.
        mine: indices of the parts of a step that this process trains on.
        parts: number of parts of a step, over all processes.
        ahead: whether to make the next part while the current one is used.
        pin: whether to copy the tensors of batches made ahead into pinned memory, from which a GPU fetches them faster.
    """

    def made(step: int, part: int) -> Any:
        batch = task.batch(step, seed, size, part, parts)
        return pinned(batch) if pin else batch

    places = ((step, part) for step in count(first_step) for part in mine)
    if not ahead:
        for step, part in places:
            yield task.batch(step, seed, size, part, parts)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="batch") as pool:
        step, part = next(places)
        coming = pool.submit(made, step, part)
        for step, part in places:
            batch = coming.result()
            coming = pool.submit(made, step, part)
            yield batch


def pinned(batch: Any) -> Any:
    """The same batch with the tensors on the CPU, in nested dataclasses and sequences, in pinned memory."""
    if isinstance(batch, Tensor):
        return batch.pin_memory() if batch.device.type == "cpu" else batch
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        return dataclasses.replace(batch, **{f.name: pinned(getattr(batch, f.name)) for f in dataclasses.fields(batch)})
    if isinstance(batch, tuple | list) and not hasattr(batch, "_fields"):
        return type(batch)(pinned(item) for item in batch)
    return batch
