"""Surface errors of shapes whose distances are known."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from omote.evaluation.surfaces import surface_errors
from omote.types import Mesh


def sphere(radius: float) -> Mesh:
    ball = trimesh.creation.icosphere(subdivisions=4, radius=radius)
    return Mesh(vertices=np.asarray(ball.vertices), faces=np.asarray(ball.faces))


def test_two_spheres_are_as_far_apart_as_their_radii() -> None:
    scan = sphere(103.0).vertices
    got = surface_errors(scan, sphere(100.0), num_samples=3000)
    assert got.scan_to_surface.median_mm == pytest.approx(3.0, abs=0.15)
    assert got.surface_to_scan.median_mm == pytest.approx(3.0, abs=1.5)  # the scan's points are 7 mm apart
    assert got.surface_to_scan.p90_mm >= got.surface_to_scan.median_mm


def test_half_a_scan_is_near_the_surface_but_the_surface_is_far_from_it() -> None:
    ball = sphere(100.0)
    half = ball.vertices[ball.vertices[:, 2] > 0]
    got = surface_errors(half, ball, num_samples=3000)
    assert got.scan_to_surface.max_mm < 1e-6
    assert got.surface_to_scan.p90_mm > 50


def closest_by_brute_force(point: np.ndarray, triangles: np.ndarray) -> float:
    """The least distance over every triangle: inside it along its normal, else to its edges."""
    best = np.inf
    for a, b, c in triangles:
        normal = np.cross(b - a, c - a)
        normal /= np.linalg.norm(normal)
        foot = point - ((point - a) @ normal) * normal
        sides = [np.cross(q - p, foot - p) @ normal for p, q in ((a, b), (b, c), (c, a))]
        if min(sides) >= 0:
            best = min(best, abs((point - a) @ normal))
        for p, q in ((a, b), (b, c), (c, a)):
            t = np.clip((point - p) @ (q - p) / ((q - p) @ (q - p)), 0, 1)
            best = min(best, float(np.linalg.norm(point - p - t * (q - p))))
    return best


def test_scan_to_surface_matches_every_triangle_tried() -> None:
    rng = np.random.default_rng(2)
    ball = trimesh.creation.icosphere(subdivisions=2, radius=100.0)
    surface = Mesh(vertices=np.asarray(ball.vertices), faces=np.asarray(ball.faces))
    scan = rng.normal(size=(25, 3))
    scan *= rng.uniform(97, 103, (25, 1)) / np.linalg.norm(scan, axis=1, keepdims=True)
    expected = [closest_by_brute_force(p, surface.vertices[surface.faces]) for p in scan]
    got = surface_errors(scan, surface, num_samples=100).scan_to_surface
    assert got.mean_mm == pytest.approx(np.mean(expected), rel=1e-6)
    assert got.p90_mm == pytest.approx(np.percentile(expected, 90), rel=1e-6)
