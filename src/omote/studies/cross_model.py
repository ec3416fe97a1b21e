"""Cost of a new kind of head: editors trained on one head family and measured on the other, beside one trained on both.

Three runs are trained on equally many persons and images (`omote.studies.trained_editors`): half of either family, the shipped
head's family alone, and the second family alone. Faces of the run on the shipped head's family move by that head's units only,
since the style of units (`omote.head.unit_style`) was learned from the second family. All three share the first stage, which was
trained on both families; its own error on each family is reported as ``autoencoder_ceiling``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np

from omote.config import Range
from omote.errors import ConfigError
from omote.evaluation.figures import axis_over, figure, row_chart
from omote.evaluation.records import Row, Table
from omote.progress import Steps
from omote.studies.base import Results, Work
from omote.studies.table import AUTOENCODER, COLOR, COPY, DEPTH, IDENTITY, LINES, METRICS, MOVING, TOP1, cell
from omote.studies.trained_editors import StudyOfTraining, Training, encode, link, measure_trained, train_editor

if TYPE_CHECKING:
    from omote.datasets.cache import Shard

BOTH = "both"
# Index of the shipped head in `PopulationConfig.heads`.
SHIPPED_HEAD = 0


@dataclass(frozen=True, kw_only=True)
class CrossModel(StudyOfTraining):
    """Editors trained on one head family and measured on the other; needs --ict.

    Attributes:
        train_persons: number of training persons of each editor; at most as many as the rarer family has.
    """

    NAME = "cross-model"

    train_persons: Annotated[int, Range(2)] = 600

    def check(self) -> None:
        """Reject a study of one family."""
        if self.ict is None:
            raise ConfigError("cross-model: expected a second head family; give --ict")

    def run(self, work: Work) -> Steps[Results]:
        """Train and measure; rows are ``<trained on>/head=<measured on>``, and ``<trained on>`` for both families.

        Raises:
            ConfigError: fewer than two training persons in a family.
        """
        from omote.datasets.cache import read_shard
        from omote.evaluation.summary import summarise_parts
        from omote.head.shipped import population_heads

        heads = [head.name for head in population_heads(self.ict)]
        with work.lock("population"):
            halves = laid_out(self, work.out / "population")
        parts = {
            row: [work.out / "population" / name for name in names] for row, names in sets_of(heads, halves).items()
        }

        def train(run: Path, row: str) -> Steps[None]:
            unit_style = row != heads[SHIPPED_HEAD]
            link(parts[row], run / "population")
            yield from encode(self, run / "population", run / "edits", unit_style=unit_style)
            yield from train_editor(self, run, unit_style=unit_style)

        persons = {row: sum(read_shard(part).num_persons for part in those) for row, those in parts.items()}
        trainings = {
            row: Training(row=Row(row), persons=count, train=partial(train, row=row)) for row, count in persons.items()
        }
        table = yield from measure_trained(self, work, trainings, overall=lambda found: summarise_parts(found, METRICS))
        return Results(table=table, figure=_drawn(table, list(map(Row, parts)), heads))


def laid_out(config: CrossModel, folder: Path) -> list[tuple[str, str]]:
    """Write the persons of each family in two halves of `CrossModel.train_persons` / 2; existing halves are kept.

    Returns:
        Names of the halves, per family.

    Raises:
        ConfigError: fewer than two persons of a family.
    """
    from omote.datasets.cache import read_shard, shard_folders, write_shard

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
    from omote.datasets.cache import ARRAYS

    return {key: np.stack([getattr(shard, key)[person] for shard, person in persons]) for key in ARRAYS}


def sets_of(names: Sequence[str], halves: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """Names of the halves that each row is trained on."""
    first, second = halves
    return {BOTH: [first[0], second[0]], names[0]: list(first), names[1]: list(second)}


def _drawn(table: Table, editors: Sequence[Row], heads: Sequence[str]) -> str:
    from omote.evaluation.catalogue import metric_of

    charts = []
    for metric in (DEPTH, MOVING, COLOR, IDENTITY, TOP1):
        for head in heads:
            rows = {}
            for row in (*editors, AUTOENCODER, COPY):
                if (found := cell(table, row.under(head=head), metric)) is not None:
                    rows[LINES.get(row, f"trained on {row}")] = (found.value, found.low, found.high)
            if rows:
                ends = [v for values in rows.values() for v in values if np.isfinite(v)]
                charts.append(row_chart(f"{metric_of(metric).title}, on {head}", rows, axis_over("", ends)))
    return figure(charts, columns=2)
