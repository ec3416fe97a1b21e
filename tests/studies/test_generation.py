"""Sets of faces against themselves and against each other."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from omote.evaluation.distribution import nearest_depth_mm
from omote.evaluation.features import FeatureExtractor
from omote.studies.effect_of_f.measure import clay, compare, face_set


def pooled(rgb):
    return torch.nn.functional.adaptive_avg_pool2d(rgb, 2).flatten(1).double()


EXTRACTOR = FeatureExtractor(name="face_id_mean_crop", forward=pooled)


def faces(count, seed, bump=0.3):
    """Discs of random colour that bulge towards the camera."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:32j, -1:1:32j]
    out = np.zeros((count, 5, 32, 32), np.float32)
    radius = x**2 + y**2
    for image in out:
        image[:3] = rng.uniform(-0.5, 0.5, (3, 1, 1)) + 0.2 * x
        image[3] = -bump * (1 - radius) * rng.uniform(0.8, 1.2)
        image[4] = np.where(radius < 0.8, 1, -1)
    return torch.from_numpy(out)


def test_a_set_against_itself():
    own = face_set(faces(12, 0), EXTRACTOR)
    found = compare(own, own, "face_id_mean_crop", alone=np.arange(12))
    assert found["fd/face_id_mean_crop"] == pytest.approx(0, abs=1e-8)
    assert found["fd/face_id_mean_crop_shaded_depth"] == pytest.approx(0, abs=1e-8)
    assert found["precision/face_id_mean_crop"] == found["recall/face_id_mean_crop"] == 1
    assert found["depth/nearest_mm"] == pytest.approx(0, abs=1e-5)


def test_a_shape_no_face_has_is_far_in_depth_and_not_in_colour():
    real, alike, flat = (face_set(x, EXTRACTOR) for x in (faces(40, 0), faces(40, 1), faces(40, 1, bump=-0.3)))
    near, far = (compare(drawn, real, "face_id_mean_crop", alone=np.arange(40)) for drawn in (alike, flat))
    assert far["fd/face_id_mean_crop"] == pytest.approx(near["fd/face_id_mean_crop"])
    assert far["fd/face_id_mean_crop_shaded_depth"] > 5 * near["fd/face_id_mean_crop_shaded_depth"]
    assert far["depth/nearest_mm"] > 10 * near["depth/nearest_mm"]


def test_the_nearest_real_face_counts_inside_its_mask():
    real = face_set(faces(3, 0), EXTRACTOR)
    moved = faces(3, 0)
    moved[:, 3] += 0.05  # 5 mm
    moved[:, 3, 0, 0] = 9  # outside every mask

    def nearest_mm(drawn, real):
        return nearest_depth_mm(drawn.depth_mm, real.depth_mm, real.mask)

    one = face_set(faces(1, 0), EXTRACTOR)
    np.testing.assert_allclose(nearest_mm(face_set(moved[:1], EXTRACTOR), one), 5, rtol=1e-3)
    assert float(nearest_mm(face_set(moved, EXTRACTOR), real).max()) <= 5.001


def test_clay_is_grey_and_lit_from_one_side():
    depth = np.zeros((1, 16, 16))
    pictures = clay(depth, np.ones_like(depth, bool))
    assert pictures.shape == (1, 3, 16, 16)
    assert float(pictures[0, 0, 8, 8]) == pytest.approx(0.15 + 0.85 * 0.79, abs=1e-6)
    assert float(pictures[0, 0, 0, 0]) == 0.5


def test_several_pictures_of_a_person_do_not_narrow_the_manifold():
    rng = np.random.default_rng(0)
    persons, others = rng.normal(size=(20, 1, 3)), rng.normal(size=(60, 3))
    color = (persons + 1e-3 * rng.normal(size=(20, 8, 3))).reshape(-1, 3)

    def of(color):
        return replace(face_set(faces(len(color), 0), EXTRACTOR), color=color, shape=color)

    every, alone = np.arange(160), np.arange(0, 160, 8)
    precision = [
        compare(of(others), of(color), "face_id_mean_crop", alone=a)["precision/face_id_mean_crop"]
        for a in (every, alone)
    ]
    assert precision[0] < 0.1
    assert precision[1] > 0.6
