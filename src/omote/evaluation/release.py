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
from jaxtyping import Float

from omote.data.population import Person, PopulationConfig, draw_person, render_person
from omote.evaluation import metrics
from omote.evaluation.baselines import HeadEdit
from omote.evaluation.judges import ExpressionJudges, IdentityJudge, load_expression_judges, load_identity_judge
from omote.files import atomic_path
from omote.head.expressions import CATEGORIES
from omote.head.model import HeadModel
from omote.ldm.editing import EditingModel, EditSettings
from omote.types import Expression, Rgbd

ROWS = ("model", "model_category", "copy_source", "head_edit", "autoencoder_ceiling", "ceiling")
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


def evaluate_release(model: EditingModel, config: ReleaseConfig, out: Path) -> Iterator[EvaluationStep]:
    """Run the suite into ``out``: ``persons/*.json`` as it goes, ``metrics.json`` at the end.

    Raises:
        JudgeError: the judges' weights are not installed.
    """
    heads = config.population.heads()
    judges = Judges(expression=load_expression_judges(), identity=load_identity_judge())
    folder = out / "persons"
    folder.mkdir(parents=True, exist_ok=True)
    edit = HeadEdit(heads[0])
    for index in range(config.num_persons):
        path = folder / f"{index:06d}.json"
        if not path.exists():
            person = draw_person(replace(config.population, num_images=len(CATEGORIES)), index, heads)
            result = measure_person(model, config, person, heads, edit, judges)
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps(result))
        yield EvaluationStep(done=index + 1, total=config.num_persons)
    rows = [json.loads((folder / f"{i:06d}.json").read_text()) for i in range(config.num_persons)]
    with atomic_path(out / "metrics.json") as temporary:
        temporary.write_text(json.dumps(summarise(rows), indent=2, sort_keys=True) + "\n")


@dataclass(frozen=True, kw_only=True)
class Images:
    """One row's seven images, stacked."""

    rgb: Float[np.ndarray, "n h w 3"]
    depth_mm: Float[np.ndarray, "n h w"]
    mask: Float[np.ndarray, "n h w"]


def _stack(images: Sequence[Rgbd]) -> Images:
    return Images(
        rgb=np.stack([i.rgb for i in images]),
        depth_mm=np.stack([i.depth_mm for i in images]),
        mask=np.stack([i.mask for i in images]),
    )


def person_images(
    model: EditingModel, config: ReleaseConfig, person: Person, heads: Sequence[HeadModel], edit: HeadEdit
) -> tuple[dict[str, list[Rgbd]], Float[np.ndarray, "n 68 2"]]:
    """Every row's images of one person, and the truth's projected landmarks."""
    rendered = list(render_person(person, heads))
    truth = [r[0] for r in rendered]
    source = truth[0]
    given = list(person.expressions)
    alone = [Expression(category=e.category, intensity=e.intensity) for e in given]
    settings = replace(config.settings, seed=config.settings.seed + 1000 * person.index)
    images = {
        "ceiling": truth,
        "copy_source": [source] * len(truth),
        "model": model.edit(source, given, settings),
        "model_category": model.edit(source, alone, settings),
        "autoencoder_ceiling": model.reconstruct(truth, [source] * len(truth)),
        "head_edit": edit(source, heads[person.head].landmarks(rendered[0][2]), given),
    }
    return images, np.stack([r[1] for r in rendered])


def measure_person(
    model: EditingModel,
    config: ReleaseConfig,
    person: Person,
    heads: Sequence[HeadModel],
    edit: HeadEdit,
    judges: Judges,
) -> dict[str, object]:
    """Everything measured of one person: lists over the seven images, per metric and row."""
    images, landmarks = person_images(model, config, person, heads, edit)
    truth = _stack(images["ceiling"])
    source_depth = np.repeat(truth.depth_mm[:1], len(truth.rgb), 0)
    source_mask = np.repeat(truth.mask[:1], len(truth.rgb), 0)
    moving = metrics.moving_mask(truth.depth_mm, truth.mask, source_depth, source_mask)
    mouth = metrics.box_mask(metrics.mouth_boxes(landmarks), height=truth.mask.shape[1], width=truth.mask.shape[2])
    neutral = torch.from_numpy(np.repeat(landmarks[:1], len(landmarks), 0))
    out: dict[str, object] = {
        "head": heads[person.head].name,
        "category": [CATEGORIES.index(e.category) for e in person.expressions],
        "intensity": [e.intensity for e in person.expressions],
    }
    true_identity = judges.identity.embed(torch.from_numpy(truth.rgb).permute(0, 3, 1, 2), neutral).numpy()
    for row, seen in images.items():
        stack = _stack(seen)
        rgb = torch.from_numpy(stack.rgb).permute(0, 3, 1, 2).contiguous()
        scores = judges.expression.probabilities(rgb, neutral)
        for judge, probabilities in scores.named().items():
            out[f"judged_{judge}/{row}"] = probabilities.argmax(dim=1).tolist()
        out[f"identity/{row}"] = metrics.identity_distance(
            judges.identity.embed(rgb, neutral).numpy(), true_identity
        ).tolist()
        if row == "ceiling":
            continue
        # The truth's mask decides; where a row shows nothing there, the far plane is its answer.
        depth = _answered(stack)
        errors = metrics.depth_errors(depth, truth.depth_mm, truth.mask)
        aligned = metrics.affine_aligned(depth, truth.depth_mm, truth.mask)
        out[f"mae/{row}"] = errors.mae_mm.tolist()
        out[f"rmse/{row}"] = errors.rmse_mm.tolist()
        out[f"absrel/{row}"] = errors.absrel.tolist()
        out[f"delta1/{row}"] = errors.delta1.tolist()
        out[f"mae_aligned/{row}"] = metrics.depth_errors(aligned, truth.depth_mm, truth.mask).mae_mm.tolist()
        out[f"mae_moving/{row}"] = metrics.depth_errors(depth, truth.depth_mm, moving).mae_mm.tolist()
        out[f"psnr/{row}"] = metrics.psnr_db(stack.rgb, truth.rgb, truth.mask).tolist()
        out[f"psnr_mouth/{row}"] = metrics.psnr_db(stack.rgb, truth.rgb, mouth & truth.mask).tolist()
    if person.index < config.num_best_of:
        out["best_of"] = _best_of(model, config, person, images["ceiling"], truth)
    return out


def _answered(stack: Images) -> Float[np.ndarray, "n h w"]:
    """Depth with a row's own holes filled by its median: a missing answer is a wrong one, not a free one."""
    fallback = np.array([np.median(d[m]) if m.any() else 0.0 for d, m in zip(stack.depth_mm, stack.mask, strict=True)])
    return np.where(stack.mask, stack.depth_mm, fallback[:, None, None])


def _best_of(
    model: EditingModel, config: ReleaseConfig, person: Person, truth_images: Sequence[Rgbd], truth: Images
) -> list[float]:
    """Per image, the least depth MAE among ``best_of`` samples from category and intensity alone."""
    alone = [Expression(category=e.category, intensity=e.intensity) for e in person.expressions]
    errors = []
    for k in range(config.best_of):
        settings = replace(config.settings, seed=config.settings.seed + 1000 * person.index + 100 * (k + 1))
        stack = _stack(model.edit(truth_images[0], alone, settings))
        errors.append(metrics.depth_errors(_answered(stack), truth.depth_mm, truth.mask).mae_mm)
    best: list[float] = np.min(errors, axis=0).tolist()
    return best


def summarise(persons: Sequence[Mapping[str, object]]) -> dict[str, float]:
    """Per-person results → flat keys ``<metric>/<row>``."""

    def column(key: str) -> Float[np.ndarray, "p 7"]:
        return np.array([p[key] for p in persons], dtype=np.float64)

    category = column("category").astype(int)
    moved = category != CATEGORIES.index("neutral")
    out: dict[str, float] = {"count/persons": len(persons), "count/images": int(category.size)}
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
    heads = np.array([p["head"] for p in persons])
    for head in sorted(set(heads.tolist())):
        chosen = heads == head
        out[f"count/persons_{head}"] = int(chosen.sum())
        for row in ("model", "copy_source", "head_edit", "autoencoder_ceiling"):
            out[f"depth/mae_mm_metric/{row}_{head}"] = metrics.mean_over_images(column(f"mae/{row}")[chosen].ravel())
    return out
