"""Lids stay outside the eyeball, lips don't pass through each other, and the mouth's lining stays behind the skin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from omote.compiled import kernel
from omote.geometry.mesh import face_normals, vertex_normals
from omote.head.eyes import CORNEA_BULGE, IRIS_ANGLE_RAD
from omote.head.model import HeadModel, once_per_head
from omote.head.region import head_region

LID_THICKNESS_MM = 0.35
HIDDEN_MM = 0.8  # deeper in the ball than this at rest is the socket's lining
LIP_RANGE_MM = 6.0
LIP_PAIR_MM = 3.0
LIP_OVERLAP_MM = 0.3  # soft flesh presses together this much
LIP_SPREAD_MM = 3.0
# Lips that are drawn down or back pass over a lining that follows them only in part: seen from the front it would come out below
# the lip as a dark spot.
LINING_REACH_MM = 16.0  # around the lips' landmarks, in the frontal plane
LINING_DEPTH_MM = 25.0  # deeper than this behind the lips nothing comes out
LINING_CLEARANCE_MM = 1.0
LIPS = slice(48, 68)  # of the 68 landmarks


@dataclass(frozen=True, kw_only=True)
class RestingEye:
    """An eyeball and the skin around it at rest.

    Attributes:
        center: centre of the ball.
        radius: radius of the ball, mm.
        near: skin vertices within twice the radius.
        arm: vectors from the centre to those vertices.
        length: lengths of ``arm``.
        ball: radius of the ball, cornea included, in the directions of ``arm``.
    """

    center: Float[np.ndarray, "3"]
    radius: float
    near: Int[np.ndarray, "n"]
    arm: Float[np.ndarray, "n 3"]
    length: Float[np.ndarray, "n"]
    ball: Float[np.ndarray, "n"]


def resting_eyes(model: HeadModel, neutral_mm: Float[np.ndarray, "v 3"]) -> list[RestingEye]:
    """What `separate` needs of a neutral; made once, it serves any number of expressions."""
    region = head_region(model)
    # A raised cheek comes as near to the ball as a lid does.
    lid = np.flatnonzero(region.lid | region.exterior)
    eyes = []
    for part in ("eye_left", "eye_right"):
        if not len(model.part_vertices(part)):
            continue
        center, radius = eye_sphere(model, neutral_mm, part)
        arm = neutral_mm[lid] - center
        close = np.linalg.norm(arm, axis=1) < 2.0 * radius
        arm = arm[close]
        eyes.append(
            RestingEye(
                center=center, radius=radius, near=lid[close], arm=arm,
                length=np.linalg.norm(arm, axis=1), ball=radius * (1 + _bulge(arm)),
            )
        )  # fmt: skip
    return eyes


def separate(
    model: HeadModel,
    neutral_mm: Float[np.ndarray, "v 3"],
    vertices_mm: Float[np.ndarray, "v 3"],
    *,
    eyes: Sequence[RestingEye] | None = None,
) -> Float[np.ndarray, "v 3"]:
    """Vertices with crossings removed that the neutral doesn't have.

    Args:
        model: topology and parts.
        neutral_mm: the person at rest.
        vertices_mm: an expression.
        eyes: the neutral's `resting_eyes`; made here if None.
    """
    out = _uncross_lips(model, neutral_mm, np.array(vertices_mm, np.float64))
    out = behind_skin(model, neutral_mm, out)
    return _lids_outside(resting_eyes(model, neutral_mm) if eyes is None else eyes, out).astype(np.float32)


def eye_sphere(
    model: HeadModel, vertices_mm: Float[np.ndarray, "v 3"], part: str
) -> tuple[Float[np.ndarray, "3"], float]:
    """Centre and radius (mm) of an eyeball, by least squares (|x|² = 2 c·x + k)."""
    p = vertices_mm[model.part_vertices(part)].astype(np.float64)
    keep = np.ones(len(p), bool)
    center, radius = p.mean(axis=0), 0.0
    for _ in range(4):
        a = np.concatenate([2 * p[keep], np.ones((int(keep.sum()), 1))], axis=1)
        solution = np.linalg.lstsq(a, np.sum(p[keep] ** 2, axis=1), rcond=None)[0]
        center = solution[:3]
        radius = float(np.sqrt(max(solution[3] + center @ center, 1e-9)))
        # The cornea stands out of the sphere.
        keep = np.linalg.norm(p - center, axis=1) < radius * (1 + 0.15 * CORNEA_BULGE)
        if keep.sum() < 12:
            break
    return center, radius


def _lids_outside(eyes: Sequence[RestingEye], vertices: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "v 3"]:
    for eye in eyes:
        arm = vertices[eye.near] - eye.center
        distance, ball = np.linalg.norm(arm, axis=1), eye.radius * (1 + _bulge(arm))
        # A lid that rests closer than its thickness stays so; one that travels must clear the cornea.
        moved = np.clip(np.linalg.norm(arm - eye.arm, axis=1) / 2.0, 0.0, 1.0)
        gap = (1 - moved) * np.minimum(eye.length - eye.ball, LID_THICKNESS_MM) + moved * LID_THICKNESS_MM
        # What hides in the socket at rest may stay there.
        push = (distance < ball + gap) & (arm[:, 2] > 0.35 * eye.radius) & (eye.length > eye.ball - HIDDEN_MM)
        scale = np.where(push, (ball + gap) / np.maximum(distance, 1e-9), 1.0)
        vertices[eye.near] = eye.center + arm * scale[:, None]
    return vertices


def _bulge(arm: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n"]:
    """How far the cornea stands out in a direction, of the radius; the eye looks ahead."""
    angle = np.arccos(np.clip(arm[:, 2] / np.maximum(np.linalg.norm(arm, axis=1), 1e-9), -1, 1))
    return CORNEA_BULGE * np.clip(1 - (angle / (1.15 * IRIS_ANGLE_RAD)) ** 2, 0, None)


@once_per_head
def lip_pairs(model: HeadModel) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    """(upper, lower) vertices that face each other across the closed mouth of the template."""
    points = model.template_mm.astype(np.float64)
    normals = vertex_normals(points, model.faces)
    inner = model.landmarks(points)[60:68]
    seam = np.concatenate([a + t * (b - a) for a, b in zip(inner, np.roll(inner, -1, 0), strict=True)
                           for t in np.linspace(0, 1, 5, endpoint=False)[:, None]]).reshape(-1, 3)  # fmt: skip
    skin = model.part_vertices("skin")
    lips = skin[cKDTree(seam).query(points[skin])[0] < LIP_RANGE_MM]
    upper = lips[normals[lips, 1] < -0.25]
    lower = lips[normals[lips, 1] > 0.25]
    if not len(upper) or not len(lower):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    distance, index = cKDTree(points[lower]).query(points[upper])
    near = distance < LIP_PAIR_MM
    return upper[near], lower[index[near]]


def _uncross_lips(
    model: HeadModel, neutral_mm: Float[np.ndarray, "v 3"], vertices: Float[np.ndarray, "v 3"]
) -> Float[np.ndarray, "v 3"]:
    upper, lower = lip_pairs(model)
    if not len(upper):
        return vertices
    for _ in range(2):
        rest_gap = neutral_mm[upper, 1] - neutral_mm[lower, 1]
        gap = vertices[upper, 1] - vertices[lower, 1]
        overlap = np.minimum(rest_gap, 0.0) - LIP_OVERLAP_MM - gap
        bad = overlap > 0
        if not bad.any():
            break
        seeds = (vertices[upper[bad]] + vertices[lower[bad]]) / 2
        amount = overlap[bad]
        for side, sign in ((upper, 0.5), (lower, -0.5)):
            ids = np.unique(side)
            square = np.sum((vertices[ids][:, None] - seeds[None]) ** 2, axis=2)
            kernel = np.exp(-0.5 * square / LIP_SPREAD_MM**2)
            weight = kernel.sum(axis=1)
            mean = kernel @ amount / np.maximum(weight, 1e-9)
            vertices[ids, 1] += sign * mean * np.clip(weight, 0, 1)
    return vertices


def behind_skin(
    model: HeadModel, neutral_mm: Float[np.ndarray, "v 3"], vertices_mm: Float[np.ndarray, "v 3"]
) -> Float[np.ndarray, "v 3"]:
    """Vertices with what lines the mouth pushed back (along z) behind the skin that covers it.

    It keeps the clearance that it has at rest, up to `LINING_CLEARANCE_MM`.

    Args:
        model: topology and parts.
        neutral_mm: the person at rest.
        vertices_mm: an expression.
    """
    inside, covers = model.part_vertices("mouth"), _face_triangles(model)
    if not len(inside):
        return vertices_mm
    posed, rest = vertices_mm.astype(np.float64), neutral_mm.astype(np.float64)
    lips = model.landmarks(posed)[LIPS]
    inside = inside[posed[inside, 2] > lips[:, 2].min() - LINING_DEPTH_MM]
    gap = clearance(posed, inside, covers, lips)
    close = gap < LINING_CLEARANCE_MM
    if not close.any():
        return vertices_mm
    inside, gap = inside[close], gap[close]
    at_rest = clearance(rest, inside, covers, model.landmarks(rest)[LIPS])
    push = np.clip(np.minimum(at_rest, LINING_CLEARANCE_MM) - gap, 0.0, None)
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
    low, high = lips[:, :2].min(axis=0) - LINING_REACH_MM, lips[:, :2].max(axis=0) + LINING_REACH_MM
    corners = vertices[triangles]
    near = ((corners[:, :, :2].max(axis=1) > low) & (corners[:, :, :2].min(axis=1) < high)).all(axis=1)
    near &= face_normals(vertices, triangles)[:, 2] > 0
    points = vertices[ids]
    foremost = np.full(len(points), -np.inf)
    _foremost(points, corners[near], foremost)
    return np.where(foremost == -np.inf, np.inf, foremost) - points[:, 2]


@kernel()
def _foremost(points: np.ndarray, corners: np.ndarray, out: np.ndarray) -> None:
    """Largest z over each point among triangles that cover it in the frontal plane; ``out`` as it is where none does."""
    for t in range(len(corners)):
        ax, ay, az = corners[t, 0, 0], corners[t, 0, 1], corners[t, 0, 2]
        bx, by, bz = corners[t, 1, 0], corners[t, 1, 1], corners[t, 1, 2]
        cx, cy, cz = corners[t, 2, 0], corners[t, 2, 1], corners[t, 2, 2]
        left, right = min(ax, bx, cx), max(ax, bx, cx)
        low, high = min(ay, by, cy), max(ay, by, cy)
        x1, y1, x2, y2 = bx - ax, by - ay, cx - ax, cy - ay
        area = x1 * y2 - y1 * x2
        if area == 0.0:
            continue
        for i in range(len(points)):
            x, y = points[i, 0], points[i, 1]
            if x < left or x > right or y < low or y > high:
                continue
            u = ((x - ax) * y2 - (y - ay) * x2) / area
            v = ((y - ay) * x1 - (x - ax) * y1) / area
            if u >= 0.0 and v >= 0.0 and u + v <= 1.0:
                out[i] = max(out[i], az + u * (bz - az) + v * (cz - az))


@once_per_head
def _face_triangles(model: HeadModel) -> Int[np.ndarray, "t 3"]:
    return model.faces[head_region(model).face[model.faces].all(axis=1)]
