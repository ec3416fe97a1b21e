"""3D to views: registered, and honest about what they lack."""

from dataclasses import replace

import numpy as np
import pytest

from omote.geometry.rig import Rig
from omote.head.shipped import shipped_head
from omote.multiview.views import Views, disagreement, views_of
from omote.rendering.rgbd import render_head
from omote.types import Mesh, PointCloud

SIZE = 64


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    head = shipped_head()
    colors = np.clip(0.5 + head.template_mm / 300, 0, 1)
    return Mesh(vertices=head.template_mm.astype(np.float64), faces=head.faces, vertex_colors=colors)


@pytest.fixture(scope="module")
def views(mesh: Mesh) -> Views:
    return views_of(mesh, Rig(), SIZE)


def test_views_of_a_mesh_agree_in_depth(views: Views) -> None:
    errors = disagreement(views.images).depth_mm
    assert len(errors) > 10_000
    assert np.median(errors) < 0.4
    front = views.images[0]
    off = [replace(front, depth_mm=np.where(front.mask, front.depth_mm + 5, 0)), *views.images[1:]]
    assert np.median(disagreement(off).depth_mm) > np.median(errors) + 0.5


def test_the_nose_hides_a_cheek_from_the_side(views: Views) -> None:
    left, right = views.images[1], views.images[2]
    seen = views.seen_by[0, 1]
    # The camera at the person's left sees the left cheek (right half of the front image), and not the right one.
    half = SIZE // 2
    assert seen[:, half:][left.mask[:, half:] & views.images[0].mask[:, half:]].mean() > 0.8
    assert seen[20:50, 16:26].mean() < views.seen_by[0, 2][20:50, 16:26].mean() - 0.2
    assert right.mask.any()
    assert views.seen_by[0, 0][views.images[0].mask].all()


def test_one_image_leaves_its_far_side_out(mesh: Mesh) -> None:
    front = views_of(mesh, Rig(yaw_deg=(0.0,), pitch_deg=(0.0,)), 128).images[0]
    head = shipped_head()
    turned = Rig(yaw_deg=(0.0, 75.0), pitch_deg=(0.0, 0.0))
    again = views_of(front, turned, SIZE, head=head, vertices_mm=head.template_mm)
    whole = views_of(mesh, turned, SIZE)
    # What no camera saw is missing, not invented; what it saw is where it was.
    assert again.missing[1].mean() > 0.1 > again.missing[0].mean()
    both = again.images[0].mask & whole.images[0].mask
    assert np.median(np.abs(again.images[0].depth_mm - whole.images[0].depth_mm)[both]) < 0.6


def test_points_give_the_views_of_their_surface(mesh: Mesh, views: Views) -> None:
    cloud = PointCloud(points=mesh.vertices, colors=mesh.vertex_colors)
    found = views_of(cloud, Rig(), SIZE)
    both = found.images[3].mask & views.images[3].mask
    assert both.sum() > 0.7 * views.images[3].mask.sum()
    assert np.median(np.abs(found.images[3].depth_mm - views.images[3].depth_mm)[both]) < 1.5


def test_a_head_turned_inside_out_is_still_seen(mesh: Mesh, views: Views) -> None:
    wound = replace(mesh, faces=mesh.faces[:, ::-1])
    assert views_of(wound, Rig(), SIZE).images[0].mask.sum() == views.images[0].mask.sum()


def test_views_are_those_of_the_renderer(views: Views) -> None:
    head = shipped_head()
    rendered = render_head(head, head.template_mm, Rig().cameras(SIZE)[1])
    both = rendered.mask & views.images[1].mask
    np.testing.assert_allclose(rendered.depth_mm[both], views.images[1].depth_mm[both], atol=1e-3)
