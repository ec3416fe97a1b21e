"""A check of the judges: identity networks on same and different persons, expression networks on true renders.

Every person of the test split is captured twice, the second time in other light and by another camera, which exposes a network
that recognises the capture instead of the person.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.distance import pdist, squareform
from torch import Tensor
from torch.nn.functional import normalize

from omote.datasets.population import draw_camera, draw_person, render_person
from omote.evaluation.comparison import batch, stacked
from omote.evaluation.features import load_arcface
from omote.evaluation.figures import matrix
from omote.evaluation.judges.panel import JUDGES, ExpressionJudges, load_expression_judges, load_identity_judge
from omote.evaluation.measure import judged
from omote.evaluation.records import (
    Cell,
    PersonRecords,
    Record,
    Row,
    Table,
    descriptor_by,
    load_records,
    save_records,
    values_of,
)
from omote.evaluation.registry import PARAMETERS
from omote.evaluation.report import html
from omote.evaluation.summary import TOP1, confusions, merged, per_image, summarise
from omote.evaluation.verification import calibration_error, verification
from omote.head.expressions import CATEGORIES
from omote.head.shipped import population_heads
from omote.progress import Step, Steps
from omote.rendering.shade import random_light
from omote.runs import Value
from omote.studies.base import Results, Work
from omote.studies.suites import JudgeSuite
from omote.studies.table import CEILING, flat

CAPTURE_STREAM = 29  # random stream of the second capture's camera and light
# A person at rest, with every expression, and at rest in another capture.
CAPTURES = Row("captures")
PAIRS = {
    "same_other_capture": "same person, other capture",
    "same_other_expression": "same, other expression",
    "different": "different person",
}
NOTES = (
    ("identity", "Euclidean distance of descriptors, mean and 5th to 95th percentile. Other capture: the same person at rest in "
    "other light and from another camera. Other expression: the same capture. Different: two persons at rest."),
    ("accuracy", "Same and different pairs separated by a threshold chosen on other persons (ten folds); both kinds count half. "
    "AUC: how often a pair of the same person is closer than a pair of different persons."),
    ("expression", "Top-1 accuracy on true renders, per class and averaged: the ceiling of every accuracy in other reports."),
    ("calibration", "Crops are fixed; they were chosen on persons of the tuning split, which no test uses. Calibration error: "
    "|accuracy − confidence| in ten bins, weighted by their number of images."),
)  # fmt: skip


def check_judges(suite: JudgeSuite, work: Work) -> Steps[Results]:
    """Measure the judges, and write their report.

    Raises:
        JudgeError: the judges are not installed.
        CheckpointError: the ArcFace file does not contain such a network.
    """
    yield Step(stage="load")
    population, expression, face = suite.unseen(), load_expression_judges(), load_identity_judge()
    heads = population_heads(population.ict)
    networks: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"faceapi": face.embed}
    if suite.arcface is not None:
        arcface = load_arcface(suite.arcface)
        # ArcFace compares angles; for descriptors of length 1, Euclidean distances have the same order.
        networks[arcface.name] = lambda rgb, landmarks: normalize(arcface(rgb, landmarks))

    def measure(name: str) -> PersonRecords:
        person = draw_person(population, int(name), heads)
        rng = np.random.default_rng([CAPTURE_STREAM, population.seed, int(name)])
        again = replace(person, camera=draw_camera(rng, population.size), light=random_light(rng))
        first = list(render_person(person, heads))
        rendered = [*first, *render_person(again, heads, person.expressions[:1])]
        rgb = batch(stacked([image for image, _, _ in rendered]))
        neutral = torch.from_numpy(np.stack([*(first[0][1] for _ in first), rendered[-1][1]]))
        descriptors = (
            Record(row=CAPTURES, measure=descriptor_by(network), values=embed(rgb, neutral).double().numpy())
            for network, embed in networks.items()
        )
        names = [e.category for e in person.expressions]
        return PersonRecords(
            parts={"head": heads[person.head].name},
            category=tuple(CATEGORIES.index(name) for name in names),
            intensity=tuple(float(e.intensity) for e in person.expressions),
            records=(*descriptors, *expression_records(rgb[:-1], neutral[:-1], names, expression)),
        )

    found = yield from work.kept("persons", suite.names(), measure, save_records, load_records)
    persons = list(found.values())
    crops = {"faceapi": expression.faceapi_crop, "fer": expression.fer_crop, "identity": face.crop}
    table = merged(
        summarise(persons),
        {CEILING: dict(calibration(persons))},
        *(identity_table(persons, network) for network in networks),
        {Row(name): {"judge/crop_side": crop.side, "judge/crop_down": crop.down} for name, crop in crops.items()},
    )
    numbers = confusions(persons, CEILING)
    told = {**flat(table), **numbers}
    return Results(table=table, numbers=numbers, page=lambda out: write_judge_report(out, told, len(persons)))


def expression_records(
    rgb: Float[Tensor, "n 3 h w"], neutral: Float[Tensor, "n 68 2"], asked: Sequence[str], by: ExpressionJudges
) -> list[Record]:
    """The judges' answers on true renders, with their confidence."""
    scores = by.probabilities(rgb, neutral).named()
    sure = {judge: (p / p.sum(dim=1, keepdim=True)).amax(dim=1).double().numpy() for judge, p in scores.items()}
    return [
        *judged(CEILING, rgb, neutral, asked, by),
        *(Record(row=CEILING, measure=f"expression/confidence_{judge}", values=p) for judge, p in sure.items()),
    ]


def calibration(persons: Sequence[PersonRecords]) -> Iterator[tuple[str, Cell]]:
    """Calibration error of each judge."""
    for key, judge in TOP1.items():
        hits, sure = (per_image(persons, k, CEILING) for k in (key, f"expression/confidence_{judge}"))
        if hits is not None and sure is not None:
            yield f"expression/calibration_error_{judge}", calibration_error(sure.ravel(), hits.ravel() == 1)


def identity_table(persons: Sequence[PersonRecords], network: str) -> Table:
    """Distances and verification accuracy of one identity network."""
    found = values_of(persons, CAPTURES, descriptor_by(network))
    assert found is not None, "every person was described by it"
    return {Row(network, row.at): cells for row, cells in identity_numbers(np.stack(found)).items()}


def identity_numbers(descriptors: Float[np.ndarray, "p k d"]) -> Table:
    """Distances by kind of pair, and verification accuracy.

    Args:
        descriptors: descriptors of each person: at rest, with every expression, and finally at rest in another capture.
    """
    rest, shown, again = descriptors[:, 0], descriptors[:, 1:-1], descriptors[:, -1]
    recaptured = np.linalg.norm(rest - again, axis=1)
    different = squareform(pdist(rest))
    told = verification(recaptured, different)
    table: dict[Row, dict[str, Cell]] = {
        Row(): {
            "identity_pairs/accuracy": told.accuracy,
            "identity_pairs/threshold": told.threshold,
            "identity_pairs/auc": told.auc,
        }
    }
    for pairs, values in (
        ("same_other_capture", recaptured),
        ("same_other_expression", np.linalg.norm(shown - rest[:, None], axis=2).ravel()),
        ("different", different[np.triu_indices(len(rest), 1)]),
    ):
        low, high = np.percentile(values, [5, 95]) if len(values) else (np.nan, np.nan)
        table[Row().under(pairs=pairs)] = {
            "identity_pairs/distance_mean": float(values.mean()) if len(values) else float("nan"),
            "identity_pairs/distance_p05": float(low),
            "identity_pairs/distance_p95": float(high),
        }
    return table


def table_rows(numbers: Mapping[str, float | int]) -> list[Sequence[str]]:
    """Identity networks, then expression networks; a first line names the columns of each.

    Args:
        numbers: numbers of ``metrics.json``.
    """

    def shown(key: str, digits: int = 2) -> str:
        value = numbers.get(key)
        return f"{value:.{digits}f}" if isinstance(value, int | float) and np.isfinite(value) else "–"

    lines: list[Sequence[str]] = [("identity", *PAIRS.values(), "accuracy", "AUC")]
    for name in (name for name in PARAMETERS["network"] if f"identity_pairs/auc/{name}" in numbers):
        cells = []
        for pairs in PAIRS:
            mean, low, high = (
                shown(f"identity_pairs/distance_{k}/{name}/pairs={pairs}") for k in ("mean", "p05", "p95")
            )
            cells.append(f"{mean} ({low} to {high})")
        lines.append((name, *cells, *(shown(f"identity_pairs/{k}/{name}", 3) for k in ("accuracy", "auc"))))
    lines.append(("expression", "top-1", *CATEGORIES, "calibration error"))
    for judge in JUDGES:
        names = (f"top1_{judge}", *(f"top1_{judge}_{c}" for c in CATEGORIES), f"calibration_error_{judge}")
        lines.append((judge, *(shown(f"expression/{name}/ceiling") for name in names)))
    return lines


def write_judge_report(out: Path, numbers: Mapping[str, float | int], num_persons: int) -> None:
    """Write ``report.html``.

    Raises:
        OutputError: it cannot be written.
    """
    run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    html.write(out / "report.html", "omote: judges", _sections(numbers, num_persons, run))


def _sections(numbers: Mapping[str, float | int], num_persons: int, run: Mapping[str, Value]) -> Iterator[str]:
    yield "<h1>Check of the judges</h1>"
    yield f'<p class="soft">{num_persons} persons of the test split, true renders only.</p>'
    lines = table_rows(numbers)
    second = next(k for k, line in enumerate(lines) if line[0] == "expression")
    for head, *rest in (lines[:second], lines[second:]):
        yield html.table([*map(escape, head)], [("bound", [*map(escape, cells)]) for cells in rest])
    matrices = []
    for judge in JUDGES:
        keys = [[f"expression/confusion_{judge}/ceiling/true={a}/judged={b}" for b in CATEGORIES] for a in CATEGORIES]
        values = np.array([[numbers[key] for key in row] for row in keys], dtype=np.float64)
        matrices.append(matrix(f"true render ({judge})", values, CATEGORIES))
    yield f'<div class="figures">{"".join(matrices)}</div>'
    yield html.definitions(NOTES)
    yield "<h2>Calibrations</h2>"
    yield html.definitions((key, f"{value:g}") for key, value in numbers.items() if key.startswith("judge/"))
    yield "<h2>Versions and machine</h2>"
    yield html.facts(run)
