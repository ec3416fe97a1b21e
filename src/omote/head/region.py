"""Regions of a head model and the confidence in a scan there: face, lids, ears, and parts that no camera can see.

The regions are derived from the 68 landmarks and the template, so no `HeadModel` needs hand-painted masks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial import cKDTree

from omote.geometry.mesh import vertex_normals
from omote.head.model import HeadModel, once_per_head

LID_RANGE_MM = 5.5  # distance from the eye contour landmarks
FOREHEAD_MM = 34.0  # height above the brows
FADE_MM = 22.0  # distance beyond the face over which a scan's weight fades to 0
LID_WEIGHT = 0.1


@dataclass(frozen=True, kw_only=True)
class Region:
    """Per-vertex regions of a head model.

    Attributes:
        exterior: skin vertices that a camera in front of the head can see.
        face: exterior skin vertices from jaw line to forehead without ears, on which fits are measured.
        lid: vertices within `LID_RANGE_MM` of the eye contours.
        ear: vertices of the ears and their immediate surroundings.
        weight: confidence in a scan at each vertex: 1 on the face, `LID_WEIGHT` on lids, 0 on ears, fading beyond the face.
    """

    exterior: Bool[np.ndarray, " v"]
    face: Bool[np.ndarray, " v"]
    lid: Bool[np.ndarray, " v"]
    ear: Bool[np.ndarray, " v"]
    weight: Float[np.ndarray, " v"]


@once_per_head
def head_region(model: HeadModel) -> Region:
    """The regions of a head model."""
    v = model.template_mm.astype(np.float64)
    landmarks = model.landmarks(v)
    skin = np.zeros(len(v), bool)
    skin[model.part_vertices("skin")] = True
    exterior = skin & _seen_from_front(model, v)

    half_width = (landmarks[16, 0] - landmarks[0, 0]) / 2
    side_z = (landmarks[0, 2] + landmarks[16, 2]) / 2
    outline = _face_outline(landmarks)
    in_outline = _in_polygon(v[:, :2], outline)
    ear = skin & (np.abs(v[:, 0]) > half_width - 4.0) & (v[:, 2] < side_z + 2.0) & (v[:, 2] > side_z - 75.0)
    ear &= (v[:, 1] > landmarks[[4, 12], 1].mean() + 5.0) & (v[:, 1] < 50.0)
    face = exterior & in_outline & (v[:, 2] > side_z - 2.0) & ~ear

    eyes = [landmarks[36:42], landmarks[42:48]]
    contour = np.concatenate([_densify(e) for e in eyes])
    lid = skin & (cKDTree(contour).query(v)[0] < LID_RANGE_MM)
    for eye in eyes:
        lid |= skin & _in_polygon(v[:, :2], eye[:, :2]) & (v[:, 2] > eye[:, 2].min() - 12.0)

    beyond = cKDTree(v[face]).query(v)[0]
    weight = np.where(exterior & ~ear, np.clip(1.0 - beyond / FADE_MM, 0.0, 1.0), 0.0)
    weight[lid] = np.minimum(weight[lid], LID_WEIGHT)
    return Region(exterior=exterior, face=face, lid=lid, ear=ear, weight=weight)


def _face_outline(landmarks: Float[np.ndarray, "68 3"]) -> Float[np.ndarray, "n 2"]:
    """Outline of the face in the frontal plane: the jaw line, then an arc over the forehead."""
    jaw = landmarks[:17, :2]
    brow_y = landmarks[17:27, 1].max()
    angle = np.linspace(0, np.pi, 20)
    center_x = (jaw[0, 0] + jaw[16, 0]) / 2
    half = (jaw[16, 0] - jaw[0, 0]) / 2 * 0.92
    arc = np.stack([center_x + half * np.cos(angle), brow_y + FOREHEAD_MM * np.sin(angle) ** 0.7], axis=1)
    return np.concatenate([jaw, arc])


def _densify(loop: Float[np.ndarray, "n 3"], per_edge: int = 6) -> Float[np.ndarray, "m 3"]:
    t = np.linspace(0, 1, per_edge, endpoint=False)[:, None]
    return np.concatenate([a + t * (b - a) for a, b in zip(loop, np.roll(loop, -1, axis=0), strict=True)])


def _in_polygon(xy: Float[np.ndarray, "n 2"], polygon: Float[np.ndarray, "m 2"]) -> Bool[np.ndarray, " n"]:
    """Whether each point lies in the polygon, by the even-odd rule."""
    inside = np.zeros(len(xy), bool)
    for a, b in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        crosses = (a[1] > xy[:, 1]) != (b[1] > xy[:, 1])
        dy = b[1] - a[1] if b[1] != a[1] else 1e-12
        inside ^= crosses & (xy[:, 0] < (b[0] - a[0]) * (xy[:, 1] - a[1]) / dy + a[0])
    return inside


def _seen_from_front(model: HeadModel, v: Float[np.ndarray, "v 3"]) -> Bool[np.ndarray, " v"]:
    """Mask of vertices visible in a coarse z-buffer of one of eight orthographic views; sockets and inner lips are not."""
    normals = vertex_normals(v, model.faces)
    corners = v[model.faces]
    rng = np.random.default_rng(0)
    bary = rng.dirichlet(np.ones(3), 10)
    # Coordinates are stored in rows: minima and maxima over long rows are many times faster than over columns.
    surface = np.ascontiguousarray(np.concatenate([np.einsum("fkc,k->fc", corners, b) for b in bary]).T)
    own_points = np.ascontiguousarray(v.T)
    pixel, slack = 2.0, 2.5
    seen = np.zeros(len(v), bool)
    for yaw in np.deg2rad([-60, -20, 20, 60]):
        for pitch in np.deg2rad([-15, 20]):
            c, s, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
            direction = np.array([s * cp, sp, c * cp])
            right = np.array([c, 0, -s])
            up = np.cross(direction, right)
            frame = np.stack([right, up, direction])
            p, q = frame @ surface, frame @ own_points
            low = p[:2].min(axis=1, keepdims=True)
            size = ((p[:2].max(axis=1, keepdims=True) - low) / pixel).astype(int) + 2
            cell = ((p[:2] - low) / pixel).astype(int)
            buffer = np.full(int(size.prod()), -np.inf)
            np.maximum.at(buffer, cell[0] * size[1] + cell[1], p[2])
            own = np.clip(((q[:2] - low) / pixel).astype(int), 0, size - 1)
            seen |= (q[2] > buffer[own[0] * size[1] + own[1]] - slack) & (normals @ direction > 0.1)
    return seen
