"""Functions of shards that workers import: numbers in files, with items that crash, hang or fail on demand."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from omote.errors import ConfigError
from omote.files import atomic_folder
from omote.progress import Step, Steps
from omote.shards.worker import Loss


@dataclass
class Squares:
    """Write the square of each number of a shard into its folder.

    Attributes:
        out: folder of the shards.
        pause_s: time that each number takes.
    """

    out: Path
    pause_s: float = 0.0
    made: list[int] = field(default_factory=list)

    def __call__(self, shard: tuple[str, tuple[str, ...]], lost: Mapping[int, Loss]) -> Steps[list[str]]:
        name, items = shard
        folder = self.out / name
        if folder.exists():
            return [path.read_text() for path in sorted(folder.glob("*.txt"))]
        rows = []
        with atomic_folder(folder) as partial:
            for index, item in enumerate(items):
                yield Step(stage="square", done=index, total=len(items), note=item)
                rows.append(lost[index].kind if index in lost else self._square(item))
                (partial / f"{index}.txt").write_text(rows[-1])
        return rows

    def _square(self, item: str) -> str:
        time.sleep(self.pause_s)
        if item == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        if item == "exit":
            os._exit(3)
        if item == "hang":
            time.sleep(1000)
        if item == "fill":
            hoard = bytearray(600 << 20)
            time.sleep(1000)
            del hoard
        if item == "orphan" and not (marker := self.out / ".orphaned").exists():
            marker.touch()
            os.kill(os.getppid(), signal.SIGKILL)  # as if its machine were lost
            time.sleep(1000)
        if item == "orphan":
            return "made elsewhere"
        if item == "refuse":
            raise ConfigError("refused: give another number")
        if item == "break":
            raise ZeroDivisionError("a defect")
        self.made.append(int(item))
        return str(int(item) ** 2)


def process_number(shard: int, lost: Mapping[int, Loss]) -> Steps[tuple[int, str]]:
    """The number of the process, and of the threads that it allows libraries."""
    yield Step(stage="number")
    return os.getpid(), os.environ.get("OMP_NUM_THREADS", "")


def dies_early(shard: int, lost: Mapping[int, Loss]) -> Steps[None]:
    """Die before the first step."""
    os._exit(9)
    yield Step(stage="never")
