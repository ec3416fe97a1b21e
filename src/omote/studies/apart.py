"""A measurement in a process of its own, since a process's peak memory never falls again."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, TypeVar

from omote.errors import OmoteError

Result = TypeVar("Result")


def apart(failure: str, function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function in a new process.

    Args:
        failure: what it means that this fails, in a few words.
        function: a module's function.
        arguments: picklable arguments.

    Raises:
        OmoteError: ``failure`` and the reason, if the function raised an `OmoteError` or the process ended.
    """
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(function, *arguments).result()
    except (OmoteError, BrokenProcessPool) as error:
        raise OmoteError(f"{failure} ({error})") from None
