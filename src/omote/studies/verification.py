"""Verification: training time, inference time, depth accuracy and expression accuracy of every row in one table.

Accuracies are those of a finished `omote evaluate release` folder, with their intervals over persons. Inference is timed here,
each row in a process of its own (`omote.studies.edit_time`); hours of training are read from the runs that are given, and for
other networks from the record beside their weights (`omote.studies.training_cost`).
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
from omote.rgbd.weights import RIVALS, SHIPPED_WEIGHTS, Backend, check_weights, fingerprint
from omote.studies.base import FREE, Results, Study, Work
from omote.studies.table import DEPTH, METRICS, TOP1, cell
from omote.studies.training_cost import Cost, cost_of, stages_of

if TYPE_CHECKING:
    from omote.evaluation.report.results import Results as Release
    from omote.studies.edit_time import TimeRequest


@dataclass(frozen=True, kw_only=True)
class Verification(Study):
    """Training time, inference time, depth and expression accuracy of every row of a release evaluation.

    Attributes:
        release: finished folder of `omote evaluate release`.
        runs: folders of trainings, for their hours; those of other networks are in the record beside the weights.
        weights: of the model that the folder is of; the shipped weights by default.
        regression: run or weights of the row of that name; those in ``rivals/`` beside the weights by default.
        pixel_diffusion: run or weights of the row of that name; those in ``rivals/`` beside the weights by default.
        repeat: edits that are timed, of which the median counts.
        threads: of torch while it is timed; 0 leaves its own choice.
        clock: of edits: "wall", or "cpu" for computing on all cores together, where others share the machine.
    """

    NAME = "verification"

    release: Path
    runs: Annotated[tuple[Path, ...], FREE] = ()
    weights: Annotated[Path | None, FREE] = None
    regression: Path | None = None
    pixel_diffusion: Path | None = None
    repeat: Annotated[int, Range(1)] = 5
    threads: Annotated[int, Range(0)] = 0
    clock: Literal["wall", "cpu"] = "wall"

    @property
    def folder(self) -> Path:
        """The model's weights."""
        return SHIPPED_WEIGHTS if self.weights is None else self.weights

    def weights_of(self, row: str) -> Path | None:
        """Folder of a row's networks, or None for a row without."""
        from omote.studies.edit_time import NETWORK_FREE
        from omote.studies.rows import NETWORK_ROWS

        if row not in NETWORK_ROWS:
            return None if row in NETWORK_FREE else self.folder
        given = {"regression": self.regression, "pixel_diffusion": self.pixel_diffusion}[row]
        beside = self.folder / RIVALS / row
        return given or (beside if beside.is_dir() else None)

    def fingerprints(self) -> Mapping[str, str]:
        """Of the model."""
        return {"model": fingerprint(self.folder)}

    def check(self) -> None:
        """Refuse folders that are no release evaluation, no weights, or not of each other."""
        from omote.evaluation.report.results import load_results

        results = load_results(self.release)
        check_weights(self.folder)
        used = fingerprint(self.folder)
        if results.weights.get("model", used) != used:
            raise ConfigError(
                f"{self.release}: is of other weights than {self.folder}; give the weights that it is of with --weights"
            )
        stages_of(self.runs, [])

    def run(self, work: Work) -> Steps[Results]:
        """Time the rows, and join times with accuracies and hours; a row is a row of the release evaluation."""
        from omote.evaluation.catalogue import metric_of
        from omote.evaluation.report.results import load_results
        from omote.evaluation.report.tables import bounds_of
        from omote.evaluation.summary import summarise
        from omote.studies.edit_time import timed_apart
        from omote.studies.rows import NETWORK_ROWS

        results = load_results(self.release)
        requests = self._requests(results)
        times = yield from work.records("times", list(requests), lambda name: timed_apart(requests[name]))
        others = [path for row in NETWORK_ROWS if (path := self.weights_of(row)) is not None]
        # A rival given as its run has its own hours.
        runs = dict.fromkeys((*self.runs, *(path for path in others if (path / "checkpoint").is_dir())))
        stages = stages_of(list(runs), [self.folder, *others])

        costs: dict[Row, Cost] = {row: cost for row in results.rows if (cost := cost_of(row.name, stages)) is not None}
        accuracies = summarise(results.persons, METRICS)
        table: dict[Row, dict[str, Cell]] = {row: {} for row in results.rows}
        for row, cost in costs.items():
            table[row] = {"training/hours": cost.hours, "training/images": cost.images}
        for row, cells in accuracies.items():
            table[row] |= cells
        for name, request in requests.items():
            row = Row(request.row)
            table.setdefault(row if request.backend == "torch" else row.under(backend=request.backend), {}).update(
                times[name]
            )
        bounds = {name: found.value for name, found in bounds_of(results, metric_of(TOP1)).items()}
        notes: dict[Row, dict[str, str | float]] = {
            row: {
                f"{TOP1}_ceiling": bounds["ceiling"],
                f"{TOP1}_floor": bounds["copy_source"],
                "training_stages": " ".join(costs[row].stages) if row in costs else "",
            }
            for row in results.rows
        }
        return Results(
            table=table,
            notes=notes,
            numbers={"count/persons": len(results.persons)},
            figure=draw_verification(table, bounds),
        )

    def _requests(self, results: Release) -> dict[str, TimeRequest]:
        """What is timed, by the name of its file."""
        from omote.studies.edit_time import NETWORK_FREE, TIMED, TimeRequest

        asked = results.config
        return {
            f"{row}_{backend}": TimeRequest(
                row=row,
                weights=self.weights_of(row),
                backend=backend,
                test_set=asked["test_set"],
                seed=asked["seed"],
                repeat=self.repeat,
                threads=self.threads,
                clock=self.clock,
            )
            for row in (row.name for row in results.rows)
            if row in TIMED and (row in NETWORK_FREE or self.weights_of(row) is not None)
            for backend in backends_of(row)
        }


def backends_of(row: str) -> tuple[Backend, ...]:
    """The backends of a row's networks here: OpenVINO too where it is installed."""
    from omote.studies.edit_time import NETWORK_FREE

    return ("torch",) if row in NETWORK_FREE or find_spec("openvino") is None else ("torch", "openvino")


def draw_verification(table: Table, bounds: Mapping[str, float]) -> str:
    """Four charts of the same rows: depth, expression, seconds, hours; an SVG file's text."""
    from omote.evaluation.catalogue import metric_of
    from omote.evaluation.report.results import title

    charts = []
    for metric, logarithmic in ((metric_of(DEPTH), True), (metric_of(TOP1), False)):
        cells = ((title(row), cell(table, row, metric.key)) for row in table)
        values = {name: (found.value, found.low, found.high) for name, found in cells if found is not None}
        shown = [x for ends in values.values() for x in ends if not math.isnan(x)]
        # Every row is to be seen against the judges' levels.
        levels = {"ceiling": bounds["ceiling"], "floor": bounds["copy_source"]} if metric.key == TOP1 else {}
        axis = axis_over(metric.label(), [*shown, *levels.values()], logarithmic=logarithmic and min(shown) > 0)
        charts.append(row_chart(metric.title, values, axis, levels))

    for metric, logarithmic in ((metric_of("time_s/seven_edits"), True), (metric_of("training/hours"), False)):
        cells = ((", ".join([title(row), *(v for _, v in row.at)]), cell(table, row, metric.key)) for row in table)
        alone = {name: (found.value, math.nan, math.nan) for name, found in cells if found is not None}
        if alone:
            # Hours are compared by their length from nothing.
            ends = [*([] if logarithmic else [0.0]), *(value for value, _, _ in alone.values())]
            charts.append(row_chart(metric.title, alone, axis_over(metric.label(), ends, logarithmic=logarithmic)))
    return figure(charts)
