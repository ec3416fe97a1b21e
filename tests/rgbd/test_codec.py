"""What the networks see must give back what the camera saw, to a hundredth of a millimetre."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from omote.geometry.camera import orbit_camera
from omote.rgbd.codec import fill, pack_images, reference_depth_mm, unpack_images
from omote.types import Rgbd


def some_image(seed, distance_mm=700.0, size=32):
    rng = np.random.default_rng(seed)
    camera = orbit_camera(size=size, distance_mm=distance_mm, yaw_rad=0.1)
    mask = rng.random((size, size)) < 0.7
    depth = np.where(mask, reference_depth_mm(camera) + rng.uniform(-60, 120, (size, size)), 0)
    return Rgbd(
        rgb=rng.random((size, size, 3)).astype(np.float32),
        depth_mm=depth.astype(np.float32),
        mask=mask,
        camera=camera,
    )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), distance_mm=st.floats(300, 2000))
def test_round_trip(seed, distance_mm):
    image = some_image(seed, distance_mm)
    (back,) = unpack_images(pack_images([image]), [image.camera])
    np.testing.assert_array_equal(back.mask, image.mask)
    np.testing.assert_allclose(back.depth_mm[image.mask], image.depth_mm[image.mask], atol=0.01)
    np.testing.assert_allclose(back.rgb[image.mask], image.rgb[image.mask], atol=1e-5)


def test_reference_depth_is_the_camera_distance():
    assert abs(reference_depth_mm(orbit_camera(size=8, distance_mm=812.0, yaw_rad=0.3)) - 812.0) < 1e-9


def test_fill_keeps_what_is_valid_and_continues_a_constant():
    valid = (torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(1)) < 0.2).float()
    values = torch.where(valid > 0, torch.full_like(valid, 3.0), torch.full_like(valid, 99.0))
    torch.testing.assert_close(fill(values, valid), torch.full_like(valid, 3.0))


def test_fill_of_nothing_is_finite():
    assert torch.isfinite(fill(torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 16))).all()
