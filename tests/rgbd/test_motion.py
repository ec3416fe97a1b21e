"""Motion images against the head they are drawn from, and warping against images that move as known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from omote.head.expressions import ARKIT_INDEX
from omote.head.shipped import shipped_head
from omote.rendering.zbuffer import rasterize
from omote.rgbd.codec import pack, reference_depth_mm
from omote.rgbd.conditions.arkit import Arkit
from omote.rgbd.conditions.motion import SIZE, Motion, MotionPainter, mean_face
from omote.rgbd.locator import LandmarkLocator, mean_landmarks
from omote.rgbd.warp import FLOW_UNIT_PX, IMAGE_SIZE, NUM_CHANNELS, moved, shifted, surfaced, warped

MEAN = mean_face(shipped_head())


def motion_image(arkit, face=MEAN):
    return MotionPainter(face)(arkit)


def motion_images(arkit, faces):
    return Motion.drawn(Arkit(weights=arkit, given=torch.ones(len(arkit), dtype=torch.bool)), faces).image


def weights(**units):
    out = np.zeros(52, np.float32)
    for name, value in units.items():
        out[ARKIT_INDEX[name]] = value
    return out


def test_nothing_moves_at_rest():
    motion = motion_image(weights())
    assert np.abs(motion[:3]).max() < 1e-3
    assert motion[3].sum() > 0  # the eyes are open


def test_an_opening_jaw_brings_the_chin_from_above_and_shows_the_mouth():
    motion = motion_image(weights(jawOpen=0.8))
    x, y = (mean_landmarks(shipped_head())[8] / (IMAGE_SIZE / SIZE)).long().tolist()
    # The chin's skin came from higher up: smaller y.
    assert motion[1, y, x] * FLOW_UNIT_PX < -2
    shown, before = motion[4:].sum(axis=(1, 2)), motion_image(weights())[4:].sum(axis=(1, 2))
    assert shown[0] > before[0] + 5  # teeth
    assert shown[2] > 5 * before[2] + 5  # the dark behind them
    forehead = motion[:3, : y // 3]
    assert np.abs(forehead).max() < 0.05


def test_a_batch_is_its_rows():
    rows = torch.from_numpy(np.stack([weights(jawOpen=0.5), weights(mouthSmileLeft=1.0)]))
    batch = motion_images(rows, [MEAN, MEAN])
    assert batch.shape == (2, NUM_CHANNELS, SIZE, SIZE)
    np.testing.assert_array_equal(batch[1].numpy(), motion_image(rows[1].numpy()))


def test_it_follows_the_face_in_its_camera():
    """The same head, seen by a camera turned by whole pixels: the motion image shifts and nothing else."""
    face = MEAN
    shift = 4
    intrinsics = face.camera.intrinsics.copy()
    intrinsics[0, 2] += shift
    there = motion_image(weights(jawOpen=0.7), replace(face, camera=replace(face.camera, intrinsics=intrinsics)))
    here = motion_image(weights(jawOpen=0.7))
    np.testing.assert_allclose(there[..., 8:-8], np.roll(here, shift, axis=-1)[..., 8:-8], atol=1e-3)


def test_a_persons_own_jaw_moves_where_theirs_is():
    """A longer face: its chin moves lower in the picture than the mean's."""
    mean = MEAN
    longer = replace(mean, vertices_mm=mean.vertices_mm * np.array([1.0, 1.15, 1.0], np.float32))
    jaw = weights(jawOpen=0.8)
    for face in (mean, longer):
        assert np.isfinite(motion_image(jaw, face)).all()
    lowest = [np.nonzero(np.abs(motion_image(jaw, face)[1, :, SIZE // 2]) > 0.2)[0].max() for face in (mean, longer)]
    assert lowest[1] > lowest[0] + 4


def test_faces_of_a_batch_are_their_own():
    mean = MEAN
    wider = replace(mean, vertices_mm=mean.vertices_mm * np.array([1.1, 1.0, 1.0], np.float32))
    rows = torch.from_numpy(np.stack([weights(jawOpen=0.5)] * 3))
    batch = motion_images(rows, [mean, wider, mean])
    torch.testing.assert_close(batch[0], batch[2])
    np.testing.assert_array_equal(batch[1].numpy(), motion_image(rows[1].numpy(), wider))


def test_shifting_a_motion_is_moving_twice():
    image = torch.rand(1, 5, SIZE, SIZE)
    motion = torch.zeros(1, NUM_CHANNELS, SIZE, SIZE)
    motion[:, 0] = 3 / FLOW_UNIT_PX
    motion[:, 2] = torch.linspace(-1, 1, SIZE)
    shift = torch.zeros(1, 2, 16, 16)
    shift[:, 0] = 2 / FLOW_UNIT_PX
    once = moved(image, shifted(motion, shift))
    twice = warped(moved(image, motion), torch.nn.functional.interpolate(shift, size=(SIZE, SIZE)))
    torch.testing.assert_close(once[..., :-8], twice[..., :-8], atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [32, 128])
def test_a_constant_flow_shifts_an_image_of_any_size(size):
    image = torch.rand(1, 5, size, size)
    motion = torch.zeros(1, NUM_CHANNELS, SIZE, SIZE)
    pixels = 3
    motion[:, 0] = pixels * IMAGE_SIZE / size / FLOW_UNIT_PX
    torch.testing.assert_close(warped(image, motion)[..., :-pixels], image[..., pixels:], atol=1e-4, rtol=0)


def test_moved_depth_follows_the_head_in_millimetres():
    image = torch.zeros(1, 5, 128, 128)
    motion = torch.zeros(1, NUM_CHANNELS, SIZE, SIZE)
    motion[:, 2] = -0.5  # 5 mm nearer
    out = moved(image, motion)
    torch.testing.assert_close(out[:, 3], torch.full((1, 128, 128), -0.05))
    assert float(out[:, [0, 1, 2, 4]].abs().max()) == 0


def seen(expression, *, behind_mm=0.0):
    """The mean head's depth from its reference plane and where it shows, under ARKit weights."""
    face, head = MEAN, shipped_head()
    vertices = face.vertices_mm + np.tensordot(expression, head.expression_mm, 1)
    depth = rasterize(face.camera, vertices.astype(np.float32), head.faces, cull_back=True).depth_mm
    mask = torch.from_numpy(depth > 0)[None, None]
    relative = torch.from_numpy(depth)[None, None] - reference_depth_mm(face.camera) + behind_mm
    return torch.where(mask, relative, torch.zeros(())), mask


@pytest.mark.parametrize("behind_mm", [0.0, 6.0])
def test_a_surface_keeps_its_outlines_and_the_persons_distance_from_it(behind_mm):
    expression = weights(jawOpen=0.5, mouthSmileLeft=0.4)
    depth, mask = seen(weights(), behind_mm=behind_mm)
    # A hole in the forehead, as captures have.
    mask[..., 30:36, 60:70] = False
    image = pack(torch.full((1, 3, SIZE, SIZE), 0.5), depth, mask.float())
    truth, shown = seen(expression, behind_mm=behind_mm)
    motion = motion_images(torch.from_numpy(expression)[None], [MEAN])
    by_surface = ((surfaced(image, motion) * 100 - truth).abs())[shown]
    by_pixels = ((moved(image, motion)[:, 3:4] * 100 - truth).abs())[shown]
    assert float(by_surface.max()) < 0.01
    # What it is for: jaw and lips against what lies behind.
    assert float(by_pixels.max()) > 5


def test_a_surface_that_is_not_given_is_the_moved_pixels():
    image = torch.rand(1, 5, SIZE, SIZE)
    motion = torch.zeros(1, NUM_CHANNELS, SIZE, SIZE)
    motion[:, 0] = 2 / FLOW_UNIT_PX
    torch.testing.assert_close(surfaced(image, motion), moved(image, motion)[:, 3:4])


def test_what_lies_far_from_the_fitted_head_does_not_pull_on_it():
    """Hair or a collar, 6 cm before the head: the face beside it keeps its distance."""
    depth, mask = seen(weights())
    depth[..., :20, :] -= 60
    image = pack(torch.full((1, 3, SIZE, SIZE), 0.5), depth, mask.float())
    motion = motion_images(torch.from_numpy(weights(jawOpen=0.5))[None], [MEAN])
    truth, shown = seen(weights(jawOpen=0.5))
    error = ((surfaced(image, motion) * 100 - truth).abs() * shown)[..., 20:, :]
    assert float(error.max()) < 0.01


def test_a_fresh_locator_finds_the_mean_face():
    locator = LandmarkLocator(9, 32)
    locator.start_from(shipped_head())
    located = locator(torch.randn(2, 9, 32, 32))
    torch.testing.assert_close(located, mean_landmarks(shipped_head()).expand(2, -1, -1))
