"""Motion images against the head they are drawn from, and warping against images that move as known."""

import numpy as np
import pytest
import torch

from omote.head.expressions import ARKIT_INDEX
from omote.ldm.motion import (
    FLOW_UNIT_PX,
    IMAGE_SIZE,
    SIZE,
    LandmarkLocator,
    laid_over,
    mean_landmarks,
    motion_image,
    motion_images,
    moved,
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
    assert motion[4].sum() > 5 * motion_image(weights())[4].sum() + 5
    forehead = motion[:3, : y // 3]
    assert np.abs(forehead).max() < 0.05


def test_a_batch_is_its_rows():
    rows = torch.from_numpy(np.stack([weights(jawOpen=0.5), weights(mouthSmileLeft=1.0)]))
    batch = motion_images(rows)
    assert batch.shape == (2, 5, SIZE, SIZE)
    np.testing.assert_array_equal(batch[1].numpy(), motion_image(rows[1].numpy()))


def test_laid_over_the_mean_face_nothing_changes():
    motion = motion_images(torch.from_numpy(weights(jawOpen=0.7))[None])
    mean = mean_landmarks()
    torch.testing.assert_close(laid_over(motion, mean[None], mean), motion, atol=1e-4, rtol=0)


def test_laid_over_a_shifted_face_it_shifts():
    motion = motion_images(torch.from_numpy(weights(jawOpen=0.7))[None])
    mean = mean_landmarks()
    shift = IMAGE_SIZE // SIZE * 4
    there = laid_over(motion, mean[None] + torch.tensor([shift, 0.0]), mean)
    torch.testing.assert_close(there[..., 8:-8], motion.roll(4, dims=-1)[..., 8:-8], atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [32, 128])
def test_a_constant_flow_shifts_an_image_of_any_size(size):
    image = torch.rand(1, 5, size, size)
    motion = torch.zeros(1, 5, SIZE, SIZE)
    pixels = 3
    motion[:, 0] = pixels * IMAGE_SIZE / size / FLOW_UNIT_PX
    torch.testing.assert_close(warped(image, motion)[..., :-pixels], image[..., pixels:], atol=1e-4, rtol=0)


def test_moved_depth_follows_the_head_in_millimetres():
    image = torch.zeros(1, 5, 128, 128)
    motion = torch.zeros(1, 5, SIZE, SIZE)
    motion[:, 2] = -0.5  # 5 mm nearer
    out = moved(image, motion)
    torch.testing.assert_close(out[:, 3], torch.full((1, 128, 128), -0.05))
    assert float(out[:, [0, 1, 2, 4]].abs().max()) == 0


def test_a_fresh_locator_says_the_mean_face():
    located = LandmarkLocator(9, 32)(torch.randn(2, 9, 32, 32))
    torch.testing.assert_close(located, mean_landmarks().expand(2, -1, -1))
