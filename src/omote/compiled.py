"""Loops compiled by numba: cached if there is a writable folder for it, otherwise compiled anew in each process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(*, fastmath: bool = False, error_model: str = "python") -> Callable[[Function], Function]:
    """Compile a function at its first call; the compiled function releases the GIL.

    Args:
        fastmath: whether the compiler may reorder floating-point operations.
        error_model: "numpy" if a division by zero gives infinity, "python" if it raises.
    """

    def compiled(function: Function) -> Function:
        options = {"nogil": True, "fastmath": fastmath, "error_model": error_model}
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # neither this package's folder nor the user's cache can be written
            return numba.njit(**options)(function)

    return compiled
