"""Verification: training time, inference time, depth accuracy and expression accuracy of every row in one table.

Accuracies are those of a finished `omote evaluate release` folder, with their intervals over persons. Inference is timed by this
study, each row in a process of its own (`omote.studies.edit_time`); training is read from the runs that are named, and
of networks whose runs are not, from the record beside their weights (`omote.studies.training_cost`).
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from omote.config import Range, from_json
from omote.errors import ConfigError
from omote.evaluation.figures import axis_over, figure, row_chart
from omote.evaluation.report.results import CEILING, FLOOR, Results, load_results, title
from omote.evaluation.report.tables import HEADLINE, bounds_of, interval, is_expression, measured
from omote.evaluation.statistics import Interval
from omote.files import atomic_path
from omote.progress import Step
from omote.rgbd.weights import RIVALS, SHIPPED_WEIGHTS, Backend, check_weights, fingerprint
from omote.studies.edit_time import NETWORK_FREE, TIMED, EditTime, TimeRequest, timed_apart
from omote.studies.release import ReleaseConfig
from omote.studies.rows import NETWORK_ROWS
from omote.studies.training_cost import Cost, cost_of, stages_of

METRICS = tuple(metric for metric in HEADLINE if metric.key != "color/ssim")
TOP1 = next(metric for metric in METRICS if is_expression(metric))
GROUPS = ("training", "time_s", "memory_mb", "time")
DEPTH = "depth/mae_mm_metric"


@dataclass(frozen=True, kw_only=True)
class Verification:
    """The study.

    Attributes:
        release: finished folder of `omote evaluate release`.
        runs: folders of trainings, for their hours; of other networks the record beside the weights says them.
        weights: of the model that the folder is of; the shipped ones if None.
        regression: run or weights of the row of that name; those in ``rivals/`` beside the weights if None.
        pixel_diffusion: the same.
        repeat: edits that are timed, of which the median counts.
        threads: of torch while it is timed; 0 leaves its own choice.
        clock: of edits: on the wall, or of computing on all cores together, which other work on a machine does not change.
    """

    release: Path
    runs: tuple[Path, ...] = ()
    weights: Path | None = None
    regression: Path | None = None
    pixel_diffusion: Path | None = None
    repeat: Annotated[int, Range(1)] = 5
    threads: Annotated[int, Range(0)] = 0
    clock: Literal["wall", "cpu"] = "wall"

    def weights_of(self, row: str) -> Path | None:
        """Folder of a row's networks, or None where there are none."""
        model = SHIPPED_WEIGHTS if self.weights is None else self.weights
        if row not in NETWORK_ROWS:
            return None if row in NETWORK_FREE else model
        given = {"regression": self.regression, "pixel_diffusion": self.pixel_diffusion}[row]
        beside = model / RIVALS / row
        return given or (beside if beside.is_dir() else None)


@dataclass(frozen=True, kw_only=True)
class Verified:
    """A row of the table.

    Attributes:
        accuracy: metric's key → its interval; what the row has.
        cost: of its networks, if it has some and their training is known.
        times: backend → how long edits take; "torch" where no network is in it.
    """

    accuracy: Mapping[str, Interval]
    cost: Cost | None
    times: Mapping[str, EditTime]

    def numbers(self) -> dict[str, float]:
        """Flat columns."""
        out: dict[str, float] = {}
        if self.cost is not None:
            out |= {"training/hours": self.cost.hours, "training/images": float(self.cost.images)}
        for backend, time in self.times.items():
            end = "" if backend == "torch" else f"_{backend}"
            out |= {
                f"time_s/one_edit{end}": time.one_edit,
                f"time_s/seven_edits{end}": time.seven_edits,
                f"time_s/head_fit{end}": time.head_fit,
                f"memory_mb/peak{end}": time.peak_memory_mb,
                f"time/threads{end}": float(time.threads),
            }
        for key, found in self.accuracy.items():
            out |= {key: found.value, f"{key}_low": found.low, f"{key}_high": found.high}
        return out


def study_verification(config: Verification, out: Path) -> Iterator[Step]:
    """Time what is to be timed into ``out/times``; then ``table.csv``, ``metrics.json`` and ``figure.svg``.

    Args:
        config: the study.
        out: folder of everything; made if missing.

    Raises:
        ConfigError: not a finished result folder, or not a run's folder.
        CheckpointError: missing weights.
        OmoteError: a row cannot be timed.
    """
    results = load_results(config.release)
    asked = from_json(ReleaseConfig, results.config["config"])
    folder = config.weights_of("model")
    assert folder is not None
    check_weights(folder)
    if results.run.get("run/weights", fingerprint(folder)) != fingerprint(folder):
        raise ConfigError(f"{config.release}: is of other weights than {folder}; give those of it with --weights")
    others = [path for row in NETWORK_ROWS if (path := config.weights_of(row)) is not None]
    # A rival given as its run says its own hours.
    runs = dict.fromkeys((*config.runs, *(path for path in others if (path / "checkpoint").is_dir())))
    stages = stages_of(list(runs), [folder, *others])
    requests = [
        TimeRequest(
            row=row,
            weights=config.weights_of(row),
            backend=backend,
            settings=asked.settings,
            test_set=asked.test_set,
            size=asked.population.size,
            seed=asked.population.seed,
            repeat=config.repeat,
            threads=config.threads,
            clock=config.clock,
        )
        for row in results.rows
        if row in TIMED and (row in NETWORK_FREE or config.weights_of(row) is not None)
        for backend in backends_of(row)
    ]
    times: dict[str, dict[str, EditTime]] = {row: {} for row in results.rows}
    (out / "times").mkdir(parents=True, exist_ok=True)
    for done, request in enumerate(requests):
        yield Step(stage="time", done=done, total=len(requests), note=f"{request.row} {request.backend}")
        answer = out / "times" / f"{request.row}_{request.backend}.json"
        times[request.row][request.backend] = timed_apart(request, answer)
    yield Step(stage="table")
    rows = {
        row: Verified(
            accuracy={m.key: interval(results, m, row) for m in METRICS if measured(results, m, row)},
            cost=cost_of(row, stages),
            times=times[row],
        )
        for row in results.rows
    }
    write_verification(rows, results, out)


def backends_of(row: str) -> tuple[Backend, ...]:
    """What a row's networks run in here: OpenVINO too where it is installed."""
    return ("torch",) if row in NETWORK_FREE or find_spec("openvino") is None else ("torch", "openvino")


def write_verification(rows: Mapping[str, Verified], results: Results, out: Path) -> None:
    """The table with the judges' ceiling and floor in every line, flat numbers ``<metric>/<row>``, and the figure."""
    bounds = {name: found.value for name, found in bounds_of(results, TOP1).items()}
    beside = {f"{TOP1.key}_{name}": bounds[row] for name, row in (("ceiling", CEILING), ("floor", FLOOR))}
    numbers = {row: verified.numbers() for row, verified in rows.items()}
    columns = sorted({key: None for row in numbers.values() for key in row}, key=_place)
    with atomic_path(out / "table.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", *columns, *beside, "training_stages"])
        for row, found in numbers.items():
            cost = rows[row].cost
            writer.writerow(
                [
                    row,
                    *("" if math.isnan(value := found.get(key, math.nan)) else f"{value:.6g}" for key in columns),
                    *(f"{value:.6g}" for value in beside.values()),
                    "" if cost is None else " ".join(cost.stages),
                ]
            )
    flat = {f"{key}/{row}": value for row, found in numbers.items() for key, value in found.items()}
    flat["count/persons"] = float(len(results.persons))
    with atomic_path(out / "metrics.json") as temporary:
        temporary.write_text(
            json.dumps({k: None if math.isnan(v) else v for k, v in flat.items()}, indent=2, sort_keys=True) + "\n"
        )
    with atomic_path(out / "figure.svg") as temporary:
        temporary.write_text(draw_verification(rows, bounds), encoding="utf-8")


def _place(column: str) -> int:
    """Sorts columns: training, time, memory, then accuracy as it came."""
    group = column.partition("/")[0]
    return GROUPS.index(group) if group in GROUPS else len(GROUPS)


def draw_verification(rows: Mapping[str, Verified], bounds: Mapping[str, float]) -> str:
    """Four charts of the same rows: depth, expression, seconds, hours; an SVG file's text."""
    drawn = []
    for key, label, logarithmic in (
        (DEPTH, "depth error, mm (lower is better)", True),
        (TOP1.key, "expression top-1 (higher is better)", False),
    ):
        found = {title(r): v.accuracy[key] for r, v in rows.items() if key in v.accuracy}
        values = {name: (i.value, i.low, i.high) for name, i in found.items()}
        shown = [x for ends in values.values() for x in ends if not math.isnan(x)]
        # A level of the judges is told by its row too, but every row is to be seen against it.
        levels = {"ceiling": bounds[CEILING], "floor": bounds[FLOOR]} if key == TOP1.key else {}
        axis = axis_over(label, [*shown, *levels.values()], logarithmic=logarithmic and min(shown) > 0)
        drawn.append(row_chart(label.partition(" (")[0], values, axis, levels))
    seconds = {
        f"{title(row)}{', ' + backend if backend == 'openvino' else ''}": time.seven_edits
        for row, verified in rows.items()
        for backend, time in verified.times.items()
    }
    hours = {title(row): verified.cost.hours for row, verified in rows.items() if verified.cost is not None}
    for name, values_of, logarithmic in (
        ("seconds for seven edits, head fit included", seconds, True),
        ("hours of training", hours, False),
    ):
        if values_of:
            alone = {row: (value, math.nan, math.nan) for row, value in values_of.items()}
            # Hours are compared by their length from nothing.
            ends = list(values_of.values()) if logarithmic else [0.0, *values_of.values()]
            drawn.append(row_chart(name, alone, axis_over(name.partition(",")[0], ends, logarithmic=logarithmic)))
    return figure(drawn)
