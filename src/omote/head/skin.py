"""A head model's skin, to which the points of a sparse scan are matched.

In a dense scan each vertex of the model finds a point and a normal of its own. In a sparse one many vertices share a point, whose
normal is a mean over a whole side of the nose. The model's surface and normals are exact, so there each point of the scan is
matched to the closest point of the model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from omote.geometry.cloud import barycentric, closest_on_mesh
from omote.geometry.mesh import vertex_normals
from omote.head.model import HeadModel
from omote.head.region import head_region

LEAST_BELIEF = 0.02
# A point beyond the skin's edge lies farther to the side of its closest point than this, mm and share of its distance.
SIDE_MM, SIDE_SHARE = 0.5, 0.3


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Corresponding points of a scan and a head model, in the canonical frame.

    Attributes:
        target: point of the scan.
        normal: unit normal along which the two are to meet.
        weight: 0 where nothing corresponds.
        mean: the mean head's point.
        along: motion of the model's point along the normal, mm per unit of each coefficient.
    """

    target: Float[np.ndarray, "k 3"]
    normal: Float[np.ndarray, "k 3"]
    weight: Float[np.ndarray, " k"]
    mean: Float[np.ndarray, "k 3"]
    along: Float[np.ndarray, "k b"]


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
    """The outer skin of a head model where a scan is believed.

    Args:
        model: head model.
        belief: weight of a scan at each of the model's vertices; 0 where a scan tells nothing.
        modes_at: the modes that move the model's vertices of these ids.
    """

    def __init__(
        self,
        model: HeadModel,
        belief: Float[np.ndarray, " v"],
        modes_at: Callable[[Int[np.ndarray, " k"]], Float[np.ndarray, "b k 3"]],
    ) -> None:
        region = head_region(model)
        outer = region.exterior | region.ear
        faces = model.faces[outer[model.faces].all(axis=1) & (belief[model.faces] > 0).any(axis=1)]
        vertex, index = np.unique(faces, return_inverse=True)
        self._faces = index.reshape(faces.shape)
        self._belief = belief[vertex]
        self._mean = model.template_mm[vertex].astype(np.float64)
        # The modes innermost, so that each product below reads memory in order.
        self._basis = np.ascontiguousarray(np.moveaxis(modes_at(vertex), 0, 2), dtype=np.float64)

    def pairs(
        self,
        points_mm: Float[np.ndarray, "n 3"],
        coefficients: Float[np.ndarray, " b"],
        *,
        within_mm: float,
        sigma_mm: float,
    ) -> Pairs:
        """Points of a scan and the skin's closest points, with Geman-McClure weights.

        Args:
            points_mm: points of the scan, canonical frame.
            coefficients: strengths of the modes.
            within_mm: farther points are left out.
            sigma_mm: scale of the weights.
        """
        found = self._closest(points_mm, coefficients)
        offset = np.einsum("kc,kc->k", points_mm - found.point_mm, found.normal)
        aside = np.sqrt(np.maximum(found.distance_mm**2 - offset**2, 0.0))
        kept = (found.distance_mm < within_mm) & (found.belief > LEAST_BELIEF)
        kept &= aside < SIDE_MM + SIDE_SHARE * found.distance_mm
        corners, shares, normal = found.corners[kept], found.shares[kept], found.normal[kept]
        directions = (shares[:, :, None] * normal[:, None, :]).reshape(len(corners), 1, 9)
        basis = self._basis[corners].reshape(len(corners), 9, -1)
        return Pairs(
            target=points_mm[kept],
            normal=normal,
            weight=found.belief[kept] / (1.0 + (offset[kept] / sigma_mm) ** 2) ** 2,
            mean=np.einsum("kic,ki->kc", self._mean[corners], shares),
            along=(directions @ basis)[:, 0],
        )

    def misfit(
        self,
        points_mm: Float[np.ndarray, "n 3"],
        coefficients: Float[np.ndarray, " b"],
        *,
        within_mm: float,
        sigma_mm: float,
    ) -> tuple[float, float]:
        """The points' mean robust squared distance from the skin in mm², and the sum of their weights."""
        found = self._closest(points_mm, coefficients)
        weight = np.where(found.distance_mm < within_mm, found.belief, 0.0)
        robust = found.distance_mm**2 / (1.0 + (found.distance_mm / sigma_mm) ** 2)
        return float(weight @ robust / max(weight.sum(), 1e-9)), float(weight.sum())

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
