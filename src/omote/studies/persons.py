"""Measurement of persons: one function makes a person's rows of images, and all metrics of the catalogue are computed on them.

A suite has one `Group` of rows, or several that are stored separately. Each group of a person is a file of records and, if rows
are compared as sets of images too, a file of features. A person is one item of work (`omote.studies.base`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from omote.datasets.population import Person, draw_person
from omote.evaluation.feature_sets import FeatureNetworks, load_feature_networks, save_features, summarise_features
from omote.evaluation.ground_truth import GroundTruth, render_ground_truth
from omote.evaluation.judges.panel import load_expression_judges, load_identity_judge
from omote.evaluation.measure import Judges, measure
from omote.evaluation.records import PersonRecords, Record, Row, Table, load_records, save_records
from omote.evaluation.summary import merged, summarise
from omote.files import make_folder
from omote.head.model import HeadModel
from omote.head.shipped import population_heads
from omote.progress import Steps
from omote.studies.base import PersonStudy, Work
from omote.types import Rgbd

# Folder, person, images per row and the true renders.
Pictures = Callable[[Path, Person, Mapping[Row, Sequence[Rgbd]], Sequence[Rgbd]], None]


@dataclass(frozen=True, kw_only=True)
class Made:
    """Rows of a person.

    Attributes:
        images: images per row, in the order of the person's expressions.
        records: further measurements of the images, such as the time they took.
        parts: subgroups of the person besides the head family.
    """

    images: Mapping[Row, Sequence[Rgbd]]
    records: Sequence[Record] = ()
    parts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Rows that are made and stored together.

    Attributes:
        name: name of the group's files.
        make: function from a person and the true renders to the rows.
    """

    name: str
    make: Callable[[Person, GroundTruth], Made]

    def records(self, out: Path, name: str) -> Path:
        """Path of a person's records."""
        return out / "persons" / f"{name}_{self.name}.json"

    def features(self, out: Path, name: str) -> Path:
        """Path of a person's features."""
        return out / "features" / f"{name}_{self.name}.safetensors"


def load_judges() -> Judges:
    """The installed panel of judges.

    Raises:
        JudgeError: a judge is not installed.
    """
    return Judges(expression=load_expression_judges(), identity=load_identity_judge())


def measure_rows(
    study: PersonStudy, work: Work, make: Callable[[Person, GroundTruth], Made], *, pictures: Pictures | None = None
) -> Steps[Table]:
    """Measure one group of rows of unseen persons, and summarise them as images and as sets of images.

    Args:
        study: study of the rows, which the group is named after.
        work: result folder.
        make: function from a person and the true renders to the rows.
        pictures: function that saves pictures of the group.
    """
    population, sets = study.unseen(), load_feature_networks()
    heads = population_heads(population.ict)

    def draw(index: int) -> tuple[Person, GroundTruth]:
        person = draw_person(population, index, heads)
        return person, render_ground_truth(person, heads)

    group, names = Group(name=study.NAME, make=make), study.names()
    found = yield from measure_persons(work, names, draw, [group], heads, load_judges(), sets=sets, pictures=pictures)
    persons = [person for (person,) in found]
    return merged(summarise(persons), summarise_features([[group.features(work.out, n)] for n in names], persons, sets))


def measure_persons(
    work: Work,
    names: Sequence[str],
    draw: Callable[[int], tuple[Person, GroundTruth]],
    groups: Sequence[Group],
    heads: Sequence[HeadModel],
    judges: Judges,
    *,
    sets: FeatureNetworks | None = None,
    pictures: Pictures | None = None,
) -> Steps[list[list[PersonRecords]]]:
    """Measure each person's missing groups.

    Args:
        work: result folder.
        names: names of the items: the persons' numbers.
        draw: function from a number to the person and the true renders.
        groups: groups of rows to measure.
        heads: head families of the population.
        judges: panel of judges.
        sets: networks whose features are stored to compare sets; None stores none.
        pictures: function that saves pictures of a group in a folder, before its records.

    Returns:
        Each person's records by group.
    """
    out = work.out
    for folder in (
        "persons",
        *(["features"] if sets is not None else []),
        *(["images"] if pictures is not None else []),
    ):
        make_folder(out / folder)

    def make(name: str) -> Steps[None]:
        person, truth = draw(int(name))
        for group in groups:
            records, features = group.records(out, name), group.features(out, name)
            if records.exists() and (sets is None or features.exists()):
                continue
            made = group.make(person, truth)
            if sets is not None:
                save_features(features, sets, made.images, truth.images, truth.landmarks_px[0])
            if pictures is not None:
                pictures(out / "images", person, made.images, truth.images)
            found = measure(made.images, person, heads, truth, judges)
            kept = replace(found, parts={**found.parts, **made.parts}, records=(*found.records, *made.records))
            save_records(records, kept)
        yield from ()

    files = {
        name: [
            path
            for group in groups
            for path in (group.records(out, name), *([group.features(out, name)] if sets is not None else []))
        ]
        for name in names
    }
    yield from work.items(files, make, stage="persons")
    return [[load_records(group.records(out, name)) for group in groups] for name in names]
