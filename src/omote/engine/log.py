"""What a run tells of itself: ``stats.jsonl``, ``pictures/`` and TensorBoard's files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from omote.errors import of_extra

with of_extra("train"):
    from tensorboardX import SummaryWriter


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What a training loop yields now and then.

    Attributes:
        images: seen so far.
        total_images: of the run.
        images_per_s: since the last report.
        seconds: of training so far, by the run's clock.
        metrics: means since the last report.
    """

    images: int
    total_images: int
    images_per_s: float
    seconds: float
    metrics: dict[str, float]


class RunLog:
    """``stats.jsonl`` and TensorBoard's files; rows after the checkpoint that a run resumes from are written anew."""

    def __init__(self, run: Path, images: int) -> None:
        self.stats = run / "stats.jsonl"
        if self.stats.exists():
            rows = self.stats.read_text().splitlines(keepends=True)
            kept = [row for row in rows if row.endswith("\n") and json.loads(row)["images"] <= images]
            if len(kept) < len(rows):
                self.stats.write_text("".join(kept))
        self.pictures = run / "pictures"
        self.board = SummaryWriter(str(run / "tensorboard"), purge_step=images + 1)

    def write(self, report: StepReport) -> None:
        """One row."""
        row = {"images": report.images, "images_per_s": report.images_per_s, **report.metrics}
        with self.stats.open("a") as file:
            file.write(json.dumps(row) + "\n")
        for key, value in row.items():
            if key != "images":
                self.board.add_scalar(key, value, report.images)

    def picture(self, image: Tensor | None, images: int) -> None:
        """A picture grid, as a file and for TensorBoard."""
        if image is None:
            return
        pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).cpu()
        self.pictures.mkdir(exist_ok=True)
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(self.pictures / f"{images:09d}.png")
        self.board.add_image("preview", pixels.numpy(), images)

    def close(self) -> None:
        """Flush."""
        self.board.close()
