"""Populations as WebDataset shards: tar files of persons, on disk or at any URL that WebDataset can open.

A tar holds one sample per person, ``<index>.rgb.npy``, ``<index>.depth.npy``, … with the arrays of `omote.datasets.cache`
(depth int16 in hundredths of a millimetre, never 8 bits), so WebDataset's own readers can read it too. ``index.json`` beside
the tars gives the number of persons in each.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Generic

import numpy as np

from omote.datasets.cache import Kind, names_of
from omote.errors import DatasetError, of_extra
from omote.files import atomic_path, reading

SUFFIX, INDEX = ".tar", "index.json"
WINDOW = 4  # number of shards
MOST_LIST_BYTES, MOST_URLS, MOST_PERSONS = 64 << 20, 1_000_000, 10**9
MEMBER_TIME = 0  # modification time of every file in a tar, so that the same persons give the same bytes


def write_tar_shard(path: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, object]) -> None:
    """Write persons as one tar; it appears under its final name only once it is complete.

    Args:
        path: path of the tar, which ends in ``.tar``.
        arrays: arrays of a kind of shard, such as `omote.datasets.cache.Shard`.
        meta: metadata that is written into every sample.
    """
    with atomic_path(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
        for row, person in enumerate(arrays["person"]):
            for name, values in arrays.items():
                held = io.BytesIO()
                np.save(held, np.asarray(values[row], order="C"))
                _add(tar, f"{int(person):09d}.{name}.npy", held.getvalue())
            _add(tar, f"{int(person):09d}.meta.json", json.dumps(dict(meta), sort_keys=True).encode())


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mtime = len(data), MEMBER_TIME
    tar.addfile(member, io.BytesIO(data))


def write_index(folder: Path, counts: Mapping[str, int]) -> None:
    """Write the index of a folder: the number of persons in each tar."""
    with atomic_path(folder / INDEX) as temporary:
        temporary.write_text(json.dumps({"persons": dict(sorted(counts.items()))}, indent=1) + "\n")


def is_tar_shards(population: Path) -> bool:
    """Whether a population is a folder of tars, or a text file that lists URLs of tars."""
    return population.is_file() or any(population.glob(f"*{SUFFIX}"))


def shard_urls(population: Path, *, allow_pipe: bool = False) -> list[str]:
    """The tars of a population: those in a folder, or those in a text file with one URL pattern per line (``…/{000..099}.tar``).

    Args:
        population: folder of tars, or text file of URLs.
        allow_pipe: whether the file may list commands (``pipe:curl …``), which are run.

    Raises:
        DatasetError: the file lists no tars, too many, a pattern that does not expand, or a command that is not allowed.
    """
    if population.is_dir():
        # Absolute paths, so that a folder named "pipe:..." is not taken for a command.
        return [str(path) for path in sorted(population.absolute().glob(f"*{SUFFIX}"))]
    with of_extra("train"):
        from webdataset.shardlists import expand_urls

    with reading(population, DatasetError, "no list of WebDataset shards", "give URLs, one pattern a line"):
        if population.stat().st_size > MOST_LIST_BYTES:
            raise ValueError(f"more than {MOST_LIST_BYTES:,} bytes")
        text = population.read_text(encoding="utf-8", errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
        if not 0 < sum(map(_num_urls, lines)) <= MOST_URLS:
            raise ValueError(f"none, or more than {MOST_URLS:,}")
        urls = [url for line in lines for url in expand_urls(line)]
    commands = [url for url in urls if url.lower().startswith("pipe:")]
    if commands and not allow_pipe:
        raise DatasetError(
            f"{population}: lists a command to run ({commands[0][:60]!r}); give --allow-pipe if you trust that file"
        )
    return urls


def _num_urls(pattern: str) -> int:
    """Lower bound of the number of URLs in a pattern: the product over its braces, without expanding them."""
    count = 1
    for group in re.findall(r"\{([^{}]*)\}", pattern):
        ends = re.fullmatch(r"(-?\d+)\.\.(-?\d+)(?:\.\..*)?", group)
        count *= abs(int(ends[2]) - int(ends[1])) + 1 if ends else group.count(",") + 1
    return count


def read_tar_shard(kind: type[Kind], url: str, expected: int | None = None) -> Kind:
    """Read one tar into memory.

    Args:
        kind: class of the shard.
        url: path of the tar, or any URL that WebDataset can open.
        expected: number of persons in the tar, if known.

    Raises:
        DatasetError: the tar cannot be opened or is incomplete.
    """
    rows: dict[str, list[np.ndarray]] = {name: [] for name in names_of(kind)}
    # Each transport of a URL raises exceptions of its own.
    with reading(url, DatasetError, "not a whole shard", "fetch it or make it again"):
        for sample in _samples(url):
            for name, values in rows.items():
                if f"{name}.npy" not in sample:
                    raise ValueError(f"a person without {name}.npy")
                values.append(np.load(io.BytesIO(sample[f"{name}.npy"]), allow_pickle=False))
        if expected not in (None, len(rows["person"])):
            raise ValueError(f"{len(rows['person'])} persons, expected {expected}")
        shard: Kind = kind.checked({name: np.stack(values) for name, values in rows.items()})
    return shard


def _samples(url: str) -> Iterator[dict[str, Any]]:
    with of_extra("train"):
        import webdataset
    yield from webdataset.WebDataset(
        [url], shardshuffle=False, handler=webdataset.reraise_exception, nodesplitter=None, empty_check=False
    )


class TarShards(Generic[Kind]):
    """A population in tars, read by position in a shuffled order.

    Args:
        kind: class of the shards.
        population: folder of tars, or text file of URLs.
        window: number of shards held in memory, over which persons are shuffled.
        allow_pipe: whether a file of URLs may list commands (`shard_urls`).

    Raises:
        DatasetError: a tar is missing from the index, or the population has no tars.
    """

    def __init__(self, kind: type[Kind], population: Path, *, window: int = WINDOW, allow_pipe: bool = False) -> None:
        self.kind = kind
        self.urls = shard_urls(population, allow_pipe=allow_pipe)
        self.counts = _counts(kind, population, self.urls)
        self.window = window
        self._read = lru_cache(maxsize=window + 1)(partial(read_tar_shard, kind))
        self._plan = lru_cache(maxsize=2)(self._planned)
        self._mixed = lru_cache(maxsize=2)(self._mix)

    @property
    def num_persons(self) -> int:
        """Total number of persons."""
        return sum(self.counts)

    def person(self, position: int, seed: int) -> Kind:
        """The person at a position of the training run, as a shard of one person; depends only on the arguments."""
        epoch, place = divmod(position, self.num_persons)
        _, starts = self._plan(seed, epoch)
        which = int(np.searchsorted(starts, place, side="right")) - 1
        shard, row = self._mixed(seed, epoch, which)[place - starts[which]]
        held = self._read(self.urls[shard], self.counts[shard])
        return self.kind(**{name: getattr(held, name)[row : row + 1] for name in names_of(self.kind)})

    def first(self) -> Kind:
        """The persons of the first tar, for previews and statistics."""
        return self._read(self.urls[0], self.counts[0])

    def _planned(self, seed: int, epoch: int) -> tuple[list[list[int]], list[int]]:
        """Windows of shards in the epoch's order, and the position at which each window begins."""
        order = np.random.default_rng([seed, epoch, 2]).permutation(len(self.urls)).tolist()
        windows = [order[i : i + self.window] for i in range(0, len(order), self.window)]
        sizes = [sum(self.counts[shard] for shard in window) for window in windows]
        return windows, np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(int).tolist()

    def _mix(self, seed: int, epoch: int, which: int) -> Sequence[tuple[int, int]]:
        windows, _ = self._plan(seed, epoch)
        persons = [(shard, row) for shard in windows[which] for row in range(self.counts[shard])]
        order = np.random.default_rng([seed, epoch, 3, which]).permutation(len(persons))
        return [persons[i] for i in order]


def _counts(kind: type[Kind], population: Path, urls: Sequence[str]) -> list[int]:
    """Number of persons per tar, from the index or, without an index, by reading all tars once."""
    index = population / INDEX
    if population.is_dir() and index.is_file():
        with reading(index, DatasetError, "damaged", "delete it, and the shards are counted anew"):
            known: dict[str, int] = json.loads(index.read_text())["persons"]
            if not all(isinstance(count, int) and 0 < count <= MOST_PERSONS for count in known.values()):
                raise ValueError("a count out of range")
            named = {Path(url).name for url in urls}
            missing = sorted(known.keys() ^ named)
            if missing:
                raise DatasetError(
                    f"{population}: {missing[0]} is {'not in' if missing[0] in named else 'missing, but in'} {INDEX}; make "
                    f"the population again, or delete {INDEX}"
                )
            return [known[Path(url).name] for url in urls]
    return [read_tar_shard(kind, url).num_persons for url in urls]
