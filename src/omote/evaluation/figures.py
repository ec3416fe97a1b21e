"""Figures as SVG: lines over an axis, bars, rows with their intervals, confusion matrices.

`figure` joins charts into a file of their own; `in_page` and `matrix` return elements of a page, whose style colours them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from jaxtyping import Float

# Okabe & Ito's palette, distinguishable with colour blindness; repeated with dashes.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
WIDTH, HEIGHT = 460, 320
LEFT, RIGHT, TOP, BOTTOM = 62, 88, 34, 46
# Left margin of a chart of rows, for the rows' names.
NAMES, MARGIN = 150, 24
NAME_HEIGHT = 13
Number = float | int


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A scale from values to pixels.

    Attributes:
        label: label of the axis, with its unit.
        low: value at the start.
        high: value at the end.
        logarithmic: whether the scale is logarithmic; both bounds are positive then.
    """

    label: str
    low: Number
    high: Number
    logarithmic: bool = False

    def share(self, value: Number) -> Number:
        """Position of a value on the axis, in [0, 1]."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> Sequence[Number]:
        """Round values on the axis."""
        if self.logarithmic:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            all_of = [m * 10.0**d for d in decades for m in (1, 2, 5)]
            return [v for v in all_of if self.low <= v * 1.0001 and v <= self.high * 1.0001]
        return ticks(self.low, self.high)


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers in a range, with steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def axis_over(label: str, values: Sequence[Number], *, logarithmic: bool = False) -> Axis:
    """An axis that covers all values."""
    low, high = min(values), max(values)
    if logarithmic:
        return Axis(label=label, low=low / 1.25, high=high * 1.25, logarithmic=True)
    margin = 0.06 * (high - low) or max(abs(high), 1.0) * 0.1
    return Axis(label=label, low=low - margin, high=high + margin)


def line_chart(
    title: str,
    series: Mapping[str, Sequence[tuple[Number, Number]]],
    x: Axis,
    y: Axis,
    levels: Mapping[str, Number] | None = None,
    whiskers: Mapping[str, Sequence[tuple[Number, Number, Number]]] | None = None,
) -> str:
    """Lines with their names at their ends, and dashed horizontal levels such as an upper bound.

    Args:
        title: title of the chart.
        series: points of each line, by name.
        x: horizontal axis.
        y: vertical axis.
        levels: values of the levels, by name.
        whiskers: position, lower and upper end of each whisker, by the name of its line; ends that are not finite are not drawn.
    """
    parts = [_frame(title, x, y), *_levels(levels or {}, y)]
    ends: list[tuple[Number, str, str]] = []
    for i, (name, points) in enumerate(series.items()):
        color = COLORS[i % len(COLORS)]
        at = [(_x(x.share(a)), _y(y.share(b))) for a, b in points]
        path = " ".join(f"{u:.1f},{v:.1f}" for u, v in at)
        dash = ' stroke-dasharray="5 3"' if i >= len(COLORS) else ""
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"{dash}/>')
        parts += [f'<circle cx="{u:.1f}" cy="{v:.1f}" r="3" fill="{color}"/>' for u, v in at]
        for a, low, high in (whiskers or {}).get(name, ()):
            if not (math.isnan(low) or math.isnan(high)):
                u, bottom, top = _x(x.share(a)), _y(y.share(low)), _y(y.share(high))
                parts.append(
                    f'<line x1="{u:.1f}" x2="{u:.1f}" y1="{bottom:.1f}" y2="{top:.1f}" stroke="{color}" stroke-opacity="0.45"/>'
                )
        ends.append((at[-1][1], name, color))
    # Overlapping names move down in the order of the lines' ends, and up again from the chart's edge.
    ends.sort()
    last: Number = -math.inf
    places: list[Number] = []
    for v, _, _ in ends:
        last = max(v, last + NAME_HEIGHT)
        places.append(last)
    lowest: Number = HEIGHT - NAME_HEIGHT
    for i in reversed(range(len(places))):
        places[i] = min(places[i], lowest)
        lowest = places[i] - NAME_HEIGHT
    for v, (_, name, color) in zip(places, ends, strict=True):
        parts.append(_text(WIDTH - RIGHT + 8, v + 4, name, color=color, anchor="start"))
    return "\n".join(parts)


def bar_chart(title: str, values: Mapping[str, Number], y: Axis) -> str:
    """A bar per name, with its value on top."""
    room = (WIDTH - LEFT - RIGHT) / len(values)
    parts = [_frame(title, None, y)]
    for i, (name, value) in enumerate(values.items()):
        left, top = LEFT + room * (i + 0.15), _y(y.share(value))
        parts.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{0.7 * room:.1f}" height="{_y(0) - top:.1f}" '
            f'fill="{COLORS[i % len(COLORS)]}"/>'
        )
        middle = left + 0.35 * room
        parts.append(_text(middle, top - 4, f"{value:.3g}"))
        parts.append(_text(middle, HEIGHT - BOTTOM + 16, name, size=10))
    return "\n".join(parts)


def row_chart(
    title: str,
    rows: Mapping[str, tuple[Number, Number, Number]],
    x: Axis,
    levels: Mapping[str, Number] | None = None,
    kinds: Mapping[str, str] | None = None,
) -> str:
    """Rows from top to bottom: name, a dot at the value and a whisker over the interval.

    Args:
        title: title of the chart.
        rows: value, lower and upper end by name; ends that are not finite are not drawn.
        x: axis of the values.
        levels: dashed vertical levels, such as a ceiling.
        kinds: CSS class of a row's dot, whose colour is set by the page.
    """
    room = (HEIGHT - TOP - BOTTOM) / len(rows)

    def at(value: Number) -> Number:
        return NAMES + x.share(value) * (WIDTH - NAMES - MARGIN)

    middle = (NAMES + WIDTH - MARGIN) / 2
    parts = [_text(middle, 14, title, size=13), _text(middle, HEIGHT - 8, x.label)]
    for value in x.ticks():
        u = at(value)
        parts.append(f'<line x1="{u:.1f}" x2="{u:.1f}" y1="{TOP}" y2="{_y(0)}" class="grid" stroke="#e4e4e4"/>')
        parts.append(_text(u, HEIGHT - BOTTOM + 16, f"{value:g}"))
    for name, value in (levels or {}).items():
        u = at(value)
        parts.append(f'<line x1="{u:.1f}" x2="{u:.1f}" y1="{TOP}" y2="{_y(0)}" stroke="#888" stroke-dasharray="2 3"/>')
        parts.append(_text(u, TOP - 3, name, size=10, color="#888"))
    for i, (name, (value, low, high)) in enumerate(rows.items()):
        v, color = TOP + room * (i + 0.5), COLORS[i % len(COLORS)]
        drawn = f'class="{(kinds or {}).get(name, "")}" fill="{color}" stroke="{color}"'
        parts.append(_text(NAMES - 8, v + 4, name, anchor="end"))
        if not (math.isnan(low) or math.isnan(high)):
            ends = f'x1="{at(low):.1f}" x2="{at(high):.1f}" y1="{v:.1f}" y2="{v:.1f}"'
            parts.append(f'<line {ends} {drawn} stroke-width="2"/>')
        parts.append(f'<circle cx="{at(value):.1f}" cy="{v:.1f}" r="4" {drawn}/>')
        parts.append(_text(min(at(value), WIDTH - MARGIN - 16), v - 7, f"{value:.3g}", size=10))
    parts.append(f'<line x1="{NAMES}" y1="{_y(0)}" x2="{WIDTH - MARGIN}" y2="{_y(0)}" stroke="#222"/>')
    return "\n".join(parts)


def in_page(title: str, chart: str) -> str:
    """A chart as an element of a page, whose style colours it."""
    return _inline(WIDTH, HEIGHT, title, [chart])


def figure(charts: Sequence[str], columns: int = 0) -> str:
    """Charts side by side, or in rows of ``columns``, as the text of an SVG file."""
    columns = columns or len(charts)
    width, height = WIDTH * columns, HEIGHT * math.ceil(len(charts) / columns)
    placed = [
        f'<g transform="translate({i % columns * WIDTH} {i // columns * HEIGHT})">\n{chart}\n</g>'
        for i, chart in enumerate(charts)
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            'font-family="sans-serif">',
            f'<rect width="{width}" height="{height}" fill="white"/>',
            *placed,
            "</svg>\n",
        ]
    )


def _x(share: Number) -> Number:
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(share: Number) -> Number:
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _text(x: Number, y: Number, text: str, *, size: int = 11, color: str = "#222", anchor: str = "middle") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{color}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def _levels(levels: Mapping[str, Number], y: Axis) -> list[str]:
    """Dashed levels with their names; names that would overlap share a line."""
    parts: list[str] = []
    named: list[tuple[Number, list[str]]] = []
    for name, value in sorted(levels.items(), key=lambda level: level[1]):
        if not y.low <= value <= y.high:
            continue
        at = _y(y.share(value))
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#888" stroke-dasharray="2 3"/>'
        )
        if named and named[-1][0] - at < NAME_HEIGHT:
            named[-1] = at, [*named[-1][1], name]
        else:
            named.append((at, [name]))
    return parts + [_text(LEFT + 6, at - 4, ", ".join(names), color="#888", anchor="start") for at, names in named]


def _frame(title: str, x: Axis | None, y: Axis) -> str:
    parts = [_text(_x(0.5), 18, title, size=13)]
    for value in y.ticks():
        at = _y(y.share(value))
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#e4e4e4"/>')
        parts.append(_text(LEFT - 6, at + 4, f"{value:g}", anchor="end"))
    parts.append(f'<g transform="translate(15 {_y(0.5):.1f}) rotate(-90)">{_text(0, 0, y.label)}</g>')
    if x is not None:
        for value in x.ticks():
            parts.append(_text(_x(x.share(value)), HEIGHT - BOTTOM + 16, f"{value:g}"))
        parts.append(_text(_x(0.5), HEIGHT - 8, x.label))
    corners = f'x1="{LEFT}" y1="{_y(0):.1f}" x2="{WIDTH - RIGHT}" y2="{_y(0):.1f}"'
    return "\n".join([*parts, f'<line {corners} stroke="#222"/>'])


def matrix(title: str, values: Float[np.ndarray, "r c"], names: Sequence[str]) -> str:
    """A row-normalised confusion matrix in per cent; rows are true classes, columns are predicted classes."""
    cell, left, top = 38, 84, 42
    width, height = left + cell * len(names) + 2, top + cell * len(names) + 20
    parts = [f'<text class="t" x="0" y="15">{escape(title)}</text>']
    for j, name in enumerate(names):
        parts.append(f'<text class="axis" x="{left + cell * (j + 0.5):.0f}" y="{top - 6}">{escape(name[:5])}</text>')
    for i, name in enumerate(names):
        y = top + cell * i
        parts.append(f'<text class="l" x="{left - 6}" y="{y + cell / 2 + 4:.0f}">{escape(name)}</text>')
        for j in range(len(names)):
            share = float(values[i, j])
            box = f'x="{left + cell * j}" y="{y}" width="{cell - 2}" height="{cell - 2}"'
            if math.isnan(share):
                parts.append(f'<rect class="cell none" {box}/>')
                continue
            kind = "hit" if i == j else "miss"
            parts.append(f'<rect class="cell {kind}" {box} style="fill-opacity:{share:.3f}"/>')
            parts.append(f'<rect class="frame" {box}/>')
            if share >= 0.005:
                at = f'x="{left + cell * j + cell / 2 - 1:.0f}" y="{y + cell / 2 + 4:.0f}"'
                parts.append(f'<text class="n{" light" if share > 0.55 else ""}" {at}>{100 * share:.0f}</text>')
    parts.append(f'<text class="axis" x="{left + cell * len(names) / 2:.0f}" y="{height - 4}">judged as, %</text>')
    return _inline(width, height, title, parts)


def _inline(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(title, quote=True)}">{"".join(parts)}</svg>'
    )
