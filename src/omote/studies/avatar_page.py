"""The page and the figure of the avatars' suite."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from omote.evaluation.catalogue import Metric, metric_of
from omote.evaluation.figures import axis_over, figure, row_chart
from omote.evaluation.judges.panel import JUDGES
from omote.evaluation.records import Row, Table
from omote.evaluation.report import html
from omote.evaluation.report.page import column_title
from omote.evaluation.summary import CEILING
from omote.files import atomic_path
from omote.head.expressions import CATEGORIES
from omote.studies.table import cell

TITLES = {
    "model": "avatar",
    "head_edit": "personal units × weights",
    "head_edit_plain": "plain units × weights",
    "deformation_transfer": "deformation transfer",
    "moved_source": "moved source, nothing learned",
    "drawn_motion": "motion image's own motion, nothing learned",
    "rest": "at rest",
    "ceiling": "true mesh",
}
SURFACE = "avatar/surface_mm_moving"
ERRORS = (
    SURFACE, "avatar/surface_mm", "avatar/surface_mm_lips", "avatar/surface_mm_lids", "avatar/vertex_mm",
    "avatar/vertex_mm_moving", "avatar/motion_cosine", "avatar/motion_size", "avatar/rigid_mm",
)  # fmt: skip
ANATOMY = (
    "avatar/folded", "avatar/lips_crossing", "avatar/piercing", "avatar/whole", "avatar/corner_mm",
    "avatar/corner_difference_mm",
)  # fmt: skip
STRESSED = tuple(
    f"avatar/{what}_worst_{kind}" for kind in ("unit", "pair") for what in ("folded", "lips_crossing", "corner_mm")
)
AT_REST = (
    "avatar/teeth_rest_mm2", "avatar/teeth_hidden", "avatar/lip_gap_mm", "avatar/seam_apart_mm", "avatar/motion_kept",
    "refused/share",
)  # fmt: skip
SEEN = (
    *(f"expression/top1_{judge}" for judge in JUDGES), *(f"expression/top1_both_{c}" for c in CATEGORIES),
    "expression/mscr_both",
)  # fmt: skip
GROUPS = (
    ("Errors of the meshes, the truth's weights given", "weights", ERRORS),
    ("Errors of the meshes, expressions by name", "names", ERRORS),
    ("Anatomy of expressions by name", "names", ANATOMY),
    ("Single units and pairs of expressions", "", STRESSED),
    ("At rest", "", AT_REST),
    ("Recognition of the meshes' renders", "names", SEEN),
)
NOTE = (
    "Persons are drawn from head models, so the ground truth is synthetic. For persons of the avatars' own head model, plain "
    "units × weights are of exactly the same kind as the ground truth."
)


def write_avatar_page(out: Path, table: Table, heading: str = "Avatars against true meshes") -> None:
    """Write ``report.html``.

    Raises:
        OutputError: it cannot be written.
    """
    run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    body = [
        f"<h1>{escape(heading)}</h1>",
        f'<p class="soft">{escape(NOTE)}</p>',
        *avatar_sections(table),
        "<h2>Definitions</h2>",
        html.definitions((m.title, m.definition) for _, _, keys in GROUPS[1:] for m in map(metric_of, keys)),
        "<h2>Versions and machine</h2>",
        html.definitions((key, "–" if value is None else str(value)) for key, value in sorted(run.items())),
    ]
    with atomic_path(out / "report.html") as temporary:
        temporary.write_text(html.page(f"omote: {heading}", body), encoding="utf-8")


def avatar_sections(table: Table) -> Iterator[str]:
    """A table per group of metrics, with rows under each condition and intervals."""
    for heading, asked, keys in GROUPS:
        rows = [row for row in table if row.name and (row.on("asked") or "") == asked]
        if shown := [m for m in map(metric_of, keys) if any(cell(table, row, m.key) for row in rows)]:
            yield f"<h2>{escape(heading)}</h2>"
            yield _table(table, sorted(rows, key=_place), shown)


def _table(table: Table, rows: Sequence[Row], columns: Sequence[Metric]) -> str:
    lines = []
    for row in rows:
        found = [(cell(table, row, m.key), m.digits) for m in columns]
        if any(value for value, _ in found):
            kind = "model" if row.name == "model" else "bound" if row.name == CEILING else "baseline"
            cells = [html.with_interval(value, digits) for value, digits in found]
            lines.append((kind, [escape(_title(row)), *cells]))
    return html.table(["row", *map(column_title, columns)], lines)


def _title(row: Row) -> str:
    at = ", ".join(value for axis, value in row.at if axis != "asked")
    return TITLES.get(row.name, row.name) + (f" ({at})" if at else "")


def _place(row: Row) -> tuple[str, str, str, int]:
    return row.on("capture") or "", row.on("head") or "", row.on("expression") or "", list(TITLES).index(row.name)


def chart(table: Table) -> str:
    """A chart of surface errors where the truth moves, per head family captured as a mesh; empty if there is none."""
    charts = []
    metric = metric_of(SURFACE)
    for family in dict.fromkeys(row.on("head") for row in table if row.on("head")):
        rows = {
            TITLES[row.name]: (found.value, found.low, found.high)
            for row in sorted(table, key=lambda row: list(TITLES).index(row.name) if row.name in TITLES else 0)
            if row.on("head") == family and row.on("capture") == "mesh" and row.on("asked") == "weights"
            and (found := cell(table, row, SURFACE))
        }  # fmt: skip
        if rows:
            axis = axis_over(metric.label(), [0.0, *(v for ends in rows.values() for v in ends if v == v)])
            charts.append(row_chart(f"{metric.title}, persons of {family}", rows, axis))
    return figure(charts) if charts else ""
