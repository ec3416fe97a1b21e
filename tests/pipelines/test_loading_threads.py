"""Networks that load in a thread and networks that load meanwhile in the main one do not disturb each other's imports."""

import subprocess
import sys

from omote.completion.names import BEST
from omote.rgbd.weights import SHIPPED_WEIGHTS

BOTH = f"""
import sys
from pathlib import Path
from omote.completion.aligned import _load
from omote.completion.names import shipped_completion
from omote.head.shipped import shipped_head
from omote.quiet import calm_libraries
from omote.rgbd.backends.thread import EditingThread

calm_libraries()
head, weights = shipped_head(), Path({str(SHIPPED_WEIGHTS)!r})
editor = EditingThread(shipped_head, weights, "torch")
while "diffusers" not in sys.modules:  # which its package replaces at the end of its import
    pass
_load({BEST!r}, head, shipped_completion())
print(editor.sample_size)
"""


def test_a_completion_loads_while_the_editor_does() -> None:
    done = subprocess.run([sys.executable, "-c", BOTH], capture_output=True, text=True, check=False, timeout=200)
    assert done.stdout.split() == ["128"], done.stdout + done.stderr
