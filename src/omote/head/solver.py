"""Gauss-Newton solver of a morphable head's fit: pose, scale, identity and expression at once.

In the canonical frame, the residual is linear in a small similarity update of the scan and in the coefficients of both bases, so
each step is one linear solve with a Tikhonov prior on the coefficients (the 3DMM prior of Blanz & Vetter, SIGGRAPH 1999).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from omote.geometry.camera import transform
from omote.head.expressions import ARKIT_NAMES
from omote.head.model import HeadModel, once_per_head
from omote.head.region import head_region

LANDMARK_SIGMA_MM = 1.5
# Errors of neighbouring points are correlated, so a dense scan counts as this many independent measurements.
EFFECTIVE_POINTS = 900.0
SURFACE_SIGMA_MM = 1.0
# Unconstrained ICP shrinks the head onto the part that fits; landmarks determine the scale better.
LOG_SCALE_SIGMA = 0.03
MAX_IDENTITY = 3.0  # σ
# Gaze is not visible in the geometry, and the tongue is not visible at rest.
FITTED_UNITS = np.array([i for i, n in enumerate(ARKIT_NAMES) if not n.startswith(("eyeLook", "tongue"))])


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


class Solver:
    """State of the Gauss-Newton solver: coefficients, and the bases restricted to the vertices in the residuals."""

    def __init__(
        self, model: HeadModel, *, num_identity: int, expression_sigma: float | None, free_scale: bool
    ) -> None:
        region = head_region(model)
        self.model = model
        self.free_scale = free_scale
        self.log_scale = 0.0  # current estimate, relative to the scale from the landmarks
        # Every n-th vertex with a scan weight is enough: there are about 150 unknowns and thousands of vertices.
        believed = np.flatnonzero(region.weight > 0.02)
        self.vertex = believed[:: max(1, len(believed) // 2000)]
        self.belief = vertex_belief(model)[self.vertex]
        touched = np.zeros(model.num_vertices, bool)
        touched[self.vertex] = True
        self.faces = model.faces[touched[model.faces].any(axis=1)]  # the faces needed for the vertices' normals
        self.num_identity = min(num_identity, model.num_identity)
        self.units = FITTED_UNITS if expression_sigma is not None else FITTED_UNITS[:0]
        # Indexing leaves the vertices outermost in memory, and every product would copy the whole array to reorder it.
        self.basis = np.ascontiguousarray(self.modes_at(self.vertex), dtype=np.float64)
        at_landmarks = self.modes_at(model.landmark_vertices)
        self.landmark_basis = np.einsum("blkc,lk->blc", at_landmarks, model.landmark_weights)
        self.mean = model.template_mm[self.vertex].astype(np.float64)
        self.landmark_mean = model.landmarks(model.template_mm.astype(np.float64))
        self.sigma = np.concatenate([np.ones(self.num_identity), np.full(len(self.units), expression_sigma or 0.0)])
        self.coefficients = np.zeros(len(self.basis))

    def modes_at(self, ids: Int[np.ndarray, "..."]) -> Float[np.ndarray, "b ... 3"]:
        """The unknown modes at some vertices; of all vertices, they would be a copy of tens of megabytes."""
        model = self.model
        return np.concatenate(
            [
                model.identity_mm[: self.num_identity, ids],
                model.expression_mm[np.ix_(self.units, ids.ravel())].reshape(-1, *ids.shape, 3),
            ]
        )

    def surface(self) -> Float[np.ndarray, "k 3"]:
        """The vertices in the residuals, mm."""
        return self.mean + np.tensordot(self.coefficients, self.basis, 1)

    def landmarks(self) -> Float[np.ndarray, "68 3"]:
        """The fitted head's landmarks, mm."""
        return self.landmark_mean + np.tensordot(self.coefficients, self.landmark_basis, 1)

    def vertices(self) -> Float[np.ndarray, "v 3"]:
        """All vertices of the fitted head, mm."""
        return self.model.vertices(self.identity, self.expression).astype(np.float64)

    @property
    def identity(self) -> Float[np.ndarray, " i"]:
        """Identity coefficients, in σ."""
        return self.coefficients[: self.num_identity]

    @property
    def expression(self) -> Float[np.ndarray, "52"]:
        """ARKit weights."""
        out = np.zeros(len(ARKIT_NAMES))
        out[self.units] = self.coefficients[self.num_identity :]
        return out

    def step(
        self,
        similarity: Float[np.ndarray, "4 4"],
        landmarks: Float[np.ndarray, "68 3"],
        confidence: Float[np.ndarray, "68"],
        pairs: Pairs | None,
    ) -> Float[np.ndarray, "4 4"]:
        """Solve all unknowns once; returns the new canonical_from_scan. Unknowns: ω, τ, log scale, coefficients."""
        used = confidence > 0.01
        q = transform(similarity, landmarks[used])
        rows = self._rows(self.landmark_basis[:, used], q)
        w = (confidence[used] / LANDMARK_SIGMA_MM**2)[:, None, None]
        wr = (w * rows).reshape(-1, rows.shape[-1])
        flat = rows.reshape(-1, rows.shape[-1])
        # residual(x) = mean + basis·coefficients − q'(ω, τ, s): solved for coefficients, not updates, as the prior requires.
        target = (self.landmark_mean[used] - q).reshape(-1)
        normal_matrix, right = wr.T @ flat, -(wr.T @ target)
        if pairs is not None and pairs.weight.any():
            n, q = pairs.normal, pairs.target
            motion = np.concatenate([np.cross(q, n), n, np.einsum("kc,kc->k", n, q)[:, None]], axis=1)
            rows = np.concatenate([-motion, pairs.along], axis=1)
            target = np.einsum("kc,kc->k", pairs.mean - q, n)
            w = pairs.weight * (min(1.0, EFFECTIVE_POINTS / pairs.weight.sum()) / SURFACE_SIGMA_MM**2)
            normal_matrix = normal_matrix + (w[:, None] * rows).T @ rows
            right = right - rows.T @ (w * target)
        prior = np.concatenate([np.full(7, 1e-9), 1.0 / self.sigma**2])
        prior[6] = 1.0 / LOG_SCALE_SIGMA**2 if self.free_scale else 1e12
        right[6] -= prior[6] * self.log_scale
        solution = np.linalg.solve(normal_matrix + np.diag(prior), right)
        self.coefficients = self._bounded(solution[7:])
        self.log_scale += float(solution[6])
        return _small_similarity(solution[:7]) @ similarity

    def _bounded(self, coefficients: Float[np.ndarray, " b"]) -> Float[np.ndarray, " b"]:
        out = coefficients.copy()
        out[: self.num_identity] = np.clip(out[: self.num_identity], -MAX_IDENTITY, MAX_IDENTITY)
        out[self.num_identity :] = np.clip(out[self.num_identity :], 0.0, 1.0)
        return out

    @staticmethod
    def _rows(basis: Float[np.ndarray, "b k 3"], q: Float[np.ndarray, "k 3"]) -> Float[np.ndarray, "k 3 u"]:
        """∂(model − q')/∂(ω, τ, s, coefficients) with q' = q + ω×q + τ + s q."""
        zero, (x, y, z) = np.zeros(len(q)), q.T
        cross = np.stack([zero, z, -y, -z, zero, x, y, -x, zero], axis=1).reshape(-1, 3, 3)
        eye = np.broadcast_to(np.eye(3), cross.shape)
        return np.concatenate([-cross, -eye, -q[:, :, None], np.moveaxis(basis, 0, -1)], axis=2)


@once_per_head
def vertex_belief(model: HeadModel) -> Float[np.ndarray, " v"]:
    """`Region.weight`, raised around eyes, nose and mouth: other parts of a face are too smooth to constrain the pose.

    Lids have a higher weight here than in refinement: a linear fit cannot tear them, and they locate the eyes.
    """
    region = head_region(model)
    features = model.landmarks(model.template_mm)[27:]
    near, _ = cKDTree(features).query(model.template_mm)
    weight = np.where(region.lid & region.exterior, 0.6, region.weight)
    return weight * (1.0 + 3.0 * np.exp(-((near / 10.0) ** 2)))


def _small_similarity(x: Float[np.ndarray, "7"]) -> Float[np.ndarray, "4 4"]:
    """Exponential of (ω, τ, log scale), by Rodrigues' formula."""
    angle = float(np.linalg.norm(x[:3]))
    k = x[:3] / max(angle, 1e-12)
    cross = np.array([[0, -k[2], k[1]], [k[2], 0, -k[0]], [-k[1], k[0], 0]])
    rotation = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    out = np.eye(4)
    out[:3, :3] = np.exp(x[6]) * rotation
    out[:3, 3] = x[3:6]
    return out
