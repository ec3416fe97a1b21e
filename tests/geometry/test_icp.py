"""Registration of depth images: disturbed poses are found again, together or to fixed ones, and wrong poses do not fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from omote.geometry.camera import orbit_camera
from omote.geometry.holes import without_pinholes
from omote.geometry.icp import FAR_MM, Pose, View, agreement, registered, view_of
from omote.head.shipped import shipped_head
from omote.rendering.scans import render_mesh
from omote.types import Mesh, Rgbd

YAWS = (-40, -15, 15, 40)


def images(noise_mm: float = 0.3) -> list[Rgbd]:
    head = shipped_head()
    mesh = Mesh(vertices=head.template_mm.astype(np.float64), faces=head.faces)
    rng, out = np.random.default_rng(0), []
    for yaw in YAWS:
        image = render_mesh(mesh, orbit_camera(size=160, yaw_rad=np.radians(yaw), field_mm=320.0))
        noisy = image.depth_mm + noise_mm * rng.standard_normal(image.depth_mm.shape)
        out.append(replace(image, depth_mm=np.where(image.mask, noisy, 0.0)))
    return out


@pytest.fixture(scope="module")
def views() -> tuple[list[View], list[Pose]]:
    found = images()
    return [view_of(image) for image in found], [np.linalg.inv(image.camera.cam_from_world) for image in found]


def disturbed(pose: Pose, degrees: float, mm: float, seed: int) -> Pose:
    rng, motion = np.random.default_rng(seed), np.eye(4)
    axis, way = rng.standard_normal(3), rng.standard_normal(3)
    motion[:3, :3] = Rotation.from_rotvec(np.radians(degrees) * axis / np.linalg.norm(axis)).as_matrix()
    motion[:3, 3] = mm * way / np.linalg.norm(way)
    return np.asarray(motion @ pose)


def apart(first: Pose, second: Pose) -> tuple[float, float]:
    motion = second @ np.linalg.inv(first)
    center = np.array([0.0, -30.0, -60.0])
    moved = motion[:3, :3] @ center + motion[:3, 3] - center
    return float(np.degrees(Rotation.from_matrix(motion[:3, :3]).magnitude())), float(np.linalg.norm(moved))


def test_an_image_is_registered_to_fixed_ones(views: tuple[list[View], list[Pose]]) -> None:
    seen, true = views
    start = [true[0], disturbed(true[1], 6.0, 8.0, 1), true[2], true[3]]
    found = registered(seen, start, [(0, 1), (1, 2), (1, 3)], limits_mm=FAR_MM, fixed=(0, 2, 3))
    degrees, mm = apart(true[1], found[1])
    assert degrees < 0.3
    assert mm < 0.3
    for i in (0, 2, 3):
        np.testing.assert_array_equal(found[i], true[i])


def test_all_poses_are_found_together(views: tuple[list[View], list[Pose]]) -> None:
    seen, true = views
    start = [disturbed(pose, 3.0, 4.0, seed) for seed, pose in enumerate(true)]
    pairs = [(i, j) for i in range(4) for j in range(i)]
    found = registered(seen, start, pairs, limits_mm=FAR_MM)
    # The world may move as a whole.
    gauge = true[1] @ np.linalg.inv(found[1])
    errors = [apart(pose, gauge @ one) for pose, one in zip(true, found, strict=True)]
    assert max(degrees for degrees, _ in errors) < 0.5
    assert max(mm for _, mm in errors) < 0.5


def test_surfaces_fit_where_the_poses_are_right(views: tuple[list[View], list[Pose]]) -> None:
    seen, true = views
    right = agreement(seen[1], seen[2], true[1], true[2])
    wrong = agreement(seen[1], seen[2], true[1], disturbed(true[2], 12.0, 0.0, 4))
    assert right.fits > 0.98
    assert right.overlap > 0.5
    assert wrong.fits < 0.8
    away = agreement(seen[1], seen[2], true[1], disturbed(true[2], 0.0, 2000.0, 4))
    assert away.overlap == 0


def test_images_that_share_nothing_keep_their_poses(views: tuple[list[View], list[Pose]]) -> None:
    seen, true = views
    start = [true[0], disturbed(true[1], 0.0, 2000.0, 4)]
    found = registered(seen[:2], start, [(0, 1)])
    for before, after in zip(start, found, strict=True):
        np.testing.assert_allclose(after, before)


def test_pinholes_are_closed_and_gaps_are_not() -> None:
    image = images(0.0)[1]
    rows, columns = np.nonzero(image.mask)
    middle = int(np.median(rows)), int(np.median(columns))
    mask = image.mask.copy()
    mask[middle] = mask[middle[0] + 4, middle[1] : middle[1] + 2] = False
    mask[middle[0] - 12 : middle[0] - 4, middle[1] : middle[1] + 8] = False
    holed = replace(image, mask=mask, depth_mm=np.where(mask, image.depth_mm, 0.0))
    closed = without_pinholes(holed)
    assert closed.mask[middle]
    assert closed.mask[middle[0] + 4, middle[1]]
    assert abs(closed.depth_mm[middle] - image.depth_mm[middle]) < 1.0
    assert not closed.mask[middle[0] - 9, middle[1] + 4]
    outline = image.mask ^ closed.mask
    assert outline.sum() < 0.02 * image.mask.sum()
