"""The next batch is made while the network learns from this one.

Drawing, moving and encoding images takes a processor about as long as the network's own step, and most of both runs outside
of Python's lock. A batch is a function of (seed, step) alone, so what is learned is the same to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class BatchSource(Protocol):
    """The part of a task that is read ahead of."""

    def batch(self, step: int, seed: int, size: int, part: int, parts: int) -> Any:
        """One part of a step's batch."""
        ...


def batches(
    task: BatchSource, *, first_step: int, seed: int, size: int, mine: Sequence[int], parts: int, ahead: bool = True
) -> Iterator[Any]:
    """Parts of every step's batch, in order, without end.

    Args:
        task: what makes them; called from another thread if ``ahead``.
        first_step: where to begin.
        seed: of the run.
        size: images of a part.
        mine: which parts of a step this process learns from.
        parts: of a step, over all processes.
        ahead: make the next one while this one is used.
    """
    places = ((step, part) for step in count(first_step) for part in mine)
    if not ahead:
        for step, part in places:
            yield task.batch(step, seed, size, part, parts)
        return
    with ThreadPoolExecutor(1, thread_name_prefix="batch") as pool:
        step, part = next(places)
        coming = pool.submit(task.batch, step, seed, size, part, parts)
        for step, part in places:
            batch = coming.result()
            coming = pool.submit(task.batch, step, seed, size, part, parts)
            yield batch
