"""Data size: the same network trained on the same number of images of few persons and of many.

Only the number of identities differs (`omote.studies.trained_editors`), and smaller sets are part of larger ones. All editors are
measured on persons of the test split, beside the ceiling of the first stage, which was trained on all persons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar

from omote.config import Range
from omote.errors import ConfigError
from omote.evaluation.figures import figure
from omote.evaluation.records import Row
from omote.progress import Steps
from omote.studies.base import Results, Work
from omote.studies.table import COLOR, DEPTH, IDENTITY, MOVING, TOP1, curves, levels_of
from omote.studies.trained_editors import StudyOfTraining, Training, encode, link, measure_trained, train_editor

EVERYONE = 0
EDITOR = Row("editor")


@dataclass(frozen=True, kw_only=True)
class DataSize(StudyOfTraining):
    """One editor trained on few and on many persons, with equal numbers of images.

    Attributes:
        sizes: numbers of training persons; 0 means all. Sizes beyond the population are left out.
    """

    NAME = "data-size"
    TINY: ClassVar[Mapping[str, object]] = {
        "sizes": (1, EVERYONE),
        "images": 16,
        "channels": (16, 32),
        "batch_size": 8,
        "persons": 1,
    }

    sizes: tuple[Annotated[int, Range(0)], ...] = (64, 256, 1024, EVERYONE)

    def __post_init__(self) -> None:
        if not self.sizes or len(set(self.sizes)) < len(self.sizes):
            raise ValueError(f"sizes: expected numbers of persons, each once, got {self.sizes}")

    def run(self, work: Work) -> Steps[Results]:
        """Train and measure; rows are ``editor/persons=<number>``."""
        from omote.datasets.cache import read_shard, shard_folders

        counts = {shard: read_shard(shard).num_persons for shard in shard_folders(self.population)}
        sizes = sizes_in(self, sum(counts.values()))
        with work.lock("population"):
            pieces = cut(counts, sizes, work.out / "population")
        yield from encode(self, work.out / "population", work.out / "edits")

        def train(run: Path, size: int) -> Steps[None]:
            for part in ("population", "edits"):
                link([work.out / part / name for name, last in pieces.items() if last <= size], run / part)
            yield from train_editor(self, run)

        trainings = {
            f"persons_{size}": Training(row=EDITOR.under(persons=size), persons=size, train=partial(train, size=size))
            for size in sizes
        }
        table = yield from measure_trained(self, work, trainings)
        at, lines, label = (
            [(float(size), {"persons": size}) for size in sizes],
            {EDITOR: EDITOR.name},
            "persons trained on",
        )
        charts = [
            curves(table, metric, at, label, lines=lines, levels=levels_of(table, metric), logarithmic=True)
            for metric in (DEPTH, MOVING, COLOR, IDENTITY, TOP1)
        ]
        return Results(table=table, figure=figure(charts))


def sizes_in(config: DataSize, num_persons: int) -> list[int]:
    """The sizes that fit into a population, in order.

    Raises:
        ConfigError: no size fits.
    """
    sizes = sorted({size or num_persons for size in config.sizes if size <= num_persons})
    if not sizes:
        raise ConfigError(f"{config.population}: {num_persons} persons, expected at least {min(config.sizes)}")
    return sizes


def cut(counts: Mapping[Path, int], sizes: Sequence[int], folder: Path) -> dict[str, int]:
    """Link shards into a folder, cut so that every size ends with a piece; existing pieces are kept.

    Args:
        counts: number of persons per shard, in order.
        sizes: numbers of persons, counted from the first one.
        folder: folder of the pieces; whole shards are linked.

    Returns:
        Number of persons up to the end of each piece, by the piece's name.
    """
    from omote.datasets.cache import ARRAYS, read_shard, write_shard

    folder.mkdir(parents=True, exist_ok=True)
    pieces, start = {}, 0
    for shard, count in counts.items():
        ends = [*(size for size in sizes if start < size < start + count), start + count]
        for first, last in zip([start, *ends], ends, strict=False):
            name = f"shard_{first:07d}"
            pieces[name] = last
            piece = folder / name
            if piece.exists():
                continue
            if len(ends) == 1:
                link([shard], folder, name)
            else:
                arrays = {key: getattr(read_shard(shard), key)[first - start : last - start] for key in ARRAYS}
                write_shard(piece, arrays, {"of": str(shard), "start": first, "stop": last})
        start += count
    return pieces
