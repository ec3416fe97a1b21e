"""Normals of depth maps of planes, which are known."""

import numpy as np
import pytest

from omote.geometry.camera import orbit_camera
from omote.geometry.depth import depth_normals


@pytest.mark.parametrize("normal", [(0.0, 0.0, -1.0), (0.4, 0.0, -1.0), (-0.2, 0.5, -1.0)])
def test_a_planes_normal_is_found_at_every_pixel(normal):
    camera = orbit_camera(size=24)
    normal = np.array(normal) / np.linalg.norm(normal)
    u, v = np.meshgrid(np.arange(24) + 0.5, np.arange(24) + 0.5)
    k = camera.intrinsics
    rays = np.stack([(u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1], np.ones_like(u)], axis=-1)
    depth = 700 * normal[2] / (rays @ normal)  # the plane through (0, 0, 700)
    mask = np.ones((1, 24, 24), bool)
    mask[0, 10, 10] = False
    found, seen = depth_normals(depth[None], mask, k[None])
    np.testing.assert_allclose(found[seen], np.broadcast_to(normal, found[seen].shape), atol=1e-9)
    # Neither the border, nor a hole, nor its four neighbours.
    assert seen.sum() == 22**2 - 5
