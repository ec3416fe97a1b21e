"""Loops that numba compiles: cached where there is a writable folder for it, and compiled anew in each process where not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(*, fastmath: bool = False, error_model: str = "python") -> Callable[[Function], Function]:
    """Compile a function at its first call; it releases the GIL while it runs.

    Args:
        fastmath: let the compiler reorder floating-point operations.
        error_model: "numpy" where a division by zero gives infinity, "python" where it raises.
    """

    def compiled(function: Function) -> Function:
        options = {"nogil": True, "fastmath": fastmath, "error_model": error_model}
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # neither this package's folder nor the user's cache can be written
            return numba.njit(**options)(function)

    return compiled
