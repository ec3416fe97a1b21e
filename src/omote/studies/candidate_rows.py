"""The candidates' networks, and the rows that they generate of a person (`omote.studies.candidates`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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
        self, x: Tensor, person: Person, expressions: Sequence[Expression], rest: Vertices, head: HeadModel, count: int
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
        self._shown: dict[int, Mapping[Row, Sequence[Rgbd]]] = {}

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

    def made(self, person: Person, truth: GroundTruth, *, sampled: bool = False) -> Made:
        """All rows of a person; without ``sampled``, samples are not drawn and their records are empty."""
        head = self.mapped[person.head]
        rest = head.vertices(person.identity, person.expressions[0].arkit)
        skin = rest_skin(head, rest)  # once per person, as for an avatar; no part of the time of a mesh
        true = [head.vertices(person.identity, e.arkit) for e in person.expressions]
        images: dict[Row, Sequence[Rgbd]] = {CEILING: truth.images, COPY: [truth.source] * len(true)}
        records = list(self._mesh_records(COPY, [rest] * len(true), true, rest))
        typical = [_typical(head, rest, e) for e in person.expressions]
        records += self._mesh_records(HEAD_EDIT, typical, true, rest)
        x = self.any_views.views(person)
        records += self._true_views(person)

        asked = self._asked(person)
        for asks, expressions in asked.items():
            for row, candidate in self.views.items():
                for weight in (1.0, *(self.settings.depth_weights if row == ONE else ())):
                    own = row.under(asks=asks) if weight == 1.0 else row.under(asks=asks, depth_weight=weight)
                    began = perf_counter()
                    found = candidate.edited(x, person, expressions, weight)
                    edited = perf_counter()
                    meshes = candidate.meshes(head, skin, rest, found)
                    done = perf_counter()
                    cameras = candidate.editor.rig.cameras(candidate.editor.sample_size)
                    shown = [unpack_images(views, cameras) for views in found.views[1:]]
                    fronts = unpack_images(found.views[1:, 0], [self.front] * len(meshes))
                    images[own] = [with_mesh_depth(f, head, v) for f, v in zip(fronts, meshes, strict=True)]
                    records += self._mesh_records(own, meshes, true, rest)
                    records += _times(own, edited - began, done - edited, len(true))
                    records += _consistency(own, shown, None if candidate.with_depth else (head, meshes))
            for row, model in self.images.items():
                own = row.under(asks=asks)
                began = perf_counter()
                images[own] = model.edited(truth.source, person, expressions)
                edited = perf_counter()
                meshes = model.meshes(head, skin, rest, images[own])
                records += self._mesh_records(own, meshes, true, rest)
                records += _times(own, edited - began, perf_counter() - edited, len(true))
        if self.settings.samples:
            asks = TEXT if TEXT in asked else CATEGORY
            ids = self.any_views.editor.face.ids
            for row, draw in self._samplers(x, person, truth, asked[asks], rest, head, skin).items():
                samples = draw() if sampled else None
                records += self._sample_records(row.under(asks=asks), samples, true, rest, ids)
        if len(self._shown) < KEPT_PERSONS:
            self._shown[person.index] = images
        return Made(images=images, records=records)

    def images_of(self, population: PopulationConfig, index: int) -> Mapping[Row, Sequence[Rgbd]]:
        """Images of a person's rows; generated again unless they are among the first persons of this process."""
        if index not in self._shown:
            return self.made(*self.draw(population, index)).images
        return self._shown[index]

    def _samplers(
        self,
        x: Tensor,
        person: Person,
        truth: GroundTruth,
        expressions: Sequence[Expression],
        rest: Vertices,
        head: HeadModel,
        skin: RestSkin,
    ) -> dict[Row, Callable[[], Float[np.ndarray, "n k f 3"]]]:
        """For each candidate, a function that draws samples of the face's vertices."""
        ids, count = self.any_views.editor.face.ids, self.settings.samples

        def of_image(model: OfImage) -> Float[np.ndarray, "n k f 3"]:
            drawn_images = [model.edited(truth.source, person, expressions, sample) for sample in range(1, count + 1)]
            return np.stack([np.stack(model.meshes(head, skin, rest, images))[:, ids] for images in drawn_images])

        found: dict[Row, Callable[[], Float[np.ndarray, "n k f 3"]]] = {
            row: (lambda c=candidate: c.sampled(x, person, expressions, rest, head, count))  # type: ignore[misc]
            for row, candidate in self.views.items()
        }
        return found | {row: (lambda m=model: of_image(m)) for row, model in self.images.items()}

    def _asked(self, person: Person) -> dict[str, list[Expression]]:
        """The person's expressions by category alone, and by text."""
        asked = {CATEGORY: without_weights(person.expressions)}
        if self.settings.words:
            rng = np.random.default_rng([self.settings.seed, person.index, 31])
            captions = [draw_caption(rng, language="en", category=e.category, split="test") for e in person.expressions]
            asked[TEXT] = [replace(e, text=caption.text) for e, caption in zip(asked[CATEGORY], captions, strict=True)]
        return asked

    def _mesh_records(
        self, row: Row, made: Sequence[Vertices], true: Sequence[Vertices], rest: Vertices
    ) -> Iterator[Record]:
        face = self.any_views.editor.face
        errors = [
            vertex_errors(m[face.ids], t[face.ids], rest[face.ids], face.faces, face.region)
            for m, t in zip(made, true, strict=True)
        ]
        for key in errors[0]:
            yield Record(row=row, measure=key, values=np.array([e[key] for e in errors]))

    def _sample_records(
        self,
        row: Row,
        samples: Float[np.ndarray, "n k f 3"] | None,
        true: Sequence[Vertices],
        rest: Vertices,
        ids: np.ndarray,
    ) -> list[Record]:
        """Spread and best of several samples where the truth moves; NaN where none were drawn or nothing moves."""
        spread, best = np.full((2, len(true)), np.nan)
        region = self.any_views.editor.face.region
        for k, vertices in enumerate(true):
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
