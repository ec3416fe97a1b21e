"""The release suite: unseen persons, seven expressions each, every score beside its ceiling, floor and baseline.

One result file per person, written atomically, so that a killed run goes on where it was and any order of work merges to
the same numbers. Ground truth is synthetic and called so: rendered persons of the test split, whose blendshapes are linear,
which is what the 3DMM edit assumes; that row is therefore the strongest rival, not a straw man.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from omote.datasets.population import Person, PopulationConfig
from omote.evaluation import metrics
from omote.evaluation.added import summarise_added
from omote.evaluation.baselines import HeadEdit
from omote.evaluation.deformation_transfer import DeformationTransfer
from omote.evaluation.features import FeatureExtractor
from omote.evaluation.judges import JUDGES, load_expression_judges, load_identity_judge
from omote.evaluation.measure import EvaluationStep, Judges, measure
from omote.evaluation.pictures import missing_pictures, save_pictures, sheet_persons
from omote.evaluation.sets import SetNetworks, save_features, summarise_sets
from omote.evaluation.testsets import SetName, draw_test_person, population_of, yaw_deg
from omote.evaluation.truth import Truth, captured_truth
from omote.files import atomic_path
from omote.head.expressions import CATEGORIES
from omote.head.model import HeadModel
from omote.head.rest_face import RestFace
from omote.head.shipped import population_heads
from omote.rgbd.model import EditingModel, EditSettings
from omote.studies.rows import MODEL_ROWS, RIVAL_ROWS, best_of, model_images, network_images, rival_images
from omote.types import Rgbd


@dataclass(frozen=True, kw_only=True)
class ReleaseConfig:
    """The suite.

    Attributes:
        population: test persons; the split must be "test" for numbers that are published.
        test_set: who they are and how they are captured.
        num_persons: each with seven expressions.
        settings: how the model samples.
        best_of: samples per expression where the category alone is given.
        num_best_of: persons for which that is measured.
    """

    population: PopulationConfig
    test_set: SetName = "in-model"
    num_persons: int = 200
    settings: EditSettings = EditSettings()
    best_of: int = 8
    num_best_of: int = 40


def evaluate_release(
    model: EditingModel,
    config: ReleaseConfig,
    out: Path,
    *,
    rivals: Path | None = None,
    sets: SetNetworks | None = None,
    networks: Mapping[str, EditingModel] | None = None,
    second_identity: FeatureExtractor | None = None,
) -> Iterator[EvaluationStep]:
    """Run the suite into ``out``: ``persons/*.json``, ``rivals/*.json`` and ``images/*.png`` as it goes, then ``metrics.json``.

    Args:
        model: the networks.
        config: the suite.
        out: folder of the results.
        rivals: where the rows of others lie or go; ``out/rivals`` if None.
        sets: compare the rows as sets of images too, by these networks, with ``features/*.safetensors``.
        networks: other networks by row, of `NETWORK_ROWS`.
        second_identity: beside the installed identity judge.

    Raises:
        JudgeError: the judges' weights are not installed.
        ConfigError: the test set needs another head family.
    """
    population = replace(population_of(config.test_set, config.population), num_images=len(CATEGORIES))
    heads = population_heads(population.ict)
    judges = Judges(
        expression=load_expression_judges(), identity=load_identity_judge(), second_identity=second_identity
    )
    groups = _groups(model, config, out, out / "rivals" if rivals is None else rivals, heads, networks or {})
    for group in groups:
        for folder in (group.folder, group.pictures, *([group.features] if sets is not None else [])):
            folder.mkdir(parents=True, exist_ok=True)

    def at(index: int) -> tuple[Person, Truth]:
        person = draw_test_person(config.test_set, population, index, heads)
        return person, captured_truth(config.test_set, person, heads)

    rows = []
    for index in range(config.num_persons):
        wanted = [group for group in groups if not group.has(index, sets is not None)]
        if wanted:
            person, truth = at(index)
            for group in wanted:
                group.run(person, truth, heads, judges, sets)
        rows.append({k: v for group in groups for k, v in json.loads(group.file(index).read_text()).items()})
        yield EvaluationStep(done=index + 1, total=config.num_persons)
    # Persons measured by a version without pictures, as far as the report shows them.
    for index in sheet_persons(rows).values():
        for group in groups:
            if missing_pictures(group.pictures, index, group.rows):
                person, truth = at(index)
                save_pictures(group.pictures, person, group.make(person, truth), truth.images)
    for group in groups:
        if group.folder != out / "rivals" and group.folder != out / "persons":
            # A result folder is complete in itself, wherever its rivals were measured.
            _take_over(group.folder, out / "rivals", config.num_persons, group.suffix + ".json")
            for row in group.rows:
                _take_over(group.pictures, out / "images", config.num_persons, f"_{row}.png")
    numbers = summarise(rows)
    if sets is not None:
        moved = np.array([p["category"] for p in rows]) != CATEGORIES.index("neutral")
        files = [[group.feature_file(index) for group in groups] for index in range(len(rows))]
        numbers.update(summarise_sets(files, moved, sets))
    with atomic_path(out / "metrics.json") as temporary:
        temporary.write_text(json.dumps(numbers, indent=2, sort_keys=True) + "\n")


@dataclass(frozen=True, kw_only=True)
class _Group:
    """Rows that are made and kept together.

    Attributes:
        name: of its features.
        rows: that it makes.
        folder: of its numbers; a row's pictures and features lie beside them.
        suffix: of its files' names.
        make: a person's images per row.
        more: what else is measured of a person.
    """

    name: str
    rows: tuple[str, ...]
    folder: Path
    suffix: str
    make: Callable[[Person, Truth], dict[str, list[Rgbd]]]
    more: Callable[[Person, Truth], dict[str, object]] = lambda person, truth: {}

    @property
    def pictures(self) -> Path:
        return self.folder.parent / "images"

    @property
    def features(self) -> Path:
        return self.folder.parent / "features"

    def file(self, index: int) -> Path:
        return self.folder / f"{index:06d}{self.suffix}.json"

    def feature_file(self, index: int) -> Path:
        return self.features / f"{index:06d}_{self.name}.safetensors"

    def has(self, index: int, with_features: bool) -> bool:
        return self.file(index).exists() and (not with_features or self.feature_file(index).exists())

    def run(
        self, person: Person, truth: Truth, heads: Sequence[HeadModel], judges: Judges, sets: SetNetworks | None
    ) -> None:
        """Measure a person and keep what is missing; pictures first: a person whose numbers are there has them."""
        images = self.make(person, truth)
        if not self.file(person.index).exists():
            save_pictures(self.pictures, person, images, truth.images)
            _write(self.file(person.index), measure(images, person, heads, truth, judges) | self.more(person, truth))
        if sets is not None:
            save_features(self.feature_file(person.index), sets, images, truth.images, truth.landmarks_px[0])


def _groups(
    model: EditingModel,
    config: ReleaseConfig,
    out: Path,
    rivals: Path,
    heads: Sequence[HeadModel],
    networks: Mapping[str, EditingModel],
) -> list[_Group]:
    edit, transfer = HeadEdit(heads[0]), DeformationTransfer(heads[0])
    known: dict[int, RestFace | None] = {}

    def face(person: Person, truth: Truth) -> RestFace | None:
        """Who the source shows: found once, by the model, and told to every network."""
        if person.index not in known:
            known.clear()
            known[person.index] = model.face_of(truth.source)
        return known[person.index]

    def more(person: Person, truth: Truth) -> dict[str, object]:
        found: dict[str, object] = {"yaw_deg": yaw_deg(person.index)} if config.test_set == "pose" else {}
        if person.index < config.num_best_of:
            found["best_of"] = best_of(model, config.settings, config.best_of, person, truth, face(person, truth))
        return found

    def by(network: EditingModel, row: str) -> Callable[[Person, Truth], dict[str, list[Rgbd]]]:
        return lambda person, truth: {
            row: network_images(network, row, config.settings, person, truth, face(person, truth))
        }

    return [
        _Group(
            name="model",
            rows=MODEL_ROWS,
            folder=out / "persons",
            suffix="",
            make=lambda person, truth: model_images(model, config.settings, person, truth, face(person, truth)),
            more=more,
        ),
        _Group(
            name="rivals",
            rows=RIVAL_ROWS,
            folder=rivals,
            suffix="",
            make=lambda person, truth: rival_images(person, truth, edit, transfer),
        ),
        *(
            _Group(name=row, rows=(row,), folder=rivals, suffix=f"_{row}", make=by(network, row))
            for row, network in networks.items()
        ),
    ]


def _take_over(source: Path, target: Path, count: int, ending: str) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for file in (f"{index:06d}{ending}" for index in range(count)):
        if (source / file).exists():
            with atomic_path(target / file) as temporary:
                temporary.write_bytes((source / file).read_bytes())


def _write(path: Path, result: Mapping[str, object]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(result))


def summarise(persons: Sequence[Mapping[str, object]]) -> dict[str, float | int]:
    """Per-person results → flat keys ``<metric>/<row>``."""

    def column(key: str) -> Float[np.ndarray, "p 7"]:
        return np.array([p[key] for p in persons], dtype=np.float64)

    category = column("category").astype(int)
    moved = category != CATEGORIES.index("neutral")
    out: dict[str, float | int] = {"count/persons": len(persons), "count/images": int(category.size)}
    names = {
        "mae": "depth/mae_mm_metric",
        "rmse": "depth/rmse_mm_metric",
        "absrel": "depth/absrel",
        "delta1": "depth/delta1",
        "mae_aligned": "depth/mae_mm_affine_aligned",
        "mae_moving": "depth/mae_mm_moving",
    }
    rows = [key.partition("/")[2] for key in persons[0] if key.startswith("judged_both/")]
    for row in rows:
        if row != "ceiling":
            for key, name in names.items():
                out[f"{name}/{row}"] = metrics.mean_over_images(column(f"{key}/{row}").ravel())
            # Neutral is left out of colour: copying it is perfect and says nothing.
            out[f"color/psnr_db/{row}"] = metrics.mean_over_images(column(f"psnr/{row}")[moved])
            out[f"color/psnr_db_mouth/{row}"] = metrics.mean_over_images(column(f"psnr_mouth/{row}")[moved])
            out[f"identity/faceapi/{row}"] = metrics.mean_over_images(column(f"identity/{row}")[moved])
        for judge in JUDGES:
            judged = column(f"judged_{judge}/{row}").astype(int)
            accuracy = metrics.accuracy(category.ravel(), judged.ravel(), len(CATEGORIES))
            out[f"expression/top1_{judge}/{row}"] = accuracy.macro
            pairs = tuple((CATEGORIES.index(a), CATEGORIES.index(b)) for a, b in metrics.CONFUSING_PAIRS)
            out[f"expression/mscr_{judge}/{row}"] = metrics.mean_symmetric_confusion_rate(accuracy.confusion, pairs)
            for name, value in zip(CATEGORIES, accuracy.per_class, strict=True):
                out[f"expression/top1_{judge}_{name}/{row}"] = float(value)
    measured = [p for p in persons if "best_of" in p]
    if measured:
        best = np.array([p["best_of"] for p in measured], dtype=np.float64)
        determined = np.array([p["mae/model"] for p in measured], dtype=np.float64)
        out["depth/mae_mm_metric_best_of_8/model_category"] = float(best.mean())
        out["ratio/best_of_8_over_determined"] = float(best.mean() / determined.mean())
    out.update(summarise_added(persons, JUDGES))
    parts = {str(p["head"]) for p in persons} | {f"yaw_{p['yaw_deg']}" for p in persons if "yaw_deg" in p}
    for part in sorted(parts):
        chosen = np.array([part in (p["head"], f"yaw_{p.get('yaw_deg')}") for p in persons])
        out[f"count/persons_{part}"] = int(chosen.sum())
        for row in rows:
            if row != "ceiling":
                errors = column(f"mae/{row}")[chosen]
                out[f"depth/mae_mm_metric/{row}_{part}"] = metrics.mean_over_images(errors.ravel())
    return out
