"""Surface splats: a slope has its slope, an outline its width, and nothing shows through a surface."""

from __future__ import annotations

import numpy as np
import pytest

from omote.geometry.camera import orbit_camera
from omote.rendering.splats import disc_radii_mm, splat, thinned
from omote.types import Camera, PointCloud

GREY = 0.5


@pytest.fixture
def view() -> Camera:
    return orbit_camera(size=64, target_mm=np.zeros(3), distance_mm=600.0, field_mm=260.0)


def drawn(points: np.ndarray, normals: np.ndarray, view: Camera) -> tuple[np.ndarray, np.ndarray]:
    _, depth, mask = splat(points, normals, disc_radii_mm(points), np.full_like(points, GREY), view)
    return depth, mask


def square(count: int, half_mm: float, rng: np.random.Generator) -> np.ndarray:
    return np.column_stack([rng.uniform(-half_mm, half_mm, (count, 2)), np.zeros(count)])


@pytest.mark.parametrize("sign", [1, -1])
def test_a_slope_has_the_depth_of_its_plane(view: Camera, sign: int) -> None:
    # 60° from the picture's plane, some points a pixel: a disc in the picture's plane would be off by its radius.
    points = square(3_000, 100, np.random.default_rng(0))
    turn = np.array([[0.5, 0, 0.75**0.5], [0, 1, 0], [-(0.75**0.5), 0, 0.5]])
    depth, mask = drawn(points @ turn.T, np.tile(sign * turn[:, 2], (len(points), 1)), view)
    columns = (np.arange(64) + 0.5 - view.intrinsics[0, 2]) / view.intrinsics[0, 0]
    # n·(z·ray + centre) = 0, the camera's y and z pointing down and away.
    truth = np.broadcast_to(600 * turn[2, 2] / (turn[2, 2] - columns * turn[0, 2]), (64, 64))
    inside = np.zeros_like(mask)
    inside[28:36, 25:39] = True
    assert mask[inside].mean() > 0.97
    np.testing.assert_allclose(depth[inside & mask], truth[inside & mask], atol=0.8)


def test_an_outline_is_widened_by_less_than_a_pixel(view: Camera) -> None:
    rng = np.random.default_rng(1)
    unit = rng.standard_normal((4_000, 3))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    _, mask = drawn(90 * unit, unit, view)
    # The rim of a sphere is seen along its tangents.
    radius_px = view.intrinsics[0, 0] * 90 / np.sqrt(600**2 - 90**2)
    assert (radius_px - 0.5) ** 2 * np.pi < mask.sum() < (radius_px + 0.5) ** 2 * np.pi


def test_what_shows_through_between_points_is_a_hole(view: Camera) -> None:
    rng = np.random.default_rng(2)
    front, back = square(500, 60, rng), square(20_000, 100, rng) - np.array([0, 0, 80])
    points = np.concatenate([front, back])
    # Discs that are too small for the front, as where a scan is thinner than it is around.
    radii = np.concatenate([np.full(len(front), 3.0), np.full(len(back), 3.0)])
    normals = np.tile([0.0, 0, 1], (len(points), 1))
    _, depth, mask = splat(points, normals, radii, np.full_like(points, GREY), view)
    inner, outer = (slice(22, 42),) * 2, (slice(12, 15),) * 2
    assert (depth[inner][mask[inner]] < 620).all()
    assert 0.5 < mask[inner].mean() < 1
    # Behind the front's edge the back stays.
    assert mask[outer].all()
    assert (depth[outer] > 660).all()


def test_nothing_is_drawn_of_nothing_and_of_what_is_behind_the_camera(view: Camera) -> None:
    for points in (np.zeros((0, 3)), square(100, 50, np.random.default_rng(3)) + np.array([0, 0, 700])):
        radii = np.full(len(points), 3.0)
        _, depth, mask = splat(points, np.tile([0.0, 0, 1], (len(points), 1)), radii, points * 0, view)
        assert not mask.any()
        assert not depth.any()


def test_a_dense_cloud_is_thinned_to_what_a_picture_shows(view: Camera) -> None:
    points = square(200_000, 60, np.random.default_rng(4))
    colors = np.where(points[:, :1] < 0, 0.2, 0.8) * np.ones(3)
    normals = np.tile([0.0, 0, 2.0], (len(points), 1))
    kept, turned, shades = thinned(PointCloud(points=points, colors=colors, normals=normals), view)
    assert turned is not None
    assert shades is not None
    # Thirty pixels of four cells a side, and the rim.
    assert len(kept) < 1.2 * (2 * 2 * 60 * view.intrinsics[0, 0] / 600) ** 2
    np.testing.assert_allclose(kept[:, 2], 0, atol=1e-9)
    np.testing.assert_allclose(turned, np.tile([0.0, 0, 1], (len(kept), 1)))
    np.testing.assert_allclose(shades[kept[:, 0] < -5], 0.2)
    np.testing.assert_allclose(shades[kept[:, 0] > 5], 0.8)


def test_points_out_of_sight_are_left_out_and_sparse_ones_stay_themselves(view: Camera) -> None:
    points = np.array([[0.0, 0, 0], [40, 0, 0], [0, 0, 900], [900, 0, 0], [0, 40, -60]])
    kept, normals, colors = thinned(PointCloud(points=points), view)
    assert normals is None
    assert colors is None
    assert sorted(map(tuple, kept)) == sorted(map(tuple, points[[0, 1, 4]]))
