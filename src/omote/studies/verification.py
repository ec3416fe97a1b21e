"""Verification: training time, inference time, depth accuracy and expression accuracy of every row in one table.

Accuracies come from a finished `omote evaluate release` folder, with intervals over persons. Inference is timed here, with a
process per row (`omote.studies.edit_time`). Hours of training are read from the given runs, and for other networks from the
record beside their weights (`omote.studies.training_cost`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from omote.config import Range
from omote.errors import ConfigError
from omote.evaluation.figures import axis_over, figure, row_chart
from omote.evaluation.records import Cell, Row, Table
from omote.progress import Steps
from omote.rgbd.weights import Backend, check_weights
from omote.studies.base import FREE, Results, Work
from omote.studies.suites import WithNetworks
from omote.studies.table import CEILING, COPY, DEPTH, METRICS, MODEL, TOP1, cell
from omote.studies.training_cost import Cost, cost_of, stages_of

if TYPE_CHECKING:
    from omote.evaluation.report.results import ReleaseResults
    from omote.studies.edit_time import TimeRequest


@dataclass(frozen=True, kw_only=True)
class Verification(WithNetworks):
    """Training time, inference time, depth and expression accuracy of every row of a release evaluation.

    Attributes:
        release: finished result folder of `omote evaluate release`.
        runs: folders of training runs, for their hours; other networks' hours are read from the record beside their weights.
        backend: library that is timed; by default PyTorch, and OpenVINO if it is installed.
        repeat: number of timed edits, whose median is reported.
        threads: number of torch's threads during the timing; 0 keeps torch's own choice.
        clock: clock of the edits: "wall", or "cpu" for the computing time of all cores together on a shared machine.
    """

    NAME = "verification"

    release: Path
    runs: Annotated[tuple[Path, ...], FREE] = ()
    repeat: Annotated[int, Range(1)] = 5
    threads: Annotated[int, Range(0)] = 0
    clock: Literal["wall", "cpu"] = "wall"

    def check(self) -> None:
        """Reject a folder that is no release evaluation, or one of other weights.

        Raises:
            ConfigError: such a folder, or a folder in ``runs`` that is no training's.
            CheckpointError: missing weights.
        """
        from omote.evaluation.report.results import load_results

        told = load_results(self.release).weights
        check_weights(self.folder)
        if others := [row for row, used in self.fingerprints().items() if told.get(row, used) != used]:
            option = "--weights" if others[0] == MODEL.name else f"--{others[0].replace('_', '-')}"
            raise ConfigError(f"{self.release}: its row {others[0]} is of other weights; give those with {option}")
        stages_of(self.runs, [])

    def run(self, work: Work) -> Steps[Results]:
        """Time the rows of the release evaluation, and join times with accuracies and hours."""
        from omote.evaluation.report.results import load_results
        from omote.evaluation.summary import summarise
        from omote.studies.edit_time import timed_apart

        results, others = load_results(self.release), self.rivals_by_row().values()
        requests = self._requests(results)
        times = yield from work.records("times", list(requests), lambda name: timed_apart(requests[name]))
        # A baseline given as a run has its own hours.
        runs = dict.fromkeys((*self.runs, *(path for path in others if (path / "checkpoint").is_dir())))
        stages = stages_of(list(runs), [self.folder, *others])

        costs: dict[Row, Cost] = {row: cost for row in results.rows if (cost := cost_of(row.name, stages)) is not None}
        table: dict[Row, dict[str, Cell]] = {row: {} for row in results.rows}
        for row, cost in costs.items():
            table[row] = {"training/hours": cost.hours, "training/images": cost.images}
        for row, cells in summarise(results.persons, METRICS).items():
            table[row] |= cells
        for name, request in requests.items():
            row = Row(request.row)
            table.setdefault(row if request.backend == "torch" else row.under(backend=request.backend), {}).update(
                times[name]
            )
        levels = {name: cell(table, row, TOP1) for name, row in (("ceiling", CEILING), ("floor", COPY))}
        bounds = {name: found.value for name, found in levels.items() if found is not None}
        notes: dict[Row, dict[str, str | float]] = {
            row: {f"{TOP1}_{name}": value for name, value in bounds.items()} for row in results.rows
        }
        for row, cost in costs.items():
            notes[row]["training_stages"] = " ".join(cost.stages)
        count = {"count/persons": len(results.persons)}
        return Results(table=table, notes=notes, numbers=count, figure=draw_verification(table, bounds))

    def _requests(self, results: ReleaseResults) -> dict[str, TimeRequest]:
        """Requests of timings, by the name of their file."""
        from omote.studies.edit_time import MODELS, NETWORK_FREE, TimeRequest

        networks = {**dict.fromkeys(MODELS, self.folder), **self.rivals_by_row()}
        both: tuple[Backend, ...] = ("torch",) if find_spec("openvino") is None else ("torch", "openvino")
        backends = both if self.backend == "auto" else (self.backend,)
        return {
            f"{row}_{backend}": TimeRequest(
                row=row,
                weights=networks.get(row),
                backend=backend,
                test_set=results.config["test_set"],
                seed=results.config["seed"],
                repeat=self.repeat,
                threads=self.threads,
                clock=self.clock,
            )
            for row in (row.name for row in results.rows)
            if row in networks or row in NETWORK_FREE
            for backend in (backends if row in networks else ("torch",))
        }


def draw_verification(table: Table, bounds: Mapping[str, float]) -> str:
    """Text of an SVG file with four charts of the same rows: depth, expression, seconds and hours."""
    from omote.evaluation.catalogue import metric_of
    from omote.evaluation.report.results import title

    charts = []
    for metric, logarithmic in ((metric_of(DEPTH), True), (metric_of(TOP1), False)):
        cells = ((title(row), cell(table, row, metric.key)) for row in table)
        values = {name: (found.value, found.low, found.high) for name, found in cells if found is not None}
        shown = [x for ends in values.values() for x in ends if not math.isnan(x)]
        # Every row is compared with the judges' levels.
        levels = bounds if metric.key == TOP1 else {}
        axis = axis_over(metric.label(), [*shown, *levels.values()], logarithmic=logarithmic and min(shown) > 0)
        charts.append(row_chart(metric.title, values, axis, levels))

    for metric, logarithmic in ((metric_of("time_s/seven_edits"), True), (metric_of("training/hours"), False)):
        cells = ((", ".join([title(row), *(v for _, v in row.at)]), cell(table, row, metric.key)) for row in table)
        alone = {name: (found.value, math.nan, math.nan) for name, found in cells if found is not None}
        if alone:
            # Bars of hours start at zero.
            ends = [*([] if logarithmic else [0.0]), *(value for value, _, _ in alone.values())]
            charts.append(row_chart(metric.title, alone, axis_over(metric.label(), ends, logarithmic=logarithmic)))
    return figure(charts)
