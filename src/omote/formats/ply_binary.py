"""Vectorised reading of binary PLY elements, rows with lists included."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from jaxtyping import Int, UInt8

from omote.errors import ScanError
from omote.formats.limits import MAX_FACES
from omote.formats.ply_header import Element, List


def read_binary_element(
    file: BinaryIO, path: Path, element: Element, order: Literal["<", ">"], *, available: int
) -> tuple[dict[str, np.ndarray], dict[str, List]]:
    """Read one element's rows, and leave the file positioned after them.

    In nearly every file all lists have the same length (triangles), so rows have a fixed size and are read at once; otherwise
    the rows' offsets are found by walking through them.

    Args:
        file: binary file, positioned at the element's first row.
        path: path of the file, for messages.
        element: the element and its properties.
        order: byte order, ``<`` or ``>``.
        available: number of bytes left in the file; the caller has compared the element's smallest size with it.

    Raises:
        ScanError: the file ends early.
    """
    start = file.tell()
    lengths = _first_row_lengths(file, element, order)
    file.seek(start)
    if lengths is not None:
        dtype = _row_dtype(element, order, lengths)
        if element.count * dtype.itemsize <= available:
            rows = np.fromfile(file, dtype, element.count)
            if len(rows) == element.count and all(
                (rows[f"n{i}"] == lengths[i]).all() for i, p in enumerate(element.properties) if p.is_list
            ):
                return _split_uniform(rows, element, lengths)
            file.seek(start)
    return _read_ragged(file, path, element, order)


def _first_row_lengths(file: BinaryIO, element: Element, order: Literal["<", ">"]) -> list[int] | None:
    """Each list's length in the first row (0 for scalars); None if the row is truncated or absurdly long."""
    lengths = []
    for item in element.properties if element.count else ():
        length = 0
        if item.count_dtype is not None:
            raw = file.read(item.count_dtype.itemsize)
            if len(raw) < item.count_dtype.itemsize:
                return None
            length = int(np.frombuffer(raw, item.count_dtype.newbyteorder(order))[0])
            if not 0 <= length <= 1000:
                return None
        file.seek(item.dtype.itemsize * (length if item.is_list else 1), 1)
        lengths.append(length)
    return lengths or [0] * len(element.properties)


def _row_dtype(element: Element, order: Literal["<", ">"], lengths: list[int]) -> np.dtype:
    fields: list[tuple] = []
    for i, (item, length) in enumerate(zip(element.properties, lengths, strict=True)):
        if item.count_dtype is not None:
            fields.append((f"n{i}", item.count_dtype.newbyteorder(order)))
            fields.append((f"v{i}", item.dtype.newbyteorder(order), (length,)))
        else:
            fields.append((f"v{i}", item.dtype.newbyteorder(order)))
    return np.dtype(fields)


def _split_uniform(
    rows: np.ndarray, element: Element, lengths: list[int]
) -> tuple[dict[str, np.ndarray], dict[str, List]]:
    scalars: dict[str, np.ndarray] = {}
    lists: dict[str, List] = {}
    for i, item in enumerate(element.properties):
        values = rows[f"v{i}"].astype(item.dtype)
        if item.is_list:
            lists[item.name] = List(counts=np.full(len(rows), lengths[i], np.int64), values=values.reshape(-1))
        else:
            scalars[item.name] = values
    return scalars, lists


def _read_ragged(
    file: BinaryIO, path: Path, element: Element, order: Literal["<", ">"]
) -> tuple[dict[str, np.ndarray], dict[str, List]]:
    if element.count * len(element.properties) > 3 * MAX_FACES:
        raise ScanError(f"{path.name}: {element.name!r} has too many rows and properties; simplify the scan first")
    start = file.tell()
    data = np.fromfile(file, np.uint8)
    is_list = np.array([p.is_list for p in element.properties])
    head_dtypes = [p.count_dtype or p.dtype for p in element.properties]
    head_sizes = np.array([d.itemsize for d in head_dtypes])
    signed = np.array([d.kind == "i" for d in head_dtypes])
    item_sizes = np.array([p.dtype.itemsize if p.is_list else 0 for p in element.properties])

    from omote.formats.kernels import walk_rows  # numba: only such files pay for its import

    offsets, counts, end = walk_rows(data, element.count, is_list, head_sizes, signed, item_sizes, order == ">")
    if end < 0:
        raise ScanError(
            f"{path.name}: expected {element.count:,} rows of {element.name!r}, the file ends earlier; "
            "it is truncated or damaged, copy or export it again"
        )
    file.seek(start + end)
    scalars: dict[str, np.ndarray] = {}
    lists: dict[str, List] = {}
    for i, item in enumerate(element.properties):
        if item.is_list:
            values = _gather(data, offsets[:, i] + head_sizes[i], counts[:, i], item.dtype.newbyteorder(order))
            lists[item.name] = List(counts=counts[:, i].copy(), values=values.astype(item.dtype))
        else:
            ones = np.ones(element.count, np.int64)
            scalars[item.name] = _gather(data, offsets[:, i], ones, item.dtype.newbyteorder(order)).astype(item.dtype)
    return scalars, lists


def _gather(
    data: UInt8[np.ndarray, " n"], offsets: Int[np.ndarray, " rows"], counts: Int[np.ndarray, " rows"], dtype: np.dtype
) -> np.ndarray:
    """Return the values of ``counts`` items at each byte offset, concatenated."""
    first = np.cumsum(counts) - counts
    position = np.repeat(offsets - first * dtype.itemsize, counts) + np.arange(counts.sum()) * dtype.itemsize
    out = np.empty((len(position), dtype.itemsize), np.uint8)
    for byte in range(dtype.itemsize):
        out[:, byte] = data[position + byte]
    return out.reshape(-1).view(dtype)
