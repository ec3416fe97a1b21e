"""The two loops of the readers that cannot be vectorised, compiled: rows of unknown size, and LZF."""

from __future__ import annotations

from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Bool, Int, UInt8


@numba.njit(cache=True)
@no_type_check  # run-time checkers in tests must not wrap what numba compiles
def walk_rows(
    data: UInt8[np.ndarray, " n"],
    num_rows: int,
    is_list: Bool[np.ndarray, " properties"],
    head_sizes: Int[np.ndarray, " properties"],
    signed: Bool[np.ndarray, " properties"],
    item_sizes: Int[np.ndarray, " properties"],
    big_endian: bool,
) -> tuple[Int[np.ndarray, "rows properties"], Int[np.ndarray, "rows properties"], int]:
    """Byte offset of every property of every row, the list lengths, and where the rows end (−1: past the data)."""
    num_properties = len(is_list)
    offsets = np.zeros((num_rows, num_properties), np.int64)
    counts = np.zeros((num_rows, num_properties), np.int64)
    cursor = np.int64(0)
    for row in range(num_rows):
        for k in range(num_properties):
            size = head_sizes[k]
            if cursor + size > len(data):
                return offsets, counts, -1
            offsets[row, k] = cursor
            if is_list[k]:
                count = np.int64(0)
                for byte in range(size):
                    place = byte if big_endian else size - 1 - byte
                    count = (count << 8) | np.int64(data[cursor + place])
                if signed[k] and count >= (np.int64(1) << (8 * size - 1)):
                    return offsets, counts, -1
                counts[row, k] = count
                size += count * item_sizes[k]
                if cursor + size > len(data):
                    return offsets, counts, -1
            cursor += size
    return offsets, counts, int(cursor)


@numba.njit(cache=True)
@no_type_check  # run-time checkers in tests must not wrap what numba compiles
def lzf_decompress(data: UInt8[np.ndarray, " n"], size: int) -> tuple[UInt8[np.ndarray, " size"], bool]:
    """Undo LibLZF; the second value tells whether the data was whole and gave exactly ``size`` bytes.

    Source: the format as LibLZF's lzf_d.c reads it: a control byte under 32 starts a literal run of itself + 1 bytes;
    otherwise its upper three bits are a length − 2 (7: add the next byte) and its lower five, with the next byte, a
    distance − 1 back into the output.
    """
    out = np.empty(size, np.uint8)
    i = np.int64(0)
    o = np.int64(0)
    n = len(data)
    while i < n:
        control = np.int64(data[i])
        i += 1
        if control < 32:
            run = control + 1
            if i + run > n or o + run > size:
                return out, False
            for k in range(run):
                out[o + k] = data[i + k]
            i += run
        else:
            run = control >> 5
            if run == 7:
                if i >= n:
                    return out, False
                run += np.int64(data[i])
                i += 1
            run += 2
            if i >= n:
                return out, False
            source = o - ((control & 31) << 8) - np.int64(data[i]) - 1
            i += 1
            if source < 0 or o + run > size:
                return out, False
            for k in range(run):  # byte by byte: the run may overlap what it writes
                out[o + k] = out[source + k]
        o += run
    return out, o == size
