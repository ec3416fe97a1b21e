"""One avatar, by stages: warm in one process, and the command from nothing.

    make bench BENCH=avatar OUT=dir

Each stage's seconds are medians of warm runs on the first of the development scans (``shared`` beside the repository, or
OMOTE_SHARED); stages that run beside others count as long as they are waited for. The command is ``omote avatar SCAN --out FILE``
in a process of its own, imports and reading included.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from omote.api.scans import load_head
from omote.formats.read import read
from omote.head.expressions import expressions_of
from omote.pipelines.rgbd import RgbdPipeline
from omote.pipelines.settings import AvatarSettings
from omote.progress import finish
from omote.rgbd.backends.thread import EditingThread
from omote.rgbd.weights import SHIPPED_WEIGHTS
from omote.runs import Stopwatch

WARM_RUNS, COMMANDS = 5, 3


def warm(path: Path) -> list[dict[str, float]]:
    """Seconds of every stage of some runs after one that warms up."""
    head, scan = load_head(None), read(path)
    pipeline = RgbdPipeline(EditingThread(lambda: head, SHIPPED_WEIGHTS), head)
    out = []
    for _ in range(1 + WARM_RUNS):
        watch, start = Stopwatch(), time.perf_counter()
        finish(pipeline(scan, expressions_of(("all",)), AvatarSettings(), watch=watch), None)
        out.append({**watch.stages_s, "total": time.perf_counter() - start})
    return out[1:]


def command(path: Path, out: Path) -> float:
    """Seconds of ``omote avatar``."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "omote", "avatar", path, "--out", out], check=True, capture_output=True)
    return time.perf_counter() - start


def run() -> dict[str, float | int | str]:
    """For ``make bench``."""
    shared = Path(os.environ.get("OMOTE_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    path = min((shared / "data/scans").glob("*.obj"))
    runs = warm(path)
    with tempfile.TemporaryDirectory() as folder:
        commands = [command(path, Path(folder) / "avatar.glb") for _ in range(COMMANDS)]
    return {
        **{f"avatar/warm_s/{stage}": statistics.median(run[stage] for run in runs) for stage in runs[0]},
        "avatar/command_s": statistics.median(commands),
        "count/warm_runs": WARM_RUNS,
        "count/commands": COMMANDS,
    }
