"""Fusion of depth images against analytic surfaces and against the mean of aligned depths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from omote.errors import ScanError
from omote.geometry.camera import orbit_camera, pixel_grid, project, unproject
from omote.geometry.mesh import face_normals
from omote.geometry.tsdf import fused
from omote.types import Camera, Rgbd

RADIUS_MM = 60.0
BOX = {"low_mm": np.full(3, -80.0), "high_mm": np.full(3, 80.0)}


def sphere(camera: Camera, noise_mm: float = 0.0, seed: int = 0) -> Rgbd:
    """A sphere around the origin, red on the left and green on the right, with noise in depth."""
    grid = pixel_grid(camera)
    far = unproject(camera, np.concatenate([grid, np.ones((len(grid), 1))], axis=1))
    eye = np.linalg.inv(camera.cam_from_world)[:3, 3]
    ray = (far - eye) / np.linalg.norm(far - eye, axis=1, keepdims=True)
    half = ray @ eye
    inner = half**2 - (eye @ eye - RADIUS_MM**2)
    mask = inner > 0
    place = eye + (-half - np.sqrt(np.maximum(inner, 0)))[:, None] * ray
    depth = project(camera, place)[:, 2] + np.random.default_rng(seed).normal(0, noise_mm, len(ray))
    rgb = np.stack([place[:, 0] < 0, place[:, 0] >= 0, np.zeros(len(ray))], axis=1).astype(float)
    shape = camera.height, camera.width
    mask = mask.reshape(shape)
    return Rgbd(
        rgb=rgb.reshape(*shape, 3), depth_mm=np.where(mask, depth.reshape(shape), 0.0), mask=mask, camera=camera
    )


def view(yaw_deg: float, size: int = 160) -> Camera:
    return orbit_camera(size=size, yaw_rad=np.radians(yaw_deg), target_mm=np.zeros(3), field_mm=160.0)


def test_sphere_from_all_sides_is_the_sphere() -> None:
    mesh = fused([sphere(view(yaw)) for yaw in range(0, 360, 45)], **BOX)
    radius = np.linalg.norm(mesh.vertices, axis=1)
    assert abs(np.median(radius) - RADIUS_MM) < 0.1
    assert np.quantile(np.abs(radius - RADIUS_MM), 0.95) < 0.4
    normals = face_normals(mesh.vertices, mesh.faces)
    assert ((normals * mesh.vertices[mesh.faces[:, 0]]).sum(axis=1) > 0).mean() > 0.999


def test_colors_stay_where_they_were_seen() -> None:
    mesh = fused([sphere(view(yaw)) for yaw in (-30, 0, 30)], **BOX)
    assert mesh.vertex_colors is not None
    left, right = mesh.vertices[:, 0] < -5, mesh.vertices[:, 0] > 5
    assert (mesh.vertex_colors[left] @ [1, -1, 0]).min() > 0.5
    assert (mesh.vertex_colors[right] @ [-1, 1, 0]).min() > 0.5


def test_frames_of_one_camera_fuse_to_the_mean_of_their_depths() -> None:
    camera = view(0)
    frames = [sphere(camera, noise_mm=0.5, seed=seed) for seed in range(8)]
    mean = replace(frames[0], depth_mm=np.mean([frame.depth_mm for frame in frames], axis=0))
    together, alone, once = (fused(some, **BOX) for some in (frames, [mean], frames[:1]))

    def error(mesh: object) -> float:
        vertices = mesh.vertices[mesh.vertices[:, 2] > 40]  # type: ignore[attr-defined]
        return float(np.sqrt(np.mean((np.linalg.norm(vertices, axis=1) - RADIUS_MM) ** 2)))

    assert error(together) < 1.25 * error(alone)
    assert error(together) < 0.6 * error(once)


def test_same_frames_give_the_same_mesh() -> None:
    frames = [sphere(view(yaw), noise_mm=0.5, seed=yaw + 30) for yaw in (-30, 0, 30)]
    first, second = fused(frames, **BOX), fused(frames, **BOX)
    np.testing.assert_array_equal(first.vertices, second.vertices)
    np.testing.assert_array_equal(first.faces, second.faces)


def test_an_empty_box_and_a_huge_one_are_refused() -> None:
    with pytest.raises(ScanError, match="found none"):
        fused([sphere(view(0))], low_mm=np.full(3, 200.0), high_mm=np.full(3, 240.0))
    with pytest.raises(ScanError, match="larger voxels"):
        fused([sphere(view(0))], low_mm=np.full(3, -500.0), high_mm=np.full(3, 500.0))
