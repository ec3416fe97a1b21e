"""The release suite: unseen persons, seven expressions each, every score beside its ceiling, floor and baseline.

One result file per person, written atomically, so that a killed run goes on where it was and any order of work merges to
the same numbers. Ground truth is synthetic and called so: rendered persons of the test split, whose blendshapes are linear,
which is what the 3DMM edit assumes; that row is therefore the strongest rival, not a straw man.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float

from omote.data.population import Person, PopulationConfig, draw_person, render_person
from omote.evaluation import metrics
from omote.evaluation.added import added_measures, summarise_added
from omote.evaluation.baselines import HeadEdit
from omote.evaluation.judges import ExpressionJudges, IdentityJudge, load_expression_judges, load_identity_judge
from omote.evaluation.pictures import missing_pictures, save_pictures, sheet_persons
from omote.evaluation.sets import SetNetworks, save_features, summarise_sets
from omote.files import atomic_path
from omote.head.expressions import CATEGORIES, draw_expression
from omote.head.model import HeadModel
from omote.ldm.editing import EditingModel, EditSettings
from omote.types import Expression, Rgbd

# Rows that the networks have no part in: measured once, whatever the weights.
RIVAL_ROWS = ("ceiling", "copy_source", "head_edit")
# model: the truth's ARKit weights. model_category: category and intensity alone, weights drawn as the population draws them.
# model_token: category and intensity alone, and the network has to decide by itself.
MODEL_ROWS = ("model", "model_category", "model_token", "autoencoder_ceiling")
ROWS = (*MODEL_ROWS, *RIVAL_ROWS)
JUDGES = ("faceapi", "fer", "both")


@dataclass(frozen=True, kw_only=True)
class ReleaseConfig:
    """The suite.

    Attributes:
        population: test persons; the split must be "test" for numbers that are published.
        num_persons: each with seven expressions.
        settings: how the model samples.
        best_of: samples per expression where the category alone is given.
        num_best_of: persons for which that is measured.
    """

    population: PopulationConfig
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
    """The panel."""

    expression: ExpressionJudges
    identity: IdentityJudge


def evaluate_release(
    model: EditingModel,
    config: ReleaseConfig,
    out: Path,
    *,
    rivals: Path | None = None,
    sets: SetNetworks | None = None,
) -> Iterator[EvaluationStep]:
    """Run the suite into ``out``: ``persons/*.json``, ``rivals/*.json`` and ``images/*.png`` as it goes, then ``metrics.json``.

    Args:
        model: the networks.
        config: the suite.
        out: folder of the results.
        rivals: where the rows without networks lie or go; ``out/rivals`` if None.
        sets: compare the rows as sets of images too, by these networks, with ``features/*.safetensors``.

    Raises:
        JudgeError: the judges' weights are not installed.
    """
    heads = config.population.heads()
    judges = Judges(expression=load_expression_judges(), identity=load_identity_judge())
    folders = (out / "persons", out / "rivals" if rivals is None else rivals)
    # A row's pictures lie beside its numbers.
    pictures = tuple(folder.parent / "images" for folder in folders)
    features = tuple(folder.parent / "features" for folder in folders)
    for folder in (*folders, *pictures, *(features if sets is not None else ())):
        folder.mkdir(parents=True, exist_ok=True)
    edit = HeadEdit(heads[0])
    rows = []

    def at(index: int) -> tuple[Person, Truth]:
        person = draw_person(replace(config.population, num_images=len(CATEGORIES)), index, heads)
        return person, render_truth(person, heads)

    for index in range(config.num_persons):
        of_model, of_rivals = paths = [folder / f"{index:06d}.json" for folder in folders]
        model_set, rivals_set = set_paths = _set_paths(features, index) if sets is not None else (of_model, of_rivals)
        if not all(path.exists() for path in (*paths, *set_paths)):
            person, truth = at(index)
            # Pictures first: a person whose numbers are there has them.
            if not (of_rivals.exists() and rivals_set.exists()):
                images = rival_images(person, truth, heads, edit)
                if not of_rivals.exists():
                    save_pictures(pictures[1], person, images, truth.images)
                    _write(of_rivals, measure(images, person, heads, truth, judges))
                if sets is not None:
                    save_features(rivals_set, sets, images, truth.images, truth.landmarks_px[0])
            if not (of_model.exists() and model_set.exists()):
                images = model_images(model, config, person, truth)
                if not of_model.exists():
                    save_pictures(pictures[0], person, images, truth.images)
                    result = measure(images, person, heads, truth, judges)
                    if index < config.num_best_of:
                        result["best_of"] = _best_of(model, config, person, truth)
                    _write(of_model, result)
                if sets is not None:
                    save_features(model_set, sets, images, truth.images, truth.landmarks_px[0])
        rows.append({k: v for path in paths for k, v in json.loads(path.read_text()).items()})
        yield EvaluationStep(done=index + 1, total=config.num_persons)
    # Persons measured by a version without pictures, as far as the report shows them.
    for index in sheet_persons(rows).values():
        if missing_pictures(pictures[0], index, MODEL_ROWS):
            person, truth = at(index)
            save_pictures(pictures[0], person, model_images(model, config, person, truth), truth.images)
        if missing_pictures(pictures[1], index, RIVAL_ROWS):
            person, truth = at(index)
            save_pictures(pictures[1], person, rival_images(person, truth, heads, edit), truth.images)
    if folders[1] != out / "rivals":
        # A result folder is complete in itself, wherever its rivals were measured.
        _take_over(folders[1], out / "rivals", config.num_persons, "{:06d}.json")
        for row in RIVAL_ROWS:
            _take_over(pictures[1], pictures[0], config.num_persons, f"{{:06d}}_{row}.png")
    numbers = summarise(rows)
    if sets is not None:
        moved = np.array([p["category"] for p in rows]) != CATEGORIES.index("neutral")
        numbers.update(summarise_sets([_set_paths(features, index) for index in range(len(rows))], moved, sets))
    with atomic_path(out / "metrics.json") as temporary:
        temporary.write_text(json.dumps(numbers, indent=2, sort_keys=True) + "\n")


def _set_paths(folders: Sequence[Path], index: int) -> tuple[Path, Path]:
    """Where a person's features lie, of rows with and without networks."""
    return folders[0] / f"{index:06d}_model.safetensors", folders[1] / f"{index:06d}_rivals.safetensors"


def _take_over(source: Path, target: Path, count: int, name: str) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for file in (name.format(index) for index in range(count)):
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
    """A person's rendered images; the first is at rest and the source of every row.

    Attributes:
        images: one per expression.
        landmarks_px: projected, per image.
        rest_landmarks_mm: at rest, canonical frame.
    """

    images: list[Rgbd]
    landmarks_px: Float[np.ndarray, "n 68 2"]
    rest_landmarks_mm: Float[np.ndarray, "68 3"]


def render_truth(person: Person, heads: Sequence[HeadModel]) -> Truth:
    """The person's expressions, rendered."""
    rendered = list(render_person(person, heads))
    return Truth(
        images=[r[0] for r in rendered],
        landmarks_px=np.stack([r[1] for r in rendered]),
        rest_landmarks_mm=heads[person.head].landmarks(rendered[0][2]),
    )


def rival_images(person: Person, truth: Truth, heads: Sequence[HeadModel], edit: HeadEdit) -> dict[str, list[Rgbd]]:
    """Images of `RIVAL_ROWS`."""
    source = truth.images[0]
    return {
        "ceiling": truth.images,
        "copy_source": [source] * len(truth.images),
        "head_edit": edit(source, truth.rest_landmarks_mm, person.expressions),
    }


def without_weights(expressions: Sequence[Expression]) -> list[Expression]:
    """Category and intensity without ARKit weights."""
    return [Expression(category=e.category, intensity=e.intensity) for e in expressions]


def _drawn(expressions: Sequence[Expression], seed: int) -> list[Expression]:
    """The same categories and intensities with weights of their own draw."""
    rng = np.random.default_rng([91, seed])
    return [draw_expression(e.category, rng, intensity=e.intensity) for e in expressions]


def model_images(model: EditingModel, config: ReleaseConfig, person: Person, truth: Truth) -> dict[str, list[Rgbd]]:
    """Images of `MODEL_ROWS`."""
    source = truth.images[0]
    face = model.face_of(source)
    settings = replace(config.settings, seed=config.settings.seed + 1000 * person.index)
    return {
        "model": model.edit(source, person.expressions, settings, face=face),
        "model_category": model.edit(source, _drawn(person.expressions, settings.seed), settings, face=face),
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
    source_depth = np.repeat(true.depth_mm[:1], len(true.rgb), 0)
    source_mask = np.repeat(true.mask[:1], len(true.rgb), 0)
    moving = metrics.moving_mask(true.depth_mm, true.mask, source_depth, source_mask)
    mouth = metrics.box_mask(metrics.mouth_boxes(landmarks), height=true.mask.shape[1], width=true.mask.shape[2])
    neutral = torch.from_numpy(np.repeat(landmarks[:1], len(landmarks), 0))
    out: dict[str, object] = {
        "head": heads[person.head].name,
        "category": [CATEGORIES.index(e.category) for e in person.expressions],
        "intensity": [e.intensity for e in person.expressions],
    }
    true_identity = judges.identity.embed(torch.from_numpy(true.rgb).permute(0, 3, 1, 2), neutral).numpy()
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
        added = added_measures(stack.rgb, depth, true.rgb, true.depth_mm, true.mask, truth.images[0].camera)
        out.update({f"{key}/{row}": values for key, values in added.items()})
    return out


def answered(stack: Images) -> Float[np.ndarray, "n h w"]:
    """Depth with a row's own holes filled by its median: a missing answer is a wrong one, not a free one."""
    fallback = np.array([np.median(d[m]) if m.any() else 0.0 for d, m in zip(stack.depth_mm, stack.mask, strict=True)])
    return np.where(stack.mask, stack.depth_mm, fallback[:, None, None])


def _best_of(model: EditingModel, config: ReleaseConfig, person: Person, truth: Truth) -> list[float]:
    """Per image, the least depth MAE among ``best_of`` samples from category and intensity alone."""
    true = stacked(truth.images)
    face = model.face_of(truth.images[0])
    errors = []
    for k in range(config.best_of):
        settings = replace(config.settings, seed=config.settings.seed + 1000 * person.index + 100 * (k + 1))
        stack = stacked(model.edit(truth.images[0], _drawn(person.expressions, settings.seed), settings, face=face))
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
    for row in ROWS:
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
    heads = np.array([p["head"] for p in persons])
    for head in sorted(set(heads.tolist())):
        chosen = heads == head
        out[f"count/persons_{head}"] = int(chosen.sum())
        for row in ("model", "copy_source", "head_edit", "autoencoder_ceiling"):
            out[f"depth/mae_mm_metric/{row}_{head}"] = metrics.mean_over_images(column(f"mae/{row}")[chosen].ravel())
    return out
