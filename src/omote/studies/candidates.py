"""The three candidates side by side, with the same persons, expressions and judges: `omote study candidates`.

Every candidate gets a person at rest, candidate 3 as one RGB-D image and the others as the views of a rig, and generates a mesh
and a front view of each expression, requested by category and by text. The head is moved with the face by the same code for all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from omote.config import Range
from omote.errors import CheckpointError, ConfigError
from omote.evaluation.figures import figure
from omote.evaluation.records import PersonRecords, Row, Table
from omote.files import make_folder
from omote.progress import Steps
from omote.rgbd.weights import RIVALS, SHIPPED_WEIGHTS, fingerprint
from omote.studies.base import FREE, PersonStudy, Results, Work
from omote.studies.table import COLOR, COPY, DEPTH, IDENTITY, TOP1, cell

if TYPE_CHECKING:
    from omote.datasets.population import Person, PopulationConfig
    from omote.evaluation.ground_truth import GroundTruth
    from omote.studies.candidate_rows import Rivals, RowSettings
    from omote.studies.persons import Made

ONE, TWO, THREE, SHIPPED = Row("multiview"), Row("latent_views"), Row("rgbd"), Row("rgbd_shipped")
CATEGORY, TEXT = "category", "text"
MESH = ("mesh/surface_mm_moving", "mesh/vertex_mm", "mesh/vertex_mm_moving")
PEAK = "memory_mb/peak"
TINY_PERSONS, TINY_STEPS = 4, 2


@dataclass(frozen=True, kw_only=True)
class Candidates(PersonStudy):
    """Candidates 1, 2 and 3: mesh, front view, expression and identity, by category and by text.

    Attributes:
        multiview: networks of candidate 1, as for `omote avatar --weights`; by default the shipped ones. Candidates of which
            no weights ship are left out.
        latent_views: networks of candidate 2, as for candidate 1.
        rgbd: candidate 3, retrained on the same budget as the others.
        depth_weights: further weights of the source's depth in candidate 1.
        steps: number of diffusion steps of every candidate.
        guidance_scale: scale of guidance of candidates 1 and 2, as of their avatars.
        samples: samples of an expression by text, whose spread and best one are measured; 0 for none.
        sampled_persons: number of persons with several samples.
        words: whether to request expressions by text too; needs the text encoders.
        train_tiny: whether to train networks of seconds in the result folder first, whose results mean nothing.
    """

    NAME = "candidates"
    TINY: ClassVar[Mapping[str, Any]] = {
        "persons": 2,
        "train_tiny": True,
        "words": False,
        "depth_weights": (0.0,),
        "samples": 2,
        "sampled_persons": 1,
    }

    persons: Annotated[int, Range(1), FREE] = 100
    multiview: Annotated[Path, FREE] = SHIPPED_WEIGHTS / RIVALS / "candidate1"
    latent_views: Annotated[Path, FREE] = SHIPPED_WEIGHTS / RIVALS / "candidate2"
    rgbd: Annotated[Path, FREE] = SHIPPED_WEIGHTS / RIVALS / "candidate3"
    depth_weights: tuple[Annotated[float, Range(0, 4)], ...] = (0.0, 0.5)
    steps: Annotated[int, Range(1, 1000)] = 1
    guidance_scale: Annotated[float, Range(0, 20)] = 1.5
    samples: Annotated[int, Range(0, 100)] = 8
    sampled_persons: Annotated[int, Range(0)] = 20
    words: bool = True
    train_tiny: bool = False

    def check(self) -> None:
        """Check that the retrained candidate 3 can be asked by text.

        Raises:
            ConfigError: it has no text conditioner.
        """
        if self.words and THREE in self.of_images():
            places = [self.rgbd / "text", self.rgbd / "export/text"]
            if not any((place / "config.json").is_file() for place in places):
                raise ConfigError(
                    f"rgbd: expected a text conditioner beside the editor in {self.rgbd}, there is none; train it with `omote "
                    "train text-cpu --set editor=DIR` and copy its export/text there, or give --no-words"
                )

    def fingerprints(self) -> Mapping[str, str]:
        """Fingerprint of the shipped networks; those of the candidates stand in the names of their results."""
        return {str(SHIPPED): fingerprint(SHIPPED_WEIGHTS)}

    def folders(self) -> dict[Row, Path]:
        """Networks of candidates 1 and 2, without those of which no weights ship.

        Raises:
            CheckpointError: there are none.
        """
        asked = {ONE: self.multiview, TWO: self.latent_views}
        found = {row: folder for row, folder in asked.items() if _given(folder, "denoiser")}
        if not found:
            raise CheckpointError(
                "candidates: expected the networks of candidate 1 or 2, none ship; train them (docs/candidates.md) and give "
                "--multiview DIR or --latent-views DIR"
            )
        return found

    def of_images(self) -> dict[Row, Path]:
        """Networks of candidate 3, as shipped and as retrained."""
        retrained = {THREE: self.rgbd} if _given(self.rgbd, "editor") else {}
        return {SHIPPED: SHIPPED_WEIGHTS, **retrained}

    def run(self, work: Work) -> Steps[Results]:
        """Measure every person, and test every candidate against copying the source."""
        from omote.evaluation.records import joined
        from omote.evaluation.summary import summarise, summarise_parts
        from omote.head.shipped import population_heads
        from omote.studies.candidate_rows import Rivals, peak_memory_apart
        from omote.studies.persons import Group, load_judges, measure_persons
        from omote.studies.training_cost import cost_of, stages_of

        if self.train_tiny:
            yield from train_tiny(work.out / "runs")
            folders = {ONE: work.out / "runs/candidate1/export", TWO: work.out / "runs/candidate2/export"}
        else:
            folders = self.folders()
        heads = population_heads(self.ict)
        settings = self._settings()
        images = self.of_images()
        rivals = Rivals(folders, images, heads, settings)
        population = self.unseen()

        def by(row: Row) -> Callable[[Person, GroundTruth], Made]:
            return lambda person, truth: rivals.by(row, person, truth, sampled=person.index < self.sampled_persons)

        every = {_group(row, folder): (row, folder) for row, folder in {**folders, **images}.items()}
        groups = [Group(name="reference", make=rivals.reference)]
        groups += [Group(name=name, make=by(row)) for name, (row, _) in every.items()]
        found = yield from measure_persons(
            work, self.names(), lambda index: rivals.draw(population, index), groups, heads, load_judges()
        )
        persons = [joined(parts) for parts in found]
        table = summarise(persons)
        memory = yield from work.records(
            "memory", list(every), lambda name: {PEAK: peak_memory_apart(*every[name], settings, population)}
        )
        numbers: dict[str, float] = {f"{PEAK}/{every[name][0]}": record[PEAK] for name, record in memory.items()}
        numbers |= {f"model/parameters/{row}": count for row, count in rivals.parameters().items()}
        for row, folder in {**folders, **images}.items():
            if (cost := cost_of(row.name, stages_of((), [folder]))) is not None:
                numbers[f"training/hours/{row}"] = cost.hours
        yield from _examples(work, rivals, population, persons)
        return Results(
            table={**table, **summarise_parts(persons)},
            notes=against_copying(persons, table),
            numbers=numbers,
            figure=figure(_charts(table), columns=3),
        )

    def _settings(self) -> RowSettings:
        from omote.studies.candidate_rows import RowSettings

        return RowSettings(
            steps=self.steps,
            guidance_scale=self.guidance_scale,
            depth_weights=self.depth_weights,
            words=self.words,
            samples=self.samples,
            seed=self.seed,
        )


def _given(folder: Path, network: str) -> bool:
    """Whether networks were asked for or ship; those of an install from a package do not."""
    return folder.parent != SHIPPED_WEIGHTS / RIVALS or (folder / network / "config.json").is_file()


def _group(row: Row, folder: Path) -> str:
    """Name of a candidate's results: those of further or other networks are measured beside them."""
    return f"{row.name}-{fingerprint(folder)[:8]}"


def against_copying(persons: Sequence[Any], table: Table) -> dict[Row, dict[str, str | float]]:
    """P-values of each row's surface error where it moves: against copying, candidate 1, and (of text) the category."""
    from omote.evaluation.statistics import paired_test
    from omote.evaluation.summary import per_image

    def per_person(row: Row) -> Any:
        values = per_image(persons, MESH[0], row)
        return None if values is None else np.nanmean(values, axis=1)

    copied = per_person(COPY)
    notes: dict[Row, dict[str, str | float]] = {}
    for row in table:
        own = per_person(row) if row.name and row != COPY else None
        if own is None or copied is None or len(own) < 2:
            continue
        notes[row] = {"p_surface_vs_copy": paired_test(own, copied).p_value}
        of_first = per_person(ONE.under(asks=str(row.on("asks")))) if row.on("asks") and row.name != ONE.name else None
        if of_first is not None:
            notes[row][f"p_surface_vs_{ONE}"] = paired_test(own, of_first).p_value
        by_category = per_person(Row(row.name).under(asks=CATEGORY)) if row.on("asks") == TEXT else None
        if by_category is not None:
            notes[row]["p_surface_vs_category"] = paired_test(own, by_category).p_value
    return notes


def _examples(
    work: Work, rivals: Rivals, population: PopulationConfig, persons: Sequence[PersonRecords]
) -> Steps[None]:
    """Pictures of the best, median and worst person by candidate 1's (or 2's) surface error: all rows by category.

    They are made again if anything was measured, as there may be a further candidate's row.
    """
    from omote.evaluation.pictures import save_strips, sheet_persons
    from omote.progress import Step

    make_folder(work.out / "examples")
    first = next(iter(rivals.views)).under(asks=CATEGORY)
    for name, index in sheet_persons(persons, first, MESH[0]).items():
        path = work.out / "examples" / f"{name}_{index:06d}.png"
        if path.exists() and not work.made:
            continue
        yield Step(stage="examples", note=name)
        images = rivals.images_of(population, index)
        shown = {
            row: seen
            for row, seen in images.items()
            if row.on("asks") in (None, CATEGORY) and not row.on("depth_weight")
        }
        save_strips(path, shown)


def _charts(table: Table) -> list[str]:
    from omote.evaluation.catalogue import metric_of
    from omote.evaluation.figures import axis_over, row_chart

    charts = []
    for metric in (*MESH[:2], DEPTH, COLOR, IDENTITY, TOP1):
        found = {str(row): cell(table, row, metric) for row in table if row.name}
        shown = {row: (at.value, at.low, at.high) for row, at in found.items() if at is not None}
        if shown:
            # Two persons are too few for an interval.
            ends = [end for three in shown.values() for end in three if not math.isnan(end)]
            charts.append(row_chart(metric_of(metric).title, shown, axis_over(metric_of(metric).label(), ends)))
    return charts


def train_tiny(runs: Path) -> Steps[None]:
    """Train networks of both candidates for seconds on a few persons."""
    import shutil

    from omote.datasets.population import PopulationConfig, make_population
    from omote.engine.checkpoint import progress_of
    from omote.geometry.rig import rig_of
    from omote.head.shipped import shipped_head
    from omote.progress import Step
    from omote.recipes import RECIPES
    from omote.recipes.run import run_recipe

    config = PopulationConfig(num_images=2, rig=rig_of(["3"]))
    list(make_population(config, [shipped_head()], runs / "views", num_persons=TINY_PERSONS))
    stages = {
        "views-tiny": "views-stage", "views-tiny-rgbd": "views-stage-rgbd", "to3d-tiny": "to3d",
        "to3d-tiny-decoded": "to3d-decoded", "voxels-tiny": "voxels", "to3d-tiny-latents": "to3d-latents",
        "candidate1-tiny": "candidate1", "candidate2-tiny": "candidate2",
    }  # fmt: skip
    for number, (recipe, run) in enumerate(stages.items()):
        yield Step(stage="train", done=number, total=len(stages), note=recipe)
        full: Any = RECIPES[recipe](runs)
        engine = replace(full.engine, total_images=TINY_STEPS * full.engine.batch_size)
        done = (runs / run / "export").is_dir() and progress_of(runs / run).images >= engine.total_images
        if not done:  # a task is made before its run is looked at, which takes most of a trial's training
            list(run_recipe(replace(full, engine=engine), runs / run))
    for candidate, mesh in (("candidate1", "to3d-decoded"), ("candidate2", "to3d-latents")):
        shutil.copytree(runs / mesh / "export/to_3d", runs / candidate / "export/to_3d", dirs_exist_ok=True)
