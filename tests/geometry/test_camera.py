from __future__ import annotations

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from omote.geometry.camera import look_at, orbit_camera, pixel_grid, project, resize, rgbd_points, transform, unproject
from omote.types import Rgbd

angle = st.floats(-1.4, 1.4)
cameras = st.builds(
    orbit_camera,
    size=st.integers(1, 512),
    yaw_rad=st.floats(-3.1, 3.1),
    pitch_rad=angle,
    roll_rad=st.floats(-3.1, 3.1),
    distance_mm=st.floats(200.0, 3000.0),
    field_mm=st.floats(50.0, 1000.0),
)
vectors = st.tuples(*[st.floats(-500.0, 500.0)] * 3).map(np.array)


@given(camera=cameras, u=st.floats(-600, 600), v=st.floats(-600, 600), depth_mm=st.floats(10.0, 5000.0))
def test_project_undoes_unproject(camera, u, v, depth_mm):
    uvz = np.array([[u, v, depth_mm]])
    np.testing.assert_allclose(project(camera, unproject(camera, uvz)), uvz, rtol=1e-6, atol=1e-4)


@given(camera=cameras, point=vectors)
def test_unproject_undoes_project(camera, point):
    assume(transform(camera.cam_from_world, point[None])[0, 2] > 1.0)
    np.testing.assert_allclose(unproject(camera, project(camera, point[None]))[0], point, atol=1e-5)


@given(eye=vectors, target=vectors, up=vectors)
def test_look_at_is_rigid_and_sees_the_target_straight_ahead_with_up_upward(eye, target, up):
    distance = np.linalg.norm(target - eye)
    assume(distance > 1.0)
    assume(np.linalg.norm(up) > 1.0)
    assume(np.linalg.norm(np.cross(target - eye, up)) > 0.05 * distance * np.linalg.norm(up))
    matrix = look_at(eye_mm=eye, target_mm=target, up=up)
    np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-9)
    assert np.linalg.det(matrix[:3, :3]) > 0
    np.testing.assert_array_equal(matrix[3], [0, 0, 0, 1])
    np.testing.assert_allclose(transform(matrix, target[None])[0], [0, 0, distance], atol=1e-6)
    assert (matrix[:3, :3] @ up)[1] < 0  # OpenCV's y points down


@given(camera=cameras, target=vectors)
def test_an_orbit_camera_sees_its_target_in_the_image_centre(camera, target):
    moved = orbit_camera(size=128, yaw_rad=0.3, pitch_rad=-0.2, roll_rad=1.0, distance_mm=650.0, target_mm=target)
    np.testing.assert_allclose(project(moved, target[None])[0], [64, 64, 650], atol=1e-6)
    front = np.array([[0.0, -28.0, 0.0]])
    np.testing.assert_allclose(project(camera, front)[0, :2], camera.width / 2, atol=1e-6)


def test_an_orbit_camera_has_the_field_and_the_directions_it_names():
    camera = orbit_camera(size=200, distance_mm=700.0, field_mm=100.0, target_mm=np.zeros(3))
    edges = np.array([[50.0, 0.0, 0.0], [-50.0, 0.0, 0.0], [0.0, 50.0, 0.0]])
    # The person's left (+x) is on the right of an image seen from the front; up (+y) is at the top.
    np.testing.assert_allclose(project(camera, edges), [[200, 100, 700], [0, 100, 700], [100, 0, 700]], atol=1e-9)
    left = orbit_camera(size=200, yaw_rad=np.pi / 2, distance_mm=700.0, target_mm=np.zeros(3))
    np.testing.assert_allclose(np.linalg.inv(left.cam_from_world)[:3, 3], [700, 0, 0], atol=1e-9)
    above = orbit_camera(size=200, pitch_rad=0.5, distance_mm=700.0, target_mm=np.zeros(3))
    assert np.linalg.inv(above.cam_from_world)[1, 3] > 0
    turned = orbit_camera(size=200, roll_rad=0.1, distance_mm=700.0, field_mm=100.0, target_mm=np.zeros(3))
    assert project(turned, edges[:1])[0, 1] < 100  # counter-clockwise lifts the right side


@given(camera=cameras, point=vectors, width=st.integers(1, 700), height=st.integers(1, 700))
def test_resize_scales_pixels_and_leaves_depth(camera, point, width, height):
    assume(transform(camera.cam_from_world, point[None])[0, 2] > 1.0)
    scale = [width / camera.width, height / camera.height, 1.0]
    resized = resize(camera, width=width, height=height)
    expected = project(camera, point[None]) * scale
    np.testing.assert_allclose(project(resized, point[None]), expected, rtol=1e-9, atol=1e-9)
    assert (resized.width, resized.height) == (width, height)


def test_rgbd_points_are_the_unprojected_valid_pixels_row_by_row():
    camera = orbit_camera(size=4, yaw_rad=0.4)
    rng = np.random.default_rng(0)
    depth, rgb, mask = rng.uniform(500, 900, (4, 4)), rng.uniform(size=(4, 4, 3)), rng.uniform(size=(4, 4)) > 0.3
    points, colors = rgbd_points(Rgbd(rgb=rgb, depth_mm=np.where(mask, depth, 0.0), mask=mask, camera=camera))
    uvz = project(camera, points)
    np.testing.assert_allclose(uvz[:, :2], pixel_grid(camera)[mask.ravel()], atol=1e-9)
    np.testing.assert_allclose(uvz[:, 2], depth[mask])
    np.testing.assert_array_equal(colors, rgb[mask])
