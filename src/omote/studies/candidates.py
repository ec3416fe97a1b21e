"""The three candidates side by side, with the same persons, expressions and judges: `omote study candidates`.

Every candidate gets a person at rest, candidate 3 as one RGB-D image and the others as the views of a rig, and generates a mesh
and a front view of each expression, requested by category and by text. The head is moved with the face by the same code for all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from omote.config import Range
from omote.errors import CheckpointError
from omote.evaluation.figures import figure
from omote.evaluation.records import Record, Row, Table
from omote.progress import Steps
from omote.rgbd.weights import RIVALS, SHIPPED_WEIGHTS, fingerprint
from omote.studies.base import FREE, PersonStudy, Results, Work
from omote.studies.table import CEILING, COLOR, COPY, DEPTH, IDENTITY, TOP1, cell

if TYPE_CHECKING:
    from omote.datasets.population import Person
    from omote.evaluation.ground_truth import GroundTruth
    from omote.head.model import HeadModel
    from omote.multiview.model import ViewEditor
    from omote.rgbd.model import EditingModel
    from omote.studies.persons import Made
    from omote.types import Expression, Rgbd

ONE, TWO, THREE, SHIPPED = Row("multiview"), Row("latent_views"), Row("rgbd"), Row("rgbd_shipped")
HEAD_EDIT = Row("head_edit")
MESH = ("mesh/surface_mm_moving", "mesh/vertex_mm", "mesh/vertex_mm_moving")
CATEGORY, TEXT = "category", "text"
TINY_PERSONS = 4


@dataclass(frozen=True, kw_only=True)
class Candidates(PersonStudy):
    """Candidates 1, 2 and 3: mesh, front view, expression and identity, by category and by text.

    Attributes:
        multiview: networks of candidate 1, as for `omote avatar --weights`; by default the shipped ones. Without shipped
            weights, a candidate's rows are left out.
        latent_views: networks of candidate 2, as for candidate 1.
        rgbd: candidate 3, retrained on the same budget as the others; left out if None.
        depth_weights: further weights of the source's depth in candidate 1.
        steps: number of diffusion steps of every candidate.
        words: whether to request expressions by text too; needs the text encoders.
        train_tiny: whether to train networks of seconds in the result folder first, whose results mean nothing.
    """

    NAME = "candidates"
    TINY: ClassVar[Mapping[str, Any]] = {"persons": 2, "train_tiny": True, "words": False, "depth_weights": (0.0,)}

    persons: Annotated[int, Range(1), FREE] = 100
    multiview: Path = SHIPPED_WEIGHTS / RIVALS / "candidate1"
    latent_views: Path = SHIPPED_WEIGHTS / RIVALS / "candidate2"
    rgbd: Path | None = None
    depth_weights: tuple[Annotated[float, Range(0, 4)], ...] = (0.0, 0.5)
    steps: Annotated[int, Range(1, 1000)] = 1
    words: bool = True
    train_tiny: bool = False

    def fingerprints(self) -> Mapping[str, str]:
        """Fingerprints of every candidate's networks."""
        if self.train_tiny:
            return {}
        folders = {**self.folders(), SHIPPED: SHIPPED_WEIGHTS}
        return {str(row): fingerprint(folder) for row, folder in folders.items()}

    def folders(self) -> dict[Row, Path]:
        """Networks of candidates 1 and 2, without those of which no weights ship.

        Raises:
            CheckpointError: there are none.
        """
        asked = {ONE: self.multiview, TWO: self.latent_views}
        shipped = SHIPPED_WEIGHTS / RIVALS
        found = {
            row: folder
            for row, folder in asked.items()
            if folder.parent != shipped or (folder / "denoiser/config.json").is_file()
        }
        if not found:
            raise CheckpointError(
                "candidates: expected the networks of candidate 1 or 2, none ship; train them (docs/candidates.md) and give "
                "--multiview DIR or --latent-views DIR"
            )
        return found

    def run(self, work: Work) -> Steps[Results]:
        """Measure every person, and test every candidate against copying the source."""
        from omote.evaluation.summary import summarise, summarise_parts
        from omote.head.shipped import population_heads
        from omote.studies.persons import Group, load_judges, measure_persons

        if self.train_tiny:
            yield from train_tiny(work.out / "runs")
            folders = {ONE: work.out / "runs/candidate1/export", TWO: work.out / "runs/candidate2/export"}
        else:
            folders = self.folders()
        heads = population_heads(self.ict)
        rivals = _Rivals(self, folders, heads)
        population = self.unseen()

        def draw(index: int) -> tuple[Person, GroundTruth]:
            from omote.datasets.population import draw_person
            from omote.evaluation.ground_truth import render_ground_truth

            person = replace(draw_person(population, index, heads), camera=rivals.front)
            return person, render_ground_truth(person, heads)

        group = Group(name=self.NAME, make=rivals.made)
        found = yield from measure_persons(work, self.names(), draw, [group], heads, load_judges())
        persons = [person for (person,) in found]
        table = summarise(persons)
        numbers = {f"model/parameters/{row}": count for row, count in rivals.parameters().items()}
        return Results(
            table={**table, **summarise_parts(persons)},
            notes=against_copying(persons, table),
            numbers=numbers,
            figure=figure(_charts(table), columns=3),
        )


class _Rivals:
    """The candidates' networks, and the rows that they generate."""

    def __init__(self, study: Candidates, folders: Mapping[Row, Path], heads: Sequence[HeadModel]) -> None:
        from omote.head.correspondence import in_topology_of
        from omote.multiview.model import load_view_editor
        from omote.studies.networks import load_editor

        self.study, self.heads = study, heads
        self.mapped = [in_topology_of(head, heads[0]) for head in heads]
        self.views: dict[Row, ViewEditor] = {row: load_view_editor(path, heads[0]) for row, path in folders.items()}
        self.images: dict[Row, EditingModel] = {SHIPPED: load_editor(SHIPPED_WEIGHTS)}
        if study.rgbd is not None:
            self.images[THREE] = load_editor(study.rgbd)

    @cached_property
    def front(self) -> Any:
        """The camera of every row's images."""
        return next(iter(self.views.values())).rig.cameras(self.images[SHIPPED].sample_size)[0]

    def parameters(self) -> dict[Row, int]:
        """Number of parameters of each candidate's networks, without the face's closed-form regression."""
        found: dict[Row, int] = {}
        for row, editor in self.views.items():
            networks: list[Any] = [editor.denoiser, editor.first_stage, editor.to_3d, editor.encoder]
            found[row] = sum(p.numel() for n in networks if n is not None for p in n.parameters())
        for row, model in self.images.items():
            parts: list[Any] = [model.autoencoder, model.editor]
            found[row] = sum(p.numel() for n in parts for p in n.parameters())
        return found

    def made(self, person: Person, truth: GroundTruth) -> Made:
        """All rows of a person."""
        from omote.studies.persons import Made

        head = self.mapped[person.head]
        rest = head.vertices(person.identity, person.expressions[0].arkit)
        true = [head.vertices(person.identity, e.arkit) for e in person.expressions]
        images: dict[Row, Sequence[Rgbd]] = {CEILING: truth.images, COPY: [truth.source] * len(true)}
        records = list(self._mesh_records(COPY, [rest] * len(true), true, rest))
        typical = [self._typical(head, rest, e) for e in person.expressions]
        records += self._mesh_records(HEAD_EDIT, typical, true, rest)
        x = self._views(person)
        for asks, expressions in self._asked(person).items():
            for row, editor in self.views.items():
                weights = (1.0, *self.study.depth_weights) if row == ONE else (1.0,)
                for weight in weights:
                    own = row.under(asks=asks) if weight == 1.0 else row.under(asks=asks, depth_weight=weight)
                    shown, meshes, seconds = self._of_views(editor, x, expressions, person, rest, head, weight)
                    images[own] = shown
                    records += self._mesh_records(own, meshes, true, rest)
                    records += _times(own, seconds, len(true))
            for row, model in self.images.items():
                own = row.under(asks=asks)
                images[own], meshes, seconds = self._of_image(model, truth.source, expressions, person, rest, head)
                records += self._mesh_records(own, meshes, true, rest)
                records += _times(own, seconds, len(true))
        return Made(images=images, records=records)

    def _asked(self, person: Person) -> dict[str, list[Expression]]:
        """The person's expressions by category alone, and by text."""
        from omote.rgbd.conditions.text.captions import draw_caption
        from omote.studies.edit_methods import without_weights

        asked = {CATEGORY: without_weights(person.expressions)}
        if self.study.words:
            rng = np.random.default_rng([self.study.seed, person.index, 31])
            captions = [draw_caption(rng, language="en", category=e.category, split="test") for e in person.expressions]
            asked[TEXT] = [replace(e, text=caption.text) for e, caption in zip(asked[CATEGORY], captions, strict=True)]
        return asked

    def _views(self, person: Person) -> Any:
        """The person at rest, seen by the rig."""
        from omote.datasets.population import render_person
        from omote.rgbd.codec import pack_images

        editor = next(iter(self.views.values()))
        cameras = editor.rig.cameras(editor.sample_size)
        seen = [
            next(iter(render_person(replace(person, camera=c), self.heads, person.expressions[:1])))[0] for c in cameras
        ]
        return pack_images(seen)

    def _of_views(
        self,
        editor: ViewEditor,
        x: Any,
        expressions: Sequence[Expression],
        person: Person,
        rest: Any,
        head: HeadModel,
        weight: float,
    ) -> tuple[list[Rgbd], list[np.ndarray], dict[str, float]]:
        from omote.lift.offsets import register_offsets
        from omote.multiview.model import ViewEditSettings
        from omote.pipelines.multiview import with_mesh_depth
        from omote.rgbd.codec import unpack_images

        began = perf_counter()
        how = ViewEditSettings(steps=self.study.steps, depth_weight=weight, seed=self.study.seed + 1000 * person.index)
        found = editor.edit(x, expressions, how)
        edited = perf_counter()
        meshes = [
            register_offsets(
                head,
                rest,
                editor.face.ids,
                vertices - found.vertices_mm[0],
                belief=editor.face.weight,
                sigma_mm=sigma,
            ).vertices_mm
            for vertices, sigma in zip(found.vertices_mm[1:], found.sigma_mm[1:], strict=True)
        ]
        seconds = {"time_s/views_edit": edited - began, "time_s/mesh": (perf_counter() - edited) / len(meshes)}
        fronts = unpack_images(found.views[1:, 0], [self.front] * len(meshes))
        return [with_mesh_depth(f, head, v) for f, v in zip(fronts, meshes, strict=True)], meshes, seconds

    def _of_image(
        self,
        model: EditingModel,
        source: Rgbd,
        expressions: Sequence[Expression],
        person: Person,
        rest: Any,
        head: HeadModel,
    ) -> tuple[list[Rgbd], list[np.ndarray], dict[str, float]]:
        from omote.diffusion.settings import EditSettings
        from omote.lift.register import register_expression
        from omote.studies.edit_methods import drawn

        seed = self.study.seed + 1000 * person.index
        began = perf_counter()
        weighted = drawn(model, expressions, seed)
        wanted = [replace(e, text=asked.text) for e, asked in zip(weighted, expressions, strict=True)]
        how = EditSettings(steps=self.study.steps, seed=seed)
        images = model.edit(source, wanted, how, face=model.face_of(source))
        edited = perf_counter()
        # The first expression is the one at rest.
        meshes = [register_expression(head, rest, image, images[0]).vertices_mm for image in images]
        seconds = {"time_s/views_edit": edited - began, "time_s/mesh": (perf_counter() - edited) / len(meshes)}
        return images, meshes, seconds

    def _typical(self, head: HeadModel, rest: Any, expression: Expression) -> np.ndarray:
        from omote.head.expressions import typical_expression

        arkit = typical_expression(expression.category, expression.intensity).arkit
        assert arkit is not None
        return head.moved(rest, arkit)

    def _mesh_records(
        self, row: Row, made: Sequence[np.ndarray], true: Sequence[np.ndarray], rest: np.ndarray
    ) -> Iterator[Record]:
        from omote.evaluation.surfaces import vertex_errors

        face = next(iter(self.views.values())).face
        errors = [
            vertex_errors(m[face.ids], t[face.ids], rest[face.ids], face.faces, face.region)
            for m, t in zip(made, true, strict=True)
        ]
        for key in errors[0]:
            yield Record(row=row, measure=key, values=np.array([e[key] for e in errors]))


def _times(row: Row, seconds: Mapping[str, float], count: int) -> list[Record]:
    return [Record(row=row, measure=key, values=np.full(count, value)) for key, value in seconds.items()]


def against_copying(persons: Sequence[Any], table: Table) -> dict[Row, dict[str, str | float]]:
    """P-values of each row's surface error where it moves against copying the source, and of text against the category."""
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
        by_category = per_person(Row(row.name).under(asks=CATEGORY)) if row.on("asks") == TEXT else None
        if by_category is not None:
            notes[row]["p_surface_vs_category"] = paired_test(own, by_category).p_value
    return notes


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
        list(run_recipe(RECIPES[recipe](runs), runs / run))
    for candidate, mesh in (("candidate1", "to3d-decoded"), ("candidate2", "to3d-latents")):
        shutil.copytree(runs / mesh / "export/to_3d", runs / candidate / "export/to_3d", dirs_exist_ok=True)
