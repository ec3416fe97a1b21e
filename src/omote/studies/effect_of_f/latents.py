"""A population as training data of generators: packed images, or their latents, in memory-mapped files.

Images are packed once at one size, and every row of the comparison reads the same ones. A set is written whole or not at all.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from omote.datasets.cache import read_shard, shard_folders
from omote.datasets.pairs import images_of
from omote.errors import ConfigError, DatasetError
from omote.files import reading
from omote.rgbd.autoencoder import RgbdAutoencoder
from omote.rgbd.codec import NUM_CHANNELS
from omote.rgbd.train.autoencoder import packed

BATCH = 32
# Values with their categories and persons.
Part: TypeAlias = tuple[Tensor, np.ndarray, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class LatentSet:
    """Images or latents with their categories, ordered by person.

    Attributes:
        values: packed images, or unscaled latents, in half precision.
        category: index of each value's category in `CATEGORIES`.
        person: index of each value's person in the population.
        mean: mean of each channel, over a sample of the values.
        std: standard deviation of each channel, over the same sample.
    """

    values: Float[np.ndarray, "n d h w"]
    category: Int[np.ndarray, "n"]
    person: Int[np.ndarray, "n"]
    mean: Float[np.ndarray, "d"]
    std: Float[np.ndarray, "d"]

    def split(self, held_out_share: float) -> tuple[Int[np.ndarray, "a"], Int[np.ndarray, "b"]]:
        """Indices of the training values, and of the held-out persons' values: the last share of the persons, at least one.

        Raises:
            ConfigError: no person is left to train on.
        """
        persons = np.unique(self.person)
        count = max(1, round(held_out_share * len(persons)))
        if count >= len(persons):
            raise ConfigError(f"population: expected at least 2 persons, one to hold out, got {len(persons)}")
        held = np.isin(self.person, persons[-count:])
        return np.flatnonzero(~held), np.flatnonzero(held)

    def take(self, indices: Int[np.ndarray, "m"]) -> Float[Tensor, "m d h w"]:
        """Selected values in single precision."""
        return torch.from_numpy(np.asarray(self.values[indices], np.float32))

    @property
    def units(self) -> tuple[Float[Tensor, "1 d 1 1"], Float[Tensor, "1 d 1 1"]]:
        """Mean and standard deviation, by which values are scaled for networks."""
        mean, std = (torch.from_numpy(np.asarray(x, np.float32)).view(1, -1, 1, 1) for x in (self.mean, self.std))
        return mean, std


def read_latents(folder: Path) -> LatentSet:
    """Map the files of a folder written by `pack_population` or `encode_images`.

    Raises:
        DatasetError: the set is incomplete.
    """
    with reading(folder, DatasetError, "not a whole set of latents", "delete it and run again"):
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in LatentSet.__dataclass_fields__}
        count, depth = arrays["values"].shape[:2]
        if {len(arrays["category"]), len(arrays["person"])} != {count} or arrays["std"].shape != (depth,):
            raise ValueError("arrays of different lengths")
        return LatentSet(**arrays)


def pack_population(population: Path, size: int, folder: Path, *, max_persons: int = 0) -> LatentSet:
    """Pack every image of a population at ``size`` × ``size`` pixels into ``folder``; an existing set is kept.

    Args:
        population: folder of rendered shards.
        size: side of the images in pixels; the shards' size must be a multiple of it.
        folder: folder of the set.
        max_persons: largest number of persons, counted from the first one; 0 means all.
    """
    shards = [read_shard(p) for p in shard_folders(population)]
    people = [(shard, i) for shard in shards for i in range(shard.num_persons)][: max_persons or None]

    def parts() -> Iterator[Part]:
        for number, (shard, person) in enumerate(people):
            ids = np.arange(shard.num_images)
            yield packed(images_of(shard, person, ids), size), shard.category[person], np.full(len(ids), number)

    return _kept(folder, (sum(shard.num_images for shard, _ in people), NUM_CHANNELS, size, size), parts())


@torch.no_grad()
def encode_images(images: LatentSet, autoencoder: RgbdAutoencoder, folder: Path) -> LatentSet:
    """Encode every image to the mode of its latent distribution, into ``folder``; an existing set is kept."""
    side = images.values.shape[-1] // autoencoder.factor
    device = next(autoencoder.parameters()).device

    def parts() -> Iterator[Part]:
        for some in np.array_split(np.arange(len(images.values)), np.arange(BATCH, len(images.values), BATCH)):
            z = autoencoder.encode(images.take(some).to(device)).mode().cpu()
            yield z, images.category[some], images.person[some]

    return _kept(folder, (len(images.values), autoencoder.latent_channels, side, side), parts())


def _kept(folder: Path, shape: tuple[int, ...], parts: Iterable[Part]) -> LatentSet:
    """The set in a folder; if missing, it is written to a folder of another name, which is renamed when complete."""
    if folder.exists():
        return read_latents(folder)
    temporary = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    values = np.lib.format.open_memmap(temporary / "values.npy", "w+", np.float16, shape)
    category, person = np.zeros((2, shape[0]), np.int64)
    start = 0
    for some, of_category, of_person in parts:
        rows = slice(start, start + len(some))
        values[rows], category[rows], person[rows] = some.numpy(), of_category, of_person
        start = rows.stop
    values.flush()
    chosen = np.random.default_rng(0).permutation(len(values))[:2048]
    sample = np.asarray(values[np.sort(chosen)], np.float64)
    mean, std = sample.mean(axis=(0, 2, 3)), np.maximum(sample.std(axis=(0, 2, 3)), 1e-3)
    for name, array in {"category": category, "person": person, "mean": mean, "std": std}.items():
        np.save(temporary / f"{name}.npy", array)
    temporary.rename(folder)
    return read_latents(folder)
