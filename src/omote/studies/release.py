"""The release suite: unseen persons with seven expressions each, every score beside its ceiling, floor and baseline.

The ground truth is synthetic and named so: rendered persons of the test split, whose blendshapes are linear. The 3DMM edit
assumes exactly that, which makes it the strongest baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from omote.datasets.population import Person
from omote.diffusion.settings import EditSettings
from omote.evaluation.baselines import HeadEdit
from omote.evaluation.deformation_transfer import DeformationTransfer
from omote.evaluation.feature_sets import load_feature_networks, summarise_features
from omote.evaluation.features import load_arcface
from omote.evaluation.ground_truth import GroundTruth, captured_ground_truth
from omote.evaluation.pictures import picture_path, save_pictures
from omote.evaluation.records import PersonRecords, Record, Row, Table, joined
from omote.evaluation.report.page import write_report
from omote.evaluation.report.results import load_results, place
from omote.evaluation.summary import interval, merged, persons_apart, summarise, summarise_parts
from omote.evaluation.test_sets import draw_test_person, population_of, yaw_deg
from omote.files import atomic_path, make_folder
from omote.head.model import HeadModel
from omote.head.rest_face import RestFace
from omote.head.shipped import population_heads
from omote.progress import Step, Steps
from omote.rgbd.protocol import StudiedEditor
from omote.studies.avatar_page import avatar_sections
from omote.studies.base import Results, Work
from omote.studies.edit_methods import (
    CATEGORY,
    RIVAL_ROWS,
    best_of,
    model_images,
    network_images,
    seeded,
    surface_images,
)
from omote.studies.persons import Group, Made, load_judges, measure_persons
from omote.studies.suites import ReleaseSuite
from omote.studies.table import AUTOENCODER, CEILING, DEPTH, MODEL
from omote.types import Rgbd

RIVALS = "rivals"


def measure_release(suite: ReleaseSuite, work: Work) -> Steps[Results]:
    """Measure every row of every person, and write the report.

    Raises:
        JudgeError: the judges are not installed.
        CheckpointError: missing or damaged weights.
    """
    yield Step(stage="load")
    population = population_of(suite.test_set, suite.unseen())
    heads = population_heads(population.ict)
    second = None if suite.arcface is None else load_arcface(suite.arcface)
    judges = replace(load_judges(), second_identity=second)
    sets = load_feature_networks() if suite.sets else None
    networks = suite.networks()
    groups = groups_of(suite, suite.model(), networks, heads)
    names = suite.names()
    if suite.rivals is not None:
        _take_over(suite.rivals, work.out, names, groups)

    def draw(index: int) -> tuple[Person, GroundTruth]:
        person = draw_test_person(suite.test_set, population, index, heads)
        return person, captured_ground_truth(suite.test_set, person, heads)

    found = yield from measure_persons(work, names, draw, groups, heads, judges, sets=sets, pictures=save_pictures)
    persons = [joined(parts) for parts in found]
    table = merged(
        summarise(persons), _best_of(persons, suite.best_of), summarise_parts(persons, {DEPTH}), persons_apart(persons)
    )
    if sets is not None:
        files = [[group.features(work.out, name) for group in groups] for name in names]
        table = merged(table, summarise_features(files, persons, sets))
    return Results(
        table=dict(sorted(table.items(), key=lambda line: (len(line[0].at), place(line[0])))),
        numbers={"count/images": sum(len(p.category) for p in persons)},
        facts=suite.facts(),
        page=lambda out: write_report(load_results(out), _avatars(suite.avatars)),
    )


def _avatars(folder: Path | None) -> Iterator[str]:
    """The report's section on avatars, which comes first."""
    if folder is not None:
        from omote.studies.avatar_methods import table_of

        yield "<h1>Avatars</h1>"
        yield from avatar_sections(table_of(folder))


def groups_of(
    suite: ReleaseSuite, model: StudiedEditor, networks: Mapping[str, StudiedEditor], heads: Sequence[HeadModel]
) -> list[Group]:
    """The model's rows, the rows without networks, and a row of each other network."""
    settings = EditSettings(seed=suite.seed)
    edit, transfer = HeadEdit(heads[0]), DeformationTransfer(heads[0])
    known: dict[int, RestFace | None] = {}

    def face(person: Person, truth: GroundTruth) -> RestFace | None:
        """The face in the source, found once by the model and given to every network."""
        if person.index not in known:
            known.clear()
            known[person.index] = model.face_of(truth.source)
        return known[person.index]

    def made(images: Mapping[Row, Sequence[Rgbd]], person: Person, records: Sequence[Record] = ()) -> Made:
        turned = {"yaw_deg": str(yaw_deg(person.index))} if suite.test_set == "pose" else {}
        return Made(images=images, records=records, parts=turned)

    def by_model(person: Person, truth: GroundTruth) -> Made:
        found, asked, own = face(person, truth), person.expressions, seeded(settings, person)
        images = model_images(model, truth.source, asked, own, found)
        sources = [truth.source] * len(truth.images)
        images[AUTOENCODER] = model.decode(model.encode(truth.images), sources, asked, face=found)
        records = []
        # The diversity of the model's samples does not depend on the capture of the source, and measuring it takes longest.
        if person.index < suite.best_of_persons and suite.test_set == "in-model":
            best = best_of(model, settings, suite.best_of, person, truth, found)
            records.append(Record(row=CATEGORY, measure=f"depth/mae_mm_best_of_{suite.best_of}", values=best))
        return made(images, person, records)

    def without_networks(person: Person, truth: GroundTruth) -> Made:
        edits = surface_images(truth.source, truth.source_landmarks_mm, person.expressions, edit, transfer)
        return made({CEILING: truth.images, **edits}, person)

    def by_network(row: str) -> Callable[[Person, GroundTruth], Made]:
        def make(person: Person, truth: GroundTruth) -> Made:
            own, found = seeded(settings, person), face(person, truth)
            return made(network_images(networks[row], row, truth.source, person.expressions, own, found), person)

        return make

    return [
        Group(name=MODEL.name, make=by_model),
        Group(name=RIVALS, make=without_networks),
        *(Group(name=row, make=by_network(row)) for row in networks),
    ]


def _best_of(persons: Sequence[PersonRecords], count: int) -> Table:
    """The error of the best of several samples, beside the error of the determined answer on the same persons."""
    key = f"depth/mae_mm_best_of_{count}"
    those = [person for person in persons if person.find(CATEGORY, key) is not None]
    best = interval(those, key, CATEGORY)
    determined = interval(those, DEPTH, MODEL)
    if best is None or determined is None:
        return {}
    return {
        CATEGORY: {key: best},
        Row(): {f"ratio/best_of_{count}_over_determined": best.value / determined.value},
    }


def _take_over(earlier: Path, out: Path, names: Sequence[str], groups: Sequence[Group]) -> None:
    """Copy the results of groups without the model from an earlier folder."""
    for name in names:
        for group in groups[1:]:
            rows = RIVAL_ROWS if group.name == RIVALS else (Row(group.name),)
            for path in (
                *(picture_path(earlier / "images", int(name), row.name) for row in rows),
                group.features(earlier, name),
                group.records(earlier, name),
            ):
                target = out / path.relative_to(earlier)
                if path.exists() and not target.exists():
                    make_folder(target.parent)
                    with atomic_path(target) as temporary:
                        temporary.write_bytes(path.read_bytes())
