"""Rigs: their cameras, and what networks read of them."""

import numpy as np
import pytest

from omote.errors import ConfigError
from omote.geometry.camera import FRONT_TARGET_MM, project
from omote.geometry.rig import Rig, flattened, plucker_rays, rig_of


def test_every_camera_sees_the_centre_in_its_middle() -> None:
    cameras = Rig().cameras(64)
    assert len(cameras) == 5
    for camera in cameras:
        np.testing.assert_allclose(project(camera, FRONT_TARGET_MM[None])[0], [32, 32, 700], atol=1e-9)


def test_flattened_cameras_are_rigid_and_of_unit_distance() -> None:
    matrices = flattened(Rig().cameras(64)).reshape(-1, 4, 4)
    np.testing.assert_allclose(np.linalg.norm(matrices[:, :3, 3], axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(matrices[:, :3, 3], np.tile([0, 0, 1.0], (5, 1)), atol=1e-6)
    product = matrices[:, :3, :3] @ matrices[:, :3, :3].transpose(0, 2, 1)
    np.testing.assert_allclose(product, np.tile(np.eye(3), (5, 1, 1)), atol=1e-6)


def test_rays_pass_through_what_their_pixel_shows() -> None:
    cameras = Rig().cameras(64)
    rays = plucker_rays(cameras, 16)
    point = FRONT_TARGET_MM + np.array([30.0, -20.0, 25.0])
    for camera, ray in zip(cameras, rays, strict=True):
        u, v, _ = project(camera, point[None])[0] * 16 / 64
        direction, moment = np.split(ray[:, int(v), int(u)], 2)
        # A point on a line with moment m has p x d = m; a pixel of the map is 14 mm wide.
        assert np.linalg.norm(np.cross((point - FRONT_TARGET_MM) / 700, direction) - moment) * 700 < 12
        np.testing.assert_allclose(direction @ moment, 0, atol=1e-6)


def test_words_become_rigs() -> None:
    assert rig_of(["3"]).yaw_deg == (0, 40, -40)
    assert rig_of(["0,0", "30,-10"]).pitch_deg == (0, -10)
    for wrong in (["0"], ["9"], ["a,b"], ["1,2,3"]):
        with pytest.raises(ConfigError, match="views: expected 1 to 8"):
            rig_of(wrong)
