"""Peak memory of a process."""

from __future__ import annotations

import re
import sys
from pathlib import Path


def peak_memory_mb() -> float:
    """The largest resident memory of this process so far, in MiB."""
    if sys.platform == "linux":
        # ru_maxrss survives exec: a small process started by a large one would report its parent's peak.
        held = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
        if held:
            return int(held[1]) / 1024
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return float(psutil.Process().memory_info().peak_wset) / 2**20
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
