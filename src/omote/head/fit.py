"""Fit a morphable head to a point cloud: landmarks first, then robust point-to-plane ICP over pose, identity and expression.

All unknowns are solved jointly. In the canonical frame, the residual is linear in a small similarity update of the scan and
in the coefficients of both bases, so each step is one Gauss-Newton solve with a Tikhonov prior on the coefficients (the 3DMM
prior of Blanz & Vetter, SIGGRAPH 1999) and Geman-McClure weights whose scale shrinks as the fit converges.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

from omote.cores import num_cores
from omote.errors import AlignmentError
from omote.geometry.camera import transform
from omote.geometry.cloud import closest_on_mesh, estimate_normals, in_sight, spacing
from omote.geometry.mesh import vertex_normals
from omote.head.expressions import ARKIT_NAMES
from omote.head.model import HeadModel, once_per_head
from omote.head.region import head_region
from omote.head.skin import Pairs, Skin

# Jaw landmarks shift with the view and brow landmarks are the least certain; eyes, nose and mouth determine the pose.
LANDMARK_WEIGHT = np.concatenate(
    [np.full(17, 0.15), np.full(10, 0.3), np.full(9, 1.0), np.full(12, 1.0), np.full(20, 0.8)]
)
LANDMARK_SIGMA_MM = 1.5
EXPRESSION_SIGMA = 0.15  # prior standard deviation of the ARKit weights of a face at rest
# Errors of neighbouring points are correlated, so a dense scan counts as this many independent measurements.
EFFECTIVE_POINTS = 900.0
SURFACE_SIGMA_MM = 1.0
# Unconstrained ICP shrinks the head onto the part that fits; landmarks determine the scale better.
LOG_SCALE_SIGMA = 0.03
MAX_IDENTITY = 3.0  # σ
MEASURE_RANGE_MM = 10.0  # scan points farther away are hair or clothing, not face
# Views from the front and 45 degrees to each side: what none of them sees is a head's inside, as the meshes of other head
# models have it behind lips and lids.
SIGHT = np.array([[0.0, 0.0, 1.0], [0.7071, 0.0, 0.7071], [-0.7071, 0.0, 0.7071], [0.0, -0.7071, 0.7071]])
SIGHT_CELL, SIGHT_DEPTH_MM = 3.0, 5.0  # a cell in units of the points' spacing: finer ones look through the surface
# A sparse fit: heights of its starts; steps with the scan's normals and then with the model's; where the latter begin to settle;
# and their landmarks' weight, which is small since landmarks on sparse points err by more, and together.
SPARSE_STARTS_MM = (0.0, 6.0)
SPARSE_COARSE, SPARSE_FINE, SPARSE_SETTLED, SPARSE_LANDMARKS = 7, 5, 0.4, 0.15
# Gaze is not visible in the geometry, and the tongue is not visible at rest.
FITTED_UNITS = np.array([i for i, n in enumerate(ARKIT_NAMES) if not n.startswith(("eyeLook", "tongue"))])


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A head model fitted to a scan, in the canonical frame (origin exactly midway between its eyeball centres).

    Attributes:
        canonical_from_scan: similarity from scan coordinates to canonical mm.
        identity: identity coefficients, in σ.
        expression: ARKit-52 weights of the scan's expression.
        origin_mm: offset of the frame's origin: vertices_mm = model.vertices(identity, expression) - origin_mm.
        vertices_mm: fitted vertices with the scan's expression.
        neutral_mm: fitted vertices of the person at rest.
        landmark_residual_mm: distance between each given landmark and the fitted landmark; NaN for landmarks not given.
        median_mm: median distance of the scan's face points to the fitted surface.
        p90_mm: 90th percentile of the distance of the scan's face points to the fitted surface.
        coverage: share of the model's face vertices that have scan points within 3 mm.
    """

    canonical_from_scan: Float[np.ndarray, "4 4"]
    identity: Float[np.ndarray, " i"]
    expression: Float[np.ndarray, "52"]
    origin_mm: Float[np.ndarray, "3"]
    vertices_mm: Float[np.ndarray, "v 3"]
    neutral_mm: Float[np.ndarray, "v 3"]
    landmark_residual_mm: Float[np.ndarray, "68"]
    median_mm: float
    p90_mm: float
    coverage: float


def umeyama(
    source: Float[np.ndarray, "n 3"],
    target: Float[np.ndarray, "n 3"],
    weights: Float[np.ndarray, " n"] | None = None,
    *,
    fixed_scale: float | None = None,
) -> Float[np.ndarray, "4 4"]:
    """Weighted least-squares similarity target ≈ T(source); Umeyama, PAMI 1991. ``fixed_scale`` keeps the scale."""
    w = np.ones(len(source)) if weights is None else np.asarray(weights, np.float64)
    w = w / w.sum()
    mean_s, mean_t = w @ source, w @ target
    s, t = source - mean_s, target - mean_t
    u, d, vt = np.linalg.svd((w[:, None] * t).T @ s)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * sign) @ vt
    scale = float(d @ sign / (w @ np.sum(s**2, axis=1))) if fixed_scale is None else fixed_scale
    out = np.eye(4)
    out[:3, :3] = scale * rotation
    out[:3, 3] = mean_t - scale * rotation @ mean_s
    return out


def eyeball_centers(model: HeadModel, vertices_mm: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "2 3"]:
    """Centres of the (left, right) eyeballs: spheres fitted to the eyeball vertices without the corneal bulge."""
    centers = []
    for part in ("eye_left", "eye_right"):
        points = vertices_mm[model.part_vertices(part)].astype(np.float64)
        keep = np.ones(len(points), bool)
        center = points.mean(axis=0)
        for _ in range(6):
            p = points[keep]
            # |p|² = 2 p·c + k is linear in the centre.
            solution, *_ = np.linalg.lstsq(
                np.concatenate([2 * p, np.ones((len(p), 1))], 1), np.sum(p**2, 1), rcond=None
            )
            center = solution[:3]
            radius = np.linalg.norm(points - center, axis=1)
            new = radius < np.median(radius) * 1.004
            if new.sum() < 12 or np.array_equal(new, keep):
                break
            keep = new
        centers.append(center)
    return np.stack(centers)


def fit_head(
    model: HeadModel,
    points: Float[np.ndarray, "n 3"],
    *,
    landmarks: Float[np.ndarray, "68 3"],
    normals: Float[np.ndarray, "n 3"] | None = None,
    landmark_weights: Float[np.ndarray, "68"] | None = None,
    fixed_scale: float | None = None,
    num_identity: int = 100,
    iterations: int = 14,
    expression: bool = True,
    expression_sigma: float = EXPRESSION_SIGMA,
    sparse: bool = False,
    measured: bool = True,
) -> Fit:
    """Fit pose, scale, identity and a small expression of ``model`` to a scan.

    Args:
        model: head model.
        points: points of the scan, in any unit and pose.
        landmarks: the 68 landmarks in the scan's coordinates; NaN rows are ignored.
        normals: unit normals of ``points``, of either sign; estimated if None.
        landmark_weights: confidences of the landmarks in [0, 1]; landmarks with 0 are ignored.
        fixed_scale: scale in mm per scan unit; estimated if None.
        num_identity: number of identity modes used.
        iterations: number of ICP iterations.
        expression: whether to estimate ARKit weights too, so that a smile is not absorbed by the identity.
        expression_sigma: prior standard deviation of the ARKit weights; the default is that of a face at rest.
        sparse: whether the points lie so far apart that they are matched to the model's surface, from two starts (`Skin`).
        measured: whether to measure how far the scan lies from the fit, which takes a third of the time; NaN if not.

    Raises:
        AlignmentError: fewer than six usable landmarks, or no points near them.
    """
    given = np.isfinite(landmarks).all(axis=1)
    confidence = np.where(given, LANDMARK_WEIGHT, 0.0)
    if landmark_weights is not None:
        confidence = confidence * np.clip(landmark_weights, 0.0, 1.0)
    if (confidence > 0.01).sum() < 6:
        raise AlignmentError(
            f"a fit needs at least 6 landmarks, got {(confidence > 0.01).sum()}; give them with --landmarks"
        )
    landmarks = np.where(given[:, None], landmarks, 0.0).astype(np.float64)
    solver = _Solver(
        model,
        num_identity=num_identity,
        expression_sigma=expression_sigma if expression else None,
        free_scale=fixed_scale is None,
    )
    similarity = umeyama(
        landmarks, model.landmarks(model.template_mm.astype(np.float64)), confidence, fixed_scale=fixed_scale
    )
    for _ in range(4):
        similarity = solver.step(similarity, landmarks, confidence, None)

    points_mm, normals_mm = _crop(similarity, points, normals)
    if len(points_mm) < 50:
        raise AlignmentError("no scan points near the landmarks; check --landmarks, or that the scan shows a face")
    scan_from = np.linalg.inv(similarity)
    surface = _Surface(points_mm, normals_mm)
    if sparse:
        solver, similarity = _fitted_sparsely(solver, similarity, landmarks, confidence, points_mm, normals_mm)
        return _finish(
            model, solver, similarity, landmarks, confidence, surface, similarity @ scan_from, measured=measured
        )
    change = np.eye(4)  # similarity update since `surface` was built
    for i in range(iterations):
        settle = i / max(1, iterations - 1)
        pairs = surface.correspond(solver, change, settle)
        similarity = solver.step(similarity, landmarks, confidence * (1 - 0.4 * settle), pairs)
        change = similarity @ scan_from
    return _finish(model, solver, similarity, landmarks, confidence, surface, change, measured=measured)


class _Solver:
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
        return self.mean + np.tensordot(self.coefficients, self.basis, 1)

    def landmarks(self) -> Float[np.ndarray, "68 3"]:
        return self.landmark_mean + np.tensordot(self.coefficients, self.landmark_basis, 1)

    def vertices(self) -> Float[np.ndarray, "v 3"]:
        return self.model.vertices(self.identity, self.expression).astype(np.float64)

    @property
    def identity(self) -> Float[np.ndarray, " i"]:
        return self.coefficients[: self.num_identity]

    @property
    def expression(self) -> Float[np.ndarray, "52"]:
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


class _Surface:
    """Scan points near the face with a KD-tree, in the canonical frame at the time of construction."""

    def __init__(self, points_mm: Float[np.ndarray, "n 3"], normals: Float[np.ndarray, "n 3"]) -> None:
        self.points, self.normals = points_mm, normals
        self.tree = cKDTree(points_mm)
        self.spacing_mm = spacing(points_mm)
        self._steps = 0
        self._own_normals = np.zeros((0, 3))

    def correspond(self, solver: _Solver, change: Float[np.ndarray, "4 4"], settle: float) -> Pairs:
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
        gate = 14.0 * (1 - settle) + 4.0 * settle
        ok = (np.abs(offset) < gate) & (np.abs(cosine) > 0.5 + 0.2 * settle)
        # A nearest point at a large tangential distance means that the scan ends there.
        ok &= tangential < np.maximum(3.0 * self.spacing_mm, 2.0 + 4.0 * (1 - settle))
        sigma = 5.0 * (1 - settle) + 1.2 * settle
        weight = solver.belief / (1.0 + (offset / sigma) ** 2) ** 2
        along = np.einsum("bkc,kc->kb", solver.basis, n)
        return Pairs(target=q, normal=n, weight=np.where(ok, weight, 0.0), mean=solver.mean, along=along)


def _fitted_sparsely(
    solver: _Solver,
    similarity: Float[np.ndarray, "4 4"],
    landmarks: Float[np.ndarray, "68 3"],
    confidence: Float[np.ndarray, "68"],
    points_mm: Float[np.ndarray, "n 3"],
    normals_mm: Float[np.ndarray, "n 3"],
) -> tuple[_Solver, Float[np.ndarray, "4 4"]]:
    """The fit of least energy of those from several starts, with its canonical_from_scan.

    A face that sparse points show fits about as well some millimetres higher or lower, with a minimum at either place.
    """
    scan_from = np.linalg.inv(similarity)
    skin = Skin(solver.model, vertex_belief(solver.model), solver.modes_at)
    found = []
    for raised_mm in SPARSE_STARTS_MM:
        one, surface, change = copy(solver), _Surface(points_mm, normals_mm), np.eye(4)
        change[1, 3] = raised_mm
        pose, moved = change @ similarity, transform(scan_from, transform(similarity, landmarks) - change[:3, 3])
        for i in range(SPARSE_COARSE):
            settle = i / (2 * SPARSE_COARSE - 1)
            pairs = surface.correspond(one, change, settle)
            pose = one.step(pose, moved, confidence * (1 - 0.4 * settle), pairs)
            change = pose @ scan_from
        for settle in np.linspace(SPARSE_SETTLED, 1.0, SPARSE_FINE):
            within, sigma = 14.0 * (1 - settle) + 4.0 * settle, 5.0 * (1 - settle) + 1.2 * settle
            points = transform(change, points_mm)
            pairs = skin.pairs(points, one.coefficients, within_mm=within, sigma_mm=sigma)
            pose = one.step(pose, landmarks, confidence * SPARSE_LANDMARKS, pairs)
            change = pose @ scan_from
        found.append(
            (_energy(one, skin, transform(change, points_mm), transform(pose, landmarks), confidence), one, pose)
        )
    _, best, pose = min(found, key=lambda each: each[0])
    return best, pose


def _energy(
    solver: _Solver,
    skin: Skin,
    points_mm: Float[np.ndarray, "n 3"],
    landmarks_mm: Float[np.ndarray, "68 3"],
    confidence: Float[np.ndarray, "68"],
) -> float:
    """What the last steps of a sparse fit minimise: robust distances, landmarks and the prior."""
    misfit, weight = skin.misfit(points_mm, solver.coefficients, within_mm=MEASURE_RANGE_MM, sigma_mm=1.2)
    away = np.sum((solver.landmarks() - landmarks_mm) ** 2, axis=1)
    return (
        min(EFFECTIVE_POINTS, weight) * misfit / SURFACE_SIGMA_MM**2
        + SPARSE_LANDMARKS * float(confidence @ away) / LANDMARK_SIGMA_MM**2
        + float(np.sum((solver.coefficients / solver.sigma) ** 2))
    )


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


def _crop(
    similarity: Float[np.ndarray, "4 4"],
    points: Float[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"] | None,
    *,
    most: int = 40_000,
) -> tuple[Float[np.ndarray, "k 3"], Float[np.ndarray, "k 3"]]:
    """Subsampled points around the face in canonical mm, with unit normals."""
    mm = transform(similarity, np.asarray(points, np.float64))
    near = np.flatnonzero(
        (np.abs(mm[:, 0]) < 110) & (mm[:, 1] > -170) & (mm[:, 1] < 110) & (mm[:, 2] > -110) & (mm[:, 2] < 100)
    )
    if len(near) > most:
        near = np.random.default_rng(0).choice(near, most, replace=False)
    if len(near) < 4:
        return np.zeros((0, 3)), np.zeros((0, 3))
    mm = mm[near]
    if normals is None:
        return mm, estimate_normals(mm)
    rotation = similarity[:3, :3] / np.cbrt(np.linalg.det(similarity[:3, :3]))
    return mm, normals[near] @ rotation.T


def _finish(
    model: HeadModel,
    solver: _Solver,
    similarity: Float[np.ndarray, "4 4"],
    landmarks: Float[np.ndarray, "68 3"],
    confidence: Float[np.ndarray, "68"],
    surface: _Surface,
    change: Float[np.ndarray, "4 4"],
    *,
    measured: bool,
) -> Fit:
    neutral = model.vertices(solver.identity).astype(np.float64)
    origin = eyeball_centers(model, neutral).mean(axis=0)
    recentre = np.eye(4)
    recentre[:3, 3] = -origin
    vertices = solver.vertices() - origin
    final = recentre @ similarity
    median = p90 = coverage = np.nan
    if measured:
        median, p90, coverage = face_distance(model, vertices, transform(recentre @ change, surface.points))
    residual = np.linalg.norm(transform(final, landmarks) - model.landmarks(vertices), axis=1)
    return Fit(
        canonical_from_scan=final,
        identity=solver.identity.copy(),
        expression=solver.expression,
        origin_mm=origin,
        vertices_mm=vertices,
        neutral_mm=neutral - origin,
        landmark_residual_mm=np.where(confidence > 0, residual, np.nan),
        median_mm=median,
        p90_mm=p90,
        coverage=coverage,
    )


def face_points(
    model: HeadModel, vertices_mm: Float[np.ndarray, "v 3"], points_mm: Float[np.ndarray, "n 3"]
) -> Bool[np.ndarray, " n"]:
    """Mask of points on the face: their nearest exterior vertex is a face vertex, at most `MEASURE_RANGE_MM` away."""
    region = head_region(model)
    outer = region.exterior | region.ear
    outer[model.part_vertices("eye_left", "eye_right")] = True
    ids = np.flatnonzero(outer)
    distance, index = cKDTree(vertices_mm[ids]).query(
        points_mm, distance_upper_bound=MEASURE_RANGE_MM, workers=num_cores()
    )
    found = np.isfinite(distance)
    return found & region.face[ids[np.where(found, index, 0)]]


def face_distance(
    model: HeadModel, vertices_mm: Float[np.ndarray, "v 3"], points_mm: Float[np.ndarray, "n 3"], *, most: int = 12_000
) -> tuple[float, float, float]:
    """Distances of a scan's face points to the head's surface in the canonical frame: (median mm, p90 mm, coverage).

    Distances are those of points in sight from the front; they are infinite if the scan has no face points. Coverage is the
    share of face vertices that have a scan point within 3 mm (or within 1.5 point spacings of a sparser scan).
    """
    points = points_mm[face_points(model, vertices_mm, points_mm)]
    if len(points) < 20:
        return np.inf, np.inf, 0.0
    region = head_region(model)
    near, _ = cKDTree(points).query(vertices_mm[region.face], workers=num_cores())
    apart = spacing(points)
    coverage = float((near < max(3.0, 1.5 * apart)).mean())
    seen = in_sight(points, SIGHT, cell_mm=SIGHT_CELL * apart, depth_mm=SIGHT_DEPTH_MM)
    points = points[seen]
    if len(points) > most:
        points = points[np.random.default_rng(0).choice(len(points), most, replace=False)]
    outer = region.exterior | region.ear
    faces = model.faces[outer[model.faces].all(axis=1)]
    distance, _, _ = closest_on_mesh(points, vertices_mm, faces)
    return float(np.median(distance)), float(np.quantile(distance, 0.9)), coverage
