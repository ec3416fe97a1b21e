"""XYZ text: one point a line, ``x y z`` and what scanners put after it, with or without a header.

Columns, separated by spaces, tabs, commas or semicolons: 3 ``x y z``; 4 with an intensity, which is ignored; 6 with
colours or normals; 7 with intensity and colours; 9 with both. Which of the two a triple is follows from the header's
names (``r``/``red``, ``nx``/``normal_x`` …) or else from the values: vectors of length 1 are normals.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float

from omote.errors import ScanError
from omote.formats.limits import MAX_POINTS, RawScan, unit_colors
from omote.formats.numbers import LineBlocks, number_rows

_MAX_HEADER_LINES = 32
_ALIASES = {
    "x": "x", "y": "y", "z": "z", "r": "r", "g": "g", "b": "b", "red": "r", "green": "g", "blue": "b", "nx": "nx",
    "ny": "ny", "nz": "nz", "normal_x": "nx", "normal_y": "ny", "normal_z": "nz", "normalx": "nx", "normaly": "ny",
    "normalz": "nz",
}  # fmt: skip


def read_xyz(file: BinaryIO, path: Path, size: int) -> RawScan:
    """Read a point list.

    Args:
        file: open at the start.
        path: for messages.
        size: of the file in bytes.

    Raises:
        ScanError: a line is not numbers, or rows differ in width.
    """
    file.seek(3 if file.read(3) == b"\xef\xbb\xbf" else 0)  # a byte order mark, from Windows
    blocks = LineBlocks(file, path, separators=True)
    names = _skip_header(blocks)
    out: list[np.ndarray] = []
    num_points = 0
    for values, counts in number_rows(blocks):
        width = out[0].shape[1] if out else int(counts[0])
        if width < 3 or (counts != width).any():
            got = sorted({int(c) for c in counts})[:3]
            raise ScanError(f"{path.name}: expected rows of one width, 3 or more numbers, got {got}; export it again")
        out.append(values.reshape(-1, width))
        num_points += len(out[-1])
        if num_points > MAX_POINTS:
            raise ScanError(f"{path.name}: expected at most {MAX_POINTS:,} points, got more; thin the scan first")
    if not out:
        raise ScanError(f"{path.name}: expected lines of 'x y z', found no numbers; check the file")
    rows = np.concatenate(out)
    named = _named(rows, names)
    return named if named is not None else _guessed(rows)


def _skip_header(blocks: LineBlocks) -> list[str]:
    """Skip leading lines that are no row of numbers; the column names, if the last of them holds some."""
    for block in blocks:
        names: list[str] = []
        lines = block[: 1 << 16].split(b"\n")
        for k, line in enumerate(lines[:_MAX_HEADER_LINES]):
            words = line.decode("utf-8", "replace").lower().replace("#", " ").replace("//", " ").split()
            if len(words) >= 3 and not line.lstrip().startswith((b"#", b"//")) and all(map(_is_number, words)):
                blocks.push_back(block[sum(len(skipped) + 1 for skipped in lines[:k]) :])
                return names
            if {"x", "y", "z"} <= set(words):
                names = words
        raise ScanError(
            f"{blocks.path.name}: expected lines of 'x y z' after at most {_MAX_HEADER_LINES} header lines, got "
            f"{lines[0][:40].decode('utf-8', 'replace')!r}; check the file"
        )
    return []


def _named(rows: Float[np.ndarray, "n columns"], names: list[str]) -> RawScan | None:
    column = {_ALIASES[name]: i for i, name in reversed(list(enumerate(names))) if name in _ALIASES}
    if len(names) != rows.shape[1]:
        return None

    def pick(wanted: tuple[str, ...]) -> np.ndarray | None:
        return rows[:, [column[n] for n in wanted]] if set(wanted) <= column.keys() else None

    points, colors = pick(("x", "y", "z")), pick(("r", "g", "b"))
    assert points is not None  # `_skip_header` returns names only with these
    return RawScan(
        points=points, colors=None if colors is None else unit_colors(colors), normals=pick(("nx", "ny", "nz"))
    )


def _guessed(rows: Float[np.ndarray, "n columns"]) -> RawScan:
    colors = normals = None
    start = 4 if rows.shape[1] in (4, 7, 10) else 3
    while start + 3 <= rows.shape[1]:
        triple = rows[:, start : start + 3]
        with np.errstate(invalid="ignore", over="ignore"):
            unit = np.abs(np.linalg.norm(triple, axis=1) - 1.0) < 0.02
            low, high = np.nanmin(triple, initial=0.0), np.nanmax(triple, initial=0.0)
        if normals is None and unit.mean() > 0.9:
            normals = triple
        elif colors is None and low >= 0.0 and high <= 255.0:
            colors = unit_colors(triple)
        start += 3
    return RawScan(points=rows[:, :3], colors=colors, normals=normals)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return "_" not in word
