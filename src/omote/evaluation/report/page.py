"""The report of one result folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape

import numpy as np
from jaxtyping import Bool

from omote.evaluation.catalogue import Metric, metric_of
from omote.evaluation.figures import axis_over, in_page, matrix, row_chart
from omote.evaluation.judges.panel import JUDGES
from omote.evaluation.pictures import SHEET_ROWS, picture_path, sheet_persons
from omote.evaluation.records import Row
from omote.evaluation.report import html, words
from omote.evaluation.report.published import published_tables
from omote.evaluation.report.results import MODEL, ROW_TITLES, ReleaseResults, kind_of, title
from omote.evaluation.report.tables import DETAIL, HEADLINE, bounds_of, interval, rivalries
from omote.evaluation.statistics import Interval
from omote.evaluation.summary import CEILING, FLOOR, TOP1, class_interval, confusion, parts_of, per_image, per_person
from omote.head.expressions import CATEGORIES

SHEET_TITLES = {
    **{row: f"{ROW_TITLES[row]}: colour, depth, depth error" for row in SHEET_ROWS},
    CEILING: "true render: colour, depth, and how far the depth moves from rest",
}


def write_report(results: ReleaseResults, opening: Iterable[str] = ()) -> None:
    """Write ``report.html`` into the result folder.

    Args:
        results: results of the folder.
        opening: HTML at the beginning of the page.

    Raises:
        OutputError: it cannot be written.
    """
    html.write(results.folder / "report.html", f"omote: {results.name}", [*opening, *sections(results)])


def sections(results: ReleaseResults) -> Iterator[str]:
    """The report's parts."""
    count = len(results.persons)
    yield f"<h1>Evaluation: {escape(results.name)}</h1>"
    yield f'<p class="soft">{count} persons × {len(results.persons[0].category)} expressions. {escape(words.SYNTHETIC)}</p>'
    name = words.test_set(results)
    yield f'<p class="soft">Test set <b>{escape(name)}</b>. {escape(words.TEST_SETS.get(name, ""))}</p>'

    yield _in_short(results)
    if count < 30:
        yield f"<p><b>{count} persons are few</b>: this is a trial, not a result to quote.</p>"
    rivals = rivalries(results)
    lines = (*words.aim(rivals), *words.missing(results), *words.verdict(rivals))
    yield f'<div class="verdict">{"".join(f"<p>{line}</p>" for line in lines)}</div>'

    yield metric_table(results, HEADLINE)
    yield f"<p>{_identity_note(results)}</p>"
    yield figures(results)

    yield "<h2>Expression by class</h2>"
    yield from _expressions(results)
    for axis, heading, columns in (
        ("head", "By head family", HEADLINE),
        ("yaw_deg", "By the camera's yaw, degrees", HEADLINE[:1]),
    ):
        if parts := {value: chosen for (of, value), chosen in parts_of(results.persons).items() if of == axis}:
            yield f"<h2>{heading}</h2>"
            yield _parts(results, parts, columns)

    yield "<h2>More metrics</h2>"
    yield metric_table(results, DETAIL)
    yield _sets(results)
    yield "<h2>Contact sheets</h2>"
    yield from _sheets(results)

    yield "<h2>Rows and metrics</h2>"
    yield html.definitions((title(row), words.describe(row)) for row in results.rows)
    yield html.definitions(words.definitions((*HEADLINE, *DETAIL, *_of_judge(JUDGES[0]))))
    yield published_tables()
    yield "<h2>Versions and machine</h2>"
    yield html.facts(results.run)


def _in_short(results: ReleaseResults) -> str:
    run = results.run
    parts = [f"{name} {run[key]}" for name, key in (
        ("weights", "run/weights_model"), ("commit", "run/commits"), ("seed", "seed/persons"), ("measured", "run/finished_utc"),
        ("on", "machine/processor"),
    ) if run.get(key) is not None]  # fmt: skip
    return f'<p class="soft">{escape(", ".join(parts))}</p>' if parts else ""


def column_title(metric: Metric) -> str:
    """HTML of a column's heading: title, unit, and an arrow in the direction of better values."""
    arrow = {"lower": " ↓", "higher": " ↑", "neither": ""}[metric.better]
    return f"{escape(metric.title)}<br><small>{escape(metric.unit)}{arrow}</small>"


def metric_table(results: ReleaseResults, columns: Sequence[Metric]) -> str:
    """A table of rows × metrics with intervals; metrics without a value are left out."""
    shown = [m for m in columns if any(interval(results, m, row) for row in results.rows)]
    bounds = {m.key: bounds_of(results, m) for m in shown}
    lines: list[tuple[str, list[str]]] = []
    for row in results.rows:
        found = {m.key: interval(results, m, row) for m in shown}
        if not any(found.values()):
            continue
        cells = []
        for m in shown:
            cell = html.with_interval(found[m.key], m.digits)
            if found[m.key] is not None and len(ends := bounds[m.key]) == 2:
                cell += (
                    f"<small>ceiling {html.number(ends[CEILING].value, m.digits)}, "
                    f"floor {html.number(ends[FLOOR].value, m.digits)}</small>"
                )
            cells.append(cell)
        new_group = bool(lines) and not lines[-1][0].startswith(kind_of(row))
        lines.append((kind_of(row) + (" group" if new_group else ""), [escape(title(row)), *cells]))
    return html.table(["row", *map(column_title, shown)], lines)


def _identity_note(results: ReleaseResults) -> str:
    values = per_image(results.persons, "identity/faceapi", Row(FLOOR))
    assert values is not None, "`load_results` refuses folders without a copy of the source"
    note = (
        f"For scale: a person's source and their true face with an expression are {np.nanmean(values):.2f} apart in identity "
        "distance"
    )
    if (apart := results.numbers.get(("identity_apart/faceapi", Row()))) is not None:
        note += f", two different persons {apart:.2f} (their true faces at rest)"
    return note + ". Copying the source scores the distance of a change of expression alone."


def figures(results: ReleaseResults) -> str:
    """Charts of the headline metrics: dots with intervals."""
    charts = []
    for m in HEADLINE:
        found = {row: interval(results, m, row) for row in results.rows}
        cells = {title(row): cell for row, cell in found.items() if cell is not None}
        kinds = {title(row): kind_of(row) for row in found}
        charts.append(chart_of(m, m.title, cells, kinds, from_zero=m.better == "lower" or m.key in TOP1))
    return f'<div class="figures">{"".join(charts)}</div>'


def chart_of(
    metric: Metric, heading: str, cells: Mapping[str, Interval], kinds: Mapping[str, str], *, from_zero: bool
) -> str:
    """A chart of one metric as dots with intervals; empty if there are no values."""
    values = {name: (c.value, c.low, c.high) for name, c in cells.items() if not np.isnan(c.value)}
    if not values:
        return ""
    ends = [v for ends in values.values() for v in ends if not np.isnan(v)]
    axis = axis_over(metric.label(), [*ends, *([0.0] if from_zero else [])])
    return in_page(heading, row_chart(heading, values, axis, kinds=kinds))


def _expressions(results: ReleaseResults) -> Iterator[str]:
    judge = JUDGES[0]
    yield "<p>Top-1 of both judges' summed probabilities on each true class; the true render's row is the ceiling.</p>"
    yield _class_table(results, judge)
    matrices = [row for row in (Row(CEILING), MODEL, *results.baselines) if row.name != FLOOR]
    yield f'<div class="figures">{"".join(_matrix(results, judge, row) for row in matrices)}</div>'
    yield _expression_summary(results)
    for other in JUDGES[1:]:
        inner = _class_table(results, other)
        inner += f'<div class="figures">{"".join(_matrix(results, other, row) for row in (Row(CEILING), MODEL))}</div>'
        yield f"<details><summary>{escape(other)} alone</summary>{inner}</details>"


def _class_table(results: ReleaseResults, judge: str) -> str:
    lines = []
    for row in results.rows:
        found = [class_interval(results.persons, judge, row, c) for c in CATEGORIES]
        lines.append((kind_of(row), [escape(title(row)), *(html.with_interval(cell, 2) for cell in found)]))
    return html.table(["row", *CATEGORIES], lines)


def _matrix(results: ReleaseResults, judge: str, row: Row) -> str:
    found = confusion(results.persons, judge, row)
    return "" if found is None else matrix(f"{title(row)} ({judge})", found, CATEGORIES)


def _of_judge(judge: str) -> list[Metric]:
    return [metric_of(f"expression/{name}_{judge}") for name in ("gain", "cls", "mscr")]


def _expression_summary(results: ReleaseResults) -> str:
    return _numbers(results, [metric for judge in JUDGES for metric in _of_judge(judge)])


def _numbers(results: ReleaseResults, columns: Sequence[Metric]) -> str:
    """A table of rows × metrics without intervals."""
    shown = [m for m in columns if any((m.key, row) in results.numbers for row in results.rows)]
    lines = []
    for row in results.rows:
        cells = [html.number(results.numbers.get((m.key, row), np.nan), m.digits) for m in shown]
        lines.append((kind_of(row), [escape(title(row)), *cells]))
    return html.table(["row", *map(column_title, shown)], lines) if shown else ""


def _parts(results: ReleaseResults, parts: Mapping[str, Bool[np.ndarray, " p"]], columns: Sequence[Metric]) -> str:
    """A table of rows × metrics for each part of the persons."""
    head = ["row", *(f"{escape(m.title)}<br><small>{escape(name)}</small>" for m in columns for name in parts)]
    lines = []
    for row in results.rows:
        if row.name == CEILING:
            continue
        found = [(m, interval(results, m, row, chosen)) for m in columns for chosen in parts.values()]
        lines.append((kind_of(row), [escape(title(row)), *(html.with_interval(cell, m.digits) for m, cell in found)]))
    counts = ", ".join(f"{int(chosen.sum())} persons of {name}" for name, chosen in parts.items())
    return f"<p>{escape(counts)}.</p>" + html.table(head, lines)


def _sets(results: ReleaseResults) -> str:
    """The section on rows as sets of images, if these were measured."""
    groups = ("fd", "kid", "precision", "recall", "perceptual")
    keys = sorted({key for key, _ in results.numbers if key.partition("/")[0] in groups})
    if not keys:
        return ""
    keys.sort(key=lambda key: groups.index(key.partition("/")[0]))
    images, subset = (results.numbers[f"count/{name}", Row()] for name in ("set_images", "kid_subset_size"))
    note = (
        f"<h2>Sets of images</h2><p>Against the true renders of the same persons: {images:.0f} images a set, KID over subsets of "
        f"{subset:.0f}. Few images make a Fréchet distance large: compare rows of one table only. Networks are named; none of "
        "these is FID or LPIPS.</p>"
    )
    return note + _numbers(results, [metric_of(key) for key in keys])


def _sheets(results: ReleaseResults) -> Iterator[str]:
    images = results.folder / "images"
    yield (
        "<p>The first picture of a person shows them at rest. Shown are the best, the median and the worst person by the "
        "model's depth error over moving pixels. Depth has the same colour "
        "at the same distance everywhere; errors go from black (0) to pale (10 mm and more, or a hole).</p>"
    )
    for name, index in sheet_persons(results.persons).items():
        errors, head = per_person(results.persons, "depth/mae_mm_moving", MODEL), results.persons[index].parts["head"]
        assert errors is not None, "persons are picked by it"
        yield f"<h3>{name}: person {index} ({escape(head)}), {errors[index]:.2f} mm where it moves</h3>"
        heads = "".join(f"<span>{category}</span>" for category in CATEGORIES)
        cells = [f'<div class="heads">{heads}</div>']
        for row in SHEET_ROWS:
            if Row(row) not in results.rows:
                continue
            shown = html.picture(picture_path(images, index, row), f"{name} person, {title(Row(row))}")
            cells.append(f"<figure><figcaption>{escape(SHEET_TITLES[row])}</figcaption>{shown}</figure>")
        yield f'<div class="scroll"><div class="sheet">{"".join(cells)}</div></div>'
