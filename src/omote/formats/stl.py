"""STL, binary and ascii: unconnected triangles, whose corners are merged by cleaning.

Binary facets may have colours in 15 bits of their attribute, in the convention of VisCAM and SolidView (blue lowest, bit 15
set) or of Materialise Magics (red lowest, bit 15 clear, ``COLOR=`` in the header).
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float, UInt16

from omote.errors import ScanError
from omote.formats.colors import corners_to_vertices
from omote.formats.limits import MAX_FACES, RawScan, check_claim
from omote.formats.numbers import LineBlocks, parse_numbers, token_lines
from omote.formats.source import Source

_ROW = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_HEADER_BYTES = 84


def read_stl(source: Source) -> RawScan:
    """Read an STL file; binary files may start with ``solid`` too, so the size decides.

    Raises:
        ScanError: the file is truncated, or no STL of either kind.
    """
    file, path, size = source.file, source.path, source.size
    colors = None
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
        source.claim("bytes", 150 * claimed, because="of triangles")
        rows = np.fromfile(file, _ROW, claimed)
        corners = rows["corners"].reshape(-1, 3).astype(np.float64)
        colors = _facet_colors(rows["attribute"], magics=b"COLOR=" in head)
    elif is_text:
        file.seek(0)
        corners = _read_text(file, path)
    else:
        raise ScanError(f"{path.name}: expected a binary or ascii STL, got something else; export the scan again")
    if not len(corners):
        raise ScanError(f"{path.name}: expected triangles, found none; export the scan again")
    faces = np.arange(len(corners)).reshape(-1, 3)
    if colors is not None:
        source.note("colours of facets: each vertex has that of one of its facets")
        colors = corners_to_vertices(len(corners), faces, colors[:, None])
    return RawScan(points=corners, faces=faces, colors=colors)


def _facet_colors(attribute: UInt16[np.ndarray, " f"], *, magics: bool) -> Float[np.ndarray, "f 3"] | None:
    valid = (attribute & 0x8000 == 0) if magics else (attribute & 0x8000 != 0)
    if not len(attribute) or valid.mean() < 0.5 or (attribute[valid] == attribute[0]).all():
        return None
    shifts = (0, 5, 10) if magics else (10, 5, 0)
    colors = np.stack([(attribute >> shift) & 31 for shift in shifts], axis=1).astype(np.float32) / np.float32(31.0)
    return np.where(valid[:, None], colors, np.float32(1.0))


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
