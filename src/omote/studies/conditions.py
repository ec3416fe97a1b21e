"""What studies of a finished editor share: a study is a list of conditions, and a condition turns a person into a task.

A `Condition` says how a person is shown (camera, expressions), how their source is captured, and which edits are asked for. Each
is measured on the same unseen persons as the release suite measures (`omote.evaluation.measure`), beside the true render
(``ceiling``), the autoencoder of the truth (``autoencoder_ceiling``) and the source as it is (``copy_source``). A file per person
and condition is written atomically, so that a killed study goes on where it was and ends with the same numbers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from omote.config import Range
from omote.datasets.population import Person, PopulationConfig, draw_person
from omote.errors import AlignmentError, ConfigError
from omote.evaluation.judges import load_expression_judges, load_identity_judge
from omote.evaluation.measure import Judges, measure
from omote.evaluation.table import Table, other_persons, row_of, summarised, write_table
from omote.evaluation.truth import Truth, render_truth
from omote.files import atomic_path
from omote.head.expressions import CATEGORIES, draw_expression
from omote.head.model import HeadModel
from omote.head.rest_face import RestFace
from omote.head.shipped import population_heads
from omote.progress import Step
from omote.rgbd.load import load_model
from omote.rgbd.model import SHIPPED_WEIGHTS, Backend, EditingModel, EditSettings
from omote.studies.rows import without_weights
from omote.types import Rgbd

# Rows that no edit makes.
BESIDE = ("ceiling", "autoencoder_ceiling", "copy_source")
MODEL = "model"
# An own stream for expressions that a study draws anew.
EXPRESSION_STREAM = 71
Asks = Literal["weights", "category", "token"]
More = Callable[[Mapping[str, Sequence[Rgbd]], Truth], Mapping[str, list[float]]]


@dataclass(frozen=True, kw_only=True)
class PersonsOfStudy:
    """Who is edited.

    Attributes:
        ict: ICT-FaceKit, by path: half of the persons come from it.
        num_persons: unseen, each with seven expressions.
        seed: of persons and noise.
        backend: that runs networks.
    """

    ict: Path | None = None
    num_persons: Annotated[int, Range(1)] = 20
    seed: int = 0
    backend: Backend = "auto"

    def unseen(self) -> PopulationConfig:
        """The persons of the test split."""
        return PopulationConfig(seed=self.seed, split="test", num_images=len(CATEGORIES), ict=self.ict)


@dataclass(frozen=True, kw_only=True)
class StudyOfEdits(PersonsOfStudy):
    """Who is edited, and by what; studies add what they vary.

    Attributes:
        weights: a folder with ``autoencoder/`` and ``editor/``; the shipped one if None.
    """

    weights: Path | None = None

    def model(self) -> EditingModel:
        """The networks.

        Raises:
            CheckpointError: missing or damaged weights.
        """
        return load_model(SHIPPED_WEIGHTS if self.weights is None else self.weights, backend=self.backend)


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One way of asking for what a condition shows.

    Attributes:
        settings: of the sampler; its seed is a person's.
        asks: the truth's ARKit weights; or category and intensity, for which the model draws weights ("category"), or which
            the editor alone turns into an expression, without a face to move ("token").
        network: which of the study's.
    """

    settings: EditSettings = EditSettings()
    asks: Asks = "weights"
    network: str = MODEL


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What is varied, at one value.

    Attributes:
        name: a row is ``<edit>_<name>``, or the edit alone where it is empty.
        edits: by row.
        shown: a person as this condition shows them: before another camera, with other expressions.
        captured: a person's source as it is captured, of the true render at rest.
        beside: of `BESIDE`; what does not differ between conditions is measured in one of them.
    """

    name: str
    edits: Mapping[str, Edit]
    shown: Callable[[Person], Person] = lambda person: person
    captured: Callable[[Rgbd, Person], Rgbd] = lambda image, person: image
    beside: Sequence[str] = BESIDE

    @property
    def rows(self) -> list[str]:
        """All rows, by their names without the condition's."""
        return [*self.edits, *self.beside]


def run_conditions(
    study: StudyOfEdits,
    conditions: Sequence[Condition],
    out: Path,
    draw: Callable[[Table], str],
    *,
    networks: Mapping[str, EditingModel] | None = None,
    more: More | None = None,
    overall: Callable[[Mapping[str, Sequence[Mapping[str, object]]]], Table] | None = None,
) -> Iterator[Step]:
    """Measure into ``out/persons`` as it goes; then ``metrics.json``, ``table.csv`` and ``figure.svg``.

    Args:
        study: persons and networks.
        conditions: with names of their own.
        out: folder of everything; made if missing.
        draw: table → text of the SVG file.
        networks: that edits name; the study's own if None.
        more: row → images, and the truth → what else is measured, by ``<measure>/<row>``, a value per image.
        overall: condition → its persons' numbers, in their order → what else the table says.

    Raises:
        ConfigError: no conditions, or two of one name.
        JudgeError: the judges' weights are not installed.
        CheckpointError: missing or damaged weights.
    """
    _check_names([condition.name for condition in conditions])
    yield Step(stage="load")
    networks = {MODEL: study.model()} if networks is None else networks
    population = study.unseen()
    heads = population_heads(population.ict)
    judges = Judges(expression=load_expression_judges(), identity=load_identity_judge())
    folder = out / "persons"
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[Mapping[str, object]]] = {condition.name: [] for condition in conditions}
    total = study.num_persons * len(conditions)
    for index in range(study.num_persons):
        for number, condition in enumerate(conditions):
            yield Step(stage="measure", done=index * len(conditions) + number, total=total, note=condition.name)
            path = folder / f"{row_of(f'{index:06d}', condition.name)}.json"
            if not path.exists():
                person = condition.shown(draw_person(population, index, heads))
                measured = _measured(condition, person, heads, networks, judges, study.seed, more)
                with atomic_path(path) as temporary:
                    temporary.write_text(json.dumps(measured))
            found[condition.name].append(json.loads(path.read_text()))
    yield Step(stage="table", done=total, total=total)
    table: Table = {}
    for condition in conditions:
        table |= summarised(found[condition.name], condition.rows, condition.name)
        table |= other_persons(found[condition.name], condition.name)
    if overall is not None:
        for row, cells in overall(found).items():
            table.setdefault(row, {}).update(cells)
    write_table(table, out, num_persons=study.num_persons)
    with atomic_path(out / "figure.svg") as temporary:
        temporary.write_text(draw(table), encoding="utf-8")


def _check_names(names: Sequence[str]) -> None:
    # Two of one name would share their files, and count each person twice.
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names or twice:
        got = f"{twice[0]} twice" if twice else "none"
        raise ConfigError(f"conditions: expected at least one, each once, got {got}; change the values that are varied")


def _measured(
    condition: Condition,
    person: Person,
    heads: Sequence[HeadModel],
    networks: Mapping[str, EditingModel],
    judges: Judges,
    seed: int,
    more: More | None,
) -> dict[str, object]:
    """A person's numbers under a condition."""
    truth = render_truth(person, heads)
    truth = replace(truth, capture=condition.captured(truth.images[0], person))
    images: dict[str, Sequence[Rgbd]] = {}
    refused: dict[str, list[float]] = {}
    used = dict.fromkeys(edit.network for edit in condition.edits.values())
    faces = {name: _found(networks[name], truth.source) for name in used}
    for row, edit in condition.edits.items():
        face = faces[edit.network]
        refuses = face is None and edit.asks != "token"
        if refuses:
            # Whoever asks gets an error and keeps what they had: leaving such persons out would flatter hard conditions.
            images[row] = [truth.source] * len(truth.images)
        else:
            images[row] = _edited(networks[edit.network], edit, person, truth, face, seed + 1000 * person.index)
        refused[f"refused/{row}"] = [float(refuses)] * len(truth.images)
    if "ceiling" in condition.beside:
        images["ceiling"] = truth.images
    if "autoencoder_ceiling" in condition.beside:
        # Networks of a study share the first stage, and the last is the best at finding faces.
        *_, last = faces
        images["autoencoder_ceiling"] = _reconstructed(networks[last], faces[last], person, truth)
    if "copy_source" in condition.beside:
        images["copy_source"] = [truth.source] * len(truth.images)
    measured = measure(images, person, heads, truth, judges) | refused
    return measured if more is None else measured | dict(more(images, truth))


def _found(network: EditingModel, source: Rgbd) -> RestFace | None:
    """The person's head, or None where the network finds no face."""
    try:
        return network.face_of(source)
    except AlignmentError:
        return None


def _edited(
    network: EditingModel, edit: Edit, person: Person, truth: Truth, face: RestFace | None, seed: int
) -> Sequence[Rgbd]:
    settings = replace(edit.settings, seed=seed)
    wanted = list(person.expressions)
    if edit.asks == "token":
        return network.edit(truth.source, without_weights(wanted), settings)
    if edit.asks == "category":
        wanted = network.expression_prior.drawn(without_weights(wanted), seed)
    return network.edit(truth.source, wanted, settings, face=face)


def _reconstructed(network: EditingModel, face: RestFace | None, person: Person, truth: Truth) -> Sequence[Rgbd]:
    """The truth through the autoencoder; where no face is found, nothing of the source is moved."""
    sources = [truth.source] * len(truth.images)
    if face is None:
        return network.reconstruct(truth.images, sources)
    return network.reconstruct(truth.images, sources, person.expressions, face=face)


def at_intensity(person: Person, intensity: float) -> Person:
    """The person showing each category at one intensity: recipe, jitter and tilt are theirs, the same at every intensity.

    Args:
        person: whose index seeds the draw.
        intensity: [0, 1]; neutral stays at 0.
    """
    expressions = []
    for expression in person.expressions:
        category = CATEGORIES.index(expression.category)
        rng = np.random.default_rng([EXPRESSION_STREAM, person.index, category])
        expressions.append(draw_expression(expression.category, rng, intensity=intensity if category else 0.0))
    return replace(person, expressions=tuple(expressions))
