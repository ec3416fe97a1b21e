"""Motion images against the head they are drawn from, and warping against images that move as known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from omote.head.expressions import ARKIT_INDEX
from omote.ldm.motion import (
    FLOW_UNIT_PX,
    IMAGE_SIZE,
    NUM_CHANNELS,
    SIZE,
    LandmarkLocator,
    mean_face,
    mean_landmarks,
    motion_image,
    motion_images,
    moved,
    shifted,
    warped,
)


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
    x, y = (mean_landmarks()[8] / (IMAGE_SIZE / SIZE)).long().tolist()
    # The chin's skin came from higher up: smaller y.
    assert motion[1, y, x] * FLOW_UNIT_PX < -2
    shown, before = motion[4:].sum(axis=(1, 2)), motion_image(weights())[4:].sum(axis=(1, 2))
    assert shown[0] > before[0] + 5  # teeth
    assert shown[2] > 5 * before[2] + 5  # the dark behind them
    forehead = motion[:3, : y // 3]
    assert np.abs(forehead).max() < 0.05


def test_a_batch_is_its_rows():
    rows = torch.from_numpy(np.stack([weights(jawOpen=0.5), weights(mouthSmileLeft=1.0)]))
    batch = motion_images(rows)
    assert batch.shape == (2, NUM_CHANNELS, SIZE, SIZE)
    np.testing.assert_array_equal(batch[1].numpy(), motion_image(rows[1].numpy()))


def test_it_follows_the_face_in_its_camera():
    """The same head, seen by a camera turned by whole pixels: the motion image shifts and nothing else."""
    face = mean_face()
    shift = 4
    intrinsics = face.camera.intrinsics.copy()
    intrinsics[0, 2] += shift
    there = motion_image(weights(jawOpen=0.7), replace(face, camera=replace(face.camera, intrinsics=intrinsics)))
    here = motion_image(weights(jawOpen=0.7))
    np.testing.assert_allclose(there[..., 8:-8], np.roll(here, shift, axis=-1)[..., 8:-8], atol=1e-3)


def test_a_persons_own_jaw_moves_where_theirs_is():
    """A longer face: its chin moves lower in the picture than the mean's."""
    mean = mean_face()
    longer = replace(mean, vertices_mm=mean.vertices_mm * np.array([1.0, 1.15, 1.0], np.float32))
    jaw = weights(jawOpen=0.8)
    for face in (mean, longer):
        assert np.isfinite(motion_image(jaw, face)).all()
    lowest = [np.nonzero(np.abs(motion_image(jaw, face)[1, :, SIZE // 2]) > 0.2)[0].max() for face in (mean, longer)]
    assert lowest[1] > lowest[0] + 4


def test_faces_of_a_batch_are_their_own():
    mean = mean_face()
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


def test_a_fresh_locator_says_the_mean_face():
    located = LandmarkLocator(9, 32)(torch.randn(2, 9, 32, 32))
    torch.testing.assert_close(located, mean_landmarks().expand(2, -1, -1))
