"""Summaries of persons' records: a table of rows × metrics of the catalogue, with intervals over persons."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial.distance import pdist

from omote.evaluation import metrics
from omote.evaluation.catalogue import metric_of
from omote.evaluation.judges.panel import JUDGES
from omote.evaluation.records import Cell, PersonRecords, Row, Table, descriptor_by, is_evidence, judged_by, values_of
from omote.evaluation.statistics import Interval, bootstrap_macro_mean, bootstrap_mean
from omote.head.expressions import CATEGORIES

NEUTRAL = CATEGORIES.index("neutral")
# Rows that every table has: the true render, and the unedited source.
CEILING, FLOOR = "ceiling", "copy_source"
# Metric of a judge's accuracy → the judge.
TOP1: Mapping[str, str] = {f"expression/top1_{judge}": judge for judge in JUDGES}

# A `Table` under construction.
Rows: TypeAlias = dict[Row, dict[str, Cell]]


def summarise(persons: Sequence[PersonRecords], only: Collection[str] | None = None) -> Rows:
    """Every metric of every row that all persons have.

    Args:
        persons: records of the persons.
        only: keys of the wanted metrics; all if None.
    """
    table: Rows = {}
    for row in dict.fromkeys(row for person in persons for row in person.rows()):
        if cells := {key: cell for key, cell in _cells(persons, row, only) if only is None or key in only}:
            table[row] = cells
    return table


def summarise_parts(persons: Sequence[PersonRecords], only: Collection[str] | None = None) -> Rows:
    """`summarise` over the persons of each part, such as a head family, with their number.

    Args:
        persons: records of the persons.
        only: keys of the wanted metrics; all if None.
    """
    table: Rows = {}
    for (axis, value), chosen in parts_of(persons).items():
        of_part = [person for person, is_in in zip(persons, chosen, strict=True) if is_in]
        table |= {row.under(**{axis: value}): cells for row, cells in summarise(of_part, only).items()}
        table[Row().under(**{axis: value})] = {"count/persons": float(len(of_part))}
    return table


def parts_of(persons: Sequence[PersonRecords]) -> dict[tuple[str, str], Bool[np.ndarray, " p"]]:
    """Mask of the persons in each part, by (axis, value)."""
    parts = sorted({part for person in persons for part in person.parts.items()})
    return {(axis, value): np.array([p.parts.get(axis) == value for p in persons]) for axis, value in parts}


def merged(*tables: Table) -> Rows:
    """Several tables as one; a row in several of them gets the cells of all."""
    out: Rows = {}
    for table in tables:
        for row, cells in table.items():
            out.setdefault(row, {}).update(cells)
    return out


def persons_apart(persons: Sequence[PersonRecords], network: str = "faceapi") -> Rows:
    """Mean identity distance of different persons at rest, the scale of every identity distance; empty for fewer than two."""
    found = values_of(persons, Row(CEILING), descriptor_by(network))
    if found is None or len(found) < 2:
        return {}
    return {Row(): {f"identity_apart/{network}": float(pdist(np.concatenate(found)).mean())}}


def categories(persons: Sequence[PersonRecords]) -> Int[np.ndarray, "p k"]:
    """The category of each image."""
    return np.array([person.category for person in persons])


def per_image(persons: Sequence[PersonRecords], key: str, row: Row) -> Float[np.ndarray, "p k"] | None:
    """A metric's value per image, NaN for an image that is not counted; None unless every person has it.

    Args:
        persons: records of the persons.
        key: key of a metric; for a judge's accuracy, the value is 1 for a hit and 0 for a miss.
        row: row of the table.
    """
    found = values_of(persons, row, judged_by(TOP1[key]) if key in TOP1 else key)
    if found is None:
        return None
    values = np.stack(found)
    if key in TOP1:
        return (values == categories(persons)).astype(np.float64)
    return values if metric_of(key).with_neutral else np.where(categories(persons) == NEUTRAL, np.nan, values)


def per_person(persons: Sequence[PersonRecords], key: str, row: Row) -> Float[np.ndarray, " p"] | None:
    """A metric's mean over the images of each person; None unless every person has it."""
    values = per_image(persons, key, row)
    return None if values is None else _mean_of_images(values)[0]


def interval(persons: Sequence[PersonRecords], key: str, row: Row) -> Interval | None:
    """A metric's mean over all images (of an accuracy, over classes), with its interval over persons.

    Returns:
        The mean and interval, or None unless every person has the metric.
    """
    values = per_image(persons, key, row)
    if values is None:
        return None
    return macro_over_persons(values, categories(persons)) if key in TOP1 else mean_over_persons(values)


def mean_over_persons(values: Float[np.ndarray, "p k"]) -> Interval:
    """The mean over all counted images, with its interval over persons."""
    means, counts = _mean_of_images(values)
    return bootstrap_mean(means, weights=counts)


def macro_over_persons(hits: Float[np.ndarray, "p k"], category: Int[np.ndarray, "p k"]) -> Interval:
    """The mean over classes of each class's share of hits, with its interval over persons."""
    per_class = [_mean_of_images(np.where(category == c, hits, np.nan)) for c in np.unique(category)]
    means, counts = (np.stack(columns, axis=1) for columns in zip(*per_class, strict=True))
    return bootstrap_macro_mean(means, counts)


def class_interval(persons: Sequence[PersonRecords], judge: str, row: Row, category: str) -> Interval | None:
    """A judge's accuracy on one true class; None unless every person was judged."""
    hits = per_image(persons, f"expression/top1_{judge}", row)
    here = categories(persons) == CATEGORIES.index(category)
    return None if hits is None else mean_over_persons(np.where(here, hits, np.nan))


def confusion(persons: Sequence[PersonRecords], judge: str, row: Row) -> Float[np.ndarray, "7 7"] | None:
    """Confusion matrix of true classes (rows, which sum to 1) and predicted classes; None unless every person was judged."""
    found = values_of(persons, row, judged_by(judge))
    if found is None:
        return None
    judged = np.concatenate(found).astype(int)
    return metrics.accuracy(categories(persons).ravel(), judged, len(CATEGORIES)).confusion


def confusions(persons: Sequence[PersonRecords], row: Row) -> dict[str, float]:
    """The confusion matrices of all judges as flat numbers."""
    out: dict[str, float] = {}
    for judge in JUDGES:
        if (matrix := confusion(persons, judge, row)) is not None:
            for i, j in np.ndindex(*matrix.shape):
                at = row.under(true=CATEGORIES[i], judged=CATEGORIES[j])
                out[f"expression/confusion_{judge}/{at}"] = float(matrix[i, j])
    return out


def _mean_of_images(values: Float[np.ndarray, "p k"]) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"]]:
    """Each person's mean over the counted images, NaN without any, and their number."""
    count = (~np.isnan(values)).sum(axis=1)
    total = np.nansum(values, axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan), count.astype(np.float64)


def _cells(persons: Sequence[PersonRecords], row: Row, only: Collection[str] | None) -> Iterator[tuple[str, Cell]]:
    measures = [measure for measure in persons[0].measures(row) if not is_evidence(measure)]
    for key in (*measures, *TOP1):
        if (only is None or key in only) and (found := interval(persons, key, row)) is not None:
            yield key, found
    if only is None:
        for judge in JUDGES:
            yield from _by_class(persons, row, judge)
            yield from _by_intensity(persons, row, judge)


def _by_class(persons: Sequence[PersonRecords], row: Row, judge: str) -> Iterator[tuple[str, Cell]]:
    """Accuracy of each class, and mSCR."""
    if (matrix := confusion(persons, judge, row)) is None:
        return
    for name in CATEGORIES:
        if (found := class_interval(persons, judge, row, name)) is not None:
            yield f"expression/top1_{judge}_{name}", found
    pairs = tuple((CATEGORIES.index(a), CATEGORIES.index(b)) for a, b in metrics.CONFUSING_PAIRS)
    yield f"expression/mscr_{judge}", metrics.mean_symmetric_confusion_rate(matrix, pairs)


def _by_intensity(persons: Sequence[PersonRecords], row: Row, judge: str) -> Iterator[tuple[str, Cell]]:
    """CLS and gain, from the judge's probability of the requested category."""
    moved = categories(persons) != NEUTRAL
    measure = f"expression/asked_{judge}"
    found = [values_of(persons, Row(name, row.at), measure) for name in (row.name, FLOOR, CEILING)]
    asked, floor, ceiling = (None if values is None else np.stack(values)[moved] for values in found)
    if asked is None:
        return
    intensity = np.array([person.intensity for person in persons])[moved]
    yield f"expression/cls_{judge}", metrics.intensity_correlation(intensity, asked, categories(persons)[moved])
    if floor is not None and ceiling is not None:
        yield f"expression/gain_{judge}", metrics.relative_expression_gain(asked, floor, ceiling)
