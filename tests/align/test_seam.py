"""The seam is found where the lips meet, an open mouth is recognised, and the model's closed lips are carried there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from omote.align.confirm import Located
from omote.align.seam import find_seam, mesh_seam, model_seam, moved, ribbon, with_lips
from omote.geometry.cloud import sample_surface
from omote.head.expressions import ARKIT_NAMES
from omote.head.fit import fit_head
from omote.head.region import head_region
from omote.head.shipped import shipped_head

HEAD = shipped_head()


def person(seed: int, **weights: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    expression = np.zeros(len(ARKIT_NAMES), np.float32)
    for name, value in weights.items():
        expression[ARKIT_NAMES.index(name)] = value
    return HEAD.vertices(0.6 * np.clip(rng.standard_normal(HEAD.num_identity), -2, 2), expression).astype(np.float64)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("cloud", [False, True])
def test_the_seam_lies_between_the_inner_lips(seed: int, cloud: bool) -> None:
    vertices = person(seed)
    truth = HEAD.landmarks(vertices)
    shifted = truth + np.array([0.0, 2.5, 0.0])  # as far as found landmarks err
    points, faces = vertices, HEAD.faces
    if cloud:  # of what a scanner sees
        seen = HEAD.faces[head_region(HEAD).exterior[HEAD.faces].all(axis=1)]
        points, faces = sample_surface(vertices, seen, 40_000, np.random.default_rng(0))[0], None
    seam = find_seam(points, faces, shifted)
    assert seam is not None
    assert seam.closed
    middle = np.abs(seam.points_mm[:, 0] - truth[62, 0]) < 8
    assert abs(seam.points_mm[middle, 1].mean() - truth[[62, 66], 1].mean()) < 1.2


@pytest.mark.parametrize("off_mm", [-4.0, 4.0, 6.0, 9.0])
def test_the_seam_stays_in_its_valley_where_landmarks_are_off(off_mm: float) -> None:
    vertices = person(1)
    truth = HEAD.landmarks(vertices)
    seam, right = mesh_seam(HEAD, vertices), find_seam(vertices, HEAD.faces, truth + np.array([0.0, off_mm, 0.0]))
    assert seam is not None
    assert right is not None
    assert np.abs(seam.points_mm[:, 1] - right.points_mm[:, 1]).max() < 1.0, "the corners too"


@pytest.mark.parametrize(
    "weights", [{"jawOpen": 0.25}, {"jawOpen": 0.6}, {"mouthUpperUpLeft": 1, "mouthUpperUpRight": 1}]
)
def test_an_open_mouth_is_open(weights: dict[str, float]) -> None:
    vertices = person(3, **weights)
    truth = HEAD.landmarks(vertices)
    seam = find_seam(vertices, HEAD.faces, truth)
    assert seam is not None
    assert not seam.closed
    assert ribbon(seam, HEAD) is None
    upper, lower = seam.edges_mm
    near = np.abs(upper[:, 0] - truth[62, 0]) < 5
    gap = truth[62, 1] - truth[66, 1]
    assert (upper[near, 1] - lower[near, 1]).mean() == pytest.approx(gap, abs=2.0)


def test_a_mouth_that_was_found_too_high_moves_as_a_whole() -> None:
    vertices = person(1)
    truth = HEAD.landmarks(vertices)
    wrong = truth.copy()
    wrong[48:, 1] += 8.0
    seam = mesh_seam(HEAD, vertices)
    assert seam is not None
    fit = fit_head(HEAD, sample_surface(vertices, HEAD.faces, 3000, np.random.default_rng(0))[0], landmarks=truth)
    fit = replace(fit, canonical_from_scan=np.eye(4))
    lips = with_lips(HEAD, Located(fit=fit, landmarks=wrong, confidence=np.ones(68), score=1.0), seam)
    assert np.abs(lips[48:, 1] - truth[48:, 1]).mean() < 1.5
    np.testing.assert_array_equal(lips[:48], truth[:48])


def test_the_models_own_lips_stay_where_they_are() -> None:
    own = model_seam(HEAD)
    assert own is not None
    lips = ribbon(own, HEAD)
    assert lips is not None
    np.testing.assert_allclose(lips.target_mm, HEAD.template_mm[lips.vertices], atol=1e-6)
    lifted = np.eye(4)
    lifted[1, 3] = 3.0
    higher = ribbon(moved(own, lifted), HEAD)
    assert higher is not None
    np.testing.assert_allclose(higher.target_mm - lips.target_mm, [[0.0, 3.0, 0.0]] * len(lips.vertices), atol=1e-6)
    assert ribbon(replace(own, closed=False), HEAD) is None


def test_nothing_is_found_where_there_is_no_mouth() -> None:
    vertices = person(0)
    assert find_seam(vertices[vertices[:, 1] > 0], None, HEAD.landmarks(vertices)) is None
