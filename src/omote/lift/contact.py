"""Lids stay outside the eyeball, lips don't pass through each other, and the mouth's lining stays behind the skin."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from omote.geometry.mesh import vertex_normals
from omote.head.eyes import CORNEA_BULGE, IRIS_ANGLE_RAD
from omote.head.model import HeadModel
from omote.head.region import head_region
from omote.lift.lining import behind_skin

LID_THICKNESS_MM = 0.35
HIDDEN_MM = 0.8  # deeper in the ball than this at rest is the socket's lining
LIP_RANGE_MM = 6.0
LIP_PAIR_MM = 3.0
LIP_OVERLAP_MM = 0.3  # soft flesh presses together this much
LIP_SPREAD_MM = 3.0


@dataclass(frozen=True, kw_only=True)
class RestingEye:
    """An eyeball and the skin around it at rest.

    Attributes:
        center: of the ball.
        radius: of the ball, mm.
        near: skin vertices within twice the radius.
        arm: from the centre to each of them.
        length: of ``arm``.
        ball: the ball's radius, cornea included, in their directions.
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


_LIPS: dict[int, tuple[np.ndarray, np.ndarray]] = {}


def lip_pairs(model: HeadModel) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    """(upper, lower) vertices that face each other across the closed mouth of the template."""
    key = id(model)
    if key not in _LIPS:
        _LIPS[key] = _find_lip_pairs(model)
        weakref.finalize(model, _LIPS.pop, key, None)
    return _LIPS[key]


def _find_lip_pairs(model: HeadModel) -> tuple[np.ndarray, np.ndarray]:
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
