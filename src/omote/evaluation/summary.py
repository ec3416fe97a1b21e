"""Persons' records summed up: rows × metrics with intervals over persons, as ``metrics.json`` and ``table.csv``."""

from __future__ import annotations

import csv
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.distance import pdist

from omote.evaluation import metrics
from omote.evaluation.catalogue import Metric, metric_of, write_metrics
from omote.evaluation.judges.panel import JUDGES
from omote.evaluation.records import PersonRecords, Row, descriptor_by, is_evidence, judged_by, values_of
from omote.evaluation.registry import Number
from omote.evaluation.statistics import Interval, bootstrap_macro_mean, bootstrap_mean
from omote.files import atomic_path
from omote.head.expressions import CATEGORIES

NEUTRAL = CATEGORIES.index("neutral")
# Rows of every table: the true render, and the source as it is.
CEILING, FLOOR = "ceiling", "copy_source"

# Row → key of a metric → its value with its interval.
Table = dict[Row, dict[str, Interval]]


def alone(value: float) -> Interval:
    """A number without an interval: no persons were drawn for it, or it takes all of them."""
    return Interval(value=value, low=math.nan, high=math.nan, num_persons=0)


def summarise(persons: Sequence[PersonRecords], only: Collection[str] | None = None) -> Table:
    """Every metric of every row that all persons have.

    Args:
        persons: their records.
        only: keys of the metrics that are wanted; None for all.
    """
    table: Table = {}
    for row in dict.fromkeys(row for person in persons for row in person.rows()):
        cells = {key: cell for key, cell in _cells(persons, row) if only is None or key in only}
        if cells:
            table[row] = cells
    return table


def summarise_parts(persons: Sequence[PersonRecords], only: Collection[str] | None = None) -> Table:
    """`summarise` over the persons of each part apart, such as a head family, with their count.

    Args:
        persons: their records.
        only: keys of the metrics that are wanted; None for all.
    """
    table: Table = {}
    for axis, value in dict.fromkeys(part for person in persons for part in person.parts.items()):
        chosen = [person for person in persons if person.parts.get(axis) == value]
        table |= {row.under(**{axis: value}): cells for row, cells in summarise(chosen, only).items()}
        table[Row().under(**{axis: value})] = {"count/persons": alone(len(chosen))}
    return table


def persons_apart(persons: Sequence[PersonRecords], network: str = "faceapi") -> Interval | None:
    """Mean identity distance of different persons at rest, without which no distance says anything; None of fewer than two."""
    found = values_of(persons, Row(CEILING), descriptor_by(network))
    return None if found is None or len(found) < 2 else alone(float(pdist(np.concatenate(found)).mean()))


def _cells(persons: Sequence[PersonRecords], row: Row) -> Iterator[tuple[str, Interval]]:
    measures = dict.fromkeys(record.measure for record in persons[0].records if record.row == row)
    for metric in (metric_of(measure) for measure in measures if not is_evidence(measure)):
        if (values := per_image(persons, metric, row)) is not None:
            yield metric.key, mean_over_persons(values)
    for judge in JUDGES:
        yield from _accuracies(persons, row, judge)
        yield from _strengths(persons, row, judge)


def per_image(persons: Sequence[PersonRecords], metric: Metric, row: Row) -> Float[np.ndarray, "p k"] | None:
    """A person's values, NaN where an image does not count; None unless every person has the metric."""
    found = values_of(persons, row, metric.key)
    if found is None:
        return None
    values = np.stack(found)
    return values if metric.with_neutral else np.where(categories(persons) == NEUTRAL, np.nan, values)


def categories(persons: Sequence[PersonRecords]) -> Int[np.ndarray, "p k"]:
    """The category of each image."""
    return np.array([person.category for person in persons])


def hits(persons: Sequence[PersonRecords], judge: str, row: Row) -> Float[np.ndarray, "p k"] | None:
    """1 where the judge's first class is the asked one, else 0; None unless every person was judged."""
    found = values_of(persons, row, judged_by(judge))
    return None if found is None else (np.stack(found) == categories(persons)).astype(np.float64)


def mean_over_persons(values: Float[np.ndarray, "p k"]) -> Interval:
    """The mean over all images that count, with its interval over persons."""
    means, counts = mean_over_images(values)
    return bootstrap_mean(means, weights=counts)


def mean_over_images(values: Float[np.ndarray, "p k"]) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"]]:
    """A person's mean over the images that count, NaN without any, and how many they are."""
    count = (~np.isnan(values)).sum(axis=1)
    total = np.nansum(values, axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan), count.astype(np.float64)


def macro_over_persons(hit: Float[np.ndarray, "p k"], category: Int[np.ndarray, "p k"]) -> Interval:
    """The mean over classes of each class's share of hits, with its interval over persons."""
    classes = [(category == c) for c in np.unique(category)]
    means, counts = zip(*(mean_over_images(np.where(here, hit, np.nan)) for here in classes), strict=True)
    return bootstrap_macro_mean(np.stack(means, axis=1), np.stack(counts, axis=1))


def confusion(persons: Sequence[PersonRecords], judge: str, row: Row) -> Float[np.ndarray, "7 7"] | None:
    """Rows are true classes and sum to 1, columns the judged ones; None unless every person was judged."""
    found = values_of(persons, row, judged_by(judge))
    if found is None:
        return None
    judged = np.concatenate(found).astype(int)
    return metrics.accuracy(categories(persons).ravel(), judged, len(CATEGORIES)).confusion


def _accuracies(persons: Sequence[PersonRecords], row: Row, judge: str) -> Iterator[tuple[str, Interval]]:
    hit, matrix, category = hits(persons, judge, row), confusion(persons, judge, row), categories(persons)
    if hit is None or matrix is None:
        return
    yield f"expression/top1_{judge}", macro_over_persons(hit, category)
    for k, name in enumerate(CATEGORIES):
        yield f"expression/top1_{judge}_{name}", mean_over_persons(np.where(category == k, hit, np.nan))
    pairs = tuple((CATEGORIES.index(a), CATEGORIES.index(b)) for a, b in metrics.CONFUSING_PAIRS)
    yield f"expression/mscr_{judge}", alone(metrics.mean_symmetric_confusion_rate(matrix, pairs))


def _strengths(persons: Sequence[PersonRecords], row: Row, judge: str) -> Iterator[tuple[str, Interval]]:
    """CLS and gain, of the judge's probability of what is asked."""
    moved = categories(persons) != NEUTRAL
    measure = f"expression/asked_{judge}"
    found = [values_of(persons, Row(name, row.at), measure) for name in (row.name, FLOOR, CEILING)]
    asked, floor, ceiling = (None if values is None else np.stack(values)[moved] for values in found)
    if asked is None:
        return
    intensity = np.array([person.intensity for person in persons])[moved]
    correlation = metrics.intensity_correlation(intensity, asked, categories(persons)[moved])
    yield f"expression/cls_{judge}", alone(correlation)
    if floor is not None and ceiling is not None:
        yield f"expression/gain_{judge}", alone(metrics.relative_expression_gain(asked, floor, ceiling))


def flat(table: Table) -> dict[str, float]:
    """The table's values by their keys."""
    return {f"{key}/{row}".rstrip("/"): cell.value for row, cells in table.items() for key, cell in cells.items()}


def write_table(table: Table, out: Path, more: Mapping[str, Number] | None = None) -> None:
    """Write ``metrics.json``, and ``table.csv`` with a column per axis and the ends of the intervals.

    Args:
        table: the table.
        out: folder.
        more: further numbers of ``metrics.json``, by their keys.

    Raises:
        ValueError: a key that is not of the catalogue.
        OutputError: they cannot be written.
    """
    write_metrics(out / "metrics.json", {**flat(table), **(more or {})})
    axes = list(dict.fromkeys(axis for row in table for axis, _ in row.at))
    keys = list(dict.fromkeys(key for cells in table.values() for key in cells))
    sure = {key for cells in table.values() for key, cell in cells.items() if not math.isnan(cell.low)}
    with atomic_path(out / "table.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        ends = {key: ("", "_low", "_high") if key in sure else ("",) for key in keys}
        writer.writerow(["row", *axes, *(f"{key}{end}" for key in keys for end in ends[key])])
        for row, cells in table.items():
            if not row.name:
                continue
            line: list[object] = [row.name, *("" if (at := row.on(axis)) is None else at for axis in axes)]
            for key in keys:
                cell = cells.get(key)
                values = (math.nan,) * 3 if cell is None else (cell.value, cell.low, cell.high)
                line += ["" if math.isnan(v) else f"{v:.6g}" for v in values[: len(ends[key])]]
            writer.writerow(line)
