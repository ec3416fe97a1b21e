"""Deformations transferred: onto the source itself they are the source's, onto a copy elsewhere they go with it."""

from __future__ import annotations

import numpy as np
import pytest

from omote.evaluation.deformation_transfer import DeformationTransfer, gradients, transfer
from omote.head.expressions import ARKIT_INDEX
from omote.head.shipped import shipped_head

SIDE = 9
AXIS = np.array([1.0, 2.0, -1.0]) / np.sqrt(6)


def rotation(angle: float, axis: np.ndarray = AXIS) -> np.ndarray:
    """Rodrigues' formula."""
    k = np.cross(np.eye(3), axis)
    return np.eye(3) + np.sin(angle) * k.T + (1 - np.cos(angle)) * (k @ k)


@pytest.fixture
def sheet() -> tuple[np.ndarray, np.ndarray]:
    """A bumpy sheet of triangles, in mm, its neighbours some mm apart."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    corner = (y * SIDE + x)[:-1, :-1].ravel()
    faces = np.concatenate(
        [np.stack([corner, corner + 1, corner + SIDE], 1), np.stack([corner + 1, corner + SIDE + 1, corner + SIDE], 1)]
    )
    vertices = np.stack([5.0 * x, 5.0 * y, 3.0 * np.sin(x) * np.cos(y)], axis=-1).reshape(-1, 3)
    return vertices + rng.normal(0, 0.5, vertices.shape), faces


@pytest.fixture
def bent(sheet: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Two deformations, which leave the sheet's left edge where it is."""
    vertices, _ = sheet
    rng = np.random.default_rng(1)
    away = np.repeat(np.arange(SIDE)[None], SIDE, 0).reshape(-1, 1) / SIDE
    return vertices + away * rng.normal(0, 3.0, (2, *vertices.shape))


def test_onto_itself_it_is_the_deformation(sheet: tuple[np.ndarray, np.ndarray], bent: np.ndarray) -> None:
    vertices, faces = sheet
    np.testing.assert_allclose(transfer(vertices, bent, vertices, faces), bent, atol=1e-6)


def test_a_triangles_gradient_is_the_similarity_that_moves_it(sheet: tuple[np.ndarray, np.ndarray]) -> None:
    """The fourth vertex turns and scales with the edges."""
    vertices, faces = sheet
    similarity = 1.7 * rotation(0.4)
    found = gradients(vertices, (vertices @ similarity.T + 3.0)[None], faces)
    np.testing.assert_allclose(found, np.broadcast_to(similarity, found.shape), atol=1e-9)


def test_without_a_deformation_the_target_stays(sheet: tuple[np.ndarray, np.ndarray]) -> None:
    vertices, faces = sheet
    target = vertices * [1.3, 0.8, 1.0] + np.random.default_rng(2).normal(0, 0.5, vertices.shape)
    np.testing.assert_allclose(transfer(vertices, vertices[None], target, faces), target[None], atol=1e-9)
    # Also where something else is solved for in the same call.
    moved = vertices.copy()
    moved[-1] += 4.0
    still, _ = transfer(vertices, np.stack([vertices, moved]), target, faces)
    np.testing.assert_allclose(still, target, atol=1e-9)


def test_it_goes_with_a_moved_target_and_with_a_turned_world(
    sheet: tuple[np.ndarray, np.ndarray], bent: np.ndarray
) -> None:
    vertices, faces = sheet
    target = vertices * [1.3, 0.8, 1.1]
    got = transfer(vertices, bent, target, faces)
    step = np.array([30.0, -5.0, 8.0])
    np.testing.assert_allclose(transfer(vertices, bent, target + step, faces), got + step)
    turn = rotation(0.7).T
    np.testing.assert_allclose(transfer(vertices @ turn, bent @ turn, target @ turn, faces), got @ turn, atol=1e-9)


def test_a_larger_target_is_deformed_by_more(sheet: tuple[np.ndarray, np.ndarray], bent: np.ndarray) -> None:
    """Gradients have no size: what is added is scaled with the target, where blendshapes add the same millimetres."""
    vertices, faces = sheet
    np.testing.assert_allclose(transfer(vertices, bent, 2 * vertices, faces), 2 * bent, atol=1e-6)


def test_it_minimises_what_the_paper_minimises(sheet: tuple[np.ndarray, np.ndarray], bent: np.ndarray) -> None:
    """Equation 8 with every triangle's fourth vertex as an unknown of its own, terms by area: dense least squares."""
    vertices, faces = sheet
    target = vertices * [1.3, 0.8, 1.1] + np.random.default_rng(3).normal(0, 0.3, vertices.shape)
    wanted = gradients(vertices, bent, faces)[0]
    edges = target[faces[:, 1:]] - target[faces[:, :1]]
    cross = np.cross(edges[:, 0], edges[:, 1])
    length = np.linalg.norm(cross, axis=1)
    frames = np.concatenate([edges, (cross / np.sqrt(length)[:, None])[:, None]], axis=1).transpose(0, 2, 1)
    inverse, weight = np.linalg.inv(frames), np.sqrt(length / 2)
    rows = np.zeros((3 * len(faces), len(vertices) + len(faces)))
    for f, (a, b, c) in enumerate(faces):
        for k in range(3):
            # T = Ṽ V⁻¹, its column k: edges and fourth vertex, all from the first corner.
            e1, e2, n = inverse[f, :, k] * weight[f]
            rows[3 * f + k, [a, b, c, len(vertices) + f]] = [-(e1 + e2 + n), e1, e2, n]
    asked = (wanted.transpose(0, 2, 1) * weight[:, None, None]).reshape(-1, 3)
    fixed = np.arange(0, len(vertices), SIDE)
    free = np.setdiff1d(np.arange(rows.shape[1]), fixed)
    solved, *_ = np.linalg.lstsq(rows[:, free], asked - rows[:, fixed] @ target[fixed], rcond=None)
    expected = np.concatenate([solved, target[fixed]])[np.argsort(np.concatenate([free, fixed]))][: len(vertices)]
    np.testing.assert_allclose(transfer(vertices, bent, target, faces)[0], expected, atol=1e-6)


def test_a_part_that_hangs_on_nothing_moves_as_the_sources(
    sheet: tuple[np.ndarray, np.ndarray], bent: np.ndarray
) -> None:
    vertices, faces = sheet
    second, step = vertices + 50.0, np.array([1.0, -2.0, 0.5])
    both = np.concatenate([vertices, second])
    moved = np.concatenate([bent, np.broadcast_to(second + step, bent.shape)], axis=1)
    got = transfer(both, moved, 2 * both, np.concatenate([faces, faces + len(vertices)]))
    np.testing.assert_allclose(got[:, : len(vertices)], 2 * bent, atol=1e-6)
    np.testing.assert_allclose(got[:, len(vertices) :], np.broadcast_to(2 * second + step, bent.shape))


def test_the_heads_own_mean_is_deformed_as_itself_and_another_person_a_little_differently() -> None:
    model = shipped_head()
    weights = np.zeros((2, 52))
    weights[0, ARKIT_INDEX["jawOpen"]] = 0.8
    weights[1, [ARKIT_INDEX["mouthSmileLeft"], ARKIT_INDEX["eyeBlinkLeft"]]] = 1.0
    edit = DeformationTransfer(model)
    offset = np.tensordot(weights, model.expression_mm, 1)
    mean = model.template_mm.astype(np.float64)
    np.testing.assert_allclose(edit.deformed(mean, weights), mean + offset, atol=1e-6)
    identity = np.random.default_rng(0).normal(0, 1, model.num_identity).astype(np.float32)
    person = model.vertices(identity).astype(np.float64)
    difference = np.linalg.norm(edit.deformed(person, weights) - person - offset, axis=2)
    assert 0.3 < difference.max() < 5.0
    assert difference[:, np.abs(model.expression_mm).max(axis=(0, 2)) < 1e-3].max() < 1e-2
