"""Contacts: lids outside the eyeballs, the mouth's lining behind the skin, and pairs of opposite lip vertices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from omote.compiled import kernel
from omote.geometry.mesh import vertex_normals
from omote.head.eyes import CORNEA_BULGE, IRIS_ANGLE_RAD
from omote.head.model import HeadModel, once_per_head
from omote.head.region import head_region

LID_THICKNESS_MM = 0.35
HIDDEN_MM = 0.8  # skin deeper in the ball than this at rest is the socket's lining
LIP_RANGE_MM = 6.0
LIP_PAIR_MM = 4.0
# Lips that are drawn down or back slide over a lining that follows them only in part; without a limit it would show as a dark
# spot below the lip.
LINING_REACH_MM = 16.0  # distance from the lips' landmarks in the frontal plane
LINING_DEPTH_MM = 25.0  # lining deeper than this behind the lips never shows
LINING_CLEARANCE_MM = 1.0
LIPS = slice(48, 68)  # of the 68 landmarks


@dataclass(frozen=True, kw_only=True)
class RestingEye:
    """An eyeball and the skin around it at rest.

    Attributes:
        center: centre of the ball.
        radius: radius of the ball, mm.
        near: ids of the skin vertices within twice the radius.
        arm: vectors from the centre to those vertices, mm.
        length: lengths of ``arm``, mm.
        ball: radius of the ball, cornea included, in the directions of ``arm``, mm.
    """

    center: Float[np.ndarray, "3"]
    radius: float
    near: Int[np.ndarray, "n"]
    arm: Float[np.ndarray, "n 3"]
    length: Float[np.ndarray, "n"]
    ball: Float[np.ndarray, "n"]


def resting_eyes(model: HeadModel, neutral_mm: Float[np.ndarray, "v 3"]) -> list[RestingEye]:
    """The eyeballs of a person at rest, and the skin around them."""
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


@dataclass(frozen=True, kw_only=True)
class Contact:
    """Contacts of a person, computed once for any number of expressions."""

    eyes: Sequence[RestingEye]
    lining: RestLining

    def apart(self, vertices_mm: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "v 3"]:
        """Move an expression's lids out of the eyeballs and the mouth's lining behind the skin.

        Lips are kept apart by `omote.lift.untangle`.
        """
        out = behind_skin(self.lining, np.array(vertices_mm, np.float64))
        return _lids_outside(self.eyes, out)


def contact_of(model: HeadModel, neutral_mm: Float[np.ndarray, "v 3"]) -> Contact:
    """The contacts of a person at rest."""
    return Contact(eyes=resting_eyes(model, neutral_mm), lining=rest_lining(model, neutral_mm))


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
    """Height of the cornea's bulge in each direction as a share of the radius, for an eye that looks straight ahead."""
    angle = np.arccos(np.clip(arm[:, 2] / np.maximum(np.linalg.norm(arm, axis=1), 1e-9), -1, 1))
    return CORNEA_BULGE * np.clip(1 - (angle / (1.15 * IRIS_ANGLE_RAD)) ** 2, 0, None)


@once_per_head
def lip_pairs(model: HeadModel) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    """Ids of (upper, lower) vertices that face each other across the template's closed mouth."""
    points = model.template_mm.astype(np.float64)
    normals = vertex_normals(points, model.faces)
    inner = model.landmarks(points)[60:68]
    seam = np.concatenate([a + t * (b - a) for a, b in zip(inner, np.roll(inner, -1, 0), strict=True)
                           for t in np.linspace(0, 1, 5, endpoint=False)[:, None]]).reshape(-1, 3)  # fmt: skip
    skin = model.part_vertices("skin", "mouth")
    lips = skin[cKDTree(seam).query(points[skin])[0] < LIP_RANGE_MM]
    upper = lips[normals[lips, 1] < -0.25]
    lower = lips[normals[lips, 1] > 0.25]
    if not len(upper) or not len(lower):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    distance, index = cKDTree(points[lower]).query(points[upper])
    near = distance < LIP_PAIR_MM
    return upper[near], lower[index[near]]


@dataclass(frozen=True, kw_only=True)
class RestLining:
    """Lining of a person's mouth at rest.

    Attributes:
        model: head model, whose landmarks locate the lips.
        inside: ids of the lining's vertices.
        covers: triangles of the skin that may cover the lining.
        at_rest_mm: clearance of each vertex of ``inside`` behind the skin at rest; infinite if no skin covers it.
    """

    model: HeadModel
    inside: Int[np.ndarray, " n"]
    covers: Int[np.ndarray, "t 3"]
    at_rest_mm: Float[np.ndarray, " n"]


def rest_lining(model: HeadModel, neutral_mm: Float[np.ndarray, "v 3"]) -> RestLining:
    """The lining of a person at rest."""
    inside, covers, rest = model.part_vertices("mouth"), _lip_triangles(model), neutral_mm.astype(np.float64)
    at_rest = clearance(rest, inside, covers, model.landmarks(rest)[LIPS])
    return RestLining(model=model, inside=inside, covers=covers, at_rest_mm=at_rest)


def behind_skin(lining: RestLining, vertices_mm: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "v 3"]:
    """Push the mouth's lining back (along z) behind the skin that covers it.

    The lining keeps its clearance at rest, up to `LINING_CLEARANCE_MM`.

    Args:
        lining: lining of the person at rest.
        vertices_mm: vertices of an expression.
    """
    if not len(lining.inside):
        return vertices_mm
    posed = vertices_mm.astype(np.float64)
    lips = lining.model.landmarks(posed)[LIPS]
    near = posed[lining.inside, 2] > lips[:, 2].min() - LINING_DEPTH_MM
    inside, at_rest = lining.inside[near], lining.at_rest_mm[near]
    gap = clearance(posed, inside, lining.covers, lips)
    push = np.clip(np.minimum(at_rest, LINING_CLEARANCE_MM) - gap, 0.0, None)
    if not push.any():
        return vertices_mm
    out = vertices_mm.copy()
    out[inside, 2] -= push.astype(out.dtype)
    return out


def clearance(
    vertices: Float[np.ndarray, "v 3"],
    ids: Int[np.ndarray, "n"],
    triangles: Int[np.ndarray, "t 3"],
    lips: Float[np.ndarray, "l 3"],
) -> Float[np.ndarray, "n"]:
    """Distance (mm, along z) of vertices behind the foremost triangle that covers them; infinite where none does."""
    low, high = lips[:, :2].min(axis=0) - LINING_REACH_MM, lips[:, :2].max(axis=0) + LINING_REACH_MM
    points = vertices[ids]
    order = np.argsort(points[:, 0])
    foremost = np.full(len(points), -np.inf)
    _foremost(np.ascontiguousarray(points[order]), points[order, 0], vertices, triangles, low, high, foremost)
    out = np.empty(len(points))
    out[order] = np.where(foremost == -np.inf, np.inf, foremost)
    return out - points[:, 2]


@kernel()
def _foremost(
    points: np.ndarray,
    along: np.ndarray,
    vertices: np.ndarray,
    triangles: np.ndarray,
    least: np.ndarray,
    most: np.ndarray,
    out: np.ndarray,
) -> None:
    """Write to ``out`` the largest z of the triangles that cover each point in the frontal plane; unchanged where none does.

    ``along`` holds the points' x, ascending. Triangles outside of ``least`` to ``most`` or facing away are ignored.
    """
    for t in range(len(triangles)):
        ax, ay, az = vertices[triangles[t, 0]]
        bx, by, bz = vertices[triangles[t, 1]]
        cx, cy, cz = vertices[triangles[t, 2]]
        left, right = min(ax, bx, cx), max(ax, bx, cx)
        low, high = min(ay, by, cy), max(ay, by, cy)
        if right <= least[0] or left >= most[0] or high <= least[1] or low >= most[1]:
            continue
        x1, y1, x2, y2 = bx - ax, by - ay, cx - ax, cy - ay
        area = x1 * y2 - y1 * x2
        if area <= 0.0:
            continue
        for i in range(np.searchsorted(along, left), len(points)):
            x, y = points[i, 0], points[i, 1]
            if x > right:
                break
            if y < low or y > high:
                continue
            u = ((x - ax) * y2 - (y - ay) * x2) / area
            v = ((y - ay) * x1 - (x - ax) * y1) / area
            if u >= 0.0 and v >= 0.0 and u + v <= 1.0:
                out[i] = max(out[i], az + u * (bz - az) + v * (cz - az))


@once_per_head
def _lip_triangles(model: HeadModel) -> Int[np.ndarray, "t 3"]:
    """Triangles of the face around the lips, a little farther than skin slides over the lining."""
    lips = model.landmarks(model.template_mm)[LIPS, :2]
    reach = np.ptp(lips, axis=0) / 2 + 2 * LINING_REACH_MM
    near = (np.abs(model.template_mm[:, :2] - lips.mean(axis=0)) < reach).all(axis=1)
    return model.faces[(head_region(model).face & near)[model.faces].all(axis=1)]
