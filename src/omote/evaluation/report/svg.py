"""Figures as inline SVG: values with their intervals, and confusion matrices. Text in them is text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from jaxtyping import Float

from omote.evaluation.statistics import Interval

WIDTH = 372
LINE = 24
LEFT, RIGHT = 160, 48


@dataclass(frozen=True, kw_only=True)
class Dot:
    """A line of a figure.

    Attributes:
        label: of it.
        value: with its interval.
        kind: CSS class: "model", "baseline" or "bound".
    """

    label: str
    value: Interval
    kind: str


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers over a range: steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def dots(title: str, lines: Sequence[Dot], *, digits: int, from_zero: bool) -> str:
    """Values as dots, 95 % intervals as bars, one line each.

    Args:
        title: above it, and what a screen reader says.
        lines: from the top.
        digits: after the point.
        from_zero: whether the axis begins at 0.
    """
    ends = [v for line in lines for v in (line.value.value, line.value.low, line.value.high) if not math.isnan(v)]
    if not ends:
        return ""
    low, high = (0.0 if from_zero else min(ends)), max(ends)
    margin = 0.04 * ((high - low) or abs(high) or 1.0)
    low, high = (0.0 if from_zero else low - margin), high + margin
    height = LINE * len(lines) + 50

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low)

    parts = [f'<text class="t" x="0" y="15">{escape(title)}</text>']
    bottom = 26 + LINE * len(lines)
    for value in ticks(low, high):
        parts.append(f'<line class="grid" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="24" y2="{bottom}"/>')
        parts.append(f'<text class="axis" x="{x(value):.1f}" y="{bottom + 15}">{value:g}</text>')
    for k, line in enumerate(lines):
        y = 26 + LINE * (k + 0.5)
        parts.append(f'<text class="l" x="{LEFT - 8}" y="{y + 4:.1f}">{escape(line.label)}</text>')
        if math.isnan(line.value.value):
            continue
        if not math.isnan(line.value.low):
            ends_x = f'x1="{x(line.value.low):.1f}" x2="{x(line.value.high):.1f}"'
            parts.append(f'<line class="bar {line.kind}" {ends_x} y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<circle class="dot {line.kind}" cx="{x(line.value.value):.1f}" cy="{y:.1f}" r="4"/>')
        parts.append(f'<text class="v" x="{WIDTH}" y="{y + 4:.1f}">{line.value.value:.{digits}f}</text>')
    return _figure(WIDTH, height, title, parts)


def matrix(title: str, values: Float[np.ndarray, "r c"], names: Sequence[str]) -> str:
    """A row-normalised confusion matrix in per cent; rows are true, columns are judged."""
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
    return _figure(width, height, title, parts)


def _figure(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(title, quote=True)}">{"".join(parts)}</svg>'
    )
