"""The page of real scans."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from omote.evaluation.report import html
from omote.evaluation.report.results import FLOOR, is_model, place, title
from omote.files import atomic_path
from omote.head.expressions import CATEGORIES
from omote.studies.real_scans import MEASURES, rows_of

COLUMNS: tuple[tuple[str, str, int], ...] = (
    ("rest", "change at rest<br><small>mm ↓</small>", 2),
    ("still", "where nothing moves<br><small>mm ↓</small>", 2),
    ("identity", "identity distance<br><small>↓</small>", 3),
    ("hit_both", "expression top-1<br><small>↑</small>", 2),
    ("hit_faceapi", "top-1<br><small>face-api ↑</small>", 2),
    ("hit_fer", "top-1<br><small>fer ↑</small>", 2),
    ("asked_both", "asked<br><small>probability ↑</small>", 2),
)
FIT: tuple[tuple[str, str], ...] = (
    ("scan_to_surface_median_mm", "scan to head<br><small>median, mm</small>"),
    ("scan_to_surface_p90_mm", "scan to head<br><small>90 %, mm</small>"),
    ("surface_to_scan_median_mm", "head to scan<br><small>median, mm</small>"),
    ("surface_to_scan_p90_mm", "head to scan<br><small>90 %, mm</small>"),
)
NOTES = (
    ("no truth", "How these people look with another expression was never captured: there is no depth or colour error, and no "
     "ceiling of the judges on true pictures. In-model numbers have both."),
    ("change at rest", "Mean |depth of the row asked for neutral − the scan's depth| over the scan's pixels. A copy has none."),
    ("where nothing moves", "The same for the six other categories, over pixels whose depth the head model's own edit changes by "
     "less than 0.1 mm: forehead, bridge of the nose, ears."),
    ("identity distance", "Of face-api's descriptors, edit against the scan's own image, neutral left out. “Other scans” is the "
     "mean distance of two different scans."),
    ("expression", "How often the judges' first class is the asked one, over seven categories. The floor is the copy: a seventh, "
     "or what the scan happens to show."),
    ("autoencoder", "The scan's own image through the autoencoder, seven times the same: what its loss alone costs."),
)  # fmt: skip


def write_scan_report(folder: Path, numbers: Mapping[str, float | int | None], run: Mapping[str, Any]) -> None:
    """Write ``folder/report.html`` of a measured folder.

    Raises:
        OutputError: it cannot be written.
    """
    records = {path.stem: json.loads(path.read_text()) for path in sorted((folder / "scans").glob("*.json"))}
    with atomic_path(folder / "report.html") as temporary:
        temporary.write_text(html.page("omote: real scans", _sections(folder, records, numbers, run)), encoding="utf-8")


def _sections(
    folder: Path,
    records: Mapping[str, Mapping[str, Any]],
    numbers: Mapping[str, float | int | None],
    run: Mapping[str, Any],
) -> Iterator[str]:
    scans = {name: record for name, record in records.items() if "skipped" not in record}
    skipped = {name: str(record["skipped"]) for name, record in records.items() if "skipped" in record}
    yield "<h1>Real scans</h1>"
    yield f'<p class="soft">{len(scans)} scans, {len(skipped)} skipped.</p>'
    if skipped:
        yield html.definitions(skipped.items())
    yield _table(scans, numbers, "")
    other = numbers.get("identity/faceapi/other_scans")
    if other is not None:
        yield f'<p class="soft">Identity distance of different scans: {other:.3f}.</p>'
    yield "<h2>How well the head lies on the scan</h2>"
    kinds = (("linear", "head model"), ("refined", "refined"))
    yield html.table(
        ["scan", *(name for _, name in FIT)],
        [
            ("", [f"{escape(scan)}, {name}", *(f"{record['fit'][f'{key}_{kind}']:.2f}" for key, _ in FIT)])
            for scan, record in scans.items()
            for kind, name in kinds
        ],
    )
    for name in scans:
        yield f"<h2>{escape(name)}</h2>"
        yield f'<p class="soft">Columns: {", ".join(CATEGORIES)}.</p>'
        yield f'<div class="scroll">{html.picture(folder / "scans" / f"{name}.png", f"every row of {name}")}</div>'
        yield _table(scans, numbers, f"_{name}")
    yield "<h2>What the words mean</h2>"
    yield html.definitions(NOTES)
    yield "<h2>What it ran on</h2>"
    yield html.definitions((key, "–" if value is None else str(value)) for key, value in sorted(run.items()))


def _table(scans: Mapping[str, Mapping[str, Any]], numbers: Mapping[str, float | int | None], ending: str) -> str:
    lines = []
    for row in sorted(rows_of(scans), key=place):
        cells = []
        for measure, _, digits in COLUMNS:
            value = numbers.get(f"{MEASURES[measure]}/{row}{ending}")
            cells.append("–" if value is None else f"{value:.{digits}f}")
        kind = "model" if is_model(row) else "bound" if row in (FLOOR, "autoencoder_ceiling") else "baseline"
        name = "autoencoder of the scan" if row == "autoencoder_ceiling" else title(row)
        lines.append((kind, [escape(name), *cells]))
    return html.table(["row", *(name for _, name, _ in COLUMNS)], lines)
