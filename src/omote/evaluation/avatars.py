"""Avatars against true meshes: the distance of the skin from where the person's own skin moves.

The true mesh may have another topology. Each face vertex of the avatar at rest is tied to the closest point of the true surface
at rest, and that point's displacement is the vertex's true displacement. Errors per vertex are distances to the displaced point;
errors of the surface are distances to the true posed surface, which do not penalise sliding along the skin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

from omote.align.seam import mesh_seam
from omote.geometry.cloud import barycentric, closest_on_mesh
from omote.head.model import HeadModel, once_per_head
from omote.head.region import head_region
from omote.lift.motion_limits import rigid_vertices

TIE_MM = 2.0  # a vertex farther from the true surface at rest has no true displacement
MOVING_MM = 2.0  # least true motion of a moving vertex
LIPS_MM = 6.0  # distance from the lips' landmarks
LIPS = slice(48, 68)
MOST_VERTICES = 2500  # more vertices do not change the result
INNER_UPPER, INNER_LOWER = [61, 62, 63], [67, 66, 65]


@dataclass(frozen=True, kw_only=True)
class TrueMotion:
    """True motion of a person's skin, at the vertices of an avatar's face.

    Attributes:
        ids: ids of the avatar's face vertices.
        rest_mm: true point that each vertex is tied to, at rest.
        offset_mm: displacement of that point, per pose.
        near: mask of the vertices close enough to their point.
        surface_mm: true vertices, per pose.
        faces: triangles of the true skin.
    """

    ids: Int[np.ndarray, " n"]
    rest_mm: Float[np.ndarray, "n 3"]
    offset_mm: Float[np.ndarray, "k n 3"]
    near: Bool[np.ndarray, " n"]
    surface_mm: Float[np.ndarray, "k v 3"]
    faces: Int[np.ndarray, "f 3"]

    @property
    def moving(self) -> Bool[np.ndarray, "k n"]:
        """Mask of the vertices that truly move, per pose."""
        out: Bool[np.ndarray, "k n"] = np.linalg.norm(self.offset_mm, axis=2) > MOVING_MM
        return out


@once_per_head
def lip_vertices(head: HeadModel) -> Bool[np.ndarray, " v"]:
    """Mask of the skin around the lips' landmarks."""
    template = head.template_mm.astype(np.float64)
    near: Bool[np.ndarray, " v"] = cKDTree(head.landmarks(template)[LIPS]).query(template)[0] < LIPS_MM
    return near & head_region(head).exterior


def true_motion(
    head: HeadModel,
    neutral_mm: Float[np.ndarray, "v 3"],
    rest_mm: Float[np.ndarray, "w 3"],
    posed_mm: Float[np.ndarray, "k w 3"],
    faces: Int[np.ndarray, "f 3"],
) -> TrueMotion:
    """Tie an avatar's face to a true one.

    Args:
        head: head model of the avatar.
        neutral_mm: vertices of the avatar at rest.
        rest_mm: vertices of the true mesh at rest, in the avatar's frame.
        posed_mm: vertices of the true mesh, per pose.
        faces: triangles of the true skin.
    """
    ids = np.flatnonzero(head_region(head).face)
    ids = ids[:: max(1, len(ids) // MOST_VERTICES)]
    distance, at, triangle = closest_on_mesh(neutral_mm[ids].astype(np.float64), rest_mm, faces)
    weights = barycentric(at, rest_mm[faces[triangle]])
    offset = np.einsum("nk,pnkc->pnc", weights, (posed_mm - rest_mm)[:, faces[triangle]])
    return TrueMotion(
        ids=ids, rest_mm=at, offset_mm=offset, near=distance < TIE_MM, surface_mm=posed_mm, faces=faces
    )  # fmt: skip


def mesh_errors(
    head: HeadModel,
    neutral_mm: Float[np.ndarray, "v 3"],
    posed_mm: Float[np.ndarray, "k v 3"],
    truth: TrueMotion,
) -> dict[str, Float[np.ndarray, " k"]]:
    """Errors by their keys in the catalogue, with a value per pose; NaN if nothing moves.

    Args:
        head: head model of the avatar.
        neutral_mm: vertices of the avatar at rest.
        posed_mm: vertices of the avatar, per pose.
        truth: true motion in the same poses.
    """
    ids, moving = truth.ids, truth.moving
    every, near = np.ones_like(moving), truth.near & np.ones_like(moving)
    surface = np.stack([
        closest_on_mesh(made[ids].astype(np.float64), true, truth.faces)[0]
        for made, true in zip(posed_mm, truth.surface_mm, strict=True)
    ])  # fmt: skip
    vertex = np.linalg.norm(posed_mm[:, ids] - (truth.rest_mm + truth.offset_mm), axis=2)
    motion = posed_mm[:, ids] - neutral_mm[ids]
    size, true_size = np.linalg.norm(motion, axis=2), np.linalg.norm(truth.offset_mm, axis=2)
    along = np.einsum("knc,knc->kn", motion, truth.offset_mm)
    cosine = along / np.maximum(size * true_size, 1e-9)
    lips, lids = lip_vertices(head)[ids] & every, head_region(head).lid[ids] & every
    still = rigid_vertices(head)
    return {
        "avatar/surface_mm": _mean(surface, every),
        "avatar/surface_mm_moving": _mean(surface, moving & near),
        "avatar/surface_mm_lips": _mean(surface, lips),
        "avatar/surface_mm_lids": _mean(surface, lids),
        "avatar/vertex_mm": _mean(vertex, near),
        "avatar/vertex_mm_moving": _mean(vertex, moving & near),
        "avatar/motion_cosine": _mean(cosine, moving & near),
        "avatar/motion_size": _mean(size, moving & near) / _mean(true_size, moving & near),
        "avatar/rigid_mm": np.linalg.norm(posed_mm[:, still] - neutral_mm[still], axis=2).max(axis=1),
    }


def lip_gap_mm(head: HeadModel, vertices_mm: Float[np.ndarray, "v 3"]) -> float:
    """Distance between the inner landmarks of the two lips."""
    landmarks = head.landmarks(vertices_mm)
    return float(np.linalg.norm(landmarks[INNER_UPPER] - landmarks[INNER_LOWER], axis=1).mean())


def seam_apart_mm(
    head: HeadModel, neutral_mm: Float[np.ndarray, "v 3"], true_head: HeadModel, true_mm: Float[np.ndarray, "w 3"]
) -> float:
    """Largest vertical distance between the lines along which an avatar's lips and the true lips meet; NaN if some do not.

    Args:
        head: head model of the avatar.
        neutral_mm: vertices of the avatar at rest.
        true_head: head model of the true mesh.
        true_mm: vertices of the true mesh at rest, in the avatar's frame.
    """
    seams = [mesh_seam(head, neutral_mm), mesh_seam(true_head, true_mm)]
    lines = [seam.points_mm for seam in seams if seam is not None and seam.closed]
    if len(lines) < 2:
        return float("nan")
    at = lines[0][(lines[0][:, 0] >= lines[1][0, 0]) & (lines[0][:, 0] <= lines[1][-1, 0])]
    return float(np.abs(at[:, 1] - np.interp(at[:, 0], lines[1][:, 0], lines[1][:, 1])).max(initial=0.0))


def motion_kept(
    neutral_mm: Float[np.ndarray, "v 3"], scanned_mm: Float[np.ndarray, "v 3"], shown: TrueMotion
) -> float:  # fmt: skip
    """Share of a source's expression that is left in the avatar's rest shape, from 0 (none) to 1 (all).

    Args:
        neutral_mm: vertices of the avatar at rest.
        scanned_mm: vertices of the head as fitted to the source.
        shown: true motion that ties ``scanned_mm`` to the true source; its one pose is the true rest.
    """
    moved = shown.moving[0] & shown.near
    if not moved.any():
        return float("nan")
    ids, back = shown.ids[moved], shown.offset_mm[0, moved]
    left = 1 + ((neutral_mm - scanned_mm)[ids] * -back).sum(axis=1) / (back**2).sum(axis=1)
    return float(np.average(left, weights=(back**2).sum(axis=1)))


def _mean(values: Float[np.ndarray, "k n"], chosen: Bool[np.ndarray, "k n"]) -> Float[np.ndarray, " k"]:
    count = chosen.sum(axis=1)
    return np.where(count > 0, np.where(chosen, values, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)
