"""Batches of pairs from a population stored in shards or tars, or rendered on the fly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from omote.datasets.cache import Shard, read_shard, shard_folders
from omote.datasets.pairs import PairBatch, draw_pairs
from omote.datasets.population import PopulationConfig, render_persons
from omote.datasets.tar_shards import TarShards, is_tar_shards
from omote.errors import ConfigError
from omote.head.model import HeadModel

# Number of person indices in a population that is rendered on the fly.
MOST_PERSONS = 2**31
SHOWN_PERSONS = 8


class PairSource:
    """Batches of pairs from a population.

    Args:
        population: a folder of shards, which is searched for new shards at every refresh; a folder of WebDataset tars or a text
            file of their URLs (`omote.datasets.tar_shards`); or a config, whose persons are rendered on the fly and each used
            once.
        heads: head models of the population; the first is fitted to every person.
        refresh_steps: number of steps between searches for new shards.
        allow_pipe: whether to run the commands (``pipe:``) in a file of URLs.
    """

    def __init__(
        self,
        population: Path | PopulationConfig,
        heads: Sequence[HeadModel],
        *,
        refresh_steps: int = 200,
        allow_pipe: bool = False,
    ) -> None:
        self.population = population
        self.heads = heads
        self.refresh_steps = refresh_steps
        self.tars: TarShards | None = None
        if isinstance(population, PopulationConfig):
            # For previews and statistics: persons not used in training.
            shown = replace(population, split="validation")
            self.shards = [Shard(**render_persons(shown, range(SHOWN_PERSONS), self.heads))]
        elif is_tar_shards(population):
            self.tars = TarShards(Shard, population, allow_pipe=allow_pipe)
            self.shards = [self.tars.first()]
        else:
            self._mapped: dict[Path, Shard] = {}
            self.shards = self._refreshed(population)

    @property
    def endless(self) -> bool:
        """Whether ``shards`` are only a sample of the population that batches are drawn from."""
        return isinstance(self.population, PopulationConfig) or self.tars is not None

    def batch(self, step: int, seed: int, size: int, part: int, targets_per_source: int, parts: int = 1) -> PairBatch:
        """Part ``part`` of a step's batch, whose size is ``size`` targets; depends only on the arguments and the present shards.

        Raises:
            ConfigError: a part does not hold a whole number of sources.
        """
        count = num_sources(size, targets_per_source)
        places = range(part * count, (part + 1) * count)
        rngs = [np.random.default_rng([seed, step, place]) for place in places]
        if isinstance(self.population, PopulationConfig):
            shards = [self._rendered(seed, step, place) for place in places]
        elif self.tars is not None:
            shards = [self.tars.person(step * count * parts + place, seed) for place in places]
        else:
            if step % self.refresh_steps == 0:
                self.shards = self._refreshed(self.population)
            return self.draw(rngs, targets_per_source)
        return draw_pairs(shards, rngs, self.heads[0], targets_per_source=targets_per_source, one_each=True)

    def draw(self, rngs: Sequence[np.random.Generator], targets_per_source: int) -> PairBatch:
        """Draw pairs from ``shards``, one source per generator, for previews and statistics."""
        return draw_pairs(self.shards, rngs, self.heads[0], targets_per_source=targets_per_source)

    def _refreshed(self, population: Path) -> list[Shard]:
        """All shards of a folder; shards that are already memory-mapped are not read again."""
        folders = shard_folders(population)
        self._mapped |= {path: read_shard(path) for path in folders if path not in self._mapped}
        return [self._mapped[path] for path in folders]

    def _rendered(self, seed: int, step: int, place: int) -> Shard:
        assert isinstance(self.population, PopulationConfig)
        index = int(np.random.default_rng([seed, step, place, 1]).integers(MOST_PERSONS))
        return Shard(**render_persons(self.population, [index], self.heads))


def num_sources(size: int, targets_per_source: int) -> int:
    """Number of sources in a part of a batch with ``size`` targets.

    Raises:
        ConfigError: a part does not hold a whole number of sources.
    """
    count, left = divmod(size, targets_per_source)
    if left or not count:
        raise ConfigError(
            f"engine.batch_size: a process and micro-batch gets {size} images, expected a multiple of "
            f"targets_per_source ({targets_per_source})"
        )
    return count
