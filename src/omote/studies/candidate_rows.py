"""The candidates' networks, and the rows that they generate of a person (`omote.studies.candidates`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from omote.datasets.population import Person, PopulationConfig, draw_person, render_person
from omote.diffusion.settings import EditSettings
from omote.evaluation.ground_truth import GroundTruth, render_ground_truth
from omote.evaluation.records import Record, Row
from omote.evaluation.surfaces import MOVING_MM, vertex_errors
from omote.head.correspondence import in_topology_of
from omote.head.expressions import typical_expression
from omote.head.model import HeadModel
from omote.head.shipped import population_heads
from omote.lift.offsets import register_offsets
from omote.lift.register import register_expression, still_in
from omote.lift.untangle import RestSkin, rest_skin
from omote.memory import peak_memory_mb
from omote.multiview.model import EditedFaces, ViewEditor, ViewEditSettings, load_view_editor
from omote.multiview.views import disagreement
from omote.pipelines.multiview import with_mesh_depth
from omote.rgbd.codec import NUM_CHANNELS, pack_images, unpack_images
from omote.rgbd.conditions.text.captions import draw_caption
from omote.rgbd.model import EditingModel
from omote.studies.apart import apart
from omote.studies.candidates import CATEGORY, ONE, TEXT, TWO
from omote.studies.edit_methods import drawn, without_weights
from omote.studies.networks import load_editor
from omote.studies.persons import Made
from omote.studies.table import CEILING, COPY
from omote.types import Expression, Rgbd

HEAD_EDIT = Row("head_edit")
KEPT_PERSONS = 3  # persons whose images are kept in memory: all of a trial's examples
Vertices = Float[np.ndarray, "v 3"]


@dataclass(frozen=True, kw_only=True)
class RowSettings:
    """How the rows are generated.

    Attributes:
        steps: number of diffusion steps.
        guidance_scale: scale of guidance of candidates 1 and 2.
        depth_weights: further weights of the source's depth in candidate 1.
        words: whether to request expressions by text too.
        samples: samples of an expression, by text (by category without words), whose spread and best one are measured.
        seed: seed of all random choices.
    """

    steps: int
    guidance_scale: float
    depth_weights: tuple[float, ...]
    words: bool
    samples: int
    seed: int


class Candidate:
    """A candidate's networks: expressions of a person → meshes and front views."""

    def __init__(self, heads: Sequence[HeadModel], settings: RowSettings) -> None:
        self.heads, self.settings = heads, settings

    def seed(self, person: Person, sample: int = 0) -> int:
        """Seed of a person's edits; the seeds of its expressions follow."""
        return self.settings.seed + 1000 * person.index + 100 * sample


class OfViews(Candidate):
    """Candidate 1 or 2."""

    def __init__(self, folder: Path, heads: Sequence[HeadModel], settings: RowSettings) -> None:
        super().__init__(heads, settings)
        self.editor: ViewEditor = load_view_editor(folder, heads[0])

    @property
    def parameters(self) -> int:
        """Number of parameters, without the face's closed-form regression."""
        editor = self.editor
        networks: list[Any] = [editor.denoiser, editor.first_stage, editor.to_3d, editor.encoder]
        return sum(p.numel() for n in networks if n is not None for p in n.parameters())

    @property
    def with_depth(self) -> bool:
        """Whether the generated views have depth of their own."""
        return len(self.editor.first_stage.channels) == NUM_CHANNELS

    def views(self, person: Person) -> Float[Tensor, "v 5 s s"]:
        """The person at rest, seen by the rig."""
        return pack_images([images[0] for images in self.true_views(person, person.expressions[:1])])

    def true_views(self, person: Person, expressions: Sequence[Expression]) -> list[Sequence[Rgbd]]:
        """True renders of expressions, by camera of the rig."""
        cameras = self.editor.rig.cameras(self.editor.sample_size)
        return [
            [image for image, _, _ in render_person(replace(person, camera=c), self.heads, expressions)]
            for c in cameras
        ]

    def edited(
        self, x: Tensor, person: Person, expressions: Sequence[Expression], weight: float = 1.0, sample: int = 0
    ) -> EditedFaces:
        """The person's edits; the first is the source passed through the same networks."""
        how = ViewEditSettings(
            steps=self.settings.steps,
            guidance_scale=self.settings.guidance_scale,
            depth_weight=weight,
            seed=self.seed(person, sample),
        )
        return self.editor.edit(x, expressions, how)

    def meshes(self, head: HeadModel, skin: RestSkin, rest: Vertices, found: EditedFaces) -> list[Vertices]:
        """The whole head with each expression; ``skin`` is the person's at rest."""
        face = self.editor.face
        return [
            register_offsets(
                head, rest, face.ids, vertices - found.vertices_mm[0], belief=face.weight, sigma_mm=sigma, skin=skin
            ).vertices_mm
            for vertices, sigma in zip(found.vertices_mm[1:], found.sigma_mm[1:], strict=True)
        ]

    def sampled(
        self, x: Tensor, person: Person, expressions: Sequence[Expression], rest: Vertices, count: int
    ) -> Float[np.ndarray, "n k f 3"]:
        """The face's vertices in several samples of each expression, before the rest of the head follows them."""
        out = []
        for sample in range(1, count + 1):
            found = self.edited(x, person, expressions, sample=sample)
            out.append(rest[self.editor.face.ids] + found.vertices_mm[1:] - found.vertices_mm[0])
        return np.stack(out)


class OfImage(Candidate):
    """Candidate 3."""

    def __init__(self, folder: Path, heads: Sequence[HeadModel], settings: RowSettings) -> None:
        super().__init__(heads, settings)
        self.model: EditingModel = load_editor(folder)

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        parts: list[Any] = [self.model.autoencoder, self.model.editor]
        return sum(p.numel() for n in parts for p in n.parameters())

    def edited(
        self, source: Rgbd, person: Person, expressions: Sequence[Expression], sample: int = 0
    ) -> Sequence[Rgbd]:
        """Images of the expressions."""
        seed = self.seed(person, sample)
        weighted = drawn(self.model, expressions, seed)
        wanted = [replace(e, text=asked.text) for e, asked in zip(weighted, expressions, strict=True)]
        how = EditSettings(steps=self.settings.steps, seed=seed)
        return self.model.edit(source, wanted, how, face=self.model.face_of(source))

    def meshes(self, head: HeadModel, skin: RestSkin, rest: Vertices, images: Sequence[Rgbd]) -> list[Vertices]:
        """The head with each expression; the first image is of the person at rest, and ``skin`` is the person's then."""
        still = still_in(head, rest, images[0])
        return [
            register_expression(head, rest, image, images[0], skin=skin, still=still).vertices_mm for image in images
        ]


@dataclass(frozen=True, kw_only=True)
class _Subject:
    """A person as every row starts from it.

    Attributes:
        person: person of the population.
        truth: true renders.
        head: head model in the shipped head's topology.
        rest_mm: vertices at rest.
        true_mm: vertices with each expression.
        skin: skin at rest, once per person, as for an avatar; no part of the time of a mesh.
        views: the person at rest, seen by the rig, packed.
    """

    person: Person
    truth: GroundTruth
    head: HeadModel
    rest_mm: Vertices
    true_mm: Sequence[Vertices]
    skin: RestSkin
    views: Float[Tensor, "c 5 s s"]


class Rivals:
    """All candidates, and the rows that they generate."""

    def __init__(
        self,
        views: Mapping[Row, Path],
        images: Mapping[Row, Path],
        heads: Sequence[HeadModel],
        settings: RowSettings,
    ) -> None:
        self.settings, self.heads = settings, heads
        self.mapped = [in_topology_of(head, heads[0]) for head in heads]
        self.views = {row: OfViews(path, heads, settings) for row, path in views.items()}
        self.images = {row: OfImage(path, heads, settings) for row, path in images.items()}
        self._subject: _Subject | None = None
        self._shown: dict[int, dict[Row | None, Mapping[Row, Sequence[Rgbd]]]] = {}

    @cached_property
    def any_views(self) -> OfViews:
        """One of the candidates of several views; all have the same rig and face."""
        return next(iter(self.views.values()))

    @cached_property
    def front(self) -> Any:
        """The camera of every row's images."""
        return self.any_views.editor.rig.cameras(next(iter(self.images.values())).model.sample_size)[0]

    def parameters(self) -> dict[Row, int]:
        """Number of parameters of each candidate's networks."""
        every: dict[Row, OfViews | OfImage] = {**self.views, **self.images}
        return {row: candidate.parameters for row, candidate in every.items()}

    def draw(self, population: PopulationConfig, index: int) -> tuple[Person, GroundTruth]:
        """A person and its true renders, seen by the rig's front camera."""
        person = replace(draw_person(population, index, self.heads), camera=self.front)
        return person, render_ground_truth(person, self.heads)

    def reference(self, person: Person, truth: GroundTruth) -> Made:
        """Rows without a candidate: the truth, copying the source, and the head moved by the category's typical weights."""
        subject = self._subject_of(person, truth)
        images: dict[Row, Sequence[Rgbd]] = {CEILING: truth.images, COPY: [truth.source] * len(truth.images)}
        typical = [_typical(subject.head, subject.rest_mm, e) for e in person.expressions]
        records = [
            *self._mesh_records(COPY, [subject.rest_mm] * len(typical), subject),
            *self._mesh_records(HEAD_EDIT, typical, subject),
            *self._true_views(person),
        ]
        return self._kept(person, None, Made(images=images, records=records))

    def by(self, row: Row, person: Person, truth: GroundTruth, *, sampled: bool = False) -> Made:
        """Rows of one candidate; without ``sampled``, samples are not drawn and their records are empty."""
        subject, asked = self._subject_of(person, truth), self._asked(person)
        images: dict[Row, Sequence[Rgbd]] = {}
        records: list[Record] = []
        for asks, expressions in asked.items():
            make = self._by_views if row in self.views else self._by_image
            for own, shown, found in make(row, subject, expressions, row.under(asks=asks)):
                images[own] = shown
                records += found
        if self.settings.samples:
            asks = TEXT if TEXT in asked else CATEGORY
            samples = self._samples(row, subject, asked[asks]) if sampled else None
            records += self._sample_records(row.under(asks=asks), samples, subject)
        return self._kept(person, row, Made(images=images, records=records))

    def images_of(self, population: PopulationConfig, index: int) -> Mapping[Row, Sequence[Rgbd]]:
        """Images of a person's rows; generated again unless they are among the first persons of this process."""
        kept = self._shown.get(index, {})
        found: dict[Row, Sequence[Rgbd]] = {}
        rows = (None, *self.views, *self.images)
        drawn = self.draw(population, index) if any(row not in kept for row in rows) else None
        for row in rows:
            if drawn is not None and row not in kept:
                found |= (self.reference(*drawn) if row is None else self.by(row, *drawn)).images
            else:
                found |= kept[row]
        return found

    def _kept(self, person: Person, row: Row | None, made: Made) -> Made:
        if person.index in self._shown or len(self._shown) < KEPT_PERSONS:
            self._shown.setdefault(person.index, {})[row] = made.images
        return made

    def _subject_of(self, person: Person, truth: GroundTruth) -> _Subject:
        if self._subject is None or self._subject.truth is not truth:
            head = self.mapped[person.head]
            rest = head.vertices(person.identity, person.expressions[0].arkit)
            self._subject = _Subject(
                person=person,
                truth=truth,
                head=head,
                rest_mm=rest,
                true_mm=[head.vertices(person.identity, e.arkit) for e in person.expressions],
                skin=rest_skin(head, rest),
                views=self.any_views.views(person),
            )
        return self._subject

    def _by_views(
        self, row: Row, subject: _Subject, expressions: Sequence[Expression], under: Row
    ) -> Iterator[tuple[Row, Sequence[Rgbd], list[Record]]]:
        """Rows of candidate 1 or 2, with their front views."""
        candidate, head = self.views[row], subject.head
        for weight in (1.0, *(self.settings.depth_weights if row == ONE else ())):
            own = under if weight == 1.0 else under.under(depth_weight=weight)
            began = perf_counter()
            found = candidate.edited(subject.views, subject.person, expressions, weight)
            edited = perf_counter()
            meshes = candidate.meshes(head, subject.skin, subject.rest_mm, found)
            done = perf_counter()
            cameras = candidate.editor.rig.cameras(candidate.editor.sample_size)
            shown = [unpack_images(views, cameras) for views in found.views[1:]]
            fronts = unpack_images(found.views[1:, 0], [self.front] * len(meshes))
            records = [
                *self._mesh_records(own, meshes, subject),
                *_times(own, edited - began, done - edited, len(meshes)),
                *_consistency(own, shown, None if candidate.with_depth else (head, meshes)),
            ]
            yield own, [with_mesh_depth(f, head, v) for f, v in zip(fronts, meshes, strict=True)], records

    def _by_image(
        self, row: Row, subject: _Subject, expressions: Sequence[Expression], under: Row
    ) -> Iterator[tuple[Row, Sequence[Rgbd], list[Record]]]:
        """The row of a candidate 3, with its images."""
        model = self.images[row]
        began = perf_counter()
        images = model.edited(subject.truth.source, subject.person, expressions)
        edited = perf_counter()
        meshes = model.meshes(subject.head, subject.skin, subject.rest_mm, images)
        took = _times(under, edited - began, perf_counter() - edited, len(meshes))
        yield under, images, [*self._mesh_records(under, meshes, subject), *took]

    def _samples(self, row: Row, subject: _Subject, expressions: Sequence[Expression]) -> Float[np.ndarray, "n k f 3"]:
        """The face's vertices in several samples of each expression."""
        head, rest, count = subject.head, subject.rest_mm, self.settings.samples
        if row in self.views:
            return self.views[row].sampled(subject.views, subject.person, expressions, rest, count)
        model = self.images[row]
        drawn_images = [
            model.edited(subject.truth.source, subject.person, expressions, sample) for sample in range(1, count + 1)
        ]
        ids = self.any_views.editor.face.ids
        return np.stack([np.stack(model.meshes(head, subject.skin, rest, images))[:, ids] for images in drawn_images])

    def _asked(self, person: Person) -> dict[str, list[Expression]]:
        """The person's expressions by category alone, and by text."""
        asked = {CATEGORY: without_weights(person.expressions)}
        if self.settings.words:
            rng = np.random.default_rng([self.settings.seed, person.index, 31])
            captions = [draw_caption(rng, language="en", category=e.category, split="test") for e in person.expressions]
            asked[TEXT] = [replace(e, text=caption.text) for e, caption in zip(asked[CATEGORY], captions, strict=True)]
        return asked

    def _mesh_records(self, row: Row, made: Sequence[Vertices], subject: _Subject) -> Iterator[Record]:
        face, rest = self.any_views.editor.face, subject.rest_mm
        errors = [
            vertex_errors(m[face.ids], t[face.ids], rest[face.ids], face.faces, face.region)
            for m, t in zip(made, subject.true_mm, strict=True)
        ]
        for key in errors[0]:
            yield Record(row=row, measure=key, values=np.array([e[key] for e in errors]))

    def _sample_records(
        self, row: Row, samples: Float[np.ndarray, "n k f 3"] | None, subject: _Subject
    ) -> list[Record]:
        """Spread and best of several samples where the truth moves; NaN where none were drawn or nothing moves."""
        face, rest = self.any_views.editor.face, subject.rest_mm
        ids, region = face.ids, face.region
        spread, best = np.full((2, len(subject.true_mm)), np.nan)
        for k, vertices in enumerate(subject.true_mm):
            moving = region & (np.linalg.norm(vertices[ids] - rest[ids], axis=1) > MOVING_MM)
            if samples is not None and moving.any():
                shown = samples[:, k][:, moving]
                spread[k] = np.sqrt(((shown - shown.mean(axis=0)) ** 2).sum(axis=2).mean())
                best[k] = np.linalg.norm(shown - vertices[ids][moving], axis=2).mean(axis=1).min()
        best_key = f"mesh/vertex_mm_moving_best_of_{self.settings.samples}"
        return [
            Record(row=row, measure="diversity/mesh_mm", values=spread),
            Record(row=row, measure=best_key, values=best),
        ]

    def _true_views(self, person: Person) -> list[Record]:
        """How well true renders of several views agree: the least that generated ones can be off."""
        by_camera = self.any_views.true_views(person, person.expressions)
        return _consistency(CEILING, list(zip(*by_camera, strict=True)), None)


def _typical(head: HeadModel, rest: Vertices, expression: Expression) -> Vertices:
    arkit = typical_expression(expression.category, expression.intensity).arkit
    assert arkit is not None
    return head.moved(rest, arkit)


def _times(row: Row, edit_s: float, meshes_s: float, count: int) -> list[Record]:
    return [
        Record(row=row, measure="time_s/views_edit", values=np.full(count, edit_s)),
        Record(row=row, measure="time_s/mesh", values=np.full(count, meshes_s / count)),
    ]


def _consistency(
    row: Row, shown: Sequence[Sequence[Rgbd]], given: tuple[HeadModel, Sequence[Vertices]] | None
) -> list[Record]:
    """Records of how well the views of each expression agree.

    Args:
        row: row of the records.
        shown: views of each expression.
        given: for views without depth of their own, meshes whose depth relates their colours.
    """
    depth, color = [], []
    for k, views in enumerate(shown):
        related = views if given is None else [with_mesh_depth(view, given[0], given[1][k]) for view in views]
        found = disagreement(related)
        depth.append(float(np.median(found.depth_mm)) if given is None and len(found.depth_mm) else np.nan)
        color.append(float(found.color.mean()) if len(found.color) else np.nan)
    records = [Record(row=row, measure="views/color_disagreement", values=np.array(color))]
    if given is None:
        records.append(Record(row=row, measure="views/disagreement_mm", values=np.array(depth)))
    return records


def peak_memory_apart(row: Row, folder: Path, settings: RowSettings, population: PopulationConfig) -> float:
    """Peak memory (MiB) of a process that loads one candidate and makes a person's seven meshes.

    Raises:
        OmoteError: the process failed.
    """
    return apart(f"{row}: its memory could not be measured", _peak_memory, row.name, folder, settings, population)


def _peak_memory(name: str, folder: Path, settings: RowSettings, population: PopulationConfig) -> float:
    heads = population_heads(population.ict)
    candidate: Any = (OfViews if Row(name) in (ONE, TWO) else OfImage)(folder, heads, settings)
    person = draw_person(population, 0, heads)
    head = in_topology_of(heads[person.head], heads[0])
    rest = head.vertices(person.identity, person.expressions[0].arkit)
    expressions = without_weights(person.expressions)
    source = candidate.views(person) if isinstance(candidate, OfViews) else render_ground_truth(person, heads).source
    candidate.meshes(head, rest_skin(head, rest), rest, candidate.edited(source, person, expressions))
    return peak_memory_mb()
