"""Measurement of edits under conditions: an item per person and condition, and a table of rows under conditions.

Every condition is measured like the release suite (`omote.evaluation.measure`), beside the true render (``ceiling``), the true
render through the autoencoder (``autoencoder_ceiling``) and the unedited source (``copy_source``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from omote.datasets.population import Person, draw_person
from omote.errors import AlignmentError, ConfigError
from omote.evaluation.ground_truth import GroundTruth, render_ground_truth
from omote.evaluation.measure import Judges, measure
from omote.evaluation.records import PersonRecords, Record, Row, Table, load_records, save_records
from omote.evaluation.summary import merged, persons_apart, summarise
from omote.head.model import HeadModel
from omote.head.rest_face import RestFace
from omote.head.shipped import population_heads
from omote.progress import Step, Steps
from omote.rgbd.protocol import StudiedEditor
from omote.studies.base import Work
from omote.studies.conditions import Edit, StudyCondition, StudyOfEdits
from omote.studies.edit_methods import without_weights
from omote.studies.persons import load_judges
from omote.studies.table import AUTOENCODER, CEILING, COPY, METRICS, MODEL, REFUSED
from omote.types import Rgbd

# Images by row, and the ground truth → further records.
More: TypeAlias = Callable[[Mapping[Row, Sequence[Rgbd]], GroundTruth], Iterable[Record]]
# Records of each condition's persons → rows or cells that are not means over persons.
Overall: TypeAlias = Callable[[Sequence[Sequence[PersonRecords]]], Table]


def measure_conditions(
    study: StudyOfEdits,
    work: Work,
    conditions: Sequence[StudyCondition],
    *,
    networks: Mapping[str, StudiedEditor] | None = None,
    more: More | None = None,
    overall: Overall | None = None,
) -> Steps[Table]:
    """Measure persons under conditions into ``persons/<person>_<axis>_<value>.json``.

    Args:
        study: study with its persons and networks.
        work: result folder.
        conditions: conditions with different names.
        networks: networks by the names used in edits; if None, the study's own model.
        more: function that adds records of a person.
        overall: function that adds rows and cells.

    Returns:
        The table of rows under conditions, with intervals over persons.

    Raises:
        ConfigError: no conditions, or two of the same name.
        JudgeError: the judges are not installed.
        CheckpointError: missing or damaged weights.
    """
    at = [dict(condition.at) for condition in conditions]
    if not at or any(at.count(condition) > 1 for condition in at):
        # Equal conditions would share their files, and count each person twice.
        raise ConfigError(f"conditions: expected at least one, each once, got {at}; change the values that are varied")
    yield Step(stage="load")
    networks = {MODEL.name: study.model()} if networks is None else networks
    population = study.unseen()
    heads = population_heads(population.ict)
    judges = load_judges()
    items = {condition.item(name): (int(name), condition) for name in study.names() for condition in conditions}

    def measured_item(name: str) -> PersonRecords:
        index, condition = items[name]
        person = condition.shown(draw_person(population, index, heads))
        return _measured(condition, person, heads, networks, judges, study.seed, more)

    records = yield from work.kept("persons", list(items), measured_item, save_records, load_records)
    found = [[records[condition.item(name)] for name in study.names()] for condition in conditions]
    tables: list[Table] = []
    for condition, persons in zip(conditions, found, strict=True):
        of_condition = merged(summarise(persons, METRICS), persons_apart(persons))
        tables.append({row.under(**condition.at): cells for row, cells in of_condition.items()})
    return merged(*tables, *([] if overall is None else [overall(found)]))


def _measured(
    condition: StudyCondition,
    person: Person,
    heads: Sequence[HeadModel],
    networks: Mapping[str, StudiedEditor],
    judges: Judges,
    seed: int,
    more: More | None,
) -> PersonRecords:
    """Records of a person under a condition."""
    truth = render_ground_truth(person, heads)
    truth = replace(truth, capture=condition.captured(truth.images[0], person))
    copies = [truth.source] * len(truth.images)
    images: dict[Row, Sequence[Rgbd]] = {}
    records: list[Record] = []
    used = dict.fromkeys(edit.network for edit in condition.edits.values())
    faces = {name: _found(networks[name], truth.source) for name in used}

    for row, edit in condition.edits.items():
        face = faces[edit.network]
        refuses = face is None and edit.asks != "token"
        # A user would get an error and keep the source; leaving such persons out would make hard conditions look better.
        images[row] = copies if refuses else _edited(networks[edit.network], edit, person, truth.source, face, seed)
        records.append(Record(row=row, measure=REFUSED, values=np.array([float(refuses)])))

    if CEILING in condition.beside:
        images[CEILING] = truth.images
    if AUTOENCODER in condition.beside:
        # Networks of a study share the first stage, and the last one is the best at finding faces. Without a face, the source
        # is not moved at all.
        *_, last = faces
        expressions = None if faces[last] is None else person.expressions
        images[AUTOENCODER] = networks[last].decode(
            networks[last].encode(truth.images), copies, expressions, face=faces[last]
        )
    if COPY in condition.beside:
        images[COPY] = copies

    found = measure(images, person, heads, truth, judges)
    return replace(found, records=(*found.records, *records, *(more(images, truth) if more is not None else ())))


def _found(network: StudiedEditor, source: Rgbd) -> RestFace | None:
    """The head fitted to a source, or None if the network finds no face."""
    try:
        return network.face_of(source)
    except AlignmentError:
        return None


def _edited(
    network: StudiedEditor, edit: Edit, person: Person, source: Rgbd, face: RestFace | None, seed: int
) -> Sequence[Rgbd]:
    settings = replace(edit.settings, seed=seed + 1000 * person.index)
    if edit.asks == "weights":
        return network.edit(source, person.expressions, settings, face=face)
    wanted = without_weights(person.expressions)
    if edit.asks == "token":
        return network.edit(source, wanted, settings)
    return network.edit(source, network.expression_prior.drawn(wanted, settings.seed), settings, face=face)
