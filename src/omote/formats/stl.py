"""STL, binary and ascii: triangles without colour or connectivity (cleaning merges their corners)."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np

from omote.errors import ScanError
from omote.formats.limits import MAX_FACES, RawScan, check_claim
from omote.formats.numbers import LineBlocks, parse_numbers, token_lines

_ROW = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_HEADER_BYTES = 84


def read_stl(file: BinaryIO, path: Path, size: int) -> RawScan:
    """Read an STL file; binary files may start with ``solid`` too, so the size decides.

    Args:
        file: open at the start.
        path: for messages.
        size: of the file in bytes.

    Raises:
        ScanError: truncated, or neither kind of STL.
    """
    head = file.read(_HEADER_BYTES)
    claimed = int.from_bytes(head[80:84], "little") if len(head) == _HEADER_BYTES else -1
    is_text = head.lstrip().lower().startswith(b"solid") and b"\0" not in head
    if claimed >= 0 and (size == _HEADER_BYTES + claimed * _ROW.itemsize or not is_text):
        check_claim(
            path,
            what="triangles",
            count=claimed,
            bytes_each=_ROW.itemsize,
            available=size - _HEADER_BYTES,
            limit=MAX_FACES,
        )
        corners = np.fromfile(file, _ROW, claimed)["corners"].reshape(-1, 3).astype(np.float64)
    elif is_text:
        file.seek(0)
        corners = _read_text(file, path)
    else:
        raise ScanError(f"{path.name}: expected a binary or ascii STL, got something else; export the scan again")
    if not len(corners):
        raise ScanError(f"{path.name}: expected triangles, found none; export the scan again")
    return RawScan(points=corners, faces=np.arange(len(corners)).reshape(-1, 3))


def _read_text(file: BinaryIO, path: Path) -> np.ndarray:
    out: list[np.ndarray] = []
    total = 0
    for block in LineBlocks(file, path):
        data, starts, counts = token_lines(block)
        counts = counts[counts > 0]
        if not len(counts):
            continue
        head = starts[np.cumsum(counts) - counts]
        padded = np.append(data, np.zeros(6, np.uint8)) | 0x20  # lower case
        wanted = np.all([padded[head + k] == ord(c) for k, c in enumerate("vertex")], axis=0)
        if not wanted.any():
            continue
        if (counts[wanted] != 4).any():
            raise ScanError(f"{path.name}: expected 'vertex x y z', got another number of values; export it again")
        chosen = data.copy()
        for k in range(6):
            chosen[head[wanted] + k] = 32
        chosen = chosen[head[0] :][np.repeat(wanted, np.diff(np.append(head, len(data))))]
        total += int(wanted.sum())
        if total > 3 * MAX_FACES:
            raise ScanError(f"{path.name}: expected at most {MAX_FACES:,} triangles; simplify the scan first")
        out.append(parse_numbers(chosen.tobytes(), 3 * int(wanted.sum()), path).reshape(-1, 3))
    if total % 3:
        raise ScanError(f"{path.name}: expected three vertices for each facet, the last one is cut; copy it again")
    return np.concatenate(out) if out else np.empty((0, 3))
