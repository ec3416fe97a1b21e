"""A scan renders alike from its mesh, its points and its own RGB-D image, whatever its pose and unit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh

from omote.api.scans import Scan, reading, render_aligned
from omote.geometry.camera import orbit_camera
from omote.progress import NOTE, Step, finish
from omote.types import Mesh, PointCloud

RADIUS_MM = 80.0
SPHERE = trimesh.creation.icosphere(subdivisions=5, radius=RADIUS_MM)


def similarity() -> np.ndarray:
    """Turn, scale (metres to millimetres) and shift."""
    out = trimesh.transformations.random_rotation_matrix(np.array([0.1, 0.5, 0.9]))
    out[:3, :3] *= 1000.0
    out[:3, 3] = [10.0, -20.0, 30.0]
    return out


def in_scan_coordinates(points_mm: np.ndarray) -> np.ndarray:
    back = np.linalg.inv(similarity())
    return points_mm @ back[:3, :3].T + back[:3, 3]


def sphere(kind: str) -> Scan:
    points = in_scan_coordinates(np.asarray(SPHERE.vertices))
    normals = np.asarray(SPHERE.vertices) / RADIUS_MM @ (np.linalg.inv(similarity())[:3, :3] * 1000.0).T
    if kind == "mesh":
        return Mesh(vertices=points, faces=np.asarray(SPHERE.faces))
    return PointCloud(points=points, normals=normals if kind == "oriented points" else None)


@pytest.mark.parametrize("kind", ["mesh", "points", "oriented points"])
def test_a_sphere_has_a_spheres_depth(kind: str) -> None:
    camera = orbit_camera(size=96, target_mm=np.zeros(3), distance_mm=700.0)
    image = render_aligned(sphere(kind), similarity(), camera)
    v, u = np.mgrid[:96, :96] + 0.5
    ray = np.stack([(u - 48) / camera.intrinsics[0, 0], (v - 48) / camera.intrinsics[1, 1], np.ones((96, 96))], -1)
    a, b, c = (ray**2).sum(-1), -2 * 700.0 * ray[..., 2], 700.0**2 - RADIUS_MM**2
    inside = b**2 - 4 * a * c > 0
    depth = (-b - np.sqrt(np.maximum(b**2 - 4 * a * c, 0))) / (2 * a)
    facing = depth < 700.0 - 0.5 * RADIUS_MM
    assert image.mask[facing].all()
    assert image.mask[~inside].sum() < 0.08 * inside.sum()  # splats reach a pixel beyond the edge
    assert np.abs(image.depth_mm - depth)[facing & inside].max() < (0.1 if kind == "mesh" else 3.0)


def test_an_rgbd_image_renders_back_to_itself() -> None:
    camera = orbit_camera(size=96, target_mm=np.zeros(3))
    first = render_aligned(sphere("mesh"), similarity(), camera)
    again = render_aligned(first, np.eye(4), camera)
    both = first.mask & again.mask
    assert both.sum() > 0.97 * first.mask.sum()
    assert np.median(np.abs(again.depth_mm - first.depth_mm)[both]) < 0.5


def test_every_note_of_reading_is_a_step(tmp_path: Path) -> None:
    path = tmp_path / "scan.xyz"
    np.savetxt(path, np.random.default_rng(0).normal(size=(600, 4)))
    steps: list[Step] = []
    scan, facts = finish(reading(path), steps.append)
    assert isinstance(scan, PointCloud)
    assert [step.note for step in steps if step.stage == NOTE] == [
        "no colour was read: the skin will be drawn",
        "columns not read: 4",
    ]
    assert facts["scan/num_points"] == 600
    assert finish(reading(scan)) == (scan, {})
