"""The fit recovers what it was given, and refinement moves the face only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from omote.errors import AlignmentError
from omote.geometry.camera import transform
from omote.geometry.cloud import closest_on_mesh, estimate_normals, sample_surface
from omote.head.expressions import ARKIT_INDEX
from omote.head.fit import Fit, eyeball_centers, face_distance, fit_head, umeyama
from omote.head.ict import ict_head
from omote.head.model import HeadModel
from omote.head.nicp import refine
from omote.head.region import head_region


@pytest.fixture(scope="module")
def model(shared_dir: Path) -> HeadModel:
    return ict_head(shared_dir / "data/ict_facekit.npz")


def person(model: HeadModel, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices in the canonical frame, and points with normals on the outer skin."""
    rng = np.random.default_rng(seed)
    vertices = model.vertices(np.clip(0.8 * rng.standard_normal(100), -2.2, 2.2)).astype(np.float64)
    vertices -= eyeball_centers(model, vertices).mean(axis=0)
    region = head_region(model)
    outer = model.faces[(region.exterior | region.ear)[model.faces].all(axis=1)]
    points, normals, _, _ = sample_surface(vertices, outer, 30_000, rng)
    return vertices, points + rng.normal(0, 0.2, points.shape), normals


def similarity(scale: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    out = np.eye(4)
    out[:3, :3] = scale * Rotation.random(rng=rng).as_matrix()
    out[:3, 3] = scale * rng.normal(0, 300, 3)
    return out


def test_umeyama_recovers_a_similarity() -> None:
    points = np.random.default_rng(0).normal(size=(9, 3))
    truth = similarity(0.37, 1)
    np.testing.assert_allclose(umeyama(points, transform(truth, points)), truth, atol=1e-9)
    fixed = umeyama(points, transform(truth, points), fixed_scale=1.0)
    np.testing.assert_allclose(np.linalg.det(fixed[:3, :3]), 1.0)


def test_closest_on_mesh_is_exact_on_one_triangle() -> None:
    triangle = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    points = np.array([[0.2, 0.2, 0.5], [-1, -1, 0], [1, 1, 0], [0.5, -2, 0]])
    distance, closest, _ = closest_on_mesh(points, triangle, np.array([[0, 1, 2]]), nearest_vertices=1)
    np.testing.assert_allclose(closest, [[0.2, 0.2, 0], [0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0]], atol=1e-12)
    np.testing.assert_allclose(distance, [0.5, np.sqrt(2), np.sqrt(0.5), 2])


def test_estimated_normals_of_a_sphere_are_radial() -> None:
    points = np.random.default_rng(0).normal(size=(4000, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    normals = estimate_normals(points, towards=np.zeros(3))
    assert np.quantile(-np.einsum("nc,nc->n", normals, points), 0.02) > 0.98


def test_eyeball_centers_are_what_the_model_was_built_around(model: HeadModel) -> None:
    centers = eyeball_centers(model, model.template_mm)
    np.testing.assert_allclose(centers.mean(axis=0), 0.0, atol=0.02)
    assert centers[0, 0] > 25 > -25 > centers[1, 0]


@pytest.mark.parametrize(("scale", "known"), [(0.001, True), (1.0, True), (0.1, False)])
def test_fit_recovers_pose_and_shape(model: HeadModel, scale: float, known: bool) -> None:
    vertices, points, normals = person(model, 3)
    scan_from = similarity(scale, 5)
    rng = np.random.default_rng(1)
    landmarks = model.landmarks(vertices) + rng.normal(0, 2.0, (68, 3))
    landmarks[rng.choice(68, 20, replace=False)] = np.nan
    fit = fit_head(
        model,
        transform(scan_from, points),
        landmarks=transform(scan_from, landmarks),
        normals=normals @ (scan_from[:3, :3] / scale).T,
        fixed_scale=1 / scale if known else None,
    )
    error = fit.canonical_from_scan @ scan_from
    size = np.cbrt(np.linalg.det(error[:3, :3]))
    angle = np.rad2deg(Rotation.from_matrix(error[:3, :3] / size).magnitude())
    assert angle < 2.0
    assert np.linalg.norm(error[:3, 3]) < 2.0
    assert fit.median_mm < 0.5
    assert fit.coverage > 0.95
    # How large a head is cannot be told from its shape; with a known unit it is exact.
    assert abs(size - 1) < (1e-6 if known else 0.12)
    if known:
        face = head_region(model).face
        assert np.linalg.norm(fit.vertices_mm - vertices, axis=1)[face].mean() < 1.2
    check_frame(model, fit)


def check_frame(model: HeadModel, fit: Fit) -> None:
    np.testing.assert_allclose(eyeball_centers(model, fit.neutral_mm).mean(axis=0), 0.0, atol=1e-3)
    rebuilt = model.vertices(fit.identity, fit.expression) - fit.origin_mm
    np.testing.assert_allclose(rebuilt, fit.vertices_mm, atol=1e-3)


def test_an_open_mouth_becomes_expression_not_identity(model: HeadModel) -> None:
    rng = np.random.default_rng(8)
    identity = np.clip(0.8 * rng.standard_normal(100), -2.2, 2.2)
    arkit = np.zeros(52)
    arkit[ARKIT_INDEX["jawOpen"]] = 0.5
    vertices = model.vertices(identity, arkit).astype(np.float64)
    outer = model.faces[head_region(model).exterior[model.faces].all(axis=1)]
    points, normals, _, _ = sample_surface(vertices, outer, 20_000, rng)
    fit = fit_head(model, points, landmarks=model.landmarks(vertices), normals=normals, fixed_scale=1.0)
    assert fit.expression[ARKIT_INDEX["jawOpen"]] == pytest.approx(0.5, abs=0.15)
    neutral = model.vertices(identity).astype(np.float64) - eyeball_centers(model, model.vertices(identity)).mean(
        axis=0
    )
    chin = head_region(model).face & (neutral[:, 1] < -90)
    assert np.linalg.norm(fit.neutral_mm - neutral, axis=1)[chin].mean() < 5.0


def test_fit_needs_landmarks(model: HeadModel) -> None:
    with pytest.raises(AlignmentError, match="--landmarks"):
        fit_head(model, np.zeros((100, 3)), landmarks=np.full((68, 3), np.nan))


def test_refinement_reaches_the_scan_and_leaves_the_rest(model: HeadModel) -> None:
    vertices, points, normals = person(model, 6)
    region = head_region(model)
    bump = 3.0 * np.exp(-np.sum((vertices - model.landmarks(vertices)[2]) ** 2, axis=1) / 20.0**2)
    start = vertices + bump[:, None] * np.array([1.0, 0.0, 0.3])
    refined, inferred = refine(model, start, points, normals=normals)
    assert face_distance(model, refined, points)[0] < 0.25
    before = np.linalg.norm(start - vertices, axis=1)[region.face].max()
    assert np.linalg.norm(refined - vertices, axis=1)[region.face].max() < max(0.6 * before, 1.5)
    back = vertices[:, 2] < -120
    np.testing.assert_array_equal(refined[back], start[back])
    assert inferred[back].all()
    assert inferred[region.face].mean() < 0.05
    assert inferred[model.part_vertices("eye_left", "teeth_upper")].all()


def test_unseen_half_is_inferred_and_smooth(model: HeadModel) -> None:
    vertices, points, normals = person(model, 7)
    half = points[:, 0] > 0
    refined, inferred = refine(model, vertices, points[half], normals=normals[half])
    face = head_region(model).face
    assert inferred[face & (vertices[:, 0] < -8)].all()
    assert np.linalg.norm(refined - vertices, axis=1)[face].max() < 2.0


def test_sparse_points_are_fitted_where_landmarks_lie_too_high(model: HeadModel) -> None:
    vertices, points, _ = person(model, 5)
    landmarks = model.landmarks(vertices)
    points = np.random.default_rng(5).permutation(points)[:1500]

    def off_mm(*, sparse: bool) -> float:
        high = landmarks + np.array([0.0, 6.0, 0.0])
        fit = fit_head(model, points, landmarks=high, fixed_scale=1.0, sparse=sparse)
        true = transform(fit.canonical_from_scan, landmarks)
        return float(np.linalg.norm((model.landmarks(fit.vertices_mm) - true)[27:48].mean(axis=0)))

    assert off_mm(sparse=True) < 2.0 < off_mm(sparse=False)
