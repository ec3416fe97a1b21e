"""A study's table: rows × metrics with intervals over persons, as ``metrics.json``, ``table.csv`` and lines of a chart."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from omote.evaluation.figures import axis_over, line_chart
from omote.evaluation.metrics import identity_distance
from omote.evaluation.report.results import Results
from omote.evaluation.report.tables import HEADLINE, Metric, interval, measured
from omote.evaluation.statistics import Interval
from omote.files import atomic_path

DEPTH, MOVING, COLOR, IDENTITY, TOP1 = (
    "depth/mae_mm_metric",
    "depth/mae_mm_moving",
    "color/psnr_db",
    "identity/faceapi",
    "expression/top1_both",
)
ASKED, REFUSED = "expression/asked_both", "refused/share"
OBTAINED, RATIO = "displacement/rms_mm", "displacement/ratio"
METRICS: tuple[Metric, ...] = (
    *(metric for metric in HEADLINE if metric.key != "color/ssim"),
    # The judges' probability of what was asked: finer than whether it ranks first.
    Metric(key=ASKED, measure="asked_both", title="probability of what is asked", unit="", better="more", digits=2,
           with_neutral=False, in_bounds=True),
    Metric(key=REFUSED, measure="refused", title="sources without a face found", unit="", better="less", digits=2),
    Metric(key=OBTAINED, measure="displaced", title="change of depth", unit="mm", better="more", digits=2,
           with_neutral=False, in_bounds=True),
    Metric(key=RATIO, measure="displacement", title="change over the truth's", unit="", better="more", digits=2,
           with_neutral=False, in_bounds=True),
)  # fmt: skip
TITLES: Mapping[str, str] = {metric.key: metric.title for metric in METRICS}
# What lines of a chart are called.
LINES: Mapping[str, str] = {
    "model": "model",
    "autoencoder_ceiling": "autoencoder",
    "ceiling": "true render",
    "copy_source": "copy",
}

# A row of how far the descriptors of different persons lie apart.
OTHERS = "other_persons"

# Row → metric → its value with its interval.
Table = dict[str, dict[str, Interval]]


def row_of(edit: str, condition: str) -> str:
    """The name of a row under a condition."""
    return f"{edit}_{condition}" if condition else edit


def summarised(persons: Sequence[Mapping[str, object]], rows: Sequence[str], condition: str) -> Table:
    """Intervals of what was measured of the rows under a condition.

    Args:
        persons: what `omote.evaluation.measure` gives of each, and more.
        rows: without the condition's name.
        condition: what is added to their names.
    """
    results = Results(folder=Path(), name=condition, persons=tuple(persons), metrics={}, config={}, run={})
    return {
        row_of(row, condition): {m.key: interval(results, m, row) for m in METRICS if measured(results, m, row)}
        for row in rows
    }


def other_persons(persons: Sequence[Mapping[str, object]], condition: str) -> Table:
    """Mean identity distance between different persons at rest, without which no distance says anything.

    Args:
        persons: with their descriptors.
        condition: what is added to the row's name.
    """
    descriptors = np.array([person["descriptor"] for person in persons], np.float64)
    if len(descriptors) < 2:
        return {}
    mine, theirs = np.triu_indices(len(descriptors), 1)
    return {
        row_of(OTHERS, condition): {
            IDENTITY: alone(float(identity_distance(descriptors[mine], descriptors[theirs]).mean()))
        }
    }


def write_table(table: Table, out: Path, *, num_persons: int, more: Mapping[str, float] | None = None) -> None:
    """``metrics.json`` with flat keys ``<metric>/<row>``, and ``table.csv`` with the ends of the intervals.

    Args:
        table: the table.
        out: folder.
        num_persons: that were measured.
        more: flat keys that are no row's.
    """
    flat = {f"{key}/{row}": found.value for row, cells in table.items() for key, found in cells.items()}
    flat |= {"count/persons": num_persons, **(more or {})}
    with atomic_path(out / "metrics.json") as temporary:
        # NaN is no JSON.
        whole = {key: None if math.isnan(value) else value for key, value in flat.items()}
        temporary.write_text(json.dumps(whole, indent=2, sort_keys=True) + "\n")
    columns = list(dict.fromkeys(key for cells in table.values() for key in cells))
    with atomic_path(out / "table.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", *(f"{key}{end}" for key in columns for end in ("", "_low", "_high"))])
        for row, cells in table.items():
            ends = [cells.get(key) for key in columns]
            values = [v for i in ends for v in ((i.value, i.low, i.high) if i is not None else (math.nan,) * 3)]
            writer.writerow([row, *("" if math.isnan(v) else f"{v:.6g}" for v in values)])


def alone(value: float) -> Interval:
    """A number that no persons were drawn for: it has no interval."""
    return Interval(value=value, low=math.nan, high=math.nan, num_persons=0)


def levels_of(table: Table, metric: str, condition: str = "") -> dict[str, float]:
    """What stands beside a metric under a condition, as levels of a chart: true render, its autoencoding, copy, others."""
    names = {row: name for row, name in LINES.items() if row != "model"} | {OTHERS: "other persons"}
    cells = {name: table.get(row_of(row, condition), {}).get(metric) for row, name in names.items()}
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
        at: where on the axis a condition lies, and its name, in order.
        label: of that axis.
        lines: row without its condition → what its line is called.
        levels: dashed.
        logarithmic: that axis.
    """
    series, whiskers = {}, {}
    for row, name in lines.items():
        cells = [(x, table.get(row_of(row, condition), {}).get(metric)) for x, condition in at]
        if known := [(x, found) for x, found in cells if found is not None and not math.isnan(found.value)]:
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
        series: what a line is called → its rows, in order.
        by: what the rows have in common, said with the title.
    """
    points = {name: [(table[row][x].value, table[row][y].value) for row in rows] for name, rows in series.items()}
    every = [point for line in points.values() for point in line]
    axes = axis_over(f"{x} ({TITLES[x]})", [a for a, _ in every]), axis_over(y, [b for _, b in every])
    return line_chart(f"{TITLES[y]} against {TITLES[x]}" + (f", {by}" if by else ""), points, *axes)
