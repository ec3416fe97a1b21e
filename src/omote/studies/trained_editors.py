"""What studies of training data share: editors of one network, trained from nothing for the same number of images.

All are trained behind one frozen first stage with the recipe of `editor-cpu`; only the persons differ. Each training is an item
of work with checkpoints of its own, in ``runs/ROW``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from omote.config import Range
from omote.evaluation.records import PersonRecords, Row, Table
from omote.progress import Step, Steps
from omote.rgbd.weights import fingerprint
from omote.studies.base import FREE, Record, Work
from omote.studies.conditions import Edit, StudyCondition, StudyOfEdits

if TYPE_CHECKING:
    from omote.rgbd.train.editor import EditorConfig

# More images than any run reaches: its time ends it.
ENDLESS = 10**9


@dataclass(frozen=True, kw_only=True)
class StudyOfTraining(StudyOfEdits):
    """A study that trains editors; ``weights`` gives the first stage behind which they are trained.

    Attributes:
        population: folder of `omote population`.
        images: images that each editor trains on.
        minutes: minutes of training for each editor, instead of images; 0 counts images.
        clock: clock of the training time: "wall", or "cpu" for the process's own computing where others share the machine.
        channels: channels of the editor's U-Net.
        batch_size: images per step.
        learning_rate: learning rate of AdamW.
        threads: threads of torch; 0 leaves its own choice.
    """

    population: Path
    persons: Annotated[int, Range(1), FREE] = 40
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
        return self.folder / "autoencoder"

    def fingerprints(self) -> Mapping[str, str]:
        """Of the first stage."""
        return {"autoencoder": fingerprint(self.autoencoder)}

    def recipe(self, run: Path, *, unit_style: bool = True) -> EditorConfig:
        """Of one editor, whose data lies in its run's folder; length and optimiser are the same for all."""
        from omote.recipes.cpu import editor_cpu

        recipe = editor_cpu(run)
        engine = replace(
            recipe.engine,
            # Measured for each run by itself, runs to be compared could differ in more than what is studied.
            precision="fp32",
            total_images=ENDLESS if self.minutes else self.images,
            max_seconds=60 * self.minutes,
            clock=self.clock,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            seed=self.seed,
            threads=self.threads,
            grid_images=0,
        )
        return replace(
            recipe,
            population=run / "population",
            latents=run / "edits",
            autoencoder=self.autoencoder,
            channels=self.channels,
            engine=engine,
            unit_style=unit_style,
        )


def encode(study: StudyOfTraining, population: Path, edits: Path, *, unit_style: bool = True) -> Steps[None]:
    """Encode a population's edits; those that are there are kept."""
    from omote.head.shipped import shipped_head
    from omote.rgbd.identity_stage import load_first_stage
    from omote.rgbd.train.latent_cache import encode_population

    first_stage = load_first_stage(study.autoencoder).float().eval().requires_grad_(False)
    yield from encode_population(population, first_stage, shipped_head(), edits, seed=study.seed, unit_style=unit_style)


def train_editor(study: StudyOfTraining, run: Path, *, unit_style: bool = True) -> Steps[None]:
    """Train one editor, or the rest of it."""
    from omote.engine.loop import train
    from omote.head.shipped import population_heads
    from omote.rgbd.train.editor import EditorTask

    recipe = study.recipe(run, unit_style=unit_style)
    for report in train(EditorTask(recipe, population_heads()), recipe.engine, run, recipe):
        done, total = report.images, study.images
        if study.minutes:
            done, total = round(report.seconds), round(60 * study.minutes)
        yield Step(stage=f"train {run.name}", done=done, total=total, note=f"mse {report.metrics['mse']:.3f}")


@dataclass(frozen=True, kw_only=True)
class Training:
    """An editor to be trained.

    Attributes:
        row: row of the table.
        persons: persons that it is trained on.
        train: trains it in a folder.
    """

    row: Row
    persons: int
    train: Callable[[Path], Steps[None]]


def measure_trained(
    study: StudyOfTraining,
    work: Work,
    trainings: Mapping[str, Training],
    *,
    overall: Callable[[Sequence[PersonRecords]], Table] = lambda found: {},
) -> Steps[Table]:
    """Train editors, each in ``runs/NAME``, then measure all of them on the same unseen persons.

    Args:
        study: persons and first stage.
        work: the folder.
        trainings: trainings by name.
        overall: records of the persons → further rows.

    Returns:
        The table, with what each training took.
    """
    from omote.engine.checkpoint import progress_of
    from omote.head.shipped import shipped_head
    from omote.rgbd.load import load_model_parts
    from omote.studies.measured_edits import measure_conditions

    runs = {name: work.out / "runs" / name for name in trainings}

    def trained(name: str) -> Steps[Record]:
        yield from trainings[name].train(runs[name])
        progress = progress_of(runs[name])
        return {
            "training/persons": trainings[name].persons,
            "training/images": progress.images,
            "training/minutes": progress.seconds / 60,
        }

    costs = yield from work.records("trainings", list(trainings), trained)
    networks = {
        name: load_model_parts(shipped_head(), study.autoencoder, run / "export/editor", backend=study.backend)
        for name, run in runs.items()
    }
    condition = StudyCondition(edits={training.row: Edit(network=name) for name, training in trainings.items()})
    beside = {training.row: costs[name] for name, training in trainings.items()}
    return (
        yield from measure_conditions(
            study, work, [condition], networks=networks, overall=lambda found: {**overall(found[0]), **beside}
        )
    )


def link(folders: Sequence[Path], into: Path, name: str = "") -> None:
    """Lay folders into another without a copy; links that are there are kept."""
    into.mkdir(parents=True, exist_ok=True)
    for folder in folders:
        at = into / (name or folder.name)
        if not at.is_symlink():
            at.symlink_to(folder.resolve(), target_is_directory=True)
