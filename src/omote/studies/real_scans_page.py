"""The page of real scans."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from omote.evaluation.catalogue import metric_of
from omote.evaluation.records import Row, Table, value_of
from omote.evaluation.report import html
from omote.evaluation.report.page import column_title
from omote.evaluation.report.results import AUTOENCODER, is_model, place, title
from omote.evaluation.summary import FLOOR
from omote.files import atomic_path
from omote.head.expressions import CATEGORIES

COLUMNS = tuple(
    map(
        metric_of,
        (
            "depth/mae_mm_rest",
            "depth/mae_mm_unmoved",
            "identity_to_source/faceapi",
            "expression/top1_both",
            "expression/top1_faceapi",
            "expression/top1_fer",
            "expression/asked_both",
        ),
    )
)
FIT = tuple(
    metric_of(f"fit/{way}_{name}_mm") for way in ("scan_to_surface", "surface_to_scan") for name in ("median", "p90")
)
KINDS = {"linear": "head model", "refined": "refined"}
NOTES = (
    ("no truth", "How these people look with another expression was never captured: there is no depth or colour error, and no "
     "ceiling of the judges on true pictures. In-model numbers have both."),
    ("expression", "The floor is the copy: a seventh, or what the scan happens to show."),
    ("autoencoder", "The scan's own image through the autoencoder, seven times the same: what its loss alone costs."),
)  # fmt: skip


def write_scan_report(out: Path, table: Table, scans: Sequence[str], skipped: Mapping[str, str]) -> None:
    """Write ``report.html``.

    Args:
        out: the result folder.
        table: rows over all scans, and under each ``scan``.
        scans: names of those that were measured.
        skipped: names of the others, with the reason.

    Raises:
        OutputError: it cannot be written.
    """
    run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    with atomic_path(out / "report.html") as temporary:
        temporary.write_text(
            html.page("omote: real scans", _sections(out, table, scans, skipped, run)), encoding="utf-8"
        )


def _sections(
    out: Path, table: Table, scans: Sequence[str], skipped: Mapping[str, str], run: Mapping[str, Any]
) -> Iterator[str]:
    yield "<h1>Real scans</h1>"
    yield f'<p class="soft">{len(scans)} scans, {len(skipped)} skipped.</p>'
    if skipped:
        yield html.definitions(skipped.items())
    rows = sorted((row for row in table if not row.at and COLUMNS[0].key in table[row]), key=place)
    yield _table(table, rows)
    if (apart := table.get(Row(), {}).get("identity_apart/faceapi")) is not None:
        yield f'<p class="soft">Identity distance of different scans: {value_of(apart):.3f}.</p>'
    yield "<h2>How well the head lies on the scan</h2>"
    fits = [(f"{scan}, {said}", table[Row(kind).under(scan=scan)]) for scan in scans for kind, said in KINDS.items()]
    yield html.table(
        ["scan", *map(column_title, FIT)],
        [("", [escape(name), *(html.number(value_of(cells[m.key]), m.digits) for m in FIT)]) for name, cells in fits],
    )
    for name in scans:
        yield f"<h2>{escape(name)}</h2>"
        yield f'<p class="soft">Columns: {", ".join(CATEGORIES)}.</p>'
        yield f'<div class="scroll">{html.picture(out / "scans" / f"{name}.png", f"every row of {name}")}</div>'
        yield _table(table, [row.under(scan=name) for row in rows])
    yield "<h2>What the words mean</h2>"
    yield html.definitions([*((metric.title, metric.definition) for metric in COLUMNS), *NOTES])
    yield "<h2>What it ran on</h2>"
    yield html.definitions((key, "–" if value is None else str(value)) for key, value in sorted(run.items()))


def _table(table: Table, rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        cells = [html.number(value_of(table[row][m.key]), m.digits) for m in COLUMNS]
        kind = "model" if is_model(row) else "bound" if row.name in (FLOOR, AUTOENCODER) else "baseline"
        name = "autoencoder of the scan" if row.name == AUTOENCODER else title(row)
        lines.append((kind, [escape(name), *cells]))
    return html.table(["row", *map(column_title, COLUMNS)], lines)
