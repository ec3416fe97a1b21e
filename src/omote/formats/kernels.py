"""Compiled versions of the two reader loops that cannot be vectorised: rows of varying size, and LZF."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int, UInt8

from omote.compiled import kernel


def walk_rows(
    data: UInt8[np.ndarray, " n"],
    num_rows: int,
    is_list: Bool[np.ndarray, " properties"],
    head_sizes: Int[np.ndarray, " properties"],
    signed: Bool[np.ndarray, " properties"],
    item_sizes: Int[np.ndarray, " properties"],
    big_endian: bool,
) -> tuple[Int[np.ndarray, "rows properties"], Int[np.ndarray, "rows properties"], int]:
    """Byte offset of each row's properties, the list lengths, and the offset at which the rows end (−1: past the data)."""
    offsets, counts = np.zeros((2, num_rows, len(is_list)), np.int64)
    end = _walk_rows(data, is_list, head_sizes, signed, item_sizes, big_endian, offsets, counts)
    return offsets, counts, end


@kernel()
def _walk_rows(
    data: np.ndarray,
    is_list: np.ndarray,
    head_sizes: np.ndarray,
    signed: np.ndarray,
    item_sizes: np.ndarray,
    big_endian: bool,
    offsets: np.ndarray,
    counts: np.ndarray,
) -> int:
    num_rows, num_properties = offsets.shape
    cursor = np.int64(0)
    for row in range(num_rows):
        for k in range(num_properties):
            size = head_sizes[k]
            if cursor + size > len(data):
                return -1
            offsets[row, k] = cursor
            if is_list[k]:
                count = np.int64(0)
                for byte in range(size):
                    place = byte if big_endian else size - 1 - byte
                    count = (count << 8) | np.int64(data[cursor + place])
                if signed[k] and count >= (np.int64(1) << (8 * size - 1)):
                    return -1
                counts[row, k] = count
                size += count * item_sizes[k]
                if cursor + size > len(data):
                    return -1
            cursor += size
    return int(cursor)


def lzf_decompress(data: UInt8[np.ndarray, " n"], size: int) -> tuple[UInt8[np.ndarray, " size"], bool]:
    """Decompress LZF; the second value tells whether the data was complete and gave exactly ``size`` bytes.

    Source: the format that LibLZF's lzf_d.c reads. A control byte under 32 starts a literal run of itself + 1 bytes;
    otherwise its upper three bits are a length − 2 (7: add the next byte) and its lower five, with the next byte, a
    distance − 1 back into the output.
    """
    out = np.empty(size, np.uint8)
    return out, _lzf_decompress(data, out)


@kernel()
def _lzf_decompress(data: np.ndarray, out: np.ndarray) -> bool:
    i = np.int64(0)
    o = np.int64(0)
    n, size = len(data), len(out)

    while i < n:
        control = np.int64(data[i])
        i += 1
        if control < 32:
            run = control + 1
            if i + run > n or o + run > size:
                return False
            for k in range(run):
                out[o + k] = data[i + k]
            i += run
        else:
            run = control >> 5
            if run == 7:
                if i >= n:
                    return False
                run += np.int64(data[i])
                i += 1
            run += 2
            if i >= n:
                return False
            source = o - ((control & 31) << 8) - np.int64(data[i]) - 1
            i += 1
            if source < 0 or o + run > size:
                return False
            for k in range(run):  # byte by byte: the run may overlap its own output
                out[o + k] = out[source + k]
        o += run
    return o == size
