"""A process's peak is its own."""

import subprocess
import sys

import numpy as np

from omote.memory import peak_memory_mb


def test_a_small_process_started_by_a_large_one_is_small() -> None:
    held = np.ones(50_000_000)
    here = peak_memory_mb()
    assert here > held.nbytes / 2**20
    program = "from omote.memory import peak_memory_mb; print(peak_memory_mb())"
    child = float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)
    assert child < here - 300
