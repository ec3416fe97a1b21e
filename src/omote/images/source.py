"""Batches of packed images by step."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from omote.errors import ConfigError
from omote.images.packed import PackedImages, read_packed


@runtime_checkable
class Images(Protocol):
    """Batches of images by step, and a few to look at."""

    def draw(
        self, step: int, seed: int, size: int, part: int, parts: int
    ) -> tuple[Float[Tensor, "b 3 s s"], list[int]]:
        """See `ImageSource.draw`."""
        ...

    def first(self, count: int) -> Float[Tensor, "b 3 s s"]:
        """See `ImageSource.first`."""
        ...


class ImageSource:
    """Batches with every image once an epoch; (seed, epoch) determine the order, (seed, step, item) the crop and flip.

    Args:
        folder: folder of packed images (`omote.images.packed`).
        size: side of the training images in pixels.
        random_crop: whether to crop at random along the longer side instead of at the centre.
        flip: whether to mirror images with probability .5.

    Raises:
        DatasetError: the folder holds no packed images.
        ConfigError: the images are packed at another size.
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
        """Centre crops of ``count`` images, evenly spread over the set and the same at each call, in [-1, 1]."""
        which = np.linspace(0, len(self.images) - 1, min(count, len(self.images))).astype(int)
        return as_tensor([self.images.crop(int(i)) for i in which])

    def _shuffled(self, seed: int, epoch: int) -> np.ndarray:
        return np.random.default_rng([seed, epoch, 1]).permutation(len(self.images))


def as_tensor(squares: list[np.ndarray]) -> Float[Tensor, "b 3 s s"]:
    """Images in [0, 255] → tensor in [-1, 1]."""
    return torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float() / 127.5 - 1


def rows_of(rows: list[Tensor]) -> Float[Tensor, "3 h w"]:
    """Arrange images in [-1, 1] in one picture in [0, 1], with a row per tensor."""
    pictures = [torch.cat(list(row.detach().float().cpu()), dim=-1) for row in rows]
    return ((torch.cat(pictures, dim=-2) + 1) / 2).clamp(0, 1)
