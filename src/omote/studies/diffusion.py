"""Where diffusion pays: determined and ambiguous conditions, answered by diffusion and by regression.

Given the true ARKit weights, the answer is determined and one pass is enough. Given category and intensity alone, many faces are
right: a regression answers with their mean for every seed, while diffusion of latents draws one of them, as does diffusion of the
expression's weights in front of a one-step editor (`omote.rgbd.expression_prior`). The suite of editors measures all of them
(`omote.studies.editors`): as single answers, as the best of several, and as sets of images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from omote.config import Range
from omote.errors import ConfigError
from omote.evaluation.records import Cell, Row, Table, value_of
from omote.progress import Steps
from omote.rgbd.weights import RIVALS, RIVALS_ELSEWHERE, SHIPPED_WEIGHTS
from omote.studies.base import FREE, Results, Work
from omote.studies.suites import EditorSuite, row_names

REGRESSION = "regression"
SHIPPED = tuple(SHIPPED_WEIGHTS / RIVALS / name for name in ("flow", REGRESSION))


@dataclass(frozen=True, kw_only=True)
class WhereDiffusionPays(EditorSuite):
    """Diffusion against regression, under determined and ambiguous conditions.

    Attributes:
        runs: runs or weights folders of editors; all others are compared with the one named `regression`.
    """

    NAME = "diffusion"

    runs: Annotated[tuple[Path, ...], FREE] = SHIPPED
    persons: Annotated[int, Range(1), FREE] = 20
    steps: tuple[Annotated[int, Range(1)], ...] = (8, 1)

    def check(self) -> None:
        """Reject missing runs, and runs without a regression."""
        if self.runs == SHIPPED and not all(run.is_dir() for run in SHIPPED):
            raise ConfigError(f"runs: {SHIPPED[0]} is missing; {RIVALS_ELSEWHERE}: give --runs DIR ...")
        if REGRESSION not in (names := row_names(self.runs)):
            raise ConfigError(f"runs: expected a folder named {REGRESSION} among them, got {', '.join(names)}")

    def run(self, work: Work) -> Steps[Results]:
        """Measure like the suite of editors, and compare with the regression."""
        results = yield from super().run(work)
        return replace(results, table={**results.table, **against_regression(results.table)})


def against_regression(table: Table) -> Table:
    """Rows given the category alone: every metric divided by that of the regression in one pass.

    There is no ratio if the regression's value is 0, as its diversity is.
    """
    reference = table.get(Row(REGRESSION).under(condition="category", steps=1), {})
    out: dict[Row, dict[str, Cell]] = {}
    for row, cells in table.items():
        if row.on("condition") in ("category", "prior"):
            ratios: dict[str, Cell] = {
                f"against_regression/{key}": value_of(value) / value_of(reference[key])
                for key, value in cells.items()
                if key.partition("/")[0] != "ratio" and value_of(reference.get(key, 0.0))
            }
            out[row] = {**cells, **ratios}
    return out
