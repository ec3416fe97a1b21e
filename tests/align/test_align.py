"""Alignment recovers what was turned, scaled and moved, and refuses what is not one head."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from omote.align.align import MM_PER_UNIT, Alignment, align, transformed
from omote.align.confirm import confirmed, most_confidence
from omote.align.landmarks import Candidate, find_faces, load_landmark_networks, whole_windows
from omote.align.surface import surface_of
from omote.align.views import color_planes, geometry_view, large_parts, splat, view_rotation
from omote.errors import AlignmentError, CheckpointError, ScanError
from omote.geometry.camera import orbit_camera, rgbd_points, transform
from omote.geometry.foreground import nearer_than
from omote.geometry.mesh import vertex_normals
from omote.head.fit import Fit, eyeball_centers, fit_head
from omote.head.model import HeadModel
from omote.head.region import head_region
from omote.head.shipped import shipped_head
from omote.rendering.zbuffer import rasterize
from omote.types import Mesh, PointCloud, Rgbd

pytestmark = pytest.mark.early


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return shipped_head()


def person(head: HeadModel, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    vertices = head.vertices(np.clip(rng.standard_normal(head.num_identity), -2, 2)).astype(np.float64)
    return vertices - eyeball_centers(head, vertices).mean(axis=0)


def moved(unit: str, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    out = np.eye(4)
    out[:3, :3] = Rotation.random(rng=rng).as_matrix() / MM_PER_UNIT[unit]
    out[:3, 3] = rng.normal(0, 400, 3) / MM_PER_UNIT[unit]
    return out


def check(found: Alignment, scan_from_canonical: np.ndarray) -> None:
    error = found.canonical_from_scan @ scan_from_canonical
    size = np.cbrt(np.linalg.det(error[:3, :3]))
    assert np.rad2deg(Rotation.from_matrix(error[:3, :3] / size).magnitude()) < 5
    assert np.linalg.norm(error[:3, 3]) < 3
    assert found.fit.median_mm < 1.0
    assert found.median_mm < 0.5


# Every test here has another pose, and the units are spread over them: m here, mm of points, cm and inches of parts.
def test_a_mesh_in_any_pose(head: HeadModel) -> None:
    matrix = moved("m", 1)
    found = align(Mesh(vertices=transform(matrix, person(head, 1)), faces=head.faces), head=head)
    check(found, matrix)
    assert found.unit == "m"
    assert not found.unit_given
    assert found.mm_per_unit == pytest.approx(MM_PER_UNIT["m"])
    # The frame's origin is midway between the refined head's eyeballs, exactly.
    np.testing.assert_allclose(eyeball_centers(head, found.neutral_mm).mean(axis=0), 0.0, atol=1e-6)
    assert isinstance(found.scan, Mesh)
    assert found.on_face.shape == (head.num_vertices,)
    assert 0.1 < found.on_face.mean() < 0.9
    assert all(isinstance(v, bool | float | str) for v in found.report().values())


def test_points_without_normals(head: HeadModel) -> None:
    rng = np.random.default_rng(0)
    vertices, matrix = person(head, 5), moved("mm", 5)
    points, _ = trimesh.sample.sample_surface(trimesh.Trimesh(vertices, head.faces, process=False), 20_000, seed=1)
    found = align(PointCloud(points=transform(matrix, points + rng.normal(0, 0.4, points.shape))), head=head)
    check(found, matrix)
    assert found.unit == "mm"
    assert isinstance(found.scan, PointCloud)


def test_a_depth_frame_keeps_its_camera(head: HeadModel) -> None:
    camera = orbit_camera(size=200, yaw_rad=0.3, pitch_rad=0.1, roll_rad=0.4, distance_mm=600.0, field_mm=300.0)
    raster = rasterize(camera, person(head, 6), head.faces)
    mask = raster.face_id >= 0
    truth = camera.cam_from_world
    frame = Rgbd(
        rgb=np.full((200, 200, 3), 0.5), depth_mm=raster.depth_mm.astype(np.float64), mask=mask,
        camera=replace(camera, cam_from_world=np.eye(4)),
    )  # fmt: skip
    found = align(frame, head=head)
    assert found.unit == "mm"
    check(found, truth)
    points = transform(found.canonical_from_scan, rgbd_points(frame)[0])
    # All but a few loose pixels along the outline.
    assert (cKDTree(found.scan.points).query(points)[0] > 1e-6).mean() < 0.002
    assert found.inferred[head.landmark_vertices[[0, 16]]].any()  # the far cheek is not seen


def test_a_frames_small_holes_are_closed_with_their_own_colours(head: HeadModel) -> None:
    camera = orbit_camera(size=160, distance_mm=600.0, field_mm=300.0)
    raster = rasterize(camera, person(head, 6), head.faces)
    rows, columns = np.indices((160, 160))
    mask = raster.face_id >= 0
    lost = (rows - 80) ** 2 + (columns - 80) ** 2 < 9
    rgb = np.where(lost[..., None], (0.0, 1.0, 0.0), 0.5)
    frame = Rgbd(rgb=rgb, depth_mm=np.where(lost, 0.0, raster.depth_mm), mask=mask & ~lost, camera=camera)
    found = transformed(frame, np.eye(4))
    assert isinstance(found, PointCloud)
    assert found.colors is not None
    green = found.points[found.colors[:, 1] == 1.0]
    truth = rgbd_points(replace(frame, depth_mm=raster.depth_mm.astype(np.float64), mask=lost))[0]
    np.testing.assert_allclose(green, truth, atol=2.0)


def test_given_landmarks_and_unit_override(head: HeadModel) -> None:
    vertices, matrix = person(head, 7), moved("cm", 7)
    landmarks = transform(matrix, head.landmarks(vertices))
    landmarks[:17] = np.nan
    scan = Mesh(vertices=transform(matrix, vertices), faces=head.faces)
    found = align(scan, head=head, landmarks=landmarks, unit="cm")
    check(found, matrix)
    assert found.unit_given
    np.testing.assert_array_equal(found.landmark_confidence[:17], 0)
    with pytest.raises(AlignmentError, match="--unit"):
        align(scan, head=head, landmarks=landmarks, unit="mm")
    with pytest.raises(AlignmentError, match="unit: expected auto or one of"):
        align(scan, head=head, unit="furlong")
    with pytest.raises(AlignmentError, match="landmarks"):
        align(scan, head=head, landmarks=landmarks + 5000.0)


# Boxes, bodies without heads, hands and more are refused too: `benchmarks/align.py` measures hundreds.
def test_a_ball_is_refused(head: HeadModel) -> None:
    mesh = trimesh.creation.icosphere(5, 110)
    with pytest.raises(AlignmentError, match="--landmarks") as caught:
        align(Mesh(vertices=np.array(mesh.vertices, float), faces=np.array(mesh.faces)), head=head)
    assert "\n" not in str(caught.value)


def test_two_heads_are_refused(head: HeadModel) -> None:
    a, b = person(head, 8) + np.array([150.0, 0, 0]), person(head, 9) - np.array([150.0, 0, 0])
    both = Mesh(vertices=np.concatenate([a, b]), faces=np.concatenate([head.faces, head.faces + len(a)]))
    with pytest.raises(AlignmentError, match="two faces"):
        align(both, head=head)


def test_too_few_points_are_refused(head: HeadModel) -> None:
    with pytest.raises(ScanError, match="denser"):
        align(PointCloud(points=np.zeros((50, 3))), head=head)
    with pytest.raises(ScanError, match="one place"):
        align(PointCloud(points=np.ones((5000, 3))), head=head)
    with pytest.raises(ScanError, match="denser"):
        align(PointCloud(points=np.full((5000, 3), np.nan)), head=head)


@pytest.mark.parametrize("name", ["lee_perry_smith.obj", "demoface_10k.obj"])
def test_real_scans(head: HeadModel, shared_dir: Path, name: str) -> None:
    from omote.formats import read

    found = align(read(shared_dir / "data/scans" / name), head=head)
    assert found.unit == ("m" if name.startswith("lee") else "mm")
    assert found.fit.median_mm <= 1.0
    assert found.fit.p90_mm <= 3.0
    assert found.median_mm <= 0.5


def test_finder_needs_no_unit(head: HeadModel) -> None:
    vertices = person(head, 10)

    def best(points: np.ndarray) -> Candidate:
        surface = surface_of(PointCloud(points=points))
        return find_faces(surface.coarse, whole_windows(surface), load_landmark_networks())[0]

    found, small = best(vertices), best(vertices * 1e-3 + 7.0)
    assert found.canonical_from_scan[2, 2] > 0.7
    assert np.linalg.norm(found.center - [0, -35, 15]) < 40
    np.testing.assert_allclose(small.canonical_from_scan[:3, :3] * 1e-3, found.canonical_from_scan[:3, :3], atol=0.05)


def part_of(vertices: np.ndarray, faces: np.ndarray, keep: np.ndarray) -> Mesh:
    mesh = trimesh.Trimesh(vertices, faces[keep[faces].all(axis=1)], process=False)
    mesh.remove_unreferenced_vertices()
    return Mesh(vertices=np.array(mesh.vertices, float), faces=np.array(mesh.faces))


@pytest.mark.parametrize(("kind", "unit", "seed"), [("mask", "cm", 11), ("half", "in", 4)])
def test_a_part_of_a_head_is_enough(head: HeadModel, kind: str, unit: str, seed: int) -> None:
    vertices, matrix = person(head, seed), moved(unit, seed)
    x, y, z = vertices.T
    keep = {
        "mask": ((x / 65) ** 2 + ((y + 35) / 85) ** 2 < 1) & (z > -60),
        "half": x > -8,
    }[kind]
    mesh = part_of(vertices, head.faces, keep)
    found = align(replace(mesh, vertices=transform(matrix, mesh.vertices)), head=head)
    check(found, matrix)
    assert found.unit == unit
    assert found.inferred[z < -120].all()  # the skull is the head model's


def frame_with_wall(head: HeadModel, wall_mm: float) -> tuple[Rgbd, np.ndarray]:
    """(a frame 640 pixels wide with a person 800 mm and a wall farther away, camera_from_canonical)."""
    camera = orbit_camera(size=480, yaw_rad=0.2, distance_mm=800.0, field_mm=800.0)
    raster = rasterize(camera, person(head, 12), head.faces)
    depth = np.where(raster.face_id >= 0, raster.depth_mm, wall_mm).astype(np.float64)
    rest = replace(camera, cam_from_world=np.eye(4))
    rgb = np.full((480, 480, 3), 0.5)
    return Rgbd(rgb=rgb, depth_mm=depth, mask=np.ones_like(depth, bool), camera=rest), camera.cam_from_world


def test_a_wall_behind_a_face_is_left_out(head: HeadModel) -> None:
    wall_mm = 1200.0
    frame, matrix = frame_with_wall(head, wall_mm)
    found = align(frame, head=head)
    check(found, matrix)
    assert found.scan.points[:, 2].min() > -300 if isinstance(found.scan, PointCloud) else False
    assert found.background_share == pytest.approx((frame.depth_mm == wall_mm).mean(), abs=0.01)


def test_max_depth_keeps_what_is_nearer(head: HeadModel) -> None:
    frame, _ = frame_with_wall(head, 1200.0)
    kept = nearer_than(frame, 1000.0)
    np.testing.assert_array_equal(kept.mask, frame.depth_mm <= 1000)
    assert (kept.depth_mm[~kept.mask] == 0).all()
    with pytest.raises(ScanError, match="max depth: expected more than the nearest depth"):
        nearer_than(frame, 100.0)


def test_two_heads_far_apart_are_refused(head: HeadModel) -> None:
    a, b = person(head, 8), person(head, 9) + np.array([1360.0, 0, 200.0])
    both = Mesh(vertices=np.concatenate([a, b]), faces=np.concatenate([head.faces, head.faces + len(a)]))
    with pytest.raises(AlignmentError, match="two faces"):
        align(both, head=head)


def test_parts_of_a_scan_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    near, far, stray = rng.normal(0, 30, (4000, 3)), rng.normal(0, 30, (2000, 3)) + 900, rng.normal(0, 1, (20, 3)) + 400
    assert [len(p) for p in large_parts(np.concatenate([near, far, stray]))] == [4000, 2000]
    assert len(large_parts(near)) == 1


def test_splat_keeps_the_nearest() -> None:
    nearest = splat(np.array([[4.5, 4.5, 9.0], [4.5, 4.5, 2.0], [-50.0, 3.0, 1.0]]), 9, 1)
    assert nearest[4, 4] == 1
    assert (nearest >= 0).sum() == 9


def test_geometry_of_a_slope() -> None:
    v, u = np.mgrid[:64, :64] + 0.5
    view = geometry_view(np.stack([u.ravel(), v.ravel(), 0.5 * (u.ravel() - 32)], axis=1), 64)
    # A radius-1 splat brings a slope half a pixel's rise nearer, but leaves its normal.
    np.testing.assert_allclose(view.planes[0, 20:44, 20:44], 0.5 / np.sqrt(1.25), atol=1e-3)
    np.testing.assert_allclose(view.planes[1, 20:44, 20:44], 0.0, atol=1e-4)
    assert np.isfinite(view.depth_px).all()


def test_colours_of_a_view_know_no_exposure() -> None:
    v, u = np.mgrid[:64, :64] + 0.5
    points = np.stack([u.ravel(), v.ravel(), np.zeros(64 * 64)], axis=1)
    colors = np.where(points[:, :1] > 32, 0.6, 0.3) * np.array([1.0, 0.8, 0.7])
    view = geometry_view(points, 64)
    planes = color_planes(view, colors)
    np.testing.assert_allclose(color_planes(view, 0.5 * colors + 0.1), planes, atol=0.08)
    assert planes[0, 32, 50] > 0.3 > -0.3 > planes[0, 32, 10]
    assert not color_planes(view, None).any()


def test_view_rotations_look_at_the_origin() -> None:
    for direction in np.random.default_rng(0).standard_normal((20, 3)):
        r = view_rotation(direction)
        np.testing.assert_allclose(r @ r.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(r) == pytest.approx(1)
        np.testing.assert_allclose(r @ (direction / np.linalg.norm(direction)), [0, 0, -1], atol=1e-12)


def test_missing_weights_are_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="landmark networks"):
        load_landmark_networks(tmp_path / "none.safetensors")


def test_points_near_a_face_do_not_depend_on_what_was_looked_at_before(head: HeadModel) -> None:
    surface = surface_of(Mesh(vertices=person(head, 7), faces=head.faces))
    first, _ = surface.near(np.eye(4), 500)
    surface.near(np.eye(4), 300)
    np.testing.assert_array_equal(surface.near(np.eye(4), 500)[0], first)


def test_no_fit_gives_more_confidence_than_landmarks_allow(head: HeadModel) -> None:
    surface = surface_of(Mesh(vertices=person(head, 7), faces=head.faces))
    marks = head.landmarks(person(head, 7))
    sure, unsure = (confirmed(head, surface, marks, np.full(68, c)) for c in (1.0, 0.5))
    assert sure is not None
    assert unsure is not None
    assert unsure.score <= most_confidence(np.full(68, 0.5)) < 0.3 < sure.score <= most_confidence(np.ones(68))


@pytest.mark.parametrize(("farther_mm", "taken"), [(2.0, False), (-0.1, True)])
def test_a_wide_prior_of_the_expression_must_fit_better(
    head: HeadModel, monkeypatch: pytest.MonkeyPatch, farther_mm: float, taken: bool
) -> None:
    """A face at rest that was taken for an expression: the wide fit may slide along the lips."""
    vertices = person(head, 3)
    fitted: list[Fit] = []

    def fit(*args: Any, **named: Any) -> Fit:
        found = fit_head(*args, **named)
        if fitted:  # the second one has the wide prior
            found = replace(
                fitted[0], landmark_residual_mm=fitted[0].landmark_residual_mm + farther_mm, coverage=found.coverage
            )
        fitted.append(found)
        return found

    monkeypatch.setattr("omote.align.align.fit_head", fit)
    monkeypatch.setattr("omote.align.align.shown_units", lambda expression: {"jawOpen": 0.3})
    found = align(
        Mesh(vertices=vertices, faces=head.faces), head=head, landmarks=head.landmarks(vertices), refinement=False
    )
    assert len(fitted) == 2
    assert np.array_equal(found.fit.landmark_residual_mm, fitted[taken].landmark_residual_mm, equal_nan=True)


def test_a_heads_inside_is_no_part_of_its_face(head: HeadModel) -> None:
    # Meshes of other head models have a mouth behind the lips and sockets behind the lids, within reach of the face's surface.
    vertices, matrix = person(head, 12), moved("mm", 12)
    region = head_region(head)
    inner = vertices - 8.0 * vertex_normals(vertices, head.faces)
    faces = head.faces[region.face[head.faces].all(axis=1)]
    whole = Mesh(
        vertices=transform(matrix, np.concatenate([vertices, inner])),
        faces=np.concatenate([head.faces, faces + len(vertices)]),
    )
    found = align(whole, head=head)
    assert found.confidence > 0.9
    assert found.p90_mm < 2.0
