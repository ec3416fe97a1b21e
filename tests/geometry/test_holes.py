"""Holes in a dome whose depth is known: what is closed is near it, and what is no hole stays open."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from omote.geometry.camera import orbit_camera
from omote.geometry.holes import closed, holes_of, with_colors_from_inside, with_colors_in_holes
from omote.types import Rgbd

SIZE = 128


@pytest.fixture
def dome() -> Rgbd:
    """A bulge of 60 mm before the standard camera, round, with colours everywhere."""
    camera = orbit_camera(size=SIZE)
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    radius = x**2 + y**2
    mask = radius < 0.6
    depth = np.where(mask, 650 + 100 * radius, 0).astype(np.float32)
    rgb = np.random.default_rng(0).random((SIZE, SIZE, 3)).astype(np.float32)
    return Rgbd(rgb=rgb, depth_mm=depth, mask=mask, camera=camera)


def without(image: Rgbd, lost: np.ndarray) -> Rgbd:
    mask = image.mask & ~lost
    return replace(image, mask=mask, depth_mm=np.where(mask, image.depth_mm, 0).astype(np.float32))


def disc(row: int, column: int, radius: float) -> np.ndarray:
    rows, columns = np.indices((SIZE, SIZE))
    found: np.ndarray = (rows - row) ** 2 + (columns - column) ** 2 < radius**2
    return found


def test_a_whole_image_stays_itself(dome: Rgbd) -> None:
    assert closed(dome) is dome
    nothing = without(dome, np.ones_like(dome.mask))
    assert closed(nothing) is nothing


def test_enclosed_holes_get_the_depth_of_the_surface_and_keep_their_colour(dome: Rgbd) -> None:
    lost = disc(50, 60, 7) | disc(80, 70, 2)
    found = closed(without(dome, lost))
    np.testing.assert_array_equal(found.mask, dome.mask)
    assert np.abs(found.depth_mm - dome.depth_mm)[lost].max() < 1.2
    np.testing.assert_array_equal(found.depth_mm[~lost], dome.depth_mm[~lost])
    np.testing.assert_array_equal(found.rgb, dome.rgb)


def test_colours_run_into_the_holes_of_a_render_and_nowhere_else(dome: Rgbd) -> None:
    lost = disc(50, 60, 5)
    grey = replace(dome, rgb=np.where((lost | ~dome.mask)[..., None], 0.5, 0.2 + 0 * dome.rgb).astype(np.float32))
    found = with_colors_in_holes(without(grey, lost))
    np.testing.assert_allclose(found.rgb[lost], 0.2)
    np.testing.assert_array_equal(found.rgb[~lost], grey.rgb[~lost])
    assert not found.mask[lost].any()


def test_an_outline_has_no_background_in_it(dome: Rgbd) -> None:
    # Red skin before a green wall, an eye that is blue and has no depth, and a lens that mixes what is side by side.
    eye = disc(50, 60, 4)
    sharp = np.where(dome.mask[..., None], [1.0, 0, 0], [0, 1.0, 0])
    sharp[eye] = [0, 0, 1.0]
    mixed = np.stack([ndimage.gaussian_filter(sharp[..., k], 0.7) for k in range(3)], axis=-1).astype(np.float32)
    bay = disc(64, 14, 4) & dome.mask
    mixed[bay] = [0, 1, 0]
    captured = without(replace(dome, rgb=mixed), eye | bay)
    found = closed(with_colors_from_inside(captured, holes_of(captured)))
    assert found.mask[bay].mean() > 0.5
    assert found.rgb[found.mask][:, 1].max() < 0.02
    np.testing.assert_array_equal(found.rgb[eye], mixed[eye])
    np.testing.assert_array_equal(found.rgb[~found.mask], mixed[~found.mask])
    np.testing.assert_array_equal(found.depth_mm[captured.mask], captured.depth_mm[captured.mask])


def test_nothing_is_closed_outside_of_what_is_asked(dome: Rgbd) -> None:
    lost = disc(50, 60, 5) | disc(80, 70, 3)
    captured = without(dome, lost)
    found = closed(captured, holes_of(captured) & disc(80, 70, 6))
    np.testing.assert_array_equal(~found.mask & dome.mask, disc(50, 60, 5))


def test_a_ragged_outline_is_mended_up_to_its_closing(dome: Rgbd) -> None:
    rows, columns = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
    outline = dome.mask & (rows**2 + columns**2 > (np.sqrt(0.6) * SIZE / 2 - 2) ** 2)
    lost = outline & (np.random.default_rng(1).random(outline.shape) < 0.75)
    found = closed(without(dome, lost))
    assert not (found.mask & ~dome.mask).any()
    assert (lost & ~found.mask).sum() < 0.7 * lost.sum()
    assert np.abs(found.depth_mm - dome.depth_mm)[lost & found.mask].max() < 2.0


def test_what_is_too_large_for_a_guess_stays_open(dome: Rgbd) -> None:
    lost = disc(64, 64, 22)
    assert closed(without(dome, lost)).mask.sum() == (dome.mask & ~lost).sum()


def test_a_gap_before_a_wall_stays_open(dome: Rgbd) -> None:
    wall = np.where(dome.mask, dome.depth_mm, 1200).astype(np.float32)
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    shadow = ~dome.mask & (x > 0) & (x**2 + y**2 < 0.72)
    scene = replace(dome, depth_mm=np.where(shadow, 0, wall).astype(np.float32), mask=~shadow)
    assert not closed(scene).mask[shadow].any()


def test_a_gap_that_leaves_the_picture_is_one_by_the_step_across_it(dome: Rgbd) -> None:
    columns = np.indices((SIZE, SIZE))[1]
    gap = (columns >= 62) & (columns < 66)
    for step_mm, is_closed in ((60, True), (500, False)):
        depth = np.where(columns < 64, 650, 650 + step_mm).astype(np.float32)
        scene = replace(dome, depth_mm=np.where(gap, 0, depth).astype(np.float32), mask=~gap)
        assert closed(scene).mask[64, 63] == is_closed


def test_an_enclosed_gap_to_another_surface_stays_open(dome: Rgbd) -> None:
    # A pillar 60 mm before the dome: the ring around it is what it hides.
    ring = disc(64, 64, 14) & ~disc(64, 64, 10)
    pillar = np.where(disc(64, 64, 10), dome.depth_mm - 60, dome.depth_mm).astype(np.float32)
    assert not closed(without(replace(dome, depth_mm=pillar), ring)).mask[ring].any()
    assert closed(without(dome, ring)).mask[ring].all()


@given(seed=st.integers(0, 10_000), lost=st.floats(0.05, 0.95), coarse=st.integers(1, 12), step_mm=st.floats(0, 400))
def test_whatever_is_lost_only_pixels_are_added(seed: int, lost: float, coarse: int, step_mm: float) -> None:
    rng = np.random.default_rng(seed)

    def blobs(share: float) -> np.ndarray:
        small = rng.random((SIZE // coarse + 1,) * 2) < share
        return np.kron(small, np.ones((coarse, coarse), bool))[:SIZE, :SIZE]

    mask = ~blobs(lost)
    depth = np.where(mask, 650 + step_mm * blobs(0.5), 0).astype(np.float32)
    camera = orbit_camera(size=SIZE)
    image = Rgbd(rgb=np.zeros((SIZE, SIZE, 3), np.float32), depth_mm=depth, mask=mask, camera=camera)
    found = closed(image)
    assert not (mask & ~found.mask).any()
    np.testing.assert_array_equal(found.depth_mm[mask], depth[mask])
    assert np.isfinite(found.depth_mm).all()


def test_a_rim_on_one_line_has_no_plate_but_a_nearest_depth(dome: Rgbd) -> None:
    frame = np.zeros_like(dome.mask)
    frame[60:64, 40:90] = True
    frame[61:63, 41:89] = False
    found = closed(replace(dome, mask=frame, depth_mm=np.where(frame, 700, 0).astype(np.float32)))
    assert found.mask[60:64, 40:90].all()
    np.testing.assert_allclose(found.depth_mm[found.mask], 700, atol=1e-3)


def test_noise_on_the_rim_is_not_multiplied(dome: Rgbd) -> None:
    rng = np.random.default_rng(2)
    noisy = replace(
        dome, depth_mm=np.where(dome.mask, dome.depth_mm + rng.normal(0, 1, dome.mask.shape), 0).astype(np.float32)
    )
    lost = disc(60, 64, 6)
    found = closed(without(noisy, lost))
    assert np.abs(found.depth_mm - dome.depth_mm)[lost].mean() < 1.5
