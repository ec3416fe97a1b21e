"""The inside of the mouth stays behind the skin in front of it.

Lips that are drawn down or back pass over a lining that follows them only in part; seen from the front it would come out below
the lip as a dark spot.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Bool, Float, Int

from omote.geometry.mesh import face_normals
from omote.head.model import HeadModel
from omote.head.region import head_region

REACH_MM = 16.0  # around the lips' landmarks, in the frontal plane
BEHIND_MM = 25.0  # deeper than this behind the lips nothing comes out
CLEARANCE_MM = 1.0
LIPS = slice(48, 68)  # of the 68 landmarks


@dataclass(frozen=True, kw_only=True)
class _Mouth:
    inside: Int[np.ndarray, "n"]
    triangles: Int[np.ndarray, "t 3"]


_MOUTHS: dict[int, _Mouth] = {}


def behind_skin(
    model: HeadModel, neutral_mm: Float[np.ndarray, "v 3"], vertices_mm: Float[np.ndarray, "v 3"]
) -> Float[np.ndarray, "v 3"]:
    """Vertices with what lines the mouth pushed back (along z) behind the skin that covers it.

    It keeps the clearance that it has at rest, up to `CLEARANCE_MM`.

    Args:
        model: topology and parts.
        neutral_mm: the person at rest.
        vertices_mm: an expression.
    """
    mouth = _mouth(model)
    if not len(mouth.inside):
        return vertices_mm
    posed, rest = vertices_mm.astype(np.float64), neutral_mm.astype(np.float64)
    lips = model.landmarks(posed)[LIPS]
    inside = mouth.inside[posed[mouth.inside, 2] > lips[:, 2].min() - BEHIND_MM]
    gap = clearance(posed, inside, mouth.triangles, lips)
    close = gap < CLEARANCE_MM
    if not close.any():
        return vertices_mm
    inside, gap = inside[close], gap[close]
    at_rest = clearance(rest, inside, mouth.triangles, model.landmarks(rest)[LIPS])
    push = np.clip(np.minimum(at_rest, CLEARANCE_MM) - gap, 0.0, None)
    out = vertices_mm.copy()
    out[inside, 2] -= push.astype(out.dtype)
    return out


def clearance(
    vertices: Float[np.ndarray, "v 3"],
    ids: Int[np.ndarray, "n"],
    triangles: Int[np.ndarray, "t 3"],
    lips: Float[np.ndarray, "l 3"],
) -> Float[np.ndarray, "n"]:
    """How far (mm, along z) vertices lie behind the foremost triangle that covers them; infinite where none does."""
    low, high = lips[:, :2].min(axis=0) - REACH_MM, lips[:, :2].max(axis=0) + REACH_MM
    corners = vertices[triangles]
    near = ((corners[:, :, :2].max(axis=1) > low) & (corners[:, :, :2].min(axis=1) < high)).all(axis=1)
    near &= face_normals(vertices, triangles)[:, 2] > 0
    points = vertices[ids]
    return _foremost(points, corners[near]) - points[:, 2]


@numba.njit(cache=True, nogil=True)
@no_type_check  # run-time checkers in tests must not wrap what numba compiles
def _foremost(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Largest z over each point among triangles that cover it in the frontal plane; infinite where none does."""
    out = np.full(len(points), -np.inf)
    for t in range(len(corners)):
        a, b, c = corners[t, 0], corners[t, 1], corners[t, 2]
        left, right = min(a[0], b[0], c[0]), max(a[0], b[0], c[0])
        low, high = min(a[1], b[1], c[1]), max(a[1], b[1], c[1])
        x1, y1, x2, y2 = b[0] - a[0], b[1] - a[1], c[0] - a[0], c[1] - a[1]
        area = x1 * y2 - y1 * x2
        if area == 0.0:
            continue
        for i in range(len(points)):
            x, y = points[i, 0], points[i, 1]
            if x < left or x > right or y < low or y > high:
                continue
            u = ((x - a[0]) * y2 - (y - a[1]) * x2) / area
            v = ((y - a[1]) * x1 - (x - a[0]) * y1) / area
            if u >= 0.0 and v >= 0.0 and u + v <= 1.0:
                out[i] = max(out[i], a[2] + u * (b[2] - a[2]) + v * (c[2] - a[2]))
    for i in range(len(points)):
        if out[i] == -np.inf:
            out[i] = np.inf
    return out


def _mouth(model: HeadModel) -> _Mouth:
    key = id(model)
    if key not in _MOUTHS:
        region = head_region(model)
        skin: Bool[np.ndarray, " v"] = region.face
        inside = model.part_vertices("mouth")
        _MOUTHS[key] = _Mouth(inside=inside, triangles=model.faces[skin[model.faces].all(axis=1)])
        weakref.finalize(model, _MOUTHS.pop, key, None)
    return _MOUTHS[key]
