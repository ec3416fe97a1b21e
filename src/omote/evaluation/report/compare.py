"""Several result folders on one page: their models side by side, with paired tests against the first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import numpy as np

from omote.evaluation.catalogue import Metric
from omote.evaluation.records import Row
from omote.evaluation.report import html, words
from omote.evaluation.report.page import chart_of, column_title, sections
from omote.evaluation.report.results import AUTOENCODER, MODEL, ReleaseResults, is_model, kind_of, place, title
from omote.evaluation.report.tables import HEADLINE, interval, verdict_of
from omote.evaluation.statistics import paired_test
from omote.evaluation.summary import per_person


def write_comparison(all_results: Sequence[ReleaseResults], out: Path) -> None:
    """Write a page: the report of one folder, or a comparison of several.

    Raises:
        OutputError: it cannot be written.
    """
    body = sections(all_results[0]) if len(all_results) == 1 else comparison(all_results)
    html.write(out, "omote: " + ", ".join(r.name for r in all_results), body)


def comparison(all_results: Sequence[ReleaseResults]) -> Iterator[str]:
    """Sections of the page."""
    first, *others = all_results
    yield f"<h1>{len(all_results)} evaluations compared</h1>"
    counts = ", ".join(f"{r.name}: {len(r.persons)}" for r in all_results)
    yield f'<p class="soft">Persons: {escape(counts)}. {escape(words.SYNTHETIC)}</p>'
    yield "<h2>Models</h2>"
    yield _table(all_results)
    yield _figures(all_results)
    yield f"<h2>Against {escape(first.name)}, paired</h2>"
    for other in others:
        yield f"<h3>{escape(other.name)} − {escape(first.name)}</h3>"
        yield _paired(first, other)
    yield html.definitions(words.definitions(HEADLINE))
    for results in all_results:
        yield f"<details><summary>What {escape(results.name)} ran on</summary>{html.facts(results.run)}</details>"


def _lines(all_results: Sequence[ReleaseResults]) -> Iterator[tuple[ReleaseResults, Row, str]]:
    """Folder, row and label: rows of networks for all folders together, other rows once for each set of persons."""
    own = sorted({row for results in all_results for row in results.rows if _is_networks(row)}, key=place)
    for row in own:
        for results in all_results:
            if row in results.rows:
                yield results, row, f"{title(row)}, {results.name}"
    seen: list[ReleaseResults] = []
    for results in all_results:
        if any(_same_rivals(results, other) for other in seen):
            continue
        seen.append(results)
        for row in results.rows:
            if not _is_networks(row):
                yield results, row, title(row) if len(seen) == 1 else f"{title(row)}, {results.name}"


def _same_rivals(a: ReleaseResults, b: ReleaseResults) -> bool:
    """Whether two folders' rows without the model are the same: same persons, captures and networks."""
    return (
        same_persons(a, b)
        and len(a.persons) == len(b.persons)
        and words.test_set(a) == words.test_set(b)
        and all(a.weights.get(row) == b.weights.get(row) for row in {*a.weights, *b.weights} - {MODEL.name})
    )


def _is_networks(row: Row) -> bool:
    return is_model(row) or row.name == AUTOENCODER


def _table(all_results: Sequence[ReleaseResults]) -> str:
    lines = []
    for results, row, label in _lines(all_results):
        cells = [html.with_interval(interval(results, m, row), m.digits) for m in HEADLINE]
        lines.append((kind_of(row), [escape(label), *cells]))
    return html.table(["row", *map(column_title, HEADLINE)], lines)


def _figures(all_results: Sequence[ReleaseResults]) -> str:
    charts = []
    for m in HEADLINE:
        found = {results.name: interval(results, m, MODEL) for results in all_results}
        cells = {name: cell for name, cell in found.items() if cell is not None}
        charts.append(chart_of(m, f"model: {m.title}", cells, dict.fromkeys(cells, "model"), from_zero=False))
    return f'<div class="figures">{"".join(charts)}</div>'


def same_persons(a: ReleaseResults, b: ReleaseResults) -> bool:
    """Whether both folders have the same persons: the same seed, head family, expressions and camera of each."""
    return a.config["seed"] == b.config["seed"] and all(
        (p.parts, p.category, p.intensity) == (q.parts, q.category, q.intensity)
        for p, q in zip(a.persons, b.persons, strict=False)
    )


def _paired(first: ReleaseResults, other: ReleaseResults) -> str:
    if not same_persons(first, other):
        return "<p>The folders have different persons: intervals can be compared, but there are no pairs to test.</p>"
    common = min(len(first.persons), len(other.persons))
    rows = [row for row in first.rows if row in other.rows and _is_networks(row)]
    lines = []
    for row in rows:
        cells = [_difference(first, other, common, m, row) for m in HEADLINE]
        lines.append((kind_of(row), [escape(title(row)), *cells]))
    note = f"<p>The {common} persons that both have. Green is better than {escape(first.name)}, red worse, at p ≤ 0.05.</p>"
    return note + html.table(["row", *(escape(m.title) for m in HEADLINE)], lines)


def _difference(a: ReleaseResults, b: ReleaseResults, common: int, metric: Metric, row: Row) -> str:
    ours, theirs = (per_person(r.persons[:common], metric.key, row) for r in (b, a))
    if ours is None or theirs is None:
        return "–"
    test = paired_test(ours, theirs)
    d, digits = test.difference, metric.digits + 1
    if np.isnan(d.value):
        return "–"
    # CSS class of the cell's text: the test's verdict on the second folder.
    ends = "" if np.isnan(d.low) else f"<small>{d.low:+.{digits}f} to {d.high:+.{digits}f}</small>"
    return (
        f'<span class="{verdict_of(test, metric)}">{d.value:+.{digits}f}</span>{ends}'
        f"<small>{html.p_value(test.p_value)}</small>"
    )
