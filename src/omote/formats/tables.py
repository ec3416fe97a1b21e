"""Text tables of points: one point per line, in the columns that scanners, CloudCompare, pandas and spreadsheets write.

If there is a header, its names decide (``x``, ``Y [mm]``, ``"Points:2"``, ``nx``, ``red``, ``Rf`` …), and the report lists the
columns that are not read. Otherwise the first three columns are the position (after a row number, if the first column counts
0, 1, 2 …) and the values identify the rest: a triple of length 1 is a normal; a triple of non-negative numbers is a colour,
which may follow an intensity and be followed by a constant alpha. Separators are spaces, tabs, commas, semicolons or bars; the
decimal sign is a point or, if another separator leaves no doubt, a comma; numbers may be quoted; the text may be UTF-8 or
UTF-16.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from omote.errors import ScanError
from omote.formats.colors import packed_colors, unit_colors
from omote.formats.limits import RawScan
from omote.formats.numbers import LineBlocks, after_mark, number_rows
from omote.formats.source import Source

_MAX_HEADER_LINES = 32
_SAMPLE_LINES = 200
_MAX_COLUMNS = 256
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf|infinity)", re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+([eE][-+]?\d+)?")
_QUOTED_COMMA = re.compile(r"\"\s*[-+]?\d*,\d+([eE][-+]?\d+)?\s*\"")
_BRACKETS = re.compile(r"[\[(<{][^\])>}]*[\])>}]")
_POSITION = re.compile(
    r"(?:points?|pos|position|coords?|coordinate|vertex|vertices|p)?([xyz])(?:coord|coordinate|mm|cm|m|in)?"
)
_NORMAL = re.compile(r"(?:n|normal|normals|norm|vn)([xyz])")
_COLOR = re.compile(r"(?:c|col|colou?rs?|rgba?|diffuse|vertexcolor)?(r|g|b|red|green|blue)(?:f|float|8|16|u8)?")
_NUMBERED = re.compile(r"(points?|positions?|coordinates?|normals?|colou?rs?|rgba?)([0-3])")
_GREY = ("grey", "gray", "luminance", "greyscale", "grayscale")
_PACKED = ("rgb", "rgba", "color", "colour", "packedrgb", "argb")
# Column names in the languages of spreadsheets, without characters other than a-z.
_TRANSLATED = {
    "rot": "r", "grn": "g", "gruen": "g", "blau": "b", "rouge": "r", "vert": "g", "bleu": "b", "rojo": "r", "verde": "g",
    "azul": "b", "rosso": "r", "blu": "b",
}  # fmt: skip
_PLAIN = b"0123456789.+-eE \t\r\n,;|"  # what rows of numbers consist of
_UNKNOWN = re.compile(rb"\b(?:n/?a|null|none|missing)\b", re.IGNORECASE)
_NO_POINT = re.compile(rb"^(?:[ \t]*(?:#(?![0-9a-fA-F]{6}\b)|//)[^\n]*|[ \t,;|]+)$", re.MULTILINE)
_HEX_COLOR = re.compile(rb"#([0-9a-fA-F]{6})\b")
_ROW_NAMES = ("", "index", "id", "unnamed0", "no", "nr", "num", "number", "row", "pointid", "vertexid")


@dataclass(frozen=True, kw_only=True)
class _Dialect:
    """Rules for splitting lines: the separator, whether commas are decimal signs, and the columns without numbers."""

    separator: str = " "
    decimal_comma: bool = False
    quoted: bool = False
    text_columns: tuple[int, ...] = ()

    def numbers(self, block: bytes) -> bytes:
        """Reduce a block to numbers, spaces and line ends, without comments and empty rows."""
        if block.translate(None, _PLAIN):  # seldom, and slow
            block = _UNKNOWN.sub(b"nan", block)
            block = _NO_POINT.sub(b"", block)
        elif self.separator != " " and (b"\n" + self.separator.encode()) in block:
            block = _NO_POINT.sub(b"", block)
        if b"#" in block:
            block = _HEX_COLOR.sub(lambda match: b"%d" % int(match[1], 16), block)
        if self.text_columns:
            lines = (self.split(line) for line in block.decode("utf-8", "replace").split("\n"))
            kept = ([f or "nan" for k, f in enumerate(fields) if k not in self.text_columns] for fields in lines)
            block = "\n".join(map(" ".join, kept)).encode("utf-8", "replace")
        elif self.quoted and self.separator == ",":
            block = re.sub(rb'"[ \t]*,[ \t]*"', b" ", block)
        elif self.separator != " ":
            separator = self.separator.encode()
            for _ in range(2):  # an empty field becomes NaN; twice, since matches don't overlap
                block = block.replace(separator * 2, separator + b"nan" + separator)
        table = bytearray(range(256))
        for character in b",;|\"'":
            table[character] = ord(" ")
        if self.decimal_comma:
            table[ord(",")] = ord(".")
        return block.translate(bytes(table))

    def split(self, line: str) -> list[str]:
        """Return a line's fields."""
        fields: list[str] = line.split()
        if self.separator != " ":
            try:
                fields = next(csv.reader([line], delimiter=self.separator, skipinitialspace=True), [])
            except csv.Error:  # an unterminated quoted field
                fields = line.split(self.separator)
        return [f.strip().strip("\"'").strip() for f in fields]


def read_table(source: Source) -> RawScan:
    """Read a point list.

    Raises:
        ScanError: a line holds no numbers, rows differ in width, or the columns' meaning cannot be found.
    """
    blocks = LineBlocks(after_mark(source.file), source.path)
    names, dialect = _header(blocks, source)
    blocks.convert = dialect.numbers
    out: list[np.ndarray] = []
    for values, counts in number_rows(blocks):
        if source.path.suffix.lower() == ".pts" and (counts == 1).any():  # counts of points between clouds
            values, counts = values[np.repeat(counts != 1, counts)], counts[counts != 1]
            if not len(counts):
                continue
        width = out[0].shape[1] if out else int(counts[0])
        if not 3 <= width <= _MAX_COLUMNS or (counts != width).any():
            got = sorted({int(c) for c in counts})[:3]
            raise ScanError(
                f"{source.path.name}: expected rows of one width, 3 or more numbers, got {got}; export it again"
            )
        source.claim("points", len(counts))
        out.append(values.reshape(-1, width))
    if not out:
        raise ScanError(f"{source.path.name}: expected lines of 'x y z', found no numbers; check the file")
    rows = np.concatenate(out)
    names = [n for k, n in enumerate(names) if k not in dialect.text_columns]
    if len(names) == rows.shape[1] + 1 and not names[-1]:
        names = names[:-1]  # a separator at the line's end
    if len(names) == rows.shape[1] - 1 and "x" in [_meaning(n) for n in names]:
        names = ["", *names]  # R leaves the row names' column without a name
    if len(names) == rows.shape[1] and {"x", "y", "z"} <= {_meaning(n) for n in names}:
        return _named(rows, names, source)
    if names:
        source.note(f"the header {' '.join(names)[:60]!r} does not name {rows.shape[1]} columns: told by their values")
    return guessed(rows, source)


def _header(blocks: LineBlocks, source: Source) -> tuple[list[str], _Dialect]:
    """Skip leading lines without numbers; return the column names in the last of them, if any, and the dialect."""
    for block in blocks:
        lines = [line.decode("utf-8", "replace") for line in block[: 1 << 16].split(b"\n")[: _SAMPLE_LINES + 32]]
        first = next((k for k, line in enumerate(lines[:_MAX_HEADER_LINES]) if _is_row(line)), None)
        if first is None:
            break
        whole = lines[:-1] if len(block) > 1 << 16 or len(lines) > _SAMPLE_LINES else lines
        dialect = _dialect([line for line in whole[first:] if line.strip()] or [lines[first]], source)
        names: list[str] = []
        for line in lines[:first]:
            text = line if line.startswith((",", "\t", ";")) else line.strip().lstrip("#/%!; \t")
            words = dialect.split(text)
            if len(words) < 3:
                words = [w.strip("\"'") for w in re.split(r"[\s,;|]+", text)]
            if len(words) >= 3 and not all(_NUMBER.fullmatch(w) for w in words):
                names = words if {"x", "y", "z"} <= {_meaning(w) for w in words} or not names else names
        start = sum(len(line) + 1 for line in block.split(b"\n", first)[:first])
        blocks.push_back(block[start:])
        return [w[:80] for w in names], dialect
    raise ScanError(
        f"{source.path.name}: expected lines of 'x y z' after at most {_MAX_HEADER_LINES} header lines, found none; "
        "check the file"
    )


def _is_row(line: str) -> bool:
    """Whether a line may be a point: it holds three or more numbers, with any separators and any other text."""
    if line.lstrip().startswith(("#", "//", "%", "!")):
        return False
    fields = [f.strip("\"' ") for f in re.split(r"[;\t|]" if re.search(r"[;\t|]", line) else r"\s+|,", line)]
    return sum(bool(_NUMBER.fullmatch(f) or _DECIMAL_COMMA.fullmatch(f)) for f in fields) >= 3


def _dialect(lines: list[str], source: Source) -> _Dialect:
    """Find the separator and the decimal sign from the first rows."""
    text = "\n".join(lines)
    quoted = '"' in text
    dialect = _Dialect(quoted=quoted)
    for separator in (";", "\t", "|"):
        if separator in text:
            dialect = _Dialect(separator=separator, quoted=quoted, decimal_comma="," in text and "." not in text)
            break
    else:
        if quoted and _QUOTED_COMMA.search(text):
            dialect = _Dialect(separator=",", quoted=True, decimal_comma=True)
        elif "," in text:
            fields = lines[0].split()
            decimal = len(fields) >= 3 and all("," not in f or _DECIMAL_COMMA.fullmatch(f) for f in fields)
            dialect = _Dialect(separator=" " if decimal else ",", quoted=quoted, decimal_comma=decimal)
            if not decimal:
                _check_commas(lines, source)
    rows = [dialect.split(line) for line in lines]
    padded = any(not all(r) for r in rows) and len({sum(map(bool, r)) for r in rows}) == 1
    if dialect.separator == "\t" and padded:  # several tabs, to align columns
        dialect = replace(dialect, separator=" ")
        rows = [dialect.split(line) for line in lines]
    width = min(map(len, rows))
    if width != max(map(len, rows)):
        return dialect
    texts = [k for k in range(width) if all(_is_text(r[k], dialect) for r in rows)]
    if texts:
        source.note(f"columns with text are not read: {', '.join(str(k + 1) for k in texts)[:100]}")
    return replace(dialect, text_columns=tuple(texts))


def _is_text(field: str, dialect: _Dialect) -> bool:
    if dialect.decimal_comma:
        field = field.replace(",", ".")
    field = _UNKNOWN.sub(b"nan", _HEX_COLOR.sub(b"0", field.encode())).decode()
    return bool(field) and not all(_NUMBER.fullmatch(word) for word in re.split(r"[\s,;]+", field))


def _check_commas(lines: list[str], source: Source) -> None:
    """Refuse rows such as ``81,414,359,794,74,553``, whose commas may be separators or decimal signs."""
    rows = [[f.strip() for f in line.split(",")] for line in lines]
    if any("." in line for line in lines) or any(len(r) < 6 or len(r) % 2 for r in rows):
        return
    # Integers have no leading zeros, whereas one in ten fractional parts does.
    fractions = [f for r in rows for f in r[1:6:2]]
    wholes = [f.lstrip("+-") for r in rows for f in r[0:6:2]]
    if any(len(f) > 1 and f[0] == "0" for f in fractions) and not any(len(w) > 1 and w[0] == "0" for w in wholes):
        raise ScanError(
            f"{source.path.name}: the comma is decimal sign and separator at once; separate the columns by semicolons, "
            "or write decimal points"
        )


def _meaning(name: str) -> str:
    """Return x, y, z, nx … nz, r, g, b, grey, rgb (packed), row, or an empty string for an unknown name."""
    key = re.sub(r"[^0-9a-z]", "", _BRACKETS.sub("", name.lower()))
    if key in _ROW_NAMES:
        return "row"
    if key in _GREY:
        return "grey"
    if key in _PACKED:
        return "rgb"
    if match := _NUMBERED.fullmatch(key):
        axis = int(match[2])
        letters = {"p": ("x", "y", "z", ""), "n": ("nx", "ny", "nz", "")}.get(match[1][0], ("r", "g", "b", "alpha"))
        if match[1].startswith("coord"):
            letters = ("x", "y", "z", "")
        return letters[axis]
    if match := _POSITION.fullmatch(key):
        return match[1]
    if match := _NORMAL.fullmatch(key):
        return "n" + match[1]
    if match := _COLOR.fullmatch(key):
        return match[1][0]
    if key in _TRANSLATED:
        return _TRANSLATED[key]
    return "alpha" if key in ("a", "alpha", "af", "opacity", "colora") else ""


def _named(rows: Float[np.ndarray, "n columns"], names: list[str], source: Source) -> RawScan:
    column: dict[str, int] = {}
    for k, name in enumerate(names):
        column.setdefault(_meaning(name), k)

    def pick(*wanted: str) -> np.ndarray | None:
        return rows[:, [column[n] for n in wanted]] if set(wanted) <= column.keys() else None

    colors = pick("r", "g", "b")
    if colors is not None:
        colors = unit_colors(colors, source.note)
    elif (packed := pick("rgb")) is not None:
        colors = packed_colors(np.nan_to_num(packed[:, 0]))
    elif (grey := pick("grey")) is not None:
        colors = unit_colors(grey, source.note)
    known = ("x", "y", "z", "nx", "ny", "nz", "r", "g", "b", "rgb", "grey", "row", "alpha")
    if left := [n for n in names if _meaning(n) not in known]:
        source.note(f"columns not read: {', '.join(left)[:200]}")
    points = pick("x", "y", "z")
    assert points is not None  # `read_table` checks
    return RawScan(points=points, colors=colors, normals=pick("nx", "ny", "nz"))


def guessed(rows: Float[np.ndarray, "n columns"], source: Source) -> RawScan:
    """Identify columns by their values."""
    start = 0
    if rows.shape[1] > 3 and len(rows) > 2 and np.array_equal(rows[:, 0], rows[0, 0] + np.arange(len(rows))):
        source.note("the first column counts the rows: not read as x")
        start = 1
    left = list(range(start + 3, rows.shape[1]))
    normals = colors = None
    for k in left[:-2]:
        with np.errstate(invalid="ignore", over="ignore"):
            length = np.linalg.norm(rows[:, k : k + 3], axis=1)
        if (np.abs(length - 1.0) < 0.02).mean() > 0.9:
            normals = rows[:, k : k + 3]
            left = [c for c in left if not k <= c < k + 3]
            break
    first = _color_column(rows, left)
    if first is not None:
        colors = unit_colors(rows[:, first : first + 3], source.note)
        left = [c for c in left if not first <= c < first + 3 and not (c == first + 3 and _is_constant(rows[:, c]))]
    elif len(left) == 1 and _is_packed(rows[:, left[0]]):
        colors, left = packed_colors(rows[:, left[0]]), []
    if left:
        source.note(f"columns not read: {', '.join(str(k + 1) for k in left)[:200]}")
    return RawScan(points=rows[:, start : start + 3], colors=colors, normals=normals)


def _color_column(rows: np.ndarray, left: list[int]) -> int | None:
    """First colour column: the one after an intensity, unless the fourth column of a run is constant and so an alpha."""
    starts = [k for k in left if {k, k + 1, k + 2} <= set(left) and _is_color(rows[:, k : k + 3])]
    for k in starts:
        after = k + 3 in left
        if not after or _is_constant(rows[:, k + 3]) or k + 1 not in starts:
            return k
    return starts[0] if starts else None


def _is_color(triple: np.ndarray) -> bool:
    low, high = np.nanmin(triple, initial=np.inf), np.nanmax(triple, initial=-np.inf)
    if not 0.0 <= low <= high <= 65535.0:
        return False
    return bool(high <= 255.0 or (triple == np.floor(triple)).all())


def _is_packed(column: np.ndarray) -> bool:
    return bool((column == np.floor(column)).all() and column.min() >= 0 and 65535 < column.max() < 1 << 32)


def _is_constant(column: np.ndarray) -> bool:
    return any((column == opaque).mean() > 0.9 for opaque in (1.0, 100.0, 255.0, 65535.0))
