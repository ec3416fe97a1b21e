"""The common part of studies of training data: editors with the same network, trained from scratch on the same number of images.

All editors use one frozen first stage and the recipe `editor-cpu`; only their training persons differ. Each training is an item
of work with its own checkpoints in ``runs/ROW``.
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

# More images than any run reaches: runs end by time.
ENDLESS = 10**9


@dataclass(frozen=True, kw_only=True)
class StudyOfTraining(StudyOfEdits):
    """A study that trains editors; ``weights`` is the folder of their common first stage.

    Attributes:
        population: folder written by `omote population`.
        images: number of training images of each editor.
        minutes: training time of each editor, which replaces the number of images; 0 counts images.
        clock: clock of the training time: "wall", or "cpu" for the process's own computing time on a shared machine.
        channels: channel widths of the editor's U-Net.
        batch_size: images per step.
        learning_rate: learning rate of AdamW.
        threads: number of torch's threads; 0 keeps torch's own choice.
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
        """Fingerprint of the first stage."""
        return {"autoencoder": fingerprint(self.autoencoder)}

    def recipe(self, run: Path, *, unit_style: bool = True) -> EditorConfig:
        """The config of one editor, with data in its run's folder; all editors have the same length and optimiser."""
        from omote.recipes.cpu import editor_cpu

        recipe = editor_cpu(run)
        engine = replace(
            recipe.engine,
            # If each run chose its own format, compared runs could differ in more than the studied variable.
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
    """Encode a population's latent pairs; existing ones are kept."""
    from omote.head.shipped import shipped_head
    from omote.rgbd.identity_stage import load_first_stage
    from omote.rgbd.train.latent_cache import encode_population

    first_stage = load_first_stage(study.autoencoder).float().eval().requires_grad_(False)
    yield from encode_population(population, first_stage, shipped_head(), edits, seed=study.seed, unit_style=unit_style)


def train_editor(study: StudyOfTraining, run: Path, *, unit_style: bool = True) -> Steps[None]:
    """Train one editor, or the rest of an interrupted training."""
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
    """An editor to train.

    Attributes:
        row: row of the table.
        persons: number of training persons.
        train: function that trains the editor in a folder.
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
    """Train editors in ``runs/NAME``, then measure all of them on the same unseen persons.

    Args:
        study: study with its persons and first stage.
        work: result folder.
        trainings: trainings by name.
        overall: function from the persons' records to further rows.

    Returns:
        The table, with the cost of each training.
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
    """Link folders into another one without a copy; existing links are kept."""
    into.mkdir(parents=True, exist_ok=True)
    for folder in folders:
        at = into / (name or folder.name)
        if not at.is_symlink():
            at.symlink_to(folder.resolve(), target_is_directory=True)
