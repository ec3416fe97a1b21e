"""Fit a morphable head to a point cloud: landmarks first, then robust point-to-plane ICP over pose, identity and expression.

All unknowns are solved jointly (`omote.head.solver`), between points that correspond (`omote.head.pairs`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial import cKDTree

from omote.cores import num_cores
from omote.errors import AlignmentError
from omote.geometry.camera import transform
from omote.geometry.cloud import closest_on_mesh, estimate_normals, in_sight, spacing
from omote.head.model import HeadModel
from omote.head.pairs import ScanSurface
from omote.head.region import head_region
from omote.head.solver import Solver
from omote.head.sparse_fit import fitted_sparsely

# Jaw landmarks shift with the view and brow landmarks are the least certain; eyes, nose and mouth determine the pose.
LANDMARK_WEIGHT = np.concatenate(
    [np.full(17, 0.15), np.full(10, 0.3), np.full(9, 1.0), np.full(12, 1.0), np.full(20, 0.8)]
)
EXPRESSION_SIGMA = 0.15  # prior standard deviation of the ARKit weights of a face at rest
MEASURE_RANGE_MM = 10.0  # scan points farther away are hair or clothing, not face
# Views from the front and 45 degrees to each side: what none of them sees is a head's inside, as the meshes of other head
# models have it behind lips and lids.
SIGHT = np.array([[0.0, 0.0, 1.0], [0.7071, 0.0, 0.7071], [-0.7071, 0.0, 0.7071], [0.0, -0.7071, 0.7071]])
SIGHT_CELL, SIGHT_DEPTH_MM = 3.0, 5.0  # a cell in units of the points' spacing: finer ones look through the surface


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
    solver = Solver(
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
    surface = ScanSurface(points_mm, normals_mm)
    if sparse:
        solver, similarity = fitted_sparsely(solver, similarity, landmarks, confidence, points_mm, normals_mm)
    else:
        change = np.eye(4)  # similarity update since `surface` was built
        for i in range(iterations):
            settle = i / max(1, iterations - 1)
            pairs = surface.correspond(solver, change, settle)
            similarity = solver.step(similarity, landmarks, confidence * (1 - 0.4 * settle), pairs)
            change = similarity @ scan_from
    change = similarity @ scan_from
    return _finish(model, solver, similarity, landmarks, confidence, surface, change, measured=measured)


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
    solver: Solver,
    similarity: Float[np.ndarray, "4 4"],
    landmarks: Float[np.ndarray, "68 3"],
    confidence: Float[np.ndarray, "68"],
    surface: ScanSurface,
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
