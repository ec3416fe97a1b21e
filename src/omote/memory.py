"""How much memory a process took."""

from __future__ import annotations

import sys


def peak_memory_mb() -> float:
    """Return the largest resident memory of this process so far, MiB."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return float(psutil.Process().memory_info().peak_wset) / 2**20
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
