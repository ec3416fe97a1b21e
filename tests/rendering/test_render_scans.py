"""Scans as a camera sees them: meshes with every kind of colour, and points without holes."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from omote.geometry.camera import orbit_camera, pixel_grid
from omote.rendering.scans import render_mesh, render_points, sample_texture
from omote.types import Camera, Mesh, PointCloud

RADIUS_MM = 100.0
DISTANCE_MM = 600.0


def camera(size: int = 96) -> Camera:
    return orbit_camera(size=size, target_mm=np.zeros(3), distance_mm=DISTANCE_MM, field_mm=260.0)


def sphere_depth(view: Camera) -> np.ndarray:
    """Analytic depth of the sphere at the origin; NaN where the ray passes by."""
    ray = (pixel_grid(view) - [view.width / 2, view.height / 2]) / view.intrinsics[0, 0]
    a = (ray**2).sum(axis=1) + 1
    root = DISTANCE_MM**2 - a * (DISTANCE_MM**2 - RADIUS_MM**2)
    depth = np.full(len(a), np.nan)
    depth[root > 0] = (DISTANCE_MM - np.sqrt(root[root > 0])) / a[root > 0]
    return depth.reshape(view.height, view.width)


def sphere_points(count: int) -> np.ndarray:
    """Even points on the sphere (Fibonacci's spiral), jittered a little."""
    i = np.arange(count) + 0.5
    polar, azimuth = np.arccos(1 - 2 * i / count), np.pi * (1 + 5**0.5) * i
    unit = np.stack([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)], axis=1)
    return RADIUS_MM * unit


@pytest.mark.parametrize("count", [5_000, 60_000])
def test_splats_cover_a_sphere_at_the_right_depth(count: int) -> None:
    view = camera()
    image = render_points(PointCloud(points=sphere_points(count)), view)
    truth = sphere_depth(view)
    # Away from the silhouette: where the surface faces the camera within about 60°.
    inside = np.nan_to_num(truth, nan=np.inf) < DISTANCE_MM - 0.5 * RADIUS_MM
    assert image.mask[inside].all(), "holes"
    assert np.median(np.abs(image.depth_mm - truth)[inside]) < 0.6
    assert np.abs(image.depth_mm - truth)[inside].max() < 6.0
    # Splats may widen the outline by their radius and no more.
    assert image.mask[:4].sum() == 0
    assert image.mask.sum() < 1.2 * np.isfinite(truth).sum()


def test_the_back_never_bleeds_through() -> None:
    points = sphere_points(20_000)
    front = points[:, 2] > 0
    colors = np.where(front[:, None], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0])
    image = render_points(PointCloud(points=points, colors=colors), camera())
    inside = np.nan_to_num(sphere_depth(camera()), nan=np.inf) < DISTANCE_MM - 0.4 * RADIUS_MM
    np.testing.assert_allclose(image.rgb[inside], np.broadcast_to([1.0, 0, 0], (inside.sum(), 3)), atol=1e-6)


def test_points_with_normals_and_without_color_are_clay() -> None:
    points = sphere_points(8_000)
    with_normals = render_points(PointCloud(points=points, normals=points / RADIUS_MM), camera())
    without = render_points(PointCloud(points=points), camera())
    inside = np.nan_to_num(sphere_depth(camera()), nan=np.inf) < DISTANCE_MM - 0.6 * RADIUS_MM
    assert with_normals.mask[inside].all()
    # Estimated normals shade as the true ones do.
    np.testing.assert_allclose(with_normals.rgb[inside], without.rgb[inside], atol=0.05)


def ball_mesh() -> tuple[np.ndarray, np.ndarray]:
    ball = trimesh.creation.icosphere(subdivisions=5, radius=RADIUS_MM)
    return np.asarray(ball.vertices), np.asarray(ball.faces)


def test_mesh_depth_and_mask_agree() -> None:
    vertices, faces = ball_mesh()
    view = camera()
    image = render_mesh(Mesh(vertices=vertices, faces=faces), view, background=np.array([0.0, 1.0, 0.0]))
    truth = sphere_depth(view)
    assert np.mean(image.mask == np.isfinite(truth)) > 0.99
    np.testing.assert_array_equal(image.mask, image.depth_mm > 0)
    inside = np.nan_to_num(truth, nan=np.inf) < DISTANCE_MM - 0.4 * RADIUS_MM
    assert np.abs(image.depth_mm - truth)[inside].max() < 0.2
    assert (image.rgb >= 0).all()
    assert (image.rgb <= 1).all()
    np.testing.assert_allclose(image.rgb[0, 0], [0, 1, 0], atol=1e-6)
    # Clay is grey, brightest where it faces the camera.
    assert image.rgb[48, 48, 0] > image.rgb[48, 20, 0] > 0.1


def test_vertex_colors_are_shown_as_they_are() -> None:
    vertices, faces = ball_mesh()
    colors = 0.5 + 0.4 * vertices / RADIUS_MM
    image = render_mesh(Mesh(vertices=vertices, faces=faces, vertex_colors=colors), camera())
    # Straight ahead: the four samples around the middle see the pole, (0, 0, 1).
    np.testing.assert_allclose(image.rgb[47:49, 47:49].mean(axis=(0, 1)), [0.5, 0.5, 0.9], atol=0.01)


def test_textures_are_looked_up_with_v_pointing_up() -> None:
    texture = np.zeros((8, 8, 3))
    texture[:4] = [1.0, 0.0, 0.0]  # row 0 is the top, v = 1
    texture[4:] = [0.0, 0.0, 1.0]
    got = sample_texture(texture, np.array([[0.5, 0.9], [0.5, 0.1], [1.5, -0.1]]))
    np.testing.assert_allclose(got, [[1, 0, 0], [0, 0, 1], [1, 0, 0]], atol=1e-6)
    vertices = np.array([[-80.0, -80, 0], [80, -80, 0], [80, 80, 0], [-80, 80, 0]])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    uv = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    image = render_mesh(Mesh(vertices=vertices, faces=faces, uv=uv, faces_uv=faces, texture=texture), camera())
    np.testing.assert_allclose(image.rgb[30, 48], [1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(image.rgb[66, 48], [0, 0, 1], atol=1e-6)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_points_in_sight_are_drawn_and_none_is_an_empty_picture(count: int) -> None:
    beside = np.full((20, 3), 5000.0) + np.arange(20)[:, None]
    points = np.concatenate([np.array([[0.0, 0, 0], [30, 0, 5], [0, 30, -5]])[:count], beside])
    image = render_points(PointCloud(points=points), camera())
    assert (image.mask.sum() > 0) == (count > 0)
    assert np.isfinite(image.depth_mm).all()
    assert np.isfinite(image.rgb).all()
