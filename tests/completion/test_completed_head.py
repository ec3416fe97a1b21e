"""A completed head in a camera: depth, and the uncertainty that goes with it."""

import numpy as np
import pytest

from omote.completion.base import CompletedHead
from omote.geometry.rig import Rig
from omote.head.shipped import shipped_head


@pytest.fixture(scope="module")
def head():
    return shipped_head()


@pytest.fixture(scope="module")
def completed(head):
    return CompletedHead(
        vertices_mm=head.template_mm.astype(np.float64),
        sigma_mm=np.full(head.num_vertices, 0.5),
        seen=np.ones(head.num_vertices, bool),
    )


def test_uncertainty_grows_with_the_slant(head, completed):
    seen = completed.depth(head, Rig().cameras(64)[0])
    assert (seen.sigma_mm[seen.mask] >= 0.5 - 1e-6).all()
    assert (seen.sigma_mm[~seen.mask] == 0).all()
    edge = seen.mask & ~np.roll(seen.mask, 2, axis=1)
    assert seen.sigma_mm[edge].mean() > 1.5 * np.median(seen.sigma_mm[seen.mask])


def test_a_head_moved_away_from_the_camera_is_as_much_deeper(head, completed):
    camera = Rig().cameras(64)[0]
    away = np.linalg.inv(camera.cam_from_world)[:3, 2]
    moved = CompletedHead(
        vertices_mm=completed.vertices_mm + 3 * away, sigma_mm=completed.sigma_mm, seen=completed.seen
    )
    before, after = completed.depth(head, camera), moved.depth(head, camera)
    both = before.mask & after.mask
    assert np.median((after.depth_mm - before.depth_mm)[both]) == pytest.approx(3, abs=0.3)
