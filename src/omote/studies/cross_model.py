"""What a new kind of head costs: editors trained on one head family and measured on the other, beside one that knows both.

Three runs see as many persons and images each (`omote.studies.trained_editors`): half of either family, the shipped head's alone,
and the second family's alone. The run of the shipped head's alone gets faces that move by that head's units only, since the style
of units (`omote.head.unit_style`) was learned from the second family. What all three share is the first stage, whose training saw
both families: it encodes and decodes images, and its own error on each family stands beside (``autoencoder_ceiling``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np

from omote.config import Range
from omote.datasets.cache import ARRAYS, Shard, read_shard, shard_folders, write_shard
from omote.errors import ConfigError
from omote.evaluation.figures import axis_over, figure, row_chart
from omote.evaluation.table import (
    COLOR,
    DEPTH,
    IDENTITY,
    LINES,
    MOVING,
    TITLES,
    TOP1,
    Table,
    row_of,
    summarised,
)
from omote.head.shipped import population_heads
from omote.progress import Step
from omote.rgbd.identity_stage import load_first_stage
from omote.rgbd.load import load_model_parts
from omote.rgbd.train.edit_cache import encode_population
from omote.studies.conditions import BESIDE, Condition, Edit, run_conditions
from omote.studies.trained_editors import StudyOfTraining, cost, link, trained

BOTH = "both"
# The shipped head's place among `PopulationConfig.heads`.
SHIPPED_HEAD = 0


@dataclass(frozen=True, kw_only=True)
class CrossModel(StudyOfTraining):
    """The study.

    Attributes:
        train_persons: of each run; as many as there are of the rarer family, if there are fewer.
    """

    train_persons: Annotated[int, Range(2)] = 600
    num_persons: Annotated[int, Range(1)] = field(default=40)


def study_cross_model(config: CrossModel, out: Path) -> Iterator[Step]:
    """Train and measure into ``out``: rows ``<trained on>_on_<measured on>``, and over both families ``<trained on>``.

    Raises:
        ConfigError: no second family among the test persons, or fewer than two persons of a family to train on.
        CheckpointError: the first stage does not load.
        JudgeError: the judges' weights are not installed.
    """
    heads = population_heads(config.unseen().ict)
    if len(heads) < 2:
        raise ConfigError("cross-model: expected a second head family; give --ict")
    halves = laid_out(config, out / "population")
    first_stage = load_first_stage(config.autoencoder).float().eval().requires_grad_(False)
    trained_on = sets_of([head.name for head in heads], halves)
    networks = {}
    for name, parts in trained_on.items():
        run, unit_style = out / "runs" / name, name != heads[SHIPPED_HEAD].name
        link([out / "population" / part for part in parts], run / "population")
        yield from encode_population(
            run / "population", first_stage, heads[SHIPPED_HEAD], run / "edits", seed=config.seed, unit_style=unit_style
        )
        yield from trained(config, run, f"trained on {name}", unit_style=unit_style)
        networks[name] = load_model_parts(config.autoencoder, run / "export/editor", backend=config.backend)
    persons = {name: sum(read_shard(out / "population" / part).num_persons for part in parts)
               for name, parts in trained_on.items()}  # fmt: skip
    yield from run_conditions(
        config,
        [Condition(name="", edits={name: Edit(network=name) for name in networks})],
        out,
        lambda table: _drawn(table, list(networks), [head.name for head in heads]),
        networks=networks,
        overall=lambda found: (
            by_family(found[""], [*networks, *BESIDE])
            | {name: cost(out / "runs" / name, persons[name]) for name in networks}
        ),
    )


def laid_out(config: CrossModel, folder: Path) -> list[tuple[str, str]]:
    """Persons of each family, in two halves of `CrossModel.train_persons` / 2; those that are there are kept.

    Returns:
        Per family, the names of the halves.

    Raises:
        ConfigError: fewer than two persons of a family.
    """
    shards = [read_shard(path) for path in shard_folders(config.population)]
    families = [[(s, int(p)) for s in shards for p in np.flatnonzero(s.head == head)] for head in (0, 1)]
    half = min(config.train_persons, *(len(family) for family in families)) // 2
    if not half:
        raise ConfigError(
            f"{config.population}: expected at least 2 persons of each family, got "
            f"{' and '.join(str(len(family)) for family in families)}; render it with --ict"
        )
    names = []
    for head, family in enumerate(families):
        pair = (f"shard_{2 * head:07d}", f"shard_{2 * head + 1:07d}")
        for name, part in zip(pair, (family[:half], family[half : 2 * half]), strict=True):
            if not (folder / name).exists():
                write_shard(folder / name, _chosen(part), {"of": str(config.population), "head": head})
        names.append(pair)
    return names


def _chosen(persons: Sequence[tuple[Shard, int]]) -> dict[str, np.ndarray]:
    """Arrays of persons from several shards."""
    return {key: np.stack([getattr(shard, key)[person] for shard, person in persons]) for key in ARRAYS}


def sets_of(names: Sequence[str], halves: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """What is trained on → the parts of the population that are."""
    first, second = halves
    return {BOTH: [first[0], second[0]], names[0]: list(first), names[1]: list(second)}


def by_family(persons: Sequence[Mapping[str, object]], rows: Sequence[str]) -> Table:
    """The rows' numbers over the persons of each family.

    Args:
        persons: with their head's name.
        rows: that were measured.
    """
    table: Table = {}
    for head in sorted({str(person["head"]) for person in persons}):
        table |= summarised([person for person in persons if person["head"] == head], rows, f"on_{head}")
    return table


def _drawn(table: Table, networks: Sequence[str], heads: Sequence[str]) -> str:
    charts = []
    for metric in (DEPTH, MOVING, COLOR, IDENTITY, TOP1):
        for head in heads:
            rows = {}
            for row in (*networks, "autoencoder_ceiling", "copy_source"):
                found = table.get(row_of(row, f"on_{head}"), {}).get(metric)
                if found is not None:
                    rows[LINES.get(row, f"trained on {row}")] = (found.value, found.low, found.high)
            if rows:
                ends = [v for values in rows.values() for v in values if np.isfinite(v)]
                charts.append(row_chart(f"{TITLES[metric]}, on {head}", rows, axis_over("", ends)))
    return figure(charts, columns=2)
