"""The judges' self-test as a table for people, on the terminal and as a page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from omote.evaluation.figures import matrix
from omote.evaluation.judges import JUDGES
from omote.evaluation.registry import PARAMETERS
from omote.evaluation.report import html
from omote.files import atomic_path
from omote.head.expressions import CATEGORIES
from omote.runs import Value

PAIRS = {
    "same_other_capture": "same person, other capture",
    "same_other_expression": "same, other expression",
    "different": "different person",
}
NOTES = (
    ("identity", "Euclidean distance of descriptors, mean and 5th to 95th percentile. Other capture: the same person at rest in "
     "another light and from another camera. Other expression: the same capture. Different: two persons at rest."),
    ("accuracy", "Same and different pairs told by a threshold that was chosen on other persons (ten folds); both kinds count "
     "half. AUC: how often a same-person pair is the nearer one."),
    ("expression", "Top-1 on true renders, per class and averaged: the ceiling of every accuracy in other reports."),
    ("calibration", "Crops are fixed and were chosen on persons of the tuning split, which no test uses. Calibration error: "
     "|accuracy − confidence| in ten bins, weighed by images."),
)  # fmt: skip


def table_rows(numbers: Mapping[str, float | int]) -> list[Sequence[str]]:
    """Identity networks, then expression networks; a first line names the columns of each.

    Args:
        numbers: of ``metrics.json``.
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
    with atomic_path(out / "report.html") as temporary:
        temporary.write_text(html.page("omote: judges", _sections(numbers, num_persons, run)), encoding="utf-8")


def _sections(numbers: Mapping[str, float | int], num_persons: int, run: Mapping[str, Value]) -> Iterator[str]:
    yield "<h1>Do the judges behave?</h1>"
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
    yield "<h2>What it ran on</h2>"
    yield html.definitions((key, "–" if value is None else str(value)) for key, value in sorted(run.items()))
