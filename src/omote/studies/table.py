"""Tables of rows under conditions: names, levels and charts that studies share. Importing it takes no time.

A row under a condition is ``<row>_<condition>``; a table is row → metric → interval (`omote.studies.base`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from omote.evaluation.figures import axis_over, line_chart
from omote.evaluation.statistics import Interval
from omote.studies.base import Cell, Table

DEPTH, MOVING, COLOR, IDENTITY, TOP1 = (
    "depth/mae_mm_metric",
    "depth/mae_mm_moving",
    "color/psnr_db",
    "identity/faceapi",
    "expression/top1_both",
)
ASKED, REFUSED = "expression/asked_both", "refused/share"
OBTAINED, RATIO = "displacement/rms_mm", "displacement/ratio"
TITLES: Mapping[str, str] = {
    DEPTH: "depth error",
    MOVING: "depth error, moving",
    COLOR: "PSNR",
    IDENTITY: "identity distance",
    TOP1: "expression top-1",
    ASKED: "probability of what is asked",
    OBTAINED: "change of depth",
    RATIO: "change over the truth's",
}
# Names of rows in charts.
LINES: Mapping[str, str] = {
    "model": "model",
    "autoencoder_ceiling": "autoencoder",
    "ceiling": "true render",
    "copy_source": "copy",
}
# The row of mean identity distances between different persons.
OTHERS = "other_persons"


def row_of(row: str, condition: str) -> str:
    """The name of a row under a condition."""
    return f"{row}_{condition}" if condition else row


def cell(table: Table, row: str, metric: str) -> Interval | None:
    """A cell, or None where the row or its metric is missing or NaN; a plain number has no interval."""
    found: Cell = table.get(row, {}).get(metric)
    if isinstance(found, int | float):
        found = Interval(value=float(found), low=math.nan, high=math.nan, num_persons=0)
    return found if isinstance(found, Interval) and not math.isnan(found.value) else None


def levels_of(table: Table, metric: str, condition: str = "") -> dict[str, float]:
    """Levels of a chart: true render, autoencoder, copy and other persons under a condition."""
    names = {row: name for row, name in LINES.items() if row != "model"} | {OTHERS: "other persons"}
    cells = {name: cell(table, row_of(row, condition), metric) for row, name in names.items()}
    return {name: found.value for name, found in cells.items() if found is not None}


def curves(
    table: Table,
    metric: str,
    at: Sequence[tuple[float, str]],
    label: str,
    *,
    lines: Mapping[str, str] = LINES,
    levels: Mapping[str, float] | None = None,
    logarithmic: bool = False,
) -> str:
    """A metric over what is varied, a line per row that has it, with the intervals over persons.

    Args:
        table: the table.
        metric: its key.
        at: values on the axis and the names of their conditions, in order.
        label: of that axis.
        lines: row without its condition → name of its line.
        levels: dashed.
        logarithmic: whether that axis is.
    """
    series, whiskers = {}, {}
    for row, name in lines.items():
        cells = [(x, cell(table, row_of(row, condition), metric)) for x, condition in at]
        if known := [(x, found) for x, found in cells if found is not None]:
            series[name] = [(x, found.value) for x, found in known]
            whiskers[name] = [(x, found.low, found.high) for x, found in known]
    values = [value for points in series.values() for _, value in points] + list((levels or {}).values())
    values += [end for ends in whiskers.values() for _, *both in ends for end in both if not math.isnan(end)]
    x = axis_over(label, [value for value, _ in at], logarithmic=logarithmic)
    return line_chart(TITLES.get(metric, metric), series, x, axis_over(metric, values), levels, whiskers)


def trade_off(table: Table, x: str, y: str, series: Mapping[str, Sequence[str]], *, by: str = "") -> str:
    """Two metrics against each other.

    Args:
        table: the table.
        x: metric across.
        y: metric up.
        series: name of a line → its rows, in order.
        by: what the rows have in common, added to the title.
    """
    points = {
        name: [(a.value, b.value) for row in rows if (a := cell(table, row, x)) and (b := cell(table, row, y))]
        for name, rows in series.items()
    }
    every = [point for line in points.values() for point in line]
    axes = axis_over(f"{x} ({TITLES[x]})", [a for a, _ in every]), axis_over(y, [b for _, b in every])
    return line_chart(f"{TITLES[y]} against {TITLES[x]}" + (f", {by}" if by else ""), points, *axes)
