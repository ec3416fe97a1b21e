"""Do the judges behave? Identity networks on same and different persons, expression networks on true renders.

Every person of the test split is captured twice, in another light and from another camera the second time: a network that
recognised the capture and not the person would be found out.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.spatial.distance import pdist, squareform
from scipy.stats import rankdata
from torch import Tensor

from omote.datasets.population import PopulationConfig, draw_camera, draw_person, render_person
from omote.evaluation import metrics
from omote.evaluation.features import load_arcface
from omote.evaluation.judges import JUDGES, load_expression_judges, load_identity_judge
from omote.evaluation.measure import EvaluationStep
from omote.files import atomic_path
from omote.head.expressions import CATEGORIES
from omote.head.shipped import population_heads
from omote.rendering.shade import random_light

CAPTURE_STREAM = 29  # of the second capture's camera and light
NUM_FOLDS = 10
NUM_BINS = 10


@dataclass(frozen=True, kw_only=True)
class JudgeCheck:
    """The self-test.

    Attributes:
        population: its split must be "test" for numbers that are published.
        num_persons: each captured twice at rest and once with every expression.
        arcface: an ArcFace backbone's weights as a second identity network, or None.
    """

    population: PopulationConfig
    num_persons: int = 100
    arcface: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Verification:
    """Telling persons apart by a distance.

    Attributes:
        accuracy: share of same and different pairs told rightly, both kinds counting half, at a threshold chosen on the
            other folds' persons; NaN where a fold has no pair of a kind.
        threshold: mean of the folds'.
        auc: how often a same-person pair is nearer than a different-person pair.
    """

    accuracy: float
    threshold: float
    auc: float


def check_judges(config: JudgeCheck, out: Path) -> Iterator[EvaluationStep]:
    """Check into ``out``: ``persons/*.json`` as it goes, ``metrics.json`` and ``table.csv`` at the end.

    Raises:
        JudgeError: the judges' weights are not installed.
        CheckpointError: the ArcFace file does not hold one.
    """
    heads = population_heads(config.population.ict)
    expression, face = load_expression_judges(), load_identity_judge()
    networks: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"faceapi": face.embed}
    if config.arcface is not None:
        arcface = load_arcface(config.arcface)
        # Its distance is an angle's: of descriptors of length 1 Euclid's order is the cosine's.
        networks[arcface.name] = lambda rgb, landmarks: torch.nn.functional.normalize(arcface(rgb, landmarks))
    (out / "persons").mkdir(parents=True, exist_ok=True)
    persons = []
    for index in range(config.num_persons):
        path = out / "persons" / f"{index:06d}.json"
        if not path.exists():
            person = draw_person(replace(config.population, num_images=len(CATEGORIES)), index, heads)
            rng = np.random.default_rng([CAPTURE_STREAM, config.population.seed, index])
            again = replace(person, camera=draw_camera(rng, config.population.size), light=random_light(rng))
            first, second = (
                list(render_person(person, heads)),
                list(render_person(again, heads, person.expressions[:1])),
            )
            rgb = torch.from_numpy(np.stack([r[0].rgb for r in (*first, *second)])).permute(0, 3, 1, 2).contiguous()
            neutral = torch.from_numpy(np.stack([*(first[0][1] for _ in first), second[0][1]]))
            seen = expression.probabilities(rgb[:-1], neutral[:-1]).named()
            record: dict[str, Any] = {
                "head": heads[person.head].name,
                "category": [CATEGORIES.index(e.category) for e in person.expressions],
                "descriptors": {name: network(rgb, neutral).tolist() for name, network in networks.items()},
                "probabilities": {name: (p / p.sum(dim=1, keepdim=True)).tolist() for name, p in seen.items()},
            }
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps(record))
        persons.append(json.loads(path.read_text()))
        yield EvaluationStep(done=index + 1, total=config.num_persons)
    numbers: dict[str, float] = {"count/persons": float(len(persons))}
    for name in networks:
        descriptors = np.array([p["descriptors"][name] for p in persons], dtype=np.float64)
        numbers.update({f"identity/{name}/{k}": v for k, v in identity_numbers(descriptors).items()})
    category = np.array([p["category"] for p in persons]).ravel()
    for name in JUDGES:
        probabilities = np.concatenate([p["probabilities"][name] for p in persons]).astype(np.float64)
        numbers.update({f"expression/{name}/{k}": v for k, v in expression_numbers(probabilities, category).items()})
    for judge, rule in (("faceapi", expression.faceapi_crop), ("fer", expression.fer_crop)):
        numbers.update({f"calibration/{judge}_crop_side": rule.side, f"calibration/{judge}_crop_down": rule.down})
    numbers.update({"calibration/identity_crop_side": face.crop.side, "calibration/identity_crop_down": face.crop.down})
    with atomic_path(out / "metrics.json") as temporary:
        temporary.write_text(json.dumps(_finite(numbers), indent=2, sort_keys=True) + "\n")
    with atomic_path(out / "table.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["judge", "measure", "value"])
        for key, value in sorted(numbers.items()):
            kind, _, rest = key.partition("/")
            judge, _, measure = rest.partition("/")
            writer.writerow([f"{kind}/{judge}" if measure else kind, measure or judge, f"{value:.6g}"])


def _finite(numbers: Mapping[str, float]) -> dict[str, float | None]:
    return {k: v if np.isfinite(v) else None for k, v in numbers.items()}


def identity_numbers(descriptors: Float[np.ndarray, "p k d"]) -> dict[str, float]:
    """Distances and verification of one network.

    Args:
        descriptors: of each person: at rest, with every expression, and last at rest in another capture.
    """
    rest, shown, again = descriptors[:, 0], descriptors[:, 1:-1], descriptors[:, -1]
    recaptured = np.linalg.norm(rest - again, axis=1)
    expressive = np.linalg.norm(shown - rest[:, None], axis=2)
    different = squareform(pdist(rest))
    told = verification(recaptured, different)
    apart = different[np.triu_indices(len(rest), 1)]
    out: dict[str, float] = {}
    for name, values in (
        ("same_other_capture", recaptured),
        ("same_other_expression", expressive.ravel()),
        ("different", apart),
    ):
        out[f"{name}_mean"] = float(values.mean()) if len(values) else float("nan")
        for percent in (5, 95):
            out[f"{name}_p{percent:02d}"] = float(np.percentile(values, percent)) if len(values) else float("nan")
    out["verification_accuracy"], out["threshold"], out["auc"] = told.accuracy, told.threshold, told.auc
    return out


def verification(same: Float[np.ndarray, " p"], different: Float[np.ndarray, "p p"]) -> Verification:
    """Tell pairs by a threshold, chosen on nine tenths of the persons and judged on the last (as LFW's protocol does).

    Args:
        same: distance of each person's two captures.
        different: distances between persons, symmetric.
    """
    count = len(same)
    upper = np.triu(np.ones((count, count), bool), 1)
    ranks = rankdata(np.concatenate([same, different[upper]]))
    pairs = int(upper.sum())
    farther = (ranks[count:].sum() - pairs * (pairs + 1) / 2) / (count * pairs) if pairs else float("nan")
    folds = np.arange(count) % min(NUM_FOLDS, count)
    accuracies, thresholds = [], []
    for fold in range(min(NUM_FOLDS, count)):
        held = folds == fold
        rest_pairs = different[upper & ~held[:, None] & ~held[None, :]]
        # Pairs of which one person is held out have a side that no threshold was chosen on.
        held_pairs = different[upper & (held[:, None] | held[None, :])]
        if not len(rest_pairs) or not len(held_pairs):
            continue
        threshold = best_threshold(same[~held], rest_pairs)
        thresholds.append(threshold)
        accuracies.append(0.5 * float((same[held] < threshold).mean() + (held_pairs >= threshold).mean()))
    if not accuracies:
        return Verification(accuracy=float("nan"), threshold=float("nan"), auc=farther)
    return Verification(accuracy=float(np.mean(accuracies)), threshold=float(np.mean(thresholds)), auc=farther)


def best_threshold(same: Float[np.ndarray, " n"], different: Float[np.ndarray, " m"]) -> float:
    """Where most of both kinds are told rightly, both counting half: midway between the neighbours of the best cut."""
    values = np.unique(np.concatenate([same, different]))
    cuts = np.concatenate([values[:1] - 1e-6, (values[1:] + values[:-1]) / 2, values[-1:] + 1e-6])
    below = np.searchsorted(np.sort(same), cuts) / len(same)
    above = 1 - np.searchsorted(np.sort(different), cuts) / len(different)
    return float(cuts[np.argmax(below + above)])


def expression_numbers(probabilities: Float[np.ndarray, "n 7"], category: np.ndarray) -> dict[str, float]:
    """Top-1, macro and per class, and how far confidence is from being right, of one judge on true renders."""
    judged = probabilities.argmax(axis=1)
    accuracy = metrics.accuracy(category.astype(int), judged, len(CATEGORIES))
    out = {"top1": accuracy.macro}
    out.update({f"top1_{name}": float(v) for name, v in zip(CATEGORIES, accuracy.per_class, strict=True)})
    for i, truth in enumerate(CATEGORIES):
        for j, name in enumerate(CATEGORIES):
            out[f"confusion_{truth}_{name}"] = float(accuracy.confusion[i, j])
    hits = judged == category
    out["confidence_mean"] = float(probabilities.max(axis=1).mean())
    out["calibration_error"] = calibration_error(probabilities.max(axis=1), hits)
    return out


def calibration_error(confidence: Float[np.ndarray, " n"], hits: Bool[np.ndarray, " n"]) -> float:
    """Expected calibration error: |accuracy - confidence| in ten equal bins, weighed by their images (Guo et al., ICML 2017)."""
    bins = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)
    total = 0.0
    for k in np.unique(bins):
        here = bins == k
        total += abs(hits[here].mean() - confidence[here].mean()) * here.mean()
    return float(total)


def table_rows(numbers: Mapping[str, float | int | None]) -> list[Sequence[str]]:
    """The self-test as lines for a person: identity networks, then expression networks; the first line names the columns."""

    def shown(key: str, digits: int = 2) -> str:
        value = numbers.get(key)
        return "–" if value is None else f"{value:.{digits}f}"

    identity = sorted({key.split("/")[1] for key in numbers if key.startswith("identity/")})
    lines: list[Sequence[str]] = [
        ("identity", "same person, other capture", "same, other expression", "different person", "accuracy", "AUC")
    ]
    for name in identity:
        cells = [
            f"{shown(f'identity/{name}/{kind}_mean')} ({shown(f'identity/{name}/{kind}_p05')} to "
            f"{shown(f'identity/{name}/{kind}_p95')})"
            for kind in ("same_other_capture", "same_other_expression", "different")
        ]
        accuracy, auc = (shown(f"identity/{name}/{k}", 3) for k in ("verification_accuracy", "auc"))
        lines.append((name, *cells, accuracy, auc))
    lines.append(("expression", "top-1", *CATEGORIES, "calibration error"))
    for name in JUDGES:
        keys = ("top1", *(f"top1_{c}" for c in CATEGORIES), "calibration_error")
        lines.append((name, *(shown(f"expression/{name}/{k}") for k in keys)))
    return lines
