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
import torch
from jaxtyping import Bool, Float

from omote.data.population import Person, PopulationConfig, render_person
from omote.evaluation import metrics
from omote.evaluation.added import added_measures, summarise_added
from omote.evaluation.baselines import HeadEdit, SurfaceEdit
from omote.evaluation.deformation_transfer import DeformationTransfer
from omote.evaluation.features import FeatureExtractor
from omote.evaluation.judges import ExpressionJudges, IdentityJudge, load_expression_judges, load_identity_judge
from omote.evaluation.pictures import missing_pictures, save_pictures, sheet_persons
from omote.evaluation.sets import SetNetworks, save_features, summarise_sets
from omote.evaluation.testsets import SetName, captured, draw_test_person, population_of, source_index, yaw_deg
from omote.files import atomic_path
from omote.head.expressions import CATEGORIES
from omote.head.model import HeadModel
from omote.head.rest_face import RestFace
from omote.ldm.editing import EditingModel, EditSettings
from omote.types import Expression, Rgbd

# Rows that the networks have no part in: measured once, whatever the weights.
RIVAL_ROWS = ("ceiling", "copy_source", "head_edit", "deformation_transfer")
# model: the truth's ARKit weights. model_category: category and intensity alone, weights drawn by the prior of expressions.
# model_token: category and intensity alone, and the network has to decide by itself.
MODEL_ROWS = ("model", "model_category", "model_token", "autoencoder_ceiling")
# Other networks given what ``model`` is given, where there are weights for them; row → how many steps they take.
NETWORK_ROWS = {"regression": 1, "pixel_diffusion": 10}
JUDGES = ("faceapi", "fer", "both")


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


@dataclass(frozen=True, kw_only=True)
class EvaluationStep:
    """Progress: persons done of all."""

    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Judges:
    """The panel; the second identity network is a user's own."""

    expression: ExpressionJudges
    identity: IdentityJudge
    second_identity: FeatureExtractor | None = None


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
    heads = population.heads()
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
            found["best_of"] = _best_of(model, config, person, truth, face(person, truth))
        return found

    def by(network: EditingModel, row: str) -> Callable[[Person, Truth], dict[str, list[Rgbd]]]:
        return lambda person, truth: {row: network_images(network, row, config, person, truth, face(person, truth))}

    return [
        _Group(
            name="model",
            rows=MODEL_ROWS,
            folder=out / "persons",
            suffix="",
            make=lambda person, truth: model_images(model, config, person, truth, face(person, truth)),
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


@dataclass(frozen=True, kw_only=True)
class Images:
    """One row's seven images, stacked."""

    rgb: Float[np.ndarray, "n h w 3"]
    depth_mm: Float[np.ndarray, "n h w"]
    mask: Bool[np.ndarray, "n h w"]


def stacked(images: Sequence[Rgbd]) -> Images:
    """A row's images as arrays."""
    return Images(
        rgb=np.stack([i.rgb for i in images]),
        depth_mm=np.stack([i.depth_mm for i in images]),
        mask=np.stack([i.mask for i in images]),
    )


@dataclass(frozen=True, kw_only=True)
class Truth:
    """A person's rendered images; the first is at rest.

    Attributes:
        images: one per expression.
        landmarks_px: projected, per image.
        landmarks_mm: canonical frame, per image.
        source_index: which of them shows what the source of every row shows.
        capture: the source, where it is not that image itself.
    """

    images: list[Rgbd]
    landmarks_px: Float[np.ndarray, "n 68 2"]
    landmarks_mm: Float[np.ndarray, "n 68 3"]
    source_index: int = 0
    capture: Rgbd | None = None

    @property
    def source(self) -> Rgbd:
        """What every row is given."""
        return self.images[self.source_index] if self.capture is None else self.capture

    @property
    def source_landmarks_mm(self) -> Float[np.ndarray, "68 3"]:
        """Of the source, canonical frame."""
        landmarks: Float[np.ndarray, "68 3"] = self.landmarks_mm[self.source_index]
        return landmarks


def render_truth(person: Person, heads: Sequence[HeadModel]) -> Truth:
    """The person's expressions, rendered; the source is the one at rest."""
    rendered = list(render_person(person, heads))
    return Truth(
        images=[r[0] for r in rendered],
        landmarks_px=np.stack([r[1] for r in rendered]),
        landmarks_mm=np.stack([heads[person.head].landmarks(r[2]) for r in rendered]),
    )


def captured_truth(name: SetName, person: Person, heads: Sequence[HeadModel]) -> Truth:
    """The person's expressions, rendered, and the source as the test set captures it."""
    truth = render_truth(person, heads)
    index = source_index(name, person)
    return replace(truth, source_index=index, capture=captured(name, truth.images[index], person))


def rival_images(person: Person, truth: Truth, edit: SurfaceEdit, transfer: SurfaceEdit) -> dict[str, list[Rgbd]]:
    """Images of `RIVAL_ROWS`; finding the head takes the longest, so it is found once."""
    surface = edit.find(truth.source, truth.source_landmarks_mm)
    return {
        "ceiling": truth.images,
        "copy_source": [truth.source] * len(truth.images),
        "head_edit": edit.edit(surface, person.expressions),
        "deformation_transfer": transfer.edit(surface, person.expressions),
    }


def network_images(
    network: EditingModel, row: str, config: ReleaseConfig, person: Person, truth: Truth, face: RestFace | None
) -> list[Rgbd]:
    """Of a network of `NETWORK_ROWS`, given what ``model`` is given."""
    settings = replace(config.settings, seed=config.settings.seed + 1000 * person.index, steps=NETWORK_ROWS[row])
    return network.edit(truth.source, person.expressions, settings, face=face)


def without_weights(expressions: Sequence[Expression]) -> list[Expression]:
    """Category and intensity without ARKit weights."""
    return [Expression(category=e.category, intensity=e.intensity) for e in expressions]


def _drawn(model: EditingModel, expressions: Sequence[Expression], seed: int) -> list[Expression]:
    """The same categories and intensities with weights that the model draws."""
    return model.expression_prior.drawn(without_weights(expressions), seed)


def model_images(
    model: EditingModel, config: ReleaseConfig, person: Person, truth: Truth, face: RestFace | None
) -> dict[str, list[Rgbd]]:
    """Images of `MODEL_ROWS`."""
    source = truth.source
    settings = replace(config.settings, seed=config.settings.seed + 1000 * person.index)
    return {
        "model": model.edit(source, person.expressions, settings, face=face),
        "model_category": model.edit(source, _drawn(model, person.expressions, settings.seed), settings, face=face),
        "model_token": model.edit(source, without_weights(person.expressions), settings),
        "autoencoder_ceiling": model.reconstruct(
            truth.images, [source] * len(truth.images), person.expressions, face=face
        ),
    }


def measure(
    images: Mapping[str, Sequence[Rgbd]], person: Person, heads: Sequence[HeadModel], truth: Truth, judges: Judges
) -> dict[str, object]:
    """Everything measured of one person's rows: lists over the seven images, per metric and row."""
    true, landmarks = stacked(truth.images), truth.landmarks_px
    # What moves, moves from what the source truly shows.
    source_depth = np.repeat(true.depth_mm[truth.source_index][None], len(true.rgb), 0)
    source_mask = np.repeat(true.mask[truth.source_index][None], len(true.rgb), 0)
    moving = metrics.moving_mask(true.depth_mm, true.mask, source_depth, source_mask)
    mouth = metrics.box_mask(metrics.mouth_boxes(landmarks), height=true.mask.shape[1], width=true.mask.shape[2])
    neutral = torch.from_numpy(np.repeat(landmarks[:1], len(landmarks), 0))
    out: dict[str, object] = {
        "head": heads[person.head].name,
        "category": [CATEGORIES.index(e.category) for e in person.expressions],
        "intensity": [e.intensity for e in person.expressions],
    }
    true_identity = judges.identity.embed(torch.from_numpy(true.rgb).permute(0, 3, 1, 2), neutral).numpy()
    second = judges.second_identity
    true_second = None if second is None else second(torch.from_numpy(true.rgb).permute(0, 3, 1, 2), neutral).numpy()
    # What tells persons apart, as a reference for every identity distance.
    out["descriptor"] = true_identity[0].tolist()
    for row, seen in images.items():
        stack = stacked(seen)
        rgb = torch.from_numpy(stack.rgb).permute(0, 3, 1, 2).contiguous()
        scores = judges.expression.probabilities(rgb, neutral)
        for judge, probabilities in scores.named().items():
            out[f"judged_{judge}/{row}"] = probabilities.argmax(dim=1).tolist()
            asked = torch.tensor(out["category"])[:, None]
            out[f"asked_{judge}/{row}"] = (probabilities.gather(1, asked)[:, 0] / probabilities.sum(dim=1)).tolist()
        out[f"identity/{row}"] = metrics.identity_distance(
            judges.identity.embed(rgb, neutral).numpy(), true_identity
        ).tolist()
        if second is not None and true_second is not None:
            cosine = metrics.identity_cosine(second(rgb, neutral).numpy(), true_second)
            out[f"identity_{second.name}/{row}"] = (1 - cosine).tolist()
        if row == "ceiling":
            continue
        # The truth's mask decides; where a row shows nothing there, its median depth is its answer.
        depth = answered(stack)
        errors = metrics.depth_errors(depth, true.depth_mm, true.mask)
        aligned = metrics.affine_aligned(depth, true.depth_mm, true.mask)
        out[f"mae/{row}"] = errors.mae_mm.tolist()
        out[f"rmse/{row}"] = errors.rmse_mm.tolist()
        out[f"absrel/{row}"] = errors.absrel.tolist()
        out[f"delta1/{row}"] = errors.delta1.tolist()
        out[f"mae_aligned/{row}"] = metrics.depth_errors(aligned, true.depth_mm, true.mask).mae_mm.tolist()
        out[f"mae_moving/{row}"] = metrics.depth_errors(depth, true.depth_mm, moving).mae_mm.tolist()
        out[f"psnr/{row}"] = metrics.psnr_db(stack.rgb, true.rgb, true.mask).tolist()
        out[f"psnr_mouth/{row}"] = metrics.psnr_db(stack.rgb, true.rgb, mouth & true.mask).tolist()
        added = added_measures(
            stack.rgb, depth, true.rgb, true.depth_mm, true.mask, truth.images[0].camera, source_depth, source_mask
        )
        out.update({f"{key}/{row}": values for key, values in added.items()})
    return out


def answered(stack: Images) -> Float[np.ndarray, "n h w"]:
    """Depth with a row's own holes filled by its median: a missing answer is a wrong one, not a free one."""
    fallback = np.array([np.median(d[m]) if m.any() else 0.0 for d, m in zip(stack.depth_mm, stack.mask, strict=True)])
    return np.where(stack.mask, stack.depth_mm, fallback[:, None, None])


def _best_of(
    model: EditingModel, config: ReleaseConfig, person: Person, truth: Truth, face: RestFace | None
) -> list[float]:
    """Per image, the least depth MAE among ``best_of`` samples from category and intensity alone."""
    true = stacked(truth.images)
    errors = []
    for k in range(config.best_of):
        settings = replace(config.settings, seed=config.settings.seed + 1000 * person.index + 100 * (k + 1))
        stack = stacked(model.edit(truth.source, _drawn(model, person.expressions, settings.seed), settings, face=face))
        errors.append(metrics.depth_errors(answered(stack), true.depth_mm, true.mask).mae_mm)
    best: list[float] = np.min(errors, axis=0).tolist()
    return best


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
