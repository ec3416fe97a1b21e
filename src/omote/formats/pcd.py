"""PCD, the Point Cloud Library's format: ascii, binary and binary_compressed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float

from omote.errors import ScanError
from omote.formats.colors import packed_colors, unit_colors
from omote.formats.limits import MAX_POINTS, RawScan, check_claim
from omote.formats.numbers import LineBlocks, table
from omote.formats.source import Source

_KINDS = {"F": "f", "I": "i", "U": "u"}
_ITEM_SIZES = {"f": (4, 8), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8)}
_KEYS = ("VERSION", "FIELDS", "SIZE", "TYPE", "COUNT", "WIDTH", "HEIGHT", "VIEWPOINT", "POINTS", "DATA")


@dataclass(frozen=True, kw_only=True)
class _Layout:
    dtype: np.dtype
    num_points: int
    data: str


def read_pcd(source: Source) -> RawScan:
    """Read a PCD file: positions, packed or separate colours, normals.

    Raises:
        ScanError: the header is damaged or claims more than the file holds, or the data doesn't match the header.
    """
    file, path = source.file, source.path
    layout = _read_header(file, path)
    left = source.size - file.tell()
    names = layout.dtype.names or ()
    num_columns = sum(int(np.prod(layout.dtype[n].shape)) for n in names)
    claim = {"ascii": 2 * num_columns, "binary": layout.dtype.itemsize, "binary_compressed": 0}[layout.data]
    check_claim(path, what="points", count=layout.num_points, bytes_each=claim, available=left + 1, limit=MAX_POINTS)
    source.claim("points", layout.num_points)
    if layout.data == "ascii":
        columns = _read_ascii(file, path, layout, num_columns)
    elif layout.data == "binary":
        rows = np.fromfile(file, layout.dtype, layout.num_points)
        if len(rows) < layout.num_points:
            raise ScanError(f"{path.name}: expected {layout.num_points:,} points, got {len(rows):,}; it is truncated")
        columns = {n: rows[n] for n in names}
    else:
        columns = _read_compressed(source, layout, left)
    if not {"x", "y", "z"} <= columns.keys():
        raise ScanError(f"{path.name}: expected the fields x, y and z, got {' '.join(names)[:80]}; export it again")
    return RawScan(
        points=_stack(columns, ("x", "y", "z")),
        colors=_colors(columns, layout.dtype, source),
        normals=_normals(columns),
    )


def _read_header(file: BinaryIO, path: Path) -> _Layout:
    header: dict[str, list[str]] = {}
    for _ in range(100):
        line = file.readline(8192)
        words = line.decode("latin-1").split("#")[0].split()
        if words and words[0] in _KEYS:
            header[words[0]] = words[1:]
        elif words or not line:
            shown = line.decode("latin-1").strip()[:60]
            raise ScanError(f"{path.name}: expected a PCD header line, got {shown!r}; export the scan again")
        if "DATA" in header:
            break

    try:
        fields, sizes, kinds = header["FIELDS"], header["SIZE"], header["TYPE"]
        repeats = [int(c) for c in header.get("COUNT", ["1"] * len(fields))]
        width, height = int(header["WIDTH"][0]), int(header["HEIGHT"][0])
        num_points = int(header["POINTS"][0]) if "POINTS" in header else width * height
        data = header["DATA"][0]

        columns: list[tuple] = []
        for i, (name, item_size, kind, repeat) in enumerate(zip(fields, sizes, kinds, repeats, strict=True)):
            if int(item_size) not in _ITEM_SIZES[_KINDS[kind]] or not 1 <= repeat <= 4096 or len(fields) > 256:
                raise ValueError(name)
            # Fields named "_" are padding and may repeat.
            name = name.lower()
            unique = name if name not in [c[0] for c in columns] and name != "_" else f"_{i}"
            columns.append((unique, f"<{_KINDS[kind]}{item_size}", (repeat,)))
        dtype = np.dtype(columns)
    except (KeyError, ValueError, IndexError):
        raise ScanError(
            f"{path.name}: expected FIELDS, SIZE, TYPE, WIDTH, HEIGHT and DATA in the PCD header; export it again"
        ) from None

    if data not in ("ascii", "binary", "binary_compressed") or not columns:
        raise ScanError(f"{path.name}: expected DATA ascii, binary or binary_compressed, got {data[:40]!r}")
    return _Layout(dtype=dtype, num_points=num_points, data=data)


def _read_ascii(file: BinaryIO, path: Path, layout: _Layout, num_columns: int) -> dict[str, np.ndarray]:
    values = table(LineBlocks(file, path), num_columns=num_columns, num_rows=layout.num_points, what="points")
    columns = {}
    start = 0
    for name in layout.dtype.names or ():
        width = int(np.prod(layout.dtype[name].shape))
        columns[name] = values[:, start : start + width]
        start += width
    return columns


def _read_compressed(source: Source, layout: _Layout, left: int) -> dict[str, np.ndarray]:
    """Read LZF-compressed data, which is stored field by field, not point by point."""
    file, path = source.file, source.path
    sizes = np.frombuffer(file.read(8).ljust(8, b"\0"), "<u4")
    compressed, expanded = int(sizes[0]), int(sizes[1])
    expected = layout.num_points * layout.dtype.itemsize
    # LZF expands 3 bytes to at most 264, so a larger claim cannot be true and is refused before allocation.
    if compressed > left - 8 or expanded != expected or expanded > 100 * compressed + 100:
        raise ScanError(
            f"{path.name}: the header claims {expected:,} bytes of points from {compressed:,} compressed ones, the "
            f"file holds {max(left - 8, 0):,} for {expanded:,}; it is truncated or damaged, copy or export it again"
        )
    source.claim("bytes", expanded, because="of compressed points")
    from omote.formats.kernels import lzf_decompress  # numba: only such files pay for its import

    data, whole = lzf_decompress(np.frombuffer(file.read(compressed), np.uint8), expanded)
    if not whole:
        raise ScanError(f"{path.name}: the compressed points are damaged; copy or export the file again")
    columns = {}
    start = 0
    for name in layout.dtype.names or ():
        base, shape = layout.dtype[name].base, layout.dtype[name].shape
        length = layout.num_points * layout.dtype[name].itemsize
        columns[name] = data[start : start + length].view(base).reshape(layout.num_points, *shape)
        start += length
    return columns


def _stack(columns: dict[str, np.ndarray], names: tuple[str, ...]) -> Float[np.ndarray, "n 3"]:
    return np.stack([columns[name][:, 0] for name in names], axis=1).astype(np.float64)


def _normals(columns: dict[str, np.ndarray]) -> Float[np.ndarray, "n 3"] | None:
    names = ("normal_x", "normal_y", "normal_z")
    return _stack(columns, names) if set(names) <= columns.keys() else None


def _colors(columns: dict[str, np.ndarray], dtype: np.dtype, source: Source) -> Float[np.ndarray, "n 3"] | None:
    """Colours packed as 0xRRGGBB in an integer or in a float's bits, or as r, g and b."""
    for name in ("rgb", "rgba"):
        if name not in columns:
            continue
        if columns[name].shape[1] >= 3:
            return unit_colors(columns[name], source.note)
        values = columns[name][:, 0]
        if dtype[name].base.kind == "f":
            return packed_colors(np.ascontiguousarray(values, np.float32).view(np.uint32))
        return packed_colors(np.nan_to_num(values) if values.dtype.kind == "f" else values)
    for names in (("r", "g", "b"), ("red", "green", "blue")):
        if set(names) <= columns.keys():
            return unit_colors(np.stack([columns[name][:, 0] for name in names], axis=1), source.note)
    if "intensity" in columns:
        source.note("'intensity' is not read as a colour")
    return None
