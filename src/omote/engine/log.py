"""The log of a run: ``stats.jsonl``, ``pictures/`` and TensorBoard's files."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from omote.errors import CheckpointError, OutputError, of_extra
from omote.files import atomic_path

with of_extra("train"):
    from tensorboardX import summary
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.proto.summary_pb2 import Summary


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """A report of the training loop, which yields one every ``log_images`` images.

    Attributes:
        images: number of images seen so far.
        total_images: number of images of the whole run.
        images_per_s: training rate since the last report.
        seconds: seconds of training so far, by the run's clock.
        metrics: means of the metrics since the last report.
        note: result of the measurement before the first step; empty in later reports.
    """

    images: int
    total_images: int
    images_per_s: float
    seconds: float
    metrics: dict[str, float]
    note: str = ""


class RunLog:
    """Writer of ``stats.jsonl`` and TensorBoard's files; rows after the checkpoint that a run resumes from are removed.

    Everything is written immediately and in the calling thread, so that a full disk raises here and not in a queue's thread.

    Raises:
        CheckpointError: ``stats.jsonl`` is damaged.
        OutputError: a file cannot be written; the checkpoints are untouched.
    """

    def __init__(self, run: Path, images: int) -> None:
        self.run = run
        self.stats = run / "stats.jsonl"
        self.pictures = run / "pictures"
        with self._writing():
            if self.stats.exists():
                rows = self.stats.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
                kept = [row for row in rows if row.endswith("\n") and self._images(row) <= images]
                if len(kept) < len(rows):
                    with atomic_path(self.stats) as temporary:
                        temporary.write_text("".join(kept))
            (run / "tensorboard").mkdir(exist_ok=True)
            self.board = EventsWriter(str(run / "tensorboard/events"))
            self.board.write_event(Event(step=images + 1, session_log=SessionLog(status=SessionLog.START)))

    def write(self, report: StepReport) -> None:
        """Write one row."""
        row = {"images": report.images, "images_per_s": report.images_per_s, **report.metrics}
        with self._writing():
            with self.stats.open("a") as file:
                file.write(json.dumps(row) + "\n")
            for key, value in row.items():
                if key != "images":
                    self._show(summary.scalar(key, value), report.images)
            self.board.flush()

    def picture(self, image: Tensor | None, images: int) -> None:
        """Write a picture grid as a file and for TensorBoard."""
        if image is None:
            return
        pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).cpu()
        with self._writing():
            self.pictures.mkdir(exist_ok=True)
            with atomic_path(self.pictures / f"{images:09d}.png") as temporary:
                Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(temporary)
            self._show(summary.image("preview", pixels.numpy()), images)
            self.board.flush()

    def close(self) -> None:
        """Flush and close the files."""
        with self._writing():
            self.board.close()

    def _show(self, shown: Summary, images: int) -> None:
        self.board.write_event(Event(wall_time=time.time(), step=images, summary=shown))

    def _images(self, row: str) -> int:
        try:
            return int(json.loads(row)["images"])
        except (ValueError, TypeError, KeyError, RecursionError):
            raise CheckpointError(f"{self.stats}: damaged ({row.strip()[:40]!r}); delete that line to go on") from None

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"{self.run}: its log cannot be written ({error.strerror or error}); make room and resume"
            ) from None
