"""Batches of packed images by step."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from omote.errors import ConfigError
from omote.images.packed import PackedImages, read_packed


class ImageSource:
    """Every image once an epoch, in an order of (seed, epoch), cropped and flipped by (seed, step, item).

    Args:
        folder: folder of packed images (`omote.images.packed`).
        size: pixels of a side in training.
        random_crop: crop at random along the longer side, not in the middle.
        flip: mirror half of the images.

    Raises:
        DatasetError: no packed images.
        ConfigError: packed at another size.
    """

    def __init__(self, folder: Path, *, size: int, random_crop: bool, flip: bool) -> None:
        self.images: PackedImages = read_packed(folder)
        if self.images.size != size:
            raise ConfigError(
                f"{folder}: packed at {self.images.size} pixels, expected {size}; pack with --size {size}, or --set "
                f"sample_size={self.images.size}"
            )
        self.random_crop = random_crop
        self.flip = flip
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def draw(
        self, step: int, seed: int, size: int, part: int, parts: int
    ) -> tuple[Float[Tensor, "b 3 s s"], list[int]]:
        """Part ``part`` of a step's batch: images in [-1, 1], and their indices."""
        first = step * size * parts + part * size
        chosen, squares = [], []
        for position in range(first, first + size):
            epoch, place = divmod(position, len(self.images))
            chosen.append(int(self._order(seed, epoch)[place]))
            rng = np.random.default_rng([seed, position])
            squares.append(self.images.crop(chosen[-1], rng, random_crop=self.random_crop, flip=self.flip))
        return as_tensor(squares), chosen

    def first(self, count: int) -> Float[Tensor, "b 3 s s"]:
        """The middles of the same images each time, spread over the set."""
        which = np.linspace(0, len(self.images) - 1, min(count, len(self.images))).astype(int)
        return as_tensor([self.images.crop(int(i)) for i in which])

    def _shuffled(self, seed: int, epoch: int) -> np.ndarray:
        return np.random.default_rng([seed, epoch, 1]).permutation(len(self.images))


def as_tensor(squares: list[np.ndarray]) -> Float[Tensor, "b 3 s s"]:
    """Bytes → [-1, 1]."""
    return torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float() / 127.5 - 1


def rows_of(rows: list[Tensor]) -> Float[Tensor, "3 h w"]:
    """Images in [-1, 1], each tensor a row of one picture in [0, 1]."""
    pictures = [torch.cat(list(row.detach().float().cpu()), dim=-1) for row in rows]
    return ((torch.cat(pictures, dim=-2) + 1) / 2).clamp(0, 1)
