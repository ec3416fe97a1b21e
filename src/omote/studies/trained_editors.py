"""What studies of training data share: editors of one network, trained from nothing for the same number of images.

All learn behind one frozen first stage with the recipe of `editor-cpu`; only the persons differ. Work is kept per part: pieces of
the population, their encoded edits, each run with its checkpoints, and each person's numbers, so that a killed study goes on
where it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from omote.config import Range
from omote.engine.checkpoint import progress_of
from omote.engine.loop import EngineConfig, train
from omote.evaluation.statistics import Interval
from omote.evaluation.table import alone
from omote.head.shipped import population_heads
from omote.progress import Step
from omote.recipes.cpu import editor_cpu
from omote.rgbd.model import SHIPPED_WEIGHTS
from omote.rgbd.train.editor import EditorConfig, EditorTask
from omote.studies.conditions import StudyOfEdits

# What no run reaches: its time ends it.
ENDLESS = 10**9


@dataclass(frozen=True, kw_only=True)
class StudyOfTraining(StudyOfEdits):
    """The editors; ``weights`` are whose first stage they are trained behind.

    Attributes:
        population: folder of rendered shards.
        images: that each run sees.
        minutes: that each run trains instead; 0 counts images.
        clock: of those minutes.
        channels: of the editor's U-Net.
        batch_size: images per step.
        learning_rate: AdamW's.
        threads: of torch; 0 leaves its own choice.
    """

    population: Path
    images: Annotated[int, Range(1)] = 40_000
    minutes: Annotated[float, Range(0)] = 0.0
    clock: Literal["wall", "cpu"] = "wall"
    channels: tuple[int, ...] = (64, 128, 128)
    batch_size: Annotated[int, Range(1)] = 12
    learning_rate: float = 1e-3
    threads: Annotated[int, Range(0)] = 1

    @property
    def autoencoder(self) -> Path:
        """Folder of the first stage."""
        return (SHIPPED_WEIGHTS if self.weights is None else self.weights) / "autoencoder"

    def engine(self) -> EngineConfig:
        """How long and how to optimise, the same for every run."""
        given = editor_cpu(Path()).engine
        return replace(
            given,
            total_images=ENDLESS if self.minutes else self.images,
            max_seconds=60 * self.minutes,
            clock=self.clock,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            seed=self.seed,
            threads=self.threads,
            grid_images=0,
        )

    def editor_of(self, run: Path, *, unit_style: bool = True) -> EditorConfig:
        """The recipe of one run, whose data lies in its folder."""
        return replace(
            editor_cpu(run),
            population=run / "population",
            latents=run / "edits",
            autoencoder=self.autoencoder,
            channels=self.channels,
            engine=self.engine(),
            unit_style=unit_style,
        )


def trained(config: StudyOfTraining, run: Path, what: str, *, unit_style: bool = True) -> Iterator[Step]:
    """Train one run, or what is left of it."""
    recipe = config.editor_of(run, unit_style=unit_style)
    for report in train(EditorTask(recipe, population_heads()), recipe.engine, run, recipe):
        done, total = report.images, config.images
        if config.minutes:
            done, total = round(report.seconds), round(60 * config.minutes)
        yield Step(stage=what, done=done, total=total, note=f"mse {report.metrics['mse']:.3f}")


def cost(run: Path, persons: int) -> dict[str, Interval]:
    """What a run took, as cells of a table."""
    progress = progress_of(run)
    return {
        "training/persons": alone(float(persons)),
        "training/images": alone(float(progress.images)),
        "training/minutes": alone(progress.seconds / 60),
    }


def link(folders: Sequence[Path], into: Path, name: str = "") -> None:
    """Lay folders into another without a copy; those that are there are kept."""
    into.mkdir(parents=True, exist_ok=True)
    for folder in folders:
        at = into / (name or folder.name)
        if not at.is_symlink():
            at.symlink_to(folder.resolve(), target_is_directory=True)
