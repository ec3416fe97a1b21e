"""Tables of suites and studies, as CSV and as lines of charts. Importing this is fast: metrics are looked up later."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from omote.evaluation.figures import axis_over, line_chart
from omote.evaluation.records import Row, Table, value_of
from omote.evaluation.statistics import Interval
from omote.files import atomic_path

# Axis → value of a condition.
At: TypeAlias = Mapping[str, float | int | str]

DEPTH, MOVING, COLOR, IDENTITY, TOP1 = (
    "depth/mae_mm_metric",
    "depth/mae_mm_moving",
    "color/psnr_db",
    "identity/faceapi",
    "expression/top1_both",
)
ASKED, REFUSED = "expression/asked_both", "refused/share"
OBTAINED, RATIO = "displacement/rms_mm", "displacement/ratio"
# Mean identity distance between different persons.
APART = "identity_apart/faceapi"
# Columns about persons in a study's table.
METRICS = (DEPTH, MOVING, COLOR, IDENTITY, TOP1, ASKED, REFUSED, OBTAINED, RATIO)
MODEL, CEILING, AUTOENCODER, COPY = (
    Row("model"),
    Row("ceiling"),
    Row("autoencoder_ceiling"),
    Row("copy_source"),
)
# Names of rows in charts.
LINES: Mapping[Row, str] = {MODEL: "model", AUTOENCODER: "autoencoder", CEILING: "true render", COPY: "copy"}


def flat(table: Table) -> dict[str, float | int]:
    """Values by key ``<metric>/<row>``, without their intervals."""
    return {f"{key}/{row}".rstrip("/"): value_of(cell) for row, cells in table.items() for key, cell in cells.items()}


def cell(table: Table, row: Row, metric: str) -> Interval | None:
    """A cell, or None if the row or its metric is missing or NaN; a plain number has no interval."""
    found = table.get(row, {}).get(metric, math.nan)
    if not isinstance(found, Interval):
        found = Interval(value=float(found), low=math.nan, high=math.nan, num_persons=0)
    return None if math.isnan(found.value) else found


def write_table(table: Table, path: Path, notes: Mapping[Row, Mapping[str, str | float]]) -> None:
    """Write a line per row, with a column per axis of its conditions; an interval has three columns.

    Args:
        table: table to write; rows without a name are left out.
        path: path of the CSV file.
        notes: further columns, by row.
    """
    rows = [row for row in table if row.name]
    axes = list(dict.fromkeys(axis for row in rows for axis, _ in row.at))
    metrics = list(dict.fromkeys(key for row in rows for key in table[row]))
    wide = {key for row in rows for key, found in table[row].items() if isinstance(found, Interval)}
    more = list(dict.fromkeys(key for row in rows for key in notes.get(row, {})))
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        ends = {key: ("", "_low", "_high") if key in wide else ("",) for key in metrics}
        writer.writerow(["row", *axes, *(f"{key}{end}" for key in metrics for end in ends[key]), *more])
        for row in rows:
            values: list[str | float | int | None] = [row.on(axis) for axis in axes]
            for key in metrics:
                found = cell(table, row, key)
                three = [None] * 3 if found is None else [found.value, found.low, found.high]
                values += three[: len(ends[key])]
            values += [notes.get(row, {}).get(key) for key in more]
            writer.writerow([row.name, *map(_text, values)])


def _text(value: str | float | int | None) -> str:
    if value is None or value != value:
        return ""
    return value if isinstance(value, str) else f"{value:.6g}"


def levels_of(table: Table, metric: str, at: At = {}) -> dict[str, float]:  # noqa: B006 (never changed)
    """Levels of a chart: true render, autoencoder, copy and other persons, under a condition."""
    cells = {name: cell(table, row.under(**at), metric) for row, name in LINES.items() if row != MODEL}
    if metric == IDENTITY:
        cells["other persons"] = cell(table, Row().under(**at), APART)
    return {name: found.value for name, found in cells.items() if found is not None}


def curves(
    table: Table,
    metric: str,
    at: Sequence[tuple[float, At]],
    label: str,
    *,
    lines: Mapping[Row, str] = LINES,
    levels: Mapping[str, float] | None = None,
    logarithmic: bool = False,
    logarithmic_values: bool = False,
) -> str:
    """A chart of a metric over a varied quantity: a line per row that has the metric, with intervals over persons.

    Args:
        table: table of the study.
        metric: key of the metric.
        at: values on the axis with their conditions, in order.
        label: label of the axis.
        lines: names of the lines, by row without its condition.
        levels: dashed horizontal lines, by name.
        logarithmic: whether the axis is logarithmic.
        logarithmic_values: whether the metric's axis is logarithmic.
    """
    from omote.evaluation.catalogue import metric_of

    series, whiskers = {}, {}
    for row, name in lines.items():
        cells = [(x, cell(table, row.under(**condition), metric)) for x, condition in at]
        if known := [(x, found) for x, found in cells if found is not None]:
            series[name] = [(x, found.value) for x, found in known]
            whiskers[name] = [(x, found.low, found.high) for x, found in known]
    values = [value for points in series.values() for _, value in points] + list((levels or {}).values())
    values += [end for ends in whiskers.values() for _, *both in ends for end in both if not math.isnan(end)]
    x = axis_over(label, [value for value, _ in at], logarithmic=logarithmic)
    told = metric_of(metric)
    return line_chart(
        told.title, series, x, axis_over(told.label(), values, logarithmic=logarithmic_values), levels, whiskers
    )


def trade_off(table: Table, x: str, y: str, series: Mapping[str, Sequence[Row]], *, by: str = "") -> str:
    """A chart of two metrics against each other.

    Args:
        table: table of the study.
        x: metric on the horizontal axis.
        y: metric on the vertical axis.
        series: rows of each line in order, by the line's name.
        by: common property of the rows, for the title.
    """
    from omote.evaluation.catalogue import metric_of

    points = {
        name: [(a.value, b.value) for row in rows if (a := cell(table, row, x)) and (b := cell(table, row, y))]
        for name, rows in series.items()
    }
    every = [point for line in points.values() for point in line]
    across, up = metric_of(x), metric_of(y)
    axes = axis_over(across.label(), [a for a, _ in every]), axis_over(up.label(), [b for _, b in every])
    return line_chart(f"{up.title} against {across.title}" + (f", {by}" if by else ""), points, *axes)
