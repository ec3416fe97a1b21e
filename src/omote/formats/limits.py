"""The uncleaned scan that every reader returns, and the limits that every reader enforces.

A header's counts are not trusted: readers call `check_claim`, which compares them with the file's size, before they allocate.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from omote.errors import ScanError

MAX_FILE_BYTES = 2 << 30
MAX_POINTS = 12_000_000
MAX_FACES = 24_000_000


@dataclass(frozen=True, kw_only=True)
class RawScan:
    """A file's content before cleaning: with NaNs, duplicates and unused vertices.

    Attributes:
        points: positions in the file's own unit.
        faces: vertex ids, checked against ``points``; None for a point cloud.
        colors: colour of each point, [0, 1].
        normals: normal of each point, not necessarily of unit length.
        uv: texture coordinates, origin at the lower left.
        faces_uv: ids into ``uv``, or None.
        texture: image in [0, 1], row 0 at the top.
        notes: sentences on what was left out.
    """

    points: Float[np.ndarray, "num_points 3"]
    faces: Int[np.ndarray, "num_faces 3"] | None = None
    colors: Float[np.ndarray, "num_points 3"] | None = None
    normals: Float[np.ndarray, "num_points 3"] | None = None
    uv: Float[np.ndarray, "num_uv 2"] | None = None
    faces_uv: Int[np.ndarray, "num_faces 3"] | None = None
    texture: Float[np.ndarray, "tex_height tex_width 3"] | None = None
    notes: tuple[str, ...] = field(default=())


def check_claim(path: Path, *, what: str, count: int, bytes_each: int, available: int, limit: int) -> None:
    """Refuse a header's count that is out of range or that the file is too small to hold.

    Args:
        path: path of the file, for the message.
        what: plural noun of the counted items, for the message.
        count: number of items that the header claims.
        bytes_each: smallest number of bytes that an item takes in the file.
        available: number of bytes left in the file.
        limit: largest number of items that is accepted.

    Raises:
        ScanError: the count is negative, over ``limit``, or needs more than ``available`` bytes.
    """
    if count < 0:
        raise ScanError(f"{path.name}: expected a count of {what}, got {count}; the header is damaged, export again")
    if count * bytes_each > available:
        raise ScanError(
            f"{path.name}: the header claims {count:,} {what} ({count * bytes_each:,} bytes or more), the file holds "
            f"{available:,} bytes of them; it is truncated or damaged, copy or export it again"
        )
    if count > limit:
        raise ScanError(f"{path.name}: expected at most {limit:,} {what}, got {count:,}; crop or thin the scan first")


def check_faces(
    path: Path, indices: Int[np.ndarray, " ..."], num_points: int, *, what: str = "vertex"
) -> Int[np.ndarray, " ..."]:
    """Return the indices unchanged if all lie in [0, num_points).

    Raises:
        ScanError: an index is out of range.
    """
    if indices.size:
        low, high = int(indices.min()), int(indices.max())
        if low < 0 or high >= num_points:
            bad = low if low < 0 else high
            raise ScanError(
                f"{path.name}: a face refers to {what} {bad} (counted from 0), the file has {num_points:,}; "
                "the file is damaged, export it again"
            )
    return indices


def fan(counts: Int[np.ndarray, " num_polygons"]) -> tuple[Int[np.ndarray, "n 3"], Int[np.ndarray, " n"]]:
    """Triangulate polygons given by their corner counts, each as a fan around its first corner.

    Polygons of fewer than three corners give nothing. Fans suit the convex, nearly flat polygons that scanners and
    remeshers write.

    Returns:
        Positions into the flat list of corners, and the polygon that each triangle came from.
    """
    counts = counts.astype(np.int64)
    first = np.cumsum(counts) - counts
    triangles = np.maximum(counts - 2, 0)
    polygon = np.repeat(np.arange(len(counts)), triangles)
    step = np.arange(len(polygon)) - np.repeat(np.cumsum(triangles) - triangles, triangles)
    start = first[polygon]
    return np.stack([start, start + step + 1, start + step + 2], axis=1), polygon
