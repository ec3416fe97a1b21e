"""A head seen by a depth camera: what it lost comes back near where it was, and what is whole stays itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from omote.geometry.camera import orbit_camera
from omote.geometry.holes import closed
from omote.head.rest_face import RestFace
from omote.head.shipped import shipped_head
from omote.ldm.completion import completed, is_ragged
from omote.render.rgbd import render_head
from omote.render.sensor import SensorModel, sense
from omote.types import Rgbd

SENSOR = SensorModel(edge_px=2, grazing_cos=0.25, dropout=0.01)


@pytest.fixture(scope="module")
def face() -> RestFace:
    head = shipped_head()
    identity = np.random.default_rng(0).standard_normal(head.identity_mm.shape[0])
    return RestFace(vertices_mm=head.vertices(identity), camera=orbit_camera(size=128))


@pytest.fixture(scope="module")
def whole(face: RestFace) -> Rgbd:
    return render_head(shipped_head(), face.vertices_mm, face.camera)


@pytest.fixture(scope="module")
def sensed(whole: Rgbd) -> Rgbd:
    return sense(whole, SENSOR, np.random.default_rng(1))


def moved(face: RestFace, by_mm: float) -> RestFace:
    return replace(face, vertices_mm=face.vertices_mm + np.array([0, 0, by_mm]))


def test_a_depth_camera_leaves_a_ragged_outline_and_a_render_none(whole: Rgbd, sensed: Rgbd) -> None:
    assert is_ragged(sensed)
    assert not is_ragged(whole)


@pytest.mark.parametrize("by_mm", [0, 8, -8])
def test_the_lost_outline_comes_back_where_it_was(face: RestFace, whole: Rgbd, sensed: Rgbd, by_mm: float) -> None:
    # A fitted head that stands before or behind the person by a little is moved to meet them.
    found = completed(sensed, moved(face, by_mm))
    lost = whole.mask & ~sensed.mask
    assert (found.mask & lost).sum() > 0.95 * lost.sum()
    assert (found.mask & ~whole.mask).sum() < 0.03 * lost.sum() + 10 * abs(by_mm)
    assert np.median(np.abs(found.depth_mm - whole.depth_mm)[lost & found.mask]) < 1.5
    np.testing.assert_array_equal(found.depth_mm[sensed.mask], sensed.depth_mm[sensed.mask])
    np.testing.assert_array_equal(found.rgb, sensed.rgb)


def test_a_head_far_from_the_person_is_not_dragged_to_them(face: RestFace, whole: Rgbd, sensed: Rgbd) -> None:
    nearer = completed(sensed, moved(face, 100))
    added = whole.mask & nearer.mask & ~closed(sensed).mask
    assert np.median(whole.depth_mm[added] - nearer.depth_mm[added]) > 50


def test_a_head_that_is_out_of_sight_completes_nothing(face: RestFace, sensed: Rgbd) -> None:
    gone = replace(face, vertices_mm=face.vertices_mm + np.array([5000, 0, 0]))
    np.testing.assert_array_equal(completed(sensed, gone).mask, closed(sensed).mask)
