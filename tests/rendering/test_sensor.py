"""A depth camera's errors have the sizes that were asked for."""

from __future__ import annotations

import numpy as np
import pytest

from omote.geometry.camera import orbit_camera
from omote.rendering.sensor import SensorModel, draw_sensor, sense, view_cosine
from omote.types import Rgbd

SIZE = 128


def wall(depth_mm: float = 700.0, slope: float = 0.0) -> Rgbd:
    """A grey wall that fills the image; ``slope`` tilts it, in mm of depth per mm across."""
    camera = orbit_camera(size=SIZE)
    across = (np.arange(SIZE) + 0.5 - SIZE / 2) / camera.intrinsics[0, 0]
    depth = np.broadcast_to(depth_mm / (1 - slope * across), (SIZE, SIZE))
    rgb = np.full((SIZE, SIZE, 3), 0.5, np.float32)
    return Rgbd(rgb=rgb, depth_mm=depth.astype(np.float32), mask=np.ones((SIZE, SIZE), bool), camera=camera)


def test_the_default_sensor_is_perfect() -> None:
    image = wall()
    seen = sense(image, SensorModel(), np.random.default_rng(0))
    np.testing.assert_array_equal(seen.mask, image.mask)
    np.testing.assert_allclose(seen.depth_mm, image.depth_mm)
    np.testing.assert_allclose(seen.rgb, image.rgb, atol=1e-6)


@pytest.mark.parametrize("distance_mm", [500.0, 1000.0, 2000.0])
def test_axial_noise_grows_with_the_square_of_distance(distance_mm: float) -> None:
    seen = sense(wall(distance_mm), SensorModel(axial_mm=1.5), np.random.default_rng(0))
    error = seen.depth_mm - distance_mm
    np.testing.assert_allclose(error.std(), 1.5 * (distance_mm / 1000) ** 2, rtol=0.03)
    assert abs(error.mean()) < 0.1 * error.std()


def test_disparity_steps_are_even_in_inverse_depth() -> None:
    ramp = wall(900.0, slope=1.0)
    seen = sense(ramp, SensorModel(disparity_step=0.01), np.random.default_rng(0))
    steps = 1000 / seen.depth_mm / 0.01
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
    # Half a step of disparity is at most half a step of depth: z² step / 2.
    z_m = ramp.depth_mm / 1000
    assert (np.abs(seen.depth_mm - ramp.depth_mm) <= 0.5 * 0.01 * z_m**2 * 1000 * 1.05 + 0.01).all()


def test_dropout_takes_the_asked_share() -> None:
    seen = sense(wall(), SensorModel(dropout=0.2), np.random.default_rng(0))
    np.testing.assert_allclose(1 - seen.mask.mean(), 0.2, atol=0.01)
    assert (seen.depth_mm[~seen.mask] == 0).all()


def test_grazing_surfaces_drop_out() -> None:
    slope = 3.0
    # The wall's normal against the optical axis; within a narrow view the line of sight is nearly that axis.
    expected = 1 / np.sqrt(1 + slope**2)
    tilted = wall(700.0, slope)
    middle = np.s_[4:-4, SIZE // 2 - 2 : SIZE // 2 + 2]
    np.testing.assert_allclose(view_cosine(tilted)[middle], expected, rtol=0.05)
    rng = np.random.default_rng(0)
    assert sense(tilted, SensorModel(grazing_cos=expected * 0.8), rng).mask[middle].all()
    assert not sense(tilted, SensorModel(grazing_cos=expected * 1.2), rng).mask[middle].any()


def test_depth_edges_drop_out_and_flats_stay() -> None:
    image = wall()
    depth = image.depth_mm.copy()
    depth[:, 64:] += 100
    stepped = Rgbd(rgb=image.rgb, depth_mm=depth, mask=image.mask, camera=image.camera)
    lost = ~sense(stepped, SensorModel(edge_px=1), np.random.default_rng(0)).mask
    np.testing.assert_allclose(lost[:, 63:65].mean(), 0.75, atol=0.1)
    assert not lost[:, :60].any()
    assert not lost[:, 68:].any()


def test_color_errors_are_those_of_the_settings() -> None:
    sensor = SensorModel(exposure=1.2, white_balance=(1.1, 1.0, 0.9), gamma=1.1, color_noise=0.02)
    seen = sense(wall(), sensor, np.random.default_rng(0))
    np.testing.assert_allclose(seen.rgb.mean(axis=(0, 1)), 1.2 * np.array([1.1, 1.0, 0.9]) * 0.5**1.1, atol=2e-3)
    np.testing.assert_allclose(seen.rgb.std(axis=(0, 1)), 0.02, rtol=0.05)


def test_a_draw_is_a_function_of_its_seed() -> None:
    sensor = draw_sensor(np.random.default_rng(5))
    assert sensor == draw_sensor(np.random.default_rng(5))
    assert sensor != draw_sensor(np.random.default_rng(6))
    image = wall()
    a, b = (sense(image, sensor, np.random.default_rng(1)) for _ in range(2))
    np.testing.assert_array_equal(a.depth_mm, b.depth_mm)
    np.testing.assert_array_equal(a.rgb, b.rgb)
    assert (sense(image, sensor, np.random.default_rng(2)).depth_mm != a.depth_mm).any()


def test_an_empty_image_passes() -> None:
    image = wall()
    nothing = Rgbd(
        rgb=image.rgb, depth_mm=np.zeros_like(image.depth_mm), mask=np.zeros_like(image.mask), camera=image.camera
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        seen = sense(nothing, draw_sensor(np.random.default_rng(0)), np.random.default_rng(0))
    assert not seen.mask.any()
    assert (seen.depth_mm == 0).all()
