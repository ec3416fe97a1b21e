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

    def chart(
        name: str, metrics: Mapping[str, str], levels: Mapping[str, float], *, scale: str = "linear"
    ) -> list[str]:
        """Metric → what is added to a row's title."""
        rows = {
            title(row.name) + end: (found.value, found.low, found.high)
            for row in table
            for metric, end in metrics.items()
            if (found := cell(table, row, metric)) is not None
        }
        # Lengths from nothing are compared by eye.
        ends = [x for row in rows.values() for x in row if not math.isnan(x)] + [0.0] * (scale == "from 0")
        logarithmic = scale == "logarithmic" and min(ends, default=0.0) > 0
        axis = axis_over(name, [*ends, *levels.values()], logarithmic=logarithmic)
        return [row_chart(name.partition(", ")[0].partition(" (")[0], rows, axis, levels)] if rows else []

    seconds = {"time_s/seven_edits": "", "time_s/seven_edits_openvino": ", openvino"}
    # Every row is to be seen against the judges' levels.
    judged = {"ceiling": bounds["ceiling"], "floor": bounds["copy_source"]}
    return figure(
        [
            *chart("depth error, mm (lower is better)", {DEPTH: ""}, {}, scale="logarithmic"),
            *chart("expression top-1 (higher is better)", {TOP1: ""}, judged),
            *chart("seconds for seven edits, head fit included", seconds, {}, scale="logarithmic"),
            *chart("hours of training", {"training/hours": ""}, {}, scale="from 0"),
        ]
    )
