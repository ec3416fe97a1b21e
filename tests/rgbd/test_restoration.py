"""A head seen by a depth camera: what it lost comes back near where it was, and what is whole stays itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from omote.geometry.camera import orbit_camera
from omote.geometry.holes import closed
from omote.head.rest_face import RestFace
from omote.head.shipped import shipped_head
from omote.rendering.rgbd import render_head
from omote.rendering.sensor import SensorModel, sense
from omote.rgbd.restoration import completed, depth_noise_mm, faults_of, restored
from omote.types import Rgbd

SENSOR = SensorModel(edge_px=2, grazing_cos=0.25, dropout=0.01)


@pytest.fixture(scope="module")
def face() -> RestFace:
    head = shipped_head()
    identity = np.random.default_rng(0).standard_normal(head.identity_mm.shape[0])
    return RestFace(head=head, vertices_mm=head.vertices(identity), camera=orbit_camera(size=128))


@pytest.fixture(scope="module")
def whole(face: RestFace) -> Rgbd:
    return render_head(shipped_head(), face.vertices_mm, face.camera)


@pytest.fixture(scope="module")
def sensed(whole: Rgbd) -> Rgbd:
    return sense(whole, SENSOR, np.random.default_rng(1))


def moved(face: RestFace, by_mm: float) -> RestFace:
    return replace(face, vertices_mm=face.vertices_mm + np.array([0, 0, by_mm]))


def test_a_depth_camera_leaves_a_ragged_outline_and_a_render_none(whole: Rgbd, sensed: Rgbd) -> None:
    assert faults_of(sensed).need_a_head
    assert not faults_of(whole).need_a_head


@pytest.mark.parametrize("by_mm", [0, 8, -8])
def test_the_lost_outline_comes_back_where_it_was(face: RestFace, whole: Rgbd, sensed: Rgbd, by_mm: float) -> None:
    # A fitted head that stands before or behind the person by a little is moved to meet them.
    found = completed(closed(sensed), moved(face, by_mm))
    lost = whole.mask & ~sensed.mask
    assert (found.mask & lost).sum() > 0.95 * lost.sum()
    assert (found.mask & ~whole.mask).sum() < 0.03 * lost.sum() + 10 * abs(by_mm)
    assert np.median(np.abs(found.depth_mm - whole.depth_mm)[lost & found.mask]) < 1.5
    np.testing.assert_array_equal(found.depth_mm[sensed.mask], sensed.depth_mm[sensed.mask])
    np.testing.assert_array_equal(found.rgb, sensed.rgb)


def test_a_head_far_from_the_person_is_not_dragged_to_them(face: RestFace, whole: Rgbd, sensed: Rgbd) -> None:
    nearer = completed(closed(sensed), moved(face, 100))
    added = whole.mask & nearer.mask & ~closed(sensed).mask
    assert np.median(whole.depth_mm[added] - nearer.depth_mm[added]) > 50


def test_a_head_that_is_out_of_sight_completes_nothing(face: RestFace, sensed: Rgbd) -> None:
    gone = replace(face, vertices_mm=face.vertices_mm + np.array([5000, 0, 0]))
    np.testing.assert_array_equal(completed(closed(sensed), gone).mask, closed(sensed).mask)


@pytest.mark.parametrize("axial_mm", [1.0, 8.0])
def test_noise_is_seen_and_mostly_smoothed_away(face: RestFace, whole: Rgbd, axial_mm: float) -> None:
    noisy = sense(whole, SensorModel(axial_mm=axial_mm), np.random.default_rng(2))
    assert depth_noise_mm(noisy) > 5 * depth_noise_mm(whole)
    found = restored(noisy, faults_of(noisy), moved(face, 3))
    inside = whole.mask & found.mask

    def error_mm(image: Rgbd) -> float:
        return float(np.abs(image.depth_mm - whole.depth_mm)[inside].mean())

    assert error_mm(found) < 0.6 * error_mm(noisy)


def test_what_has_no_noise_is_not_touched(face: RestFace, whole: Rgbd) -> None:
    np.testing.assert_array_equal(
        restored(whole, faults_of(whole), face).depth_mm[whole.mask], whole.depth_mm[whole.mask]
    )


def test_hair_before_the_head_is_not_averaged_with_it(face: RestFace, whole: Rgbd) -> None:
    noisy = sense(whole, SensorModel(axial_mm=2.0), np.random.default_rng(3))
    hair = np.zeros_like(whole.mask)
    hair[40:60, 50:80] = True
    covered = replace(noisy, depth_mm=np.where(hair, noisy.depth_mm - 30, noisy.depth_mm).astype(np.float32))
    found = restored(covered, faults_of(covered), face)
    before, after = (np.abs(image.depth_mm - (whole.depth_mm - 30))[hair & whole.mask] for image in (covered, found))
    assert np.median(after) < 0.7 * np.median(before), "smoothed, and where it was"
    assert np.abs(found.depth_mm - whole.depth_mm)[whole.mask & ~hair].mean() < 1.0


def test_noise_on_slants_is_left_to_a_head_that_is_known(face: RestFace, whole: Rgbd) -> None:
    noisy = sense(whole, SensorModel(axial_mm=8.0), np.random.default_rng(2))
    known = replace(face, sigma_mm=np.full(len(face.vertices_mm), 0.5, np.float32))
    error = np.abs(restored(noisy, faults_of(noisy), known).depth_mm - whole.depth_mm)
    steep = whole.mask & (np.hypot(*np.gradient(np.where(whole.mask, whole.depth_mm, np.nan))) > 4)
    assert error[steep].mean() < 1.0, "the head is the true one"


def test_an_image_without_a_pixel_that_has_neighbours_has_no_noise(whole: Rgbd) -> None:
    grid = np.indices(whole.mask.shape).sum(0) % 2 == 0
    assert depth_noise_mm(replace(whole, mask=whole.mask & grid)) == 0


def test_noise_is_shrunk_towards_a_head_whose_deviation_is_known(face: RestFace, whole: Rgbd) -> None:
    noise = np.random.default_rng(2).normal(0, 4.0, whole.mask.shape).astype(np.float32)
    noisy = replace(whole, depth_mm=np.where(whole.mask, whole.depth_mm + noise, 0))
    faults = faults_of(noisy)
    sure, unsure = (replace(face, sigma_mm=np.full(len(face.vertices_mm), s, np.float32)) for s in (0.1, 30.0))
    plain, near, far = (
        np.abs(restored(noisy, faults, known).depth_mm - whole.depth_mm)[whole.mask].mean()
        for known in (face, sure, unsure)
    )
    assert near < 0.3 * plain
    # A head that may be anywhere is no evidence.
    assert far == pytest.approx(plain, rel=1e-3)


def test_a_sure_head_does_not_pull_a_person_without_noise(face: RestFace, whole: Rgbd) -> None:
    image = replace(whole, depth_mm=np.where(whole.mask, whole.depth_mm + 1.0, 0).astype(np.float32))
    known = replace(face, sigma_mm=np.full(len(face.vertices_mm), 1.0, np.float32))
    found = restored(image, faults_of(image), known).depth_mm
    np.testing.assert_array_equal(found[image.mask], image.depth_mm[image.mask])
