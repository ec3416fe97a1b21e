"""A population as generators read it: packed images, or their latents, in one file each that maps into memory.

Images are packed once at one size; every row of a comparison then reads the same ones. Files appear whole or not at all.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from jaxtyping import Float, Int
from torch import Tensor

from omote.datasets.cache import read_shard, shard_folders
from omote.datasets.pairs import images_of
from omote.errors import ConfigError, OmoteError
from omote.rgbd.autoencoder import RgbdAutoencoder
from omote.rgbd.codec import NUM_CHANNELS
from omote.rgbd.train.autoencoder import packed

BATCH = 32


@dataclass(frozen=True, kw_only=True)
class LatentSet:
    """Images or latents with their categories, persons in order.

    Attributes:
        values: half precision; images packed, latents unscaled.
        category: index into `CATEGORIES`.
        person: which person of the population each is of.
        mean: per channel, over a sample of them.
        std: the same.
    """

    values: Float[np.ndarray, "n d h w"]
    category: Int[np.ndarray, "n"]
    person: Int[np.ndarray, "n"]
    mean: Float[np.ndarray, "d"]
    std: Float[np.ndarray, "d"]

    def split(self, held_out_share: float) -> tuple[Int[np.ndarray, "a"], Int[np.ndarray, "b"]]:
        """Indices for training and of the persons held out: the last share of them, at least one.

        Raises:
            ConfigError: nobody is left to train on.
        """
        persons = np.unique(self.person)
        count = max(1, round(held_out_share * len(persons)))
        if count >= len(persons):
            raise ConfigError(f"population: expected at least 2 persons, one to hold out, got {len(persons)}")
        held = np.isin(self.person, persons[-count:])
        return np.flatnonzero(~held), np.flatnonzero(held)

    def take(self, indices: Int[np.ndarray, "m"]) -> Float[Tensor, "m d h w"]:
        """Some, in single precision."""
        return torch.from_numpy(np.asarray(self.values[indices], np.float32))


def read_latents(folder: Path) -> LatentSet:
    """Map a folder that `pack_population` or `encode_images` wrote.

    Raises:
        OmoteError: it is not whole.
    """
    try:
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in LatentSet.__dataclass_fields__}
    except (OSError, ValueError, EOFError) as error:
        raise OmoteError(f"{folder}: not a whole set of latents ({error}); delete it and run again") from None
    return LatentSet(**arrays)


def pack_population(population: Path, size: int, folder: Path, *, max_persons: int = 0) -> LatentSet:
    """Pack every image of a population at ``size`` pixels of a side into ``folder``; what is there is kept.

    Args:
        population: folder of rendered shards.
        size: a whole fraction of the shards' own.
        folder: of the set.
        max_persons: the first so many; 0 for all.
    """
    if folder.exists():
        return read_latents(folder)
    shards = [read_shard(p) for p in shard_folders(population)]
    people = [(shard, i) for shard in shards for i in range(shard.num_persons)][: max_persons or None]
    count = sum(shard.num_images for shard, _ in people)
    with _Writer(folder, (count, NUM_CHANNELS, size, size)) as writer:
        for number, (shard, person) in enumerate(people):
            ids = np.arange(shard.num_images)
            writer.add(packed(images_of(shard, person, ids), size), shard.category[person], number)
    return read_latents(folder)


@torch.no_grad()
def encode_images(images: LatentSet, autoencoder: RgbdAutoencoder, folder: Path) -> LatentSet:
    """Every image's most likely latent into ``folder``; what is there is kept."""
    if folder.exists():
        return read_latents(folder)
    side = images.values.shape[-1] // autoencoder.factor
    device = next(autoencoder.parameters()).device
    with _Writer(folder, (len(images.values), autoencoder.latent_channels, side, side)) as writer:
        for start in range(0, len(images.values), BATCH):
            some = np.arange(start, min(start + BATCH, len(images.values)))
            z = autoencoder.encode(images.take(some).to(device)).mode().cpu()
            writer.add(z, images.category[some], images.person[some])
    return read_latents(folder)


class _Writer:
    """A set that is filled in a folder of its own, and renamed when whole."""

    def __init__(self, folder: Path, shape: tuple[int, ...]) -> None:
        self.folder = folder
        for left in folder.parent.glob(f"{folder.name}.*.partial"):
            if not psutil.pid_exists(int(left.suffixes[-2][1:])):
                shutil.rmtree(left, ignore_errors=True)
        # Processes that make the same set at once make it each, and the first one's stays.
        self.temporary = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
        shutil.rmtree(self.temporary, ignore_errors=True)
        self.temporary.mkdir(parents=True)
        self.values = np.lib.format.open_memmap(self.temporary / "values.npy", "w+", np.float16, shape)
        self.category, self.person = np.zeros((2, shape[0]), np.int64)
        self.filled = 0

    def add(self, values: Tensor, category: np.ndarray, person: np.ndarray | int) -> None:
        """The next rows."""
        rows = slice(self.filled, self.filled + len(values))
        self.values[rows], self.category[rows], self.person[rows] = values.numpy(), category, person
        self.filled += len(values)

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            shutil.rmtree(self.temporary, ignore_errors=True)
            return
        self.values.flush()
        chosen = np.random.default_rng(0).permutation(len(self.values))[:2048]
        sample = np.asarray(self.values[np.sort(chosen)], np.float64)
        arrays = {
            "category": self.category,
            "person": self.person,
            "mean": sample.mean(axis=(0, 2, 3)),
            "std": np.maximum(sample.std(axis=(0, 2, 3)), 1e-3),
        }
        for name, array in arrays.items():
            np.save(self.temporary / f"{name}.npy", array)
        try:
            self.temporary.rename(self.folder)
        except OSError:
            shutil.rmtree(self.temporary)
            if not self.folder.exists():
                raise
