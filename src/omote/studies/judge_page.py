"""The page of the judges' self-test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from omote.evaluation.judges import JUDGES
from omote.evaluation.report import html, svg
from omote.files import atomic_path
from omote.head.expressions import CATEGORIES
from omote.studies.judge_check import table_rows

NOTES = (
    ("identity", "Euclidean distance of descriptors, mean and 5th to 95th percentile. Other capture: the same person at rest in "
     "another light and from another camera. Other expression: the same capture. Different: two persons at rest."),
    ("accuracy", "Same and different pairs told by a threshold that was chosen on other persons (ten folds); both kinds count "
     "half. AUC: how often a same-person pair is the nearer one."),
    ("expression", "Top-1 on true renders, per class and averaged: the ceiling of every accuracy in other reports."),
    ("calibration", "Crops are fixed and were chosen on persons of the tuning split, which no test uses. Calibration error: "
     "|accuracy − confidence| in ten bins, weighed by images."),
)  # fmt: skip


def write_judge_report(numbers: Mapping[str, float | int | None], run: Mapping[str, Any], path: Path) -> None:
    """Write the page.

    Raises:
        OutputError: it cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(html.page("omote: judges", _sections(numbers, run)), encoding="utf-8")


def _sections(numbers: Mapping[str, float | int | None], run: Mapping[str, Any]) -> Iterator[str]:
    count = int(numbers["count/persons"] or 0)
    yield "<h1>Do the judges behave?</h1>"
    yield f'<p class="soft">{count} persons of the test split, true renders only.</p>'
    head: list[str] = []
    lines: list[tuple[str, list[str]]] = []
    for cells in (*table_rows(numbers), ("",)):
        if cells[0] in ("identity", "expression", "") and head:
            yield html.table(head, lines)
            lines = []
        if cells[0] in ("identity", "expression"):
            head = [escape(cell) for cell in cells]
        else:
            lines.append(("bound", [escape(cell) for cell in cells]))
    matrices = []
    for judge in JUDGES:
        values = [[numbers.get(f"expression/{judge}/confusion_{a}_{b}") for b in CATEGORIES] for a in CATEGORIES]
        filled = np.array([[np.nan if v is None else v for v in row] for row in values], dtype=np.float64)
        matrices.append(svg.matrix(f"true render ({judge})", filled, CATEGORIES))
    yield f'<div class="figures">{"".join(matrices)}</div>'
    yield html.definitions(NOTES)
    yield "<h2>Calibrations</h2>"
    yield html.definitions(
        (key.partition("/")[2].replace("_", " "), f"{value:g}")
        for key, value in sorted(numbers.items())
        if key.startswith("calibration/") and value is not None
    )
    yield "<h2>What it ran on</h2>"
    yield html.definitions((key, "–" if value is None else str(value)) for key, value in sorted(run.items()))
