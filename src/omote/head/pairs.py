"""Corresponding points of a scan and a head model: of each vertex in a dense scan, of each point in a sparse one.

Weights are Geman-McClure's, and both their scale and the distance from which on nothing corresponds shrink as a fit settles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from omote.cores import num_cores
from omote.geometry.camera import transform
from omote.geometry.cloud import barycentric, closest_on_mesh, spacing
from omote.geometry.mesh import vertex_normals
from omote.head.region import head_region
from omote.head.solver import Pairs, Solver, vertex_belief

# At the beginning and at the end of a fit: farthest corresponding point, and scale of the weights.
REACH_MM, SCALE_MM = (14.0, 4.0), (5.0, 1.2)
LEAST_BELIEF = 0.02
# A point beyond the skin's edge lies farther to the side of its closest point than this, mm and share of its distance.
SIDE_MM, SIDE_SHARE = 0.5, 0.3


def settled(ends: tuple[float, float], settle: float) -> float:
    """A value between those at the beginning (``settle`` 0) and at the end (1) of a fit."""
    return ends[0] * (1 - settle) + ends[1] * settle


def robust(offset_mm: Float[np.ndarray, " k"], scale_mm: float) -> Float[np.ndarray, " k"]:
    """Geman-McClure weights of residuals."""
    return 1.0 / (1.0 + (offset_mm / scale_mm) ** 2) ** 2


class ScanSurface:
    """Scan points near the face with a KD-tree, in the canonical frame at the time of construction."""

    def __init__(self, points_mm: Float[np.ndarray, "n 3"], normals: Float[np.ndarray, "n 3"]) -> None:
        self.points, self.normals = points_mm, normals
        self.tree = cKDTree(points_mm)
        self.spacing_mm = spacing(points_mm)
        self._steps = 0
        self._own_normals = np.zeros((0, 3))

    def correspond(self, solver: Solver, change: Float[np.ndarray, "4 4"], settle: float) -> Pairs:
        """Nearest scan point per solver vertex, with robust weights; ``settle`` runs from 0 (far) to 1 (converged)."""
        v = solver.surface()
        _, index = self.tree.query(transform(np.linalg.inv(change), v), workers=num_cores())
        q = transform(change, self.points[index])
        rotation = change[:3, :3] / np.cbrt(np.linalg.det(change[:3, :3]))
        n = self.normals[index] @ rotation.T
        if self._steps % 4 == 0:
            self._own_normals = vertex_normals(solver.vertices(), solver.faces)[solver.vertex]
        self._steps += 1
        cosine = np.einsum("kc,kc->k", n, self._own_normals)
        offset = np.einsum("kc,kc->k", v - q, n)
        tangential = np.sqrt(np.maximum(np.sum((v - q) ** 2, axis=1) - offset**2, 0.0))
        ok = (np.abs(offset) < settled(REACH_MM, settle)) & (np.abs(cosine) > 0.5 + 0.2 * settle)
        # A nearest point at a large tangential distance means that the scan ends there.
        ok &= tangential < np.maximum(3.0 * self.spacing_mm, 2.0 + 4.0 * (1 - settle))
        weight = solver.belief * robust(offset, settled(SCALE_MM, settle))
        along = np.einsum("bkc,kc->kb", solver.basis, n)
        return Pairs(target=q, normal=n, weight=np.where(ok, weight, 0.0), mean=solver.mean, along=along)


@dataclass(frozen=True, kw_only=True)
class _Closest:
    """The closest point of the skin to each point: distance, triangle, barycentric weights, normal and belief."""

    distance_mm: Float[np.ndarray, " n"]
    point_mm: Float[np.ndarray, "n 3"]
    corners: Int[np.ndarray, "n 3"]
    shares: Float[np.ndarray, "n 3"]
    normal: Float[np.ndarray, "n 3"]
    belief: Float[np.ndarray, " n"]


class Skin:
    """The outer skin of a head model where a scan is believed, to which the points of a sparse scan are matched.

    In a dense scan each vertex of the model finds a point and a normal of its own. In a sparse one many vertices share a point,
    whose normal is a mean over a whole side of the nose. The model's surface and normals are exact.
    """

    def __init__(self, solver: Solver) -> None:
        model, belief = solver.model, vertex_belief(solver.model)
        region = head_region(model)
        outer = region.exterior | region.ear
        faces = model.faces[outer[model.faces].all(axis=1) & (belief[model.faces] > 0).any(axis=1)]
        vertex, index = np.unique(faces, return_inverse=True)
        self._faces = index.reshape(faces.shape)
        self._belief = belief[vertex]
        self._mean = model.template_mm[vertex].astype(np.float64)
        # The modes innermost, so that each product below reads memory in order.
        self._basis = np.ascontiguousarray(np.moveaxis(solver.modes_at(vertex), 0, 2), dtype=np.float64)

    def correspond(
        self, points_mm: Float[np.ndarray, "n 3"], coefficients: Float[np.ndarray, " b"], settle: float
    ) -> Pairs:
        """Closest point of the skin per scan point, with robust weights.

        Args:
            points_mm: points of the scan, canonical frame.
            coefficients: strengths of the modes.
            settle: from 0 (far) to 1 (converged).
        """
        found = self._closest(points_mm, coefficients)
        offset = np.einsum("kc,kc->k", points_mm - found.point_mm, found.normal)
        aside = np.sqrt(np.maximum(found.distance_mm**2 - offset**2, 0.0))
        kept = (found.distance_mm < settled(REACH_MM, settle)) & (found.belief > LEAST_BELIEF)
        kept &= aside < SIDE_MM + SIDE_SHARE * found.distance_mm
        corners, shares, normal = found.corners[kept], found.shares[kept], found.normal[kept]
        directions = (shares[:, :, None] * normal[:, None, :]).reshape(len(corners), 1, 9)
        basis = self._basis[corners].reshape(len(corners), 9, -1)
        return Pairs(
            target=points_mm[kept],
            normal=normal,
            weight=found.belief[kept] * robust(offset[kept], settled(SCALE_MM, settle)),
            mean=np.einsum("kic,ki->kc", self._mean[corners], shares),
            along=(directions @ basis)[:, 0],
        )

    def misfit(
        self, points_mm: Float[np.ndarray, "n 3"], coefficients: Float[np.ndarray, " b"], within_mm: float
    ) -> tuple[float, float]:
        """The points' mean robust squared distance (Geman-McClure) from the skin in mm², and the sum of their beliefs."""
        found = self._closest(points_mm, coefficients)
        weight = np.where(found.distance_mm < within_mm, found.belief, 0.0)
        bounded = found.distance_mm**2 / (1.0 + (found.distance_mm / SCALE_MM[1]) ** 2)
        return float(weight @ bounded / max(weight.sum(), 1e-9)), float(weight.sum())

    def _closest(self, points_mm: Float[np.ndarray, "n 3"], coefficients: Float[np.ndarray, " b"]) -> _Closest:
        vertices = self._mean + self._basis @ coefficients
        distance, point, face = closest_on_mesh(points_mm, vertices, self._faces)
        corners = self._faces[face]
        shares = barycentric(point, vertices[corners])
        normal = np.einsum("kic,ki->kc", vertex_normals(vertices, self._faces)[corners], shares)
        return _Closest(
            distance_mm=distance,
            point_mm=point,
            corners=corners,
            shares=shares,
            normal=normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12),
            belief=np.einsum("ki,ki->k", self._belief[corners], shares),
        )
