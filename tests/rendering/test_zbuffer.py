"""The z-buffer against geometry that has a formula, against itself, and against Embree."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from omote.geometry.camera import orbit_camera, pixel_grid, unproject
from omote.rendering.shade import camera_center
from omote.rendering.zbuffer import rasterize, rasterize_samples, vertices_used
from omote.types import Camera

ORIGIN = np.zeros(3)


def straight_camera(size: int = 64, focal_px: float = 80.0) -> Camera:
    """At the world's origin, looking along +z with OpenCV axes."""
    intrinsics = np.array([[focal_px, 0, size / 2], [0, focal_px, size / 2], [0, 0, 1.0]])
    return Camera(intrinsics=intrinsics, cam_from_world=np.eye(4), width=size, height=size)


def test_sphere_depth_is_the_nearer_root() -> None:
    camera = orbit_camera(size=96, target_mm=ORIGIN, distance_mm=500.0, field_mm=260.0, yaw_rad=0.4, pitch_rad=-0.3)
    radius = 100.0
    ball = trimesh.creation.icosphere(subdivisions=6, radius=radius)
    raster = rasterize(camera, np.asarray(ball.vertices), np.asarray(ball.faces))
    grid = pixel_grid(camera)
    x, y = (grid[:, 0] - 48) / camera.intrinsics[0, 0], (grid[:, 1] - 48) / camera.intrinsics[1, 1]
    # |z (x, y, 1) - (0, 0, 500)| = radius, the nearer solution.
    a, b, c = x**2 + y**2 + 1, -2 * 500.0, 500.0**2 - radius**2
    root = b**2 - 4 * a * c
    hit = raster.face_id.ravel() >= 0
    # The hull lies within the sphere, so the silhouettes agree to a hair.
    assert np.mean(hit == (root > 0)) > 0.995
    well_inside = hit & (root > 0.1 * b**2 * 0.1)
    expected = (-b - np.sqrt(np.maximum(root, 0))) / (2 * a)
    assert np.abs(raster.depth_mm.ravel() - expected)[well_inside].max() < 0.15
    assert (raster.depth_mm.ravel()[~hit] == 0).all()


def test_slanted_plane_depth_and_interpolation_are_perspective_correct() -> None:
    camera = straight_camera()
    # z = 300 + 2 x, wide enough to fill the image; two triangles whose depths differ ninefold.
    vertices = np.array([[-100.0, -800, 100], [700, -800, 1700], [700, 800, 1700], [-100, 800, 100]])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    raster = rasterize(camera, vertices, faces)
    assert (raster.face_id >= 0).all()
    grid = pixel_grid(camera)
    slope = (grid[:, 0] - 32) / 80
    np.testing.assert_allclose(raster.depth_mm.ravel(), 300 / (1 - 2 * slope), rtol=1e-6)
    # Any linear function of position interpolates exactly; screen-linear weights would miss by centimetres.
    seen = np.einsum("nk,nkc->nc", raster.barycentric.reshape(-1, 3), vertices[faces[raster.face_id.ravel()]])
    truth = unproject(camera, np.concatenate([grid, raster.depth_mm.reshape(-1, 1)], axis=1))
    np.testing.assert_allclose(seen, truth, atol=0.01)
    np.testing.assert_allclose(raster.barycentric.sum(axis=-1), 1, atol=1e-5)


def test_pixel_centers_lie_at_half_integers() -> None:
    camera = straight_camera(size=8, focal_px=1.0)

    # Over u in [2.4, 4.6] lie the centres of columns 2, 3, 4; over v in [1.6, 2.4] none, to 2.6 that of row 2.
    def rectangle(u: tuple[float, float], v: tuple[float, float]) -> np.ndarray:
        return np.array([[u[0] - 4, v[0] - 4, 1], [u[1] - 4, v[0] - 4, 1], [u[1] - 4, v[1] - 4, 1],
                         [u[0] - 4, v[1] - 4, 1]]) * 50.0  # fmt: skip

    faces = np.array([[0, 1, 2], [0, 2, 3]])
    assert (rasterize(camera, rectangle((2.4, 4.6), (1.6, 2.4)), faces).face_id < 0).all()
    hit = rasterize(camera, rectangle((2.4, 4.6), (1.6, 2.6)), faces).face_id >= 0
    assert np.argwhere(hit).tolist() == [[2, 2], [2, 3], [2, 4]]


def test_shared_edges_leave_no_gaps() -> None:
    rng = np.random.default_rng(0)
    n = 40
    y, x = np.mgrid[:n, :n] * 4.0 - 2 * n
    vertices = np.stack([x, y, np.full((n, n), 90.0)], -1).reshape(-1, 3) + rng.uniform(-1.2, 1.2, (n * n, 3))
    i = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    faces = np.concatenate([np.stack([i, i + 1, i + n], 1), np.stack([i + 1, i + n + 1, i + n], 1)])
    assert (rasterize(straight_camera(size=200, focal_px=150.0), vertices, faces).face_id >= 0).all()


def test_nearer_face_wins_in_either_order() -> None:
    square = np.array([[-50.0, -50, 0], [50, -50, 0], [50, 50, 0], [-50, 50, 0]])
    vertices = np.concatenate([square + np.array([0, 0, 200]), square + np.array([0, 0, 150])])
    faces = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    for order in ([0, 1, 2, 3], [2, 3, 0, 1]):
        depth = rasterize(straight_camera(size=32), vertices, faces[order]).depth_mm
        np.testing.assert_allclose(depth[16, 16], 150, rtol=1e-6)


def test_near_plane_cuts_without_wrapping_around() -> None:
    # A floor that runs from behind the camera to far ahead.
    vertices = np.array([[-500.0, 40, -300], [500, 40, -300], [500, 40, 2000], [-500, 40, 2000]])
    raster = rasterize(straight_camera(), vertices, np.array([[0, 1, 2], [0, 2, 3]]))
    v = np.arange(64) + 0.5
    rows = 40 * 80 / (v - 32)  # z where the row's ray meets y = 40
    ahead = (v > 32) & (rows < 1900)
    np.testing.assert_allclose(raster.depth_mm[ahead, 32], rows[ahead], rtol=1e-5)
    assert (raster.face_id[:32] < 0).all()
    behind = rasterize(straight_camera(), vertices - [0, 0, 3000.0], np.array([[0, 1, 2], [0, 2, 3]]))
    assert (behind.face_id < 0).all()


def test_back_faces_go_only_when_asked() -> None:
    camera = orbit_camera(size=32, target_mm=ORIGIN)
    facing = np.array([[-60.0, -60, 0], [60, -60, 0], [0, 60, 0]])  # counter-clockwise from +z
    for faces, culled in ((np.array([[0, 1, 2]]), False), (np.array([[0, 2, 1]]), True)):
        assert (rasterize(camera, facing, faces).face_id >= 0).any()
        assert (rasterize(camera, facing, faces, cull_back=True).face_id < 0).all() == culled


def test_bad_vertices_hurt_only_their_own_faces() -> None:
    vertices = np.array([[-50.0, -50, 200], [50, -50, 200], [0, 50, 200], [np.nan, 0, 200], [np.inf, 0, 100]])
    faces = np.array([[0, 1, 2], [0, 1, 3], [1, 2, 4], [0, 0, 1]])
    good = rasterize(straight_camera(), vertices[:3], faces[:1])
    np.testing.assert_array_equal(rasterize(straight_camera(), vertices, faces).depth_mm, good.depth_mm)


@pytest.mark.parametrize("supersample", [1, 2, 4])
@pytest.mark.parametrize("distance_mm", [400.0, 90.0])
def test_samples_equal_two_rasters_bit_by_bit(supersample: int, distance_mm: float) -> None:
    # At 90 mm the camera stands within the outer ball, whose faces cross the near plane.
    outer, inner = (trimesh.creation.icosphere(subdivisions=4, radius=r) for r in (100.0, 60.0))
    vertices = np.concatenate([outer.vertices, np.asarray(inner.vertices) + np.array([30, 10, 50])])
    faces = np.concatenate([outer.faces, np.asarray(inner.faces) + len(outer.vertices)])
    camera = orbit_camera(size=48, target_mm=ORIGIN, distance_mm=distance_mm, field_mm=220.0, yaw_rad=0.3)
    both = rasterize_samples(camera, vertices, faces, supersample=supersample)
    fine, coarse = rasterize(camera, vertices, faces, supersample=supersample), rasterize(camera, vertices, faces)
    np.testing.assert_array_equal(both.face_id, fine.face_id)
    np.testing.assert_array_equal(both.barycentric, fine.barycentric)
    np.testing.assert_array_equal(both.depth_mm, coarse.depth_mm)
    used = vertices_used(both.face_id, faces, len(vertices))
    np.testing.assert_array_equal(np.flatnonzero(used), np.unique(faces[np.unique(fine.face_id[fine.face_id >= 0])]))


def test_embree_sees_the_same_depth() -> None:
    pytest.importorskip("embreex", reason="the peer of this test; in the dev group")
    from trimesh.ray.ray_pyembree import RayMeshIntersector

    rng = np.random.default_rng(3)
    ball = trimesh.creation.icosphere(subdivisions=5, radius=100.0)
    bumpy = np.asarray(ball.vertices) * (1 + 0.1 * np.sin(np.asarray(ball.vertices) @ rng.normal(0, 0.06, (3, 1))))
    camera = orbit_camera(size=96, target_mm=ORIGIN, distance_mm=450.0, field_mm=250.0, yaw_rad=0.6, pitch_rad=0.2)
    ours = rasterize(camera, bumpy, np.asarray(ball.faces))
    origin = camera_center(camera.cam_from_world)
    ahead = unproject(camera, np.concatenate([pixel_grid(camera), np.ones((96 * 96, 1))], axis=1)) - origin
    caster = RayMeshIntersector(trimesh.Trimesh(bumpy, ball.faces, process=False))
    point, ray, _ = caster.intersects_location(np.tile(origin, (len(ahead), 1)), ahead, multiple_hits=False)
    depth = np.zeros(96 * 96)
    depth[ray] = point @ camera.cam_from_world[2, :3] + camera.cam_from_world[2, 3]
    both = (depth > 0) & (ours.depth_mm.ravel() > 0)
    assert np.mean((depth > 0) == (ours.depth_mm.ravel() > 0)) > 0.999
    # A ray through a silhouette may pass one and stop at the other; everywhere else they agree to float32.
    assert np.percentile(np.abs(depth - ours.depth_mm.ravel())[both], 99.5) < 0.01
