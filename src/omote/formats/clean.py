"""Cleaning, the same for every format: no NaNs, no duplicates, no unused vertices, no degenerate faces."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from omote.formats.limits import RawScan
from omote.geometry.mesh import face_normals

# Scanners mark missing points with the largest float as well as with NaN; no unit makes a head this large.
LARGEST_COORDINATE = 1e18
_CHUNK = 1 << 17  # faces


@dataclass(frozen=True, kw_only=True)
class CleanCounts:
    """Numbers of points and faces that cleaning removed."""

    num_dropped_nan: int
    num_duplicates: int
    num_unused: int
    num_degenerate_faces: int


def clean(raw: RawScan) -> tuple[RawScan, CleanCounts]:
    """Drop unusable points and faces; the others keep their order.

    Points with a coordinate that is NaN, infinite or beyond 1e18 go, with their faces. Points at exactly the same
    place become one (the first, with its colour and normal; texture seams survive, since UVs belong to face corners).
    Faces with two equal corners or no area go, then vertices that no face uses. A mesh left without faces becomes a
    point cloud of all its points.
    """
    points = np.asarray(raw.points, np.float64) + 0.0  # −0 and 0 are the same position
    with np.errstate(invalid="ignore"):
        finite = (np.abs(points) < LARGEST_COORDINATE).all(axis=1)
    kept = np.flatnonzero(finite)
    first, inverse = unique_points(points[kept])
    new_id = np.full(len(points), -1, np.int64)
    new_id[kept] = inverse
    source = kept[first]
    num_dropped, num_duplicates = len(points) - len(kept), len(kept) - len(first)
    points = points[source]

    faces, faces_uv = raw.faces, raw.faces_uv
    num_degenerate = num_unused = 0
    if faces is not None and len(faces):
        faces = new_id[faces]
        whole = (faces >= 0).all(axis=1)
        distinct = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
        good = whole & distinct
        good[good] = _have_area(points, faces[good])
        num_degenerate = int((whole & ~good).sum())
        faces = faces[good]
        faces_uv = faces_uv[good] if faces_uv is not None else None
    if faces is not None and len(faces):
        used = np.zeros(len(points), bool)
        used[faces] = True
        num_unused = int((~used).sum())
        faces = (np.cumsum(used) - 1)[faces]
        source, points = source[used], points[used]
    else:
        faces = faces_uv = None
    cleaned = replace(
        raw,
        points=points,
        faces=faces,
        colors=_take(raw.colors, source),
        normals=_unit(raw.normals[source]) if raw.normals is not None else None,
        uv=raw.uv if faces_uv is not None else None,
        faces_uv=faces_uv,
        texture=raw.texture if faces_uv is not None else None,
    )
    return cleaned, CleanCounts(
        num_dropped_nan=num_dropped,
        num_duplicates=num_duplicates,
        num_unused=num_unused,
        num_degenerate_faces=num_degenerate,
    )


def _have_area(points: Float[np.ndarray, "n 3"], faces: Int[np.ndarray, "f 3"]) -> Bool[np.ndarray, " f"]:
    out = np.empty(len(faces), bool)
    for start in range(0, len(faces), _CHUNK):  # intermediate results take ten times a face's memory
        chunk = slice(start, start + _CHUNK)
        out[chunk] = (face_normals(points, faces[chunk]) != 0.0).any(axis=1)
    return out


def unique_points(points: Float[np.ndarray, "n 3"]) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " n"]]:
    """First occurrence of each distinct point, in file order, and for each point the index of its first occurrence in that list.

    Sorts one 64-bit hash per point instead of rows (several times faster for millions of points), and falls back to rows if
    two different points share a hash.
    """
    if not len(points):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    bits = np.ascontiguousarray(points, np.float64).view(np.uint64).reshape(-1, 3)
    key = np.zeros(len(points), np.uint64)
    for axis in range(3):
        key = (key ^ bits[:, axis]) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(29)
    order = np.argsort(key)
    key = key[order]
    starts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    first_of = np.empty(len(points), np.int64)  # for each point, the first one at the same position
    first_of[order] = np.repeat(np.minimum.reduceat(order, starts), np.diff(np.append(starts, len(points))))
    if (points[first_of] != points).any():
        _, first, inverse = np.unique(points, axis=0, return_index=True, return_inverse=True)
        first_of = first[inverse.reshape(-1)]
    is_first = first_of == np.arange(len(points))
    return np.flatnonzero(is_first), (np.cumsum(is_first) - 1)[first_of]


def _take(values: np.ndarray | None, ids: Int[np.ndarray, " m"]) -> np.ndarray | None:
    return None if values is None else values[ids]


def _unit(normals: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Normals scaled to unit length; zero where the file gives no normal."""
    normals = np.nan_to_num(normals.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    largest = np.abs(normals).max(axis=1, keepdims=True, initial=0.0)
    normals = normals / np.where(largest > 0.0, largest, 1.0)  # so that squares neither overflow nor vanish
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return normals / np.where(length > 0.0, length, 1.0)
