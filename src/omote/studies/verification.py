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

from omote.config import Range, from_json, to_json
from omote.errors import ConfigError
from omote.evaluation.figures import axis_over, figure, row_chart
from omote.evaluation.records import Row
from omote.progress import Steps
from omote.rgbd.weights import RIVALS, SHIPPED_WEIGHTS, Backend, check_weights, fingerprint
from omote.studies.base import FREE, Results, Study, Work
from omote.studies.table import DEPTH, TOP1, Cell, Table, cell
from omote.studies.training_cost import Cost, cost_of, stages_of

if TYPE_CHECKING:
    from omote.evaluation.report.results import Results as Release
    from omote.studies.edit_time import EditTime, TimeRequest


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
        if results.run.get("run/weights_model", used) != used:
            raise ConfigError(
                f"{self.release}: is of other weights than {self.folder}; give the weights that it is of with --weights"
            )
        stages_of(self.runs, [])

    def run(self, work: Work) -> Steps[Results]:
        """Time the rows, and join times with accuracies and hours; a row is a row of the release evaluation."""
        from omote.evaluation.report.results import load_results
        from omote.evaluation.report.tables import bounds_of, interval, measured
        from omote.studies.edit_time import EditTime, timed_apart
        from omote.studies.measured_edits import METRICS
        from omote.studies.rows import NETWORK_ROWS

        results = load_results(self.release)
        requests = self._requests(results)
        times = yield from work.records("times", list(requests), lambda name: to_json(timed_apart(requests[name])))
        others = [path for row in NETWORK_ROWS if (path := self.weights_of(row)) is not None]
        # A rival given as its run has its own hours.
        runs = dict.fromkeys((*self.runs, *(path for path in others if (path / "checkpoint").is_dir())))
        stages = stages_of(list(runs), [self.folder, *others])

        costs = {row: cost for row in results.rows if (cost := cost_of(row, stages)) is not None}
        table: dict[Row, dict[str, Cell]] = {Row(row): _hours(costs.get(row)) for row in results.rows}
        for name, request in requests.items():
            table[Row(request.row)] |= _seconds(from_json(EditTime, times[name]), request.backend)
        for row in results.rows:
            table[Row(row)] |= {m.key: interval(results, m, row) for m in METRICS if measured(results, m, row)}
        top1 = next(metric for metric in METRICS if metric.key == TOP1)
        bounds = {name: found.value for name, found in bounds_of(results, top1).items()}
        notes: dict[Row, dict[str, str | float]] = {
            Row(row): {
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

        asked = results.config["config"]
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
            for row in results.rows
            if row in TIMED and (row in NETWORK_FREE or self.weights_of(row) is not None)
            for backend in backends_of(row)
        }


def backends_of(row: str) -> tuple[Backend, ...]:
    """The backends of a row's networks here: OpenVINO too where it is installed."""
    from omote.studies.edit_time import NETWORK_FREE

    return ("torch",) if row in NETWORK_FREE or find_spec("openvino") is None else ("torch", "openvino")


def _hours(cost: Cost | None) -> dict[str, Cell]:
    return {} if cost is None else {"training/hours": cost.hours, "training/images": float(cost.images)}


def _seconds(time: EditTime, backend: Backend) -> dict[str, Cell]:
    end = "" if backend == "torch" else f"_{backend}"
    return {
        f"time_s/one_edit{end}": time.one_edit,
        f"time_s/seven_edits{end}": time.seven_edits,
        f"time_s/head_fit{end}": time.head_fit,
        f"memory_mb/peak{end}": time.peak_memory_mb,
        f"time/threads{end}": float(time.threads),
    }


def draw_verification(table: Table, bounds: Mapping[str, float]) -> str:
    """Four charts of the same rows: depth, expression, seconds, hours; an SVG file's text."""
    from omote.evaluation.report.results import title

    charts = []
    for metric, label, logarithmic in (
        (DEPTH, "depth error, mm (lower is better)", True),
        (TOP1, "expression top-1 (higher is better)", False),
    ):
        cells = ((title(row.name), cell(table, row, metric)) for row in table)
        values = {name: (found.value, found.low, found.high) for name, found in cells if found is not None}
        shown = [x for ends in values.values() for x in ends if not math.isnan(x)]
        # Every row is to be seen against the judges' levels.
        levels = {"ceiling": bounds["ceiling"], "floor": bounds["copy_source"]} if metric == TOP1 else {}
        axis = axis_over(label, [*shown, *levels.values()], logarithmic=logarithmic and min(shown) > 0)
        charts.append(row_chart(label.partition(" (")[0], values, axis, levels))

    seconds = {
        title(row.name) + name: found.value
        for row in table
        for end, name in (("", ""), ("_openvino", ", openvino"))
        if (found := cell(table, row, f"time_s/seven_edits{end}")) is not None
    }
    hours = {title(row.name): found.value for row in table if (found := cell(table, row, "training/hours")) is not None}
    for name, values_of, logarithmic in (
        ("seconds for seven edits, head fit included", seconds, True),
        ("hours of training", hours, False),
    ):
        if values_of:
            alone = {row: (value, math.nan, math.nan) for row, value in values_of.items()}
            # Hours are compared by their length from nothing.
            ends = list(values_of.values()) if logarithmic else [0.0, *values_of.values()]
            charts.append(row_chart(name, alone, axis_over(name.partition(",")[0], ends, logarithmic=logarithmic)))
    return figure(charts)
