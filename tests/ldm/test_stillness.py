"""What rests stays the source's to the pixel; what moves is not held back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from omote.head.expressions import ARKIT_NAMES
from omote.ldm.motion import NUM_CHANNELS, SIZE, motion_image, resized
from omote.ldm.representation import MASK
from omote.ldm.stillness import still_share, with_still_source

FOREHEAD = (slice(None), slice(15, 25), slice(50, 78))
MOUTH = (slice(None), slice(85, 100), slice(55, 73))


def motion(**weights: float) -> torch.Tensor:
    arkit = np.zeros(len(ARKIT_NAMES), np.float32)
    for name, value in weights.items():
        arkit[ARKIT_NAMES.index(name)] = value
    return torch.from_numpy(motion_image(arkit))[None]


def packed(seed: int, size: int = SIZE) -> torch.Tensor:
    x = torch.rand(1, 5, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    x[:, MASK] = torch.sign(x[:, MASK])
    return x


def test_a_face_at_rest_is_its_source() -> None:
    share = still_share(motion())
    torch.testing.assert_close(share, torch.ones_like(share))
    source = packed(0)
    torch.testing.assert_close(with_still_source(packed(1), source, motion(), torch.tensor([True])), source)


def test_an_opened_jaw_moves_the_mouth_and_leaves_the_forehead() -> None:
    led = motion(jawOpen=0.8)
    source, decoded = packed(0), packed(1)
    found = with_still_source(decoded, source, led, torch.tensor([True]))
    torch.testing.assert_close(found[0][FOREHEAD], source[0][FOREHEAD])
    torch.testing.assert_close(found[0][MOUTH], decoded[0][MOUTH])
    assert set(found[:, MASK].unique().tolist()) == {-1.0, 1.0}


def test_nothing_is_known_to_rest_without_weights() -> None:
    decoded = packed(1)
    nothing = torch.zeros(1, NUM_CHANNELS, SIZE, SIZE)
    torch.testing.assert_close(with_still_source(decoded, packed(0), nothing, torch.tensor([False])), decoded)


@pytest.mark.parametrize("size", [64, 256])
def test_images_of_other_sizes_are_blended_too(size: int) -> None:
    found = with_still_source(packed(1, size), packed(0, size), motion(browInnerUp=1.0), torch.tensor([True]))
    assert found.shape == (1, 5, size, size)
    share = resized(still_share(motion(browInnerUp=1.0)), size)
    # Brows move, the chin does not.
    rows, columns = size * 40 // 128, slice(size * 50 // 128, size * 78 // 128)
    assert share[0, 0, rows, columns].mean() < 0.1
    assert share[0, 0, size * 105 // 128, columns].mean() > 0.9
