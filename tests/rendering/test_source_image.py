"""What the networks see of a scan: a point cloud looks as the mesh that it was taken from."""

from __future__ import annotations

import numpy as np
import pytest

from omote.geometry.cloud import sample_surface
from omote.head.shipped import shipped_head
from omote.rendering.appearance import default_appearance, paint
from omote.rendering.source import source_image
from omote.types import Mesh, PointCloud, Rgbd

SIZE = 128


@pytest.fixture(scope="module")
def scan() -> Mesh:
    head = shipped_head()
    return Mesh(vertices=head.template_mm, faces=head.faces, vertex_colors=paint(head, default_appearance()))


@pytest.fixture(scope="module")
def seen(scan: Mesh) -> Rgbd:
    return source_image(scan, shipped_head(), scan.vertices, SIZE)


@pytest.mark.parametrize(("count", "depth_mm", "color"), [(4_000, 1.5, 0.04), (60_000, 0.4, 0.02)])
def test_a_point_cloud_is_seen_as_its_mesh(scan: Mesh, seen: Rgbd, count: int, depth_mm: float, color: float) -> None:
    points, _, face, weights = sample_surface(scan.vertices, scan.faces, count, np.random.default_rng(0))
    assert scan.vertex_colors is not None
    colors = np.einsum("nk,nkc->nc", weights, scan.vertex_colors[scan.faces[face]])
    found = source_image(PointCloud(points=points, colors=colors), shipped_head(), scan.vertices, SIZE)
    both = found.mask & seen.mask
    assert both.sum() > 0.95 * (found.mask | seen.mask).sum()
    assert np.abs(found.depth_mm - seen.depth_mm)[both].mean() < depth_mm
    # A pixel between points that kept the background's grey would be far off.
    assert np.abs(found.rgb - seen.rgb)[both].mean() < color
