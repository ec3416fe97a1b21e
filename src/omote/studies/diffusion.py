"""Where diffusion pays: a determined answer and an ambiguous one, drawn and regressed.

With the truth's ARKit weights given the answer is determined, and one pass is enough. By category and intensity alone many faces
are right: a regression answers with their mean, whatever the seed; diffusion in latents draws one of them, and so does diffusion
of the expression's weights before an editor of one step (`omote.rgbd.expression_prior`). The suite for editors measures them all
(`omote.studies.editors`): as single answers, as best of several, and as sets of images.
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
    """Regression against diffusion, where the answer is determined and where it is not.

    Attributes:
        runs: runs or weights folders of editors; the others are compared with the one named `regression`.
    """

    NAME = "diffusion"

    runs: Annotated[tuple[Path, ...], FREE] = SHIPPED
    persons: Annotated[int, Range(1), FREE] = 20
    steps: tuple[Annotated[int, Range(1)], ...] = (8, 1)

    def check(self) -> None:
        """Refuse runs that are not there, or that have no regression among them."""
        if self.runs == SHIPPED and not all(run.is_dir() for run in SHIPPED):
            raise ConfigError(f"runs: {SHIPPED[0]} is not there; {RIVALS_ELSEWHERE}: give --runs DIR ...")
        if REGRESSION not in (names := row_names(self.runs)):
            raise ConfigError(f"runs: expected one of a folder named {REGRESSION}, got {', '.join(names)}")

    def run(self, work: Work) -> Steps[Results]:
        """Measure as the suite for editors does, and compare with the regression."""
        results = yield from super().run(work)
        return replace(results, table={**results.table, **against_regression(results.table)})


def against_regression(table: Table) -> Table:
    """The rows asked by category, with every metric also over that of the regression asked so in one pass.

    Where the regression's value is 0, as its diversity is, there is no ratio.
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
