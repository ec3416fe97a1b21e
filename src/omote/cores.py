"""The cores that this process may use, and pools of threads that keep to them."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
Result = TypeVar("Result")

_limit: int | None = None


def num_cores() -> int:
    """The number of cores that this process may use: those of its affinity, or fewer if `use_cores` said so."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return there if _limit is None else min(_limit, there)


def use_cores(most: int) -> None:
    """Use at most ``most`` cores from now on, for a process that shares the machine with others like it.

    Libraries that are imported later get as many threads of their own; those that are imported already, such as BLAS, are
    limited too.
    """
    global _limit
    _limit = most
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[variable] = str(most)
    from threadpoolctl import threadpool_limits

    threadpool_limits(most)


def thread_pool(*, initializer: Callable[..., object] | None = None, initargs: tuple[Any, ...] = ()) -> Executor:
    """A pool with a thread per core; with a single core, work is done as it is submitted.

    Threads beside each other on one core gain nothing, and wait for each other's locks.

    Args:
        initializer: function that each thread calls first, or the calling thread if it does the work itself.
        initargs: arguments of ``initializer``.
    """
    if num_cores() > 1:
        return ThreadPoolExecutor(num_cores(), initializer=initializer, initargs=initargs)
    if initializer is not None:
        initializer(*initargs)
    return AtOnce()


class AtOnce(Executor):
    """An executor whose `submit` does the work before it returns."""

    def submit(self, fn: Callable[P, Result], /, *args: P.args, **kwargs: P.kwargs) -> Future[Result]:
        """Call the function, and return its result or exception as a finished future."""
        future: Future[Result] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future
