"""How many persons an editor needs: the same network trained for the same number of images on few of them and on many.

Only how many identities the images are of differs (`omote.studies.trained_editors`), and the smaller sets are part of the larger
ones. All are measured on persons of the test split, who are none of them,
beside the ceiling of the first stage, which saw all persons of its own training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from omote.config import Range
from omote.datasets.cache import ARRAYS, read_shard, shard_folders, write_shard
from omote.errors import ConfigError
from omote.evaluation.figures import figure
from omote.evaluation.table import COLOR, DEPTH, IDENTITY, MOVING, TOP1, Table, curves, levels_of
from omote.head.shipped import shipped_head
from omote.progress import Step
from omote.rgbd.identity_stage import load_first_stage
from omote.rgbd.load import load_model_parts
from omote.rgbd.train.edit_cache import encode_population
from omote.studies.conditions import Condition, Edit, run_conditions
from omote.studies.trained_editors import StudyOfTraining, cost, link, trained

EVERYONE = 0
ROW = "persons"


@dataclass(frozen=True, kw_only=True)
class DataSize(StudyOfTraining):
    """The study.

    Attributes:
        sizes: persons to train on; 0 is all that there are. Sizes beyond those are left out.
    """

    sizes: tuple[Annotated[int, Range(0)], ...] = (64, 256, 1024, EVERYONE)
    num_persons: Annotated[int, Range(1)] = field(default=40)

    def __post_init__(self) -> None:
        if not self.sizes or len(set(self.sizes)) < len(self.sizes):
            raise ValueError(f"sizes: expected numbers of persons, each once, got {self.sizes}")


def study_data_size(config: DataSize, out: Path) -> Iterator[Step]:
    """Train and measure into ``out``: ``table.csv``, ``metrics.json``, ``figure.svg`` with a row ``persons_<number>`` per size.

    Raises:
        ConfigError: the population holds fewer persons than the least size.
        CheckpointError: the first stage does not load.
        JudgeError: the judges' weights are not installed.
    """
    counts = _persons_per_shard(config.population)
    sizes = sizes_in(config, sum(counts.values()))
    pieces = cut(counts, sizes, out / "population")
    first_stage = load_first_stage(config.autoencoder).float().eval().requires_grad_(False)
    yield from encode_population(out / "population", first_stage, shipped_head(), out / "edits", seed=config.seed)
    networks = {}
    for size in sizes:
        run = out / "sizes" / str(size)
        for part in ("population", "edits"):
            link([out / part / name for name, last in pieces.items() if last <= size], run / part)
        yield from trained(config, run, f"{size} persons")
        networks[row(size)] = load_model_parts(config.autoencoder, run / "export/editor", backend=config.backend)
    condition = Condition(name="", edits={name: Edit(network=name) for name in networks})
    yield from run_conditions(
        config,
        [condition],
        out,
        lambda table: _drawn(table, sizes),
        networks=networks,
        overall=lambda found: {row(size): cost(out / "sizes" / str(size), size) for size in sizes},
    )


def sizes_in(config: DataSize, num_persons: int) -> list[int]:
    """The sizes that a population of so many persons has, in order.

    Raises:
        ConfigError: none.
    """
    sizes = sorted({size or num_persons for size in config.sizes if size <= num_persons})
    if not sizes:
        raise ConfigError(f"{config.population}: {num_persons} persons, expected at least {min(config.sizes)}")
    return sizes


def row(size: int) -> str:
    """The name of a size's row."""
    return f"{ROW}_{size}"


def cut(counts: Mapping[Path, int], sizes: Sequence[int], folder: Path) -> dict[str, int]:
    """Lay the shards into a folder in pieces that no size divides; those that are there are kept.

    Args:
        counts: shard → persons in it, in order.
        sizes: numbers of persons, from the first on.
        folder: of the pieces; whole shards are linked.

    Returns:
        Name of a piece → number of persons up to its end.
    """
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


def _persons_per_shard(population: Path) -> dict[Path, int]:
    return {shard: read_shard(shard).num_persons for shard in shard_folders(population)}


def _drawn(table: Table, sizes: Sequence[int]) -> str:
    at = [(float(size), str(size)) for size in sizes]
    return figure(
        [
            curves(
                table,
                metric,
                at,
                "persons trained on",
                lines={ROW: "editor"},
                levels=levels_of(table, metric),
                logarithmic=True,
            )
            for metric in (DEPTH, MOVING, COLOR, IDENTITY, TOP1)
        ]
    )


def tiny_data_size(population: Path) -> DataSize:
    """Seconds on any machine, for tests; the results mean nothing."""
    return DataSize(
        population=population, sizes=(1, EVERYONE), images=16, channels=(16, 32), batch_size=8, num_persons=1
    )
