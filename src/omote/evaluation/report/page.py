"""The report of one result folder."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from html import escape

import numpy as np
from scipy.spatial.distance import pdist

from omote.evaluation.pictures import SHEET_ROWS, picture_path, sheet_persons
from omote.evaluation.report import html, svg, words
from omote.evaluation.report.published import published_tables
from omote.evaluation.report.results import BOUNDS, CEILING, FLOOR, JUDGES, MODEL, ROW_TITLES, Results, is_model, title
from omote.evaluation.report.tables import (
    DETAIL,
    HEADLINE,
    Metric,
    bounds_of,
    class_interval,
    confusion,
    csv_rows,
    interval,
    is_expression,
    measured,
    rivalries,
)
from omote.files import atomic_path
from omote.head.expressions import CATEGORIES

SHEET_TITLES = {
    CEILING: "true render: colour, depth, and how far the depth moves from rest",
    MODEL: "model: colour, depth, depth error",
    **{row: f"{ROW_TITLES[row]}: colour, depth, depth error" for row in SHEET_ROWS if row not in (CEILING, MODEL)},
}


def write_report(results: Results) -> None:
    """Write ``report.html`` and ``table.csv`` into the result folder.

    Raises:
        OutputError: they cannot be written.
    """
    with (
        atomic_path(results.folder / "table.csv") as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        csv.writer(file).writerows(csv_rows(results))
    with atomic_path(results.folder / "report.html") as temporary:
        temporary.write_text(html.page(f"omote: {results.name}", sections(results)), encoding="utf-8")


def sections(results: Results) -> Iterator[str]:
    """The report's parts."""
    count = len(results.persons)
    yield f"<h1>Evaluation: {escape(results.name)}</h1>"
    yield f'<p class="soft">{count} persons × {results.category.shape[1]} expressions. {escape(words.SYNTHETIC)}</p>'
    name = words.test_set(results)
    yield f'<p class="soft">Test set <b>{escape(name)}</b>. {escape(words.TEST_SETS.get(name, ""))}</p>'
    yield _in_short(results)
    if count < 30:
        yield f"<p><b>{count} persons are few</b>: this is a trial, not a result to quote.</p>"
    rivals = rivalries(results)
    lines = (*words.aim(rivals), *words.missing(results), *words.verdict(rivals))
    yield f'<div class="verdict">{"".join(f"<p>{line}</p>" for line in lines)}</div>'
    yield headline_table(results)
    yield f"<p>{_identity_note(results)}</p>"
    yield figures(results)
    yield "<h2>Expression by class</h2>"
    yield from _expressions(results)
    yield "<h2>By head family</h2>"
    yield _parts(results, results.heads(), HEADLINE)
    if turns := results.turns():
        yield "<h2>By the camera's turn</h2>"
        yield _parts(results, turns, HEADLINE[:1])
    yield "<h2>More metrics</h2>"
    yield metric_table(results, DETAIL)
    yield _sets(results)
    yield "<h2>Contact sheets</h2>"
    yield from _sheets(results)
    yield "<h2>Rows and metrics</h2>"
    yield html.definitions((title(row), words.describe(row)) for row in results.rows)
    yield html.definitions(words.METRICS)
    yield published_tables()
    yield "<h2>What it ran on</h2>"
    yield run_facts(results)


def _in_short(results: Results) -> str:
    run = results.run
    parts = [f"{name} {run[key]}" for name, key in (
        ("weights", "run/weights"), ("commit", "run/commits"), ("seed", "seed/persons"), ("measured", "run/finished_utc"),
        ("on", "machine/processor"),
    ) if run.get(key) is not None]  # fmt: skip
    return f'<p class="soft">{escape(", ".join(parts))}</p>' if parts else ""


def kind_of(row: str) -> str:
    """CSS class of a row."""
    return "model" if is_model(row) else "bound" if row in BOUNDS else "baseline"


def _column_title(metric: Metric) -> str:
    arrow = "↓" if metric.better == "less" else "↑"
    unit = f" {metric.unit}" if metric.unit else ""
    return f"{escape(metric.title)}<br><small>{escape(unit)} {arrow}</small>"


def headline_table(results: Results) -> str:
    """Every row, with the judges' ceiling and floor beside each accuracy."""
    return metric_table(results, HEADLINE)


def metric_table(results: Results, metrics: Sequence[Metric]) -> str:
    """Rows × metrics with intervals; metrics that no row has are left out."""
    shown = [m for m in metrics if any(measured(results, m, row) for row in results.rows)]
    bounds = {m.key: bounds_of(results, m) for m in shown}
    head = ["row", *map(_column_title, shown)]
    lines: list[tuple[str, list[str]]] = []
    for row in results.rows:
        if not any(measured(results, m, row) for m in shown):
            continue
        cells = []
        for m in shown:
            if not measured(results, m, row):
                cells.append("–")
                continue
            cell = html.with_interval(interval(results, m, row), m.digits)
            if is_expression(m) and len(bounds[m.key]) == 2:
                ends = bounds[m.key]
                cell += (
                    f"<small>ceiling {html.number(ends[CEILING].value, m.digits)}, "
                    f"floor {html.number(ends[FLOOR].value, m.digits)}</small>"
                )
            cells.append(cell)
        new_group = bool(lines) and not lines[-1][0].startswith(kind_of(row))
        lines.append((kind_of(row) + (" group" if new_group else ""), [escape(title(row)), *cells]))
    return html.table(head, lines)


def _identity_note(results: Results) -> str:
    values = results.column(f"identity/{FLOOR}")
    same = float(np.nanmean(np.where(results.moved, values, np.nan)))
    note = (
        f"For scale: a person's source and their true face with an expression are {same:.2f} apart in identity distance"
    )
    if all("descriptor" in p for p in results.persons) and len(results.persons) > 1:
        descriptors = np.array([p["descriptor"] for p in results.persons], dtype=np.float64)
        note += f", two different persons {float(pdist(descriptors).mean()):.2f} (their true faces at rest)"
    return note + ". Copying the source scores what a change of expression alone does."


def figures(results: Results) -> str:
    """The headline as dots with intervals."""
    parts = []
    for m in HEADLINE:
        rows = [row for row in results.rows if measured(results, m, row)]
        if not rows:
            continue
        lines = [svg.Dot(label=title(r), value=interval(results, m, r), kind=kind_of(r)) for r in rows]
        unit = f", {m.unit}" if m.unit else ""
        direction = "less is better" if m.better == "less" else "more is better"
        from_zero = m.better == "less" or is_expression(m)
        parts.append(svg.dots(f"{m.title}{unit} ({direction})", lines, digits=m.digits, from_zero=from_zero))
    return f'<div class="figures">{"".join(parts)}</div>'


def _expressions(results: Results) -> Iterator[str]:
    judge = JUDGES[0]
    yield "<p>Top-1 of both judges' summed probabilities on each true class; the true render's row is the ceiling.</p>"
    yield _class_table(results, judge)
    matrices = [row for row in (CEILING, MODEL, *results.baselines) if row in results.rows and row != FLOOR]
    yield f'<div class="figures">{"".join(_matrix(results, judge, row) for row in matrices)}</div>'
    yield _expression_summary(results)
    for other in JUDGES[1:]:
        inner = _class_table(results, other)
        inner += f'<div class="figures">{"".join(_matrix(results, other, row) for row in (CEILING, MODEL))}</div>'
        yield f"<details><summary>{escape(other)} alone</summary>{inner}</details>"


def _class_table(results: Results, judge: str) -> str:
    lines = []
    for row in results.rows:
        cells = [html.with_interval(class_interval(results, judge, row, c), 2) for c in CATEGORIES]
        lines.append((kind_of(row), [escape(title(row)), *cells]))
    return html.table(["row", *CATEGORIES], lines)


def _matrix(results: Results, judge: str, row: str) -> str:
    return svg.matrix(f"{title(row)} ({judge})", confusion(results, judge, row), CATEGORIES)


def _expression_summary(results: Results) -> str:
    columns = (("gain ↑", "expression/gain"), ("CLS ↑", "expression/cls"), ("mSCR ↓", "expression/mscr"))
    head, lines = ["row"], []
    keys = [(f"{name}<br><small>{judge}</small>", f"{key}_{judge}") for name, key in columns for judge in JUDGES]
    keys = [(name, key) for name, key in keys if any(f"{key}/{row}" in results.metrics for row in results.rows)]
    head += [name for name, _ in keys]
    for row in results.rows:
        cells = [html.number(results.metrics.get(f"{key}/{row}", np.nan), 2) for _, key in keys]
        lines.append((kind_of(row), [escape(title(row)), *cells]))
    return html.table(head, lines)


def _parts(results: Results, parts: Mapping[str, np.ndarray], metrics: Sequence[Metric]) -> str:
    """Rows × metrics of each part of the persons."""
    shown = [m for m in metrics if any(measured(results, m, row) for row in results.rows)]
    head = ["row", *(f"{escape(m.title)}<br><small>{escape(name)}</small>" for m in shown for name in parts)]
    lines = []
    for row in results.rows:
        if row == CEILING:
            continue
        cells = [
            html.with_interval(interval(results, m, row, chosen), m.digits) if measured(results, m, row) else "–"
            for m in shown
            for chosen in parts.values()
        ]
        lines.append((kind_of(row), [escape(title(row)), *cells]))
    counts = ", ".join(f"{int(chosen.sum())} persons of {name}" for name, chosen in parts.items())
    return f"<p>{escape(counts)}.</p>" + html.table(head, lines)


def _sets(results: Results) -> str:
    """Rows as sets of images, where that was measured."""
    names = {
        "fd": "Fréchet ↓",
        "kid": "KID × 1000 ↓",
        "precision": "precision ↑",
        "recall": "recall ↑",
        "perceptual": "perceptual ↓",
    }
    found = {key.rpartition("/")[0] for key in results.metrics}
    columns = [key for kind in names for key in sorted(found) if key.startswith(f"{kind}/")]
    if not columns:
        return ""
    head = ["row", *(f"{names[k.partition('/')[0]]}<br><small>{escape(k.partition('/')[2])}</small>" for k in columns)]
    lines = []
    for row in results.rows:
        if row == CEILING:
            continue
        cells = []
        for key in columns:
            value = results.metrics.get(f"{key}/{row}", np.nan)
            cells.append(html.number(1000 * value if key.startswith("kid/") else value, 3))
        lines.append((kind_of(row), [escape(title(row)), *cells]))
    note = (
        f"<h2>Sets of images</h2><p>Against the true renders of the same persons: {results.metrics['count/set_images']:.0f} "
        f"images a set, KID over subsets of {results.metrics['count/kid_subset_size']:.0f}. Few images make a Fréchet distance "
        "large: compare rows of one table only. Networks are named; none of these is FID or LPIPS.</p>"
    )
    return note + html.table(head, lines)


def _sheets(results: Results) -> Iterator[str]:
    images = results.folder / "images"
    yield (
        "<p>The first picture of a person shows them at rest. Shown are the best, the median and the worst person by the "
        "model's depth error over moving pixels. Depth has the same colour "
        "at the same distance everywhere; errors go from black (0) to pale (10 mm and more, or a hole).</p>"
    )
    for name, index in sheet_persons(results.persons).items():
        person = results.persons[index]
        error = float(np.nanmean(np.array(person["mae_moving/model"], dtype=np.float64)))
        yield f"<h3>{name}: person {index} ({escape(str(person['head']))}), {error:.2f} mm where it moves</h3>"
        heads = "".join(f"<span>{category}</span>" for category in CATEGORIES)
        cells = [f'<div class="heads">{heads}</div>']
        for row in SHEET_ROWS:
            if row not in results.rows:
                continue
            shown = html.picture(picture_path(images, index, row), f"{name} person, {title(row)}")
            cells.append(f"<figure><figcaption>{escape(SHEET_TITLES[row])}</figcaption>{shown}</figure>")
        yield f'<div class="scroll"><div class="sheet">{"".join(cells)}</div></div>'


def run_facts(results: Results) -> str:
    """Versions, seeds, commit, machine and counts, or that they were not kept."""
    if not results.run:
        return '<p class="soft">This folder was measured by a version that kept no record of it.</p>'
    facts = html.definitions((key, "–" if value is None else str(value)) for key, value in sorted(results.run.items()))
    return f"{facts}"
