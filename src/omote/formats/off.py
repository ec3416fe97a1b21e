"""OFF, COFF and NOFF (Geomview), ascii."""

from __future__ import annotations

import re

import numpy as np
from jaxtyping import Float, Int

from omote.errors import ScanError
from omote.formats.colors import corners_to_vertices, unit_colors
from omote.formats.limits import MAX_FACES, MAX_POINTS, RawScan, check_claim, check_faces, fan
from omote.formats.numbers import LineBlocks, number_rows, table
from omote.formats.source import Source

_KEYWORD = re.compile(rb"(ST)?(C)?(N)?(4)?(n)?OFF$")


def read_off(source: Source) -> RawScan:
    """Read an OFF file, with the colours of its vertices or faces.

    Raises:
        ScanError: the file has another dialect or is truncated, or an index is out of range.
    """
    file, path, size = source.file, source.path, source.size
    words: list[bytes] = []
    for _ in range(100):
        line = file.readline(4096)
        words += line.split(b"#")[0].split()
        if not line or len(words) >= 4:
            break

    keyword = _KEYWORD.match(words[0]) if words else None
    if keyword is None or keyword[1] or keyword[4] or keyword[5] or b"BINARY" in words:
        raise ScanError(f"{path.name}: expected an ascii OFF, COFF or NOFF file; export the scan as one, or as PLY")
    try:
        num_points, num_faces = int(words[1]), int(words[2])
    except (ValueError, IndexError):
        raise ScanError(f"{path.name}: expected the counts of vertices and faces after OFF; export it again") from None

    left = size - file.tell()
    check_claim(path, what="vertices", count=num_points, bytes_each=6, available=left + 1, limit=MAX_POINTS)
    check_claim(path, what="faces", count=num_faces, bytes_each=2, available=left + 1, limit=MAX_FACES)
    source.claim("points", num_points)

    blocks = LineBlocks(file, path)
    values = _vertices(blocks, num_points)
    points, rest = values[:, :3], values[:, 3:]

    colors = normals = None
    if keyword[3] and rest.shape[1] >= 3:
        normals, rest = rest[:, :3], rest[:, 3:]
    if rest.shape[1] in (3, 4) and (keyword[2] or not keyword[3]):  # many writers add colours under the keyword OFF
        colors = unit_colors(rest[:, :3], source.note)

    faces = None
    if num_faces:
        faces, of_faces = _faces(blocks, num_faces, num_points, source)
        if colors is None and of_faces is not None:
            colors = np.nan_to_num(corners_to_vertices(num_points, faces, of_faces[:, None]), nan=1.0)
    return RawScan(points=points, faces=faces, colors=colors, normals=normals)


def _vertices(blocks: LineBlocks, num_points: int) -> np.ndarray:
    """All vertex rows; the first one decides the number of columns."""
    for _values, counts in number_rows(blocks, num_rows=min(num_points, 1), what="vertices"):
        width = int(counts[0])
        if width < 3:
            raise ScanError(f"{blocks.path.name}: expected 'x y z' on a vertex line, got {width} numbers")
        others = table(blocks, num_columns=width, num_rows=num_points - 1, what="vertices")
        return np.concatenate([_values[None], others])
    return np.empty((0, 3))


def _faces(
    blocks: LineBlocks, num_faces: int, num_points: int, source: Source
) -> tuple[Int[np.ndarray, "f 3"], Float[np.ndarray, "f 3"] | None]:
    """Triangles and their colours; None if no face has a colour, NaN for faces without one."""
    out, painted = [], []
    for values, lengths in number_rows(blocks, num_rows=num_faces, what="faces"):
        start = np.cumsum(lengths) - lengths
        corners = values[start]
        if not ((corners >= 0) & (corners <= lengths - 1) & (corners == np.floor(corners))).all():
            raise ScanError(f"{blocks.path.name}: expected a face line 'n v1 … vn', got another; export it again")
        counts = corners.astype(np.int64)
        source.claim("faces", int(np.maximum(counts - 2, 0).sum()))
        picks = np.repeat(start + 1 - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
        ids = np.clip(np.nan_to_num(values[picks], nan=-1.0), -1, 1 << 40).astype(np.int64)
        triangles, polygon = fan(counts)
        out.append(check_faces(blocks.path, ids, num_points)[triangles])
        rest = lengths - 1 - counts  # three or four numbers are a colour; one is an index into a colour map
        if (rest == 1).any():
            source.note("colours of faces by an index of a colour map are not read")
        first = np.minimum(start + 1 + counts, len(values) - 3) if len(values) >= 3 else start
        own = np.full((len(counts), 3), np.nan)
        own[rest >= 3] = np.stack([values[first + k] for k in range(3)], axis=1)[rest >= 3] if (rest >= 3).any() else 0
        painted.append(own[polygon])
    faces = np.concatenate(out) if out else np.empty((0, 3), np.int64)
    colors = np.concatenate(painted) if painted else np.empty((0, 3))
    known = ~np.isnan(colors).any(axis=1)
    if not known.any():
        return faces, None
    colors[known] = unit_colors(colors[known], source.note)
    return faces, colors.astype(np.float32)
