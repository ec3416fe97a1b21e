"""Training of a narrow VAE for Stable Diffusion on single views of a population.

Stable Diffusion's VAE has seen every kind of image, grey ones among them, so that it can carry depth images unchanged. A share
of depth images in each batch stands in for that.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from omote.config import Range
from omote.images.stable_diffusion.depth import depth_image, depth_range
from omote.images.train_first_stage import ImageAutoencoderConfig
from omote.multiview.data import ViewSource, sets_of
from omote.rgbd.codec import DEPTH, MASK, RGB, shrunk


@dataclass(frozen=True, kw_only=True)
class NarrowVaeConfig(ImageAutoencoderConfig):
    """Config of training a VAE on single views.

    Attributes:
        images: population of view shards.
        depth_share: share of depth images in a batch.
    """

    depth_share: Annotated[float, Range(0, 1)] = 0.25

    def source(self) -> SingleViews:
        """The training images."""
        return SingleViews(self.images, self.sample_size, self.depth_share)


class SingleViews:
    """Single views of a population's persons, as `omote.images.source.ImageSource` gives images.

    Args:
        population: folder of view shards.
        size: side of the images, pixels.
        depth_share: share of depth images.
    """

    def __init__(self, population: Path, size: int, depth_share: float) -> None:
        self.views = ViewSource(population, ())
        self.size, self.depth_share = size, depth_share

    def draw(
        self, step: int, seed: int, size: int, part: int, parts: int
    ) -> tuple[Float[Tensor, "b 3 s s"], list[int]]:
        """Part ``part`` of a step's batch: images in [-1, 1], and the persons on them."""
        images, persons = [], []
        for shard, row, rng in self.views.drawn(step, seed, size, part, parts):
            sets = sets_of(shard, [(row, int(rng.integers(shard.num_images)))])
            x = shrunk(sets.x[0, int(rng.integers(sets.x.shape[1]))][None], self.size)
            images.append(_depth_of(x) if rng.random() < self.depth_share else x[:, RGB])
            persons.append(int(sets.person[0]))
        return torch.cat(images), persons

    def first(self, count: int) -> Float[Tensor, "b 3 s s"]:
        """Colour and depth of the first persons' front views."""
        shard = self.views.shards[0]
        rows = range(min((count + 1) // 2, shard.num_persons))
        x = shrunk(sets_of(shard, [(row, 0) for row in rows]).x[:, 0], self.size)
        return torch.cat([x[:, RGB], _depth_of(x)])[:count]


def _depth_of(x: Float[Tensor, "b 5 s s"]) -> Float[Tensor, "b 3 s s"]:
    depth = x[:, DEPTH]
    return depth_image(depth, depth_range(depth, x[:, MASK] > 0))
