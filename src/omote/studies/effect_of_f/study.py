"""The effect of f: diffusion on first stages of f = 1 … 32 at equal training time and network size (Rombach et al., §4.1).

Each row trains a denoiser with the same number of parameters for the same time on its own latents, and all rows are measured at
the same times with the measures of `omote.studies.effect_of_f.measure`. ``pixel`` is f = 1, diffusion of the images themselves;
``gan`` is a small adversarial generator of that size. The training time of a first stage is reported separately.

A row is an item of work, and its parts are kept: first stage, latents, generator, and a file per time of measurement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, get_args

from omote.config import Range
from omote.diffusion.settings import SamplerName
from omote.errors import ConfigError
from omote.evaluation.figures import axis_over, bar_chart, figure, line_chart
from omote.evaluation.records import Cell, Row
from omote.progress import Steps
from omote.studies.base import FREE, Record, Results, Study, Work

RowName = Literal[
    "pixel", "kl-f2", "kl-f4", "kl-f8", "kl-f16", "kl-f32", "vq-f2", "vq-f4", "vq-f8", "vq-f16", "vq-f32", "gan"
]  # fmt: skip
ROWS: tuple[RowName, ...] = get_args(RowName)
DEFAULT_ROWS: tuple[RowName, ...] = ("pixel", "kl-f2", "kl-f4", "kl-f8", "kl-f16", "kl-f32", "gan")


@dataclass(frozen=True, kw_only=True)
class EffectOfF(Study):
    """Diffusion on first stages of f = 1 to 32, at equal time and network size, and a small GAN.

    Attributes:
        population: folder written by `omote population`; its last persons are held out.
        size: side of the images in pixels; the population's size must be a multiple of it.
        rows: rows to train; several processes on one folder share them.
        minutes: training time of each generator, without that of its first stage.
        first_stage_minutes: training time of each first stage.
        first_stage_width: width of the first stage's layers.
        marks: shares of the training time at which generators are measured.
        clock: clock of the training time: "wall", or "cpu" for the process's own computing time on a shared machine.
        parameters: number of parameters of each generator, within a few percent.
        batch_size: images per step.
        max_persons: largest number of the population's persons; 0 means all.
        held_out_share: share of the persons that no network is trained on and all are measured against.
        num_real: largest number of held-out faces that are compared with.
        num_drawn: number of generated faces per measurement, with categories in turn.
        steps: number of sampler steps.
        sampler: sampler of the diffusion rows.
        seed: seed of all random choices.
        threads: number of threads of each process; 0 keeps torch's own choice.
    """

    NAME = "f"
    TINY: ClassVar[Mapping[str, object]] = {
        "size": 32,
        "rows": ("pixel", "kl-f4", "gan"),
        "minutes": 0.02,
        "first_stage_minutes": 0.01,
        "first_stage_width": 16,
        "marks": (0.5, 1.0),
        "parameters": 100_000,
        "batch_size": 8,
        "num_drawn": 14,
        "held_out_share": 0.4,
        "steps": 2,
    }

    population: Path
    size: Annotated[int, Range(16)] = 64
    rows: Annotated[tuple[RowName, ...], FREE] = DEFAULT_ROWS
    minutes: float = 10.0
    first_stage_minutes: float = 6.0
    first_stage_width: int = 32
    marks: tuple[Annotated[float, Range(0, 1)], ...] = (0.125, 0.25, 0.5, 1.0)
    clock: Literal["wall", "cpu"] = "wall"
    parameters: int = 1_000_000
    batch_size: int = 16
    max_persons: int = 1600
    held_out_share: float = 0.2
    num_real: int = 1000
    num_drawn: int = 350
    steps: int = 10
    sampler: SamplerName = "dpmsolver++"
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        if list(self.marks) != sorted(set(self.marks)) or not self.marks or self.marks[0] <= 0:
            raise ValueError(f"marks: expected increasing shares of the minutes, got {self.marks}")

    def check(self) -> None:
        """Reject rows whose first stage leaves no latent pixel."""
        for row in self.rows:
            if factor_of(row) > self.size // 2:
                raise ConfigError(f"{row}: images of {self.size} pixels leave no latent; give a larger size")

    def run(self, work: Work) -> Steps[Results]:
        """Train and measure; rows are ``<row>`` at the end of training, and ``<row>/share=<share of the time>`` before it.

        Raises:
            ConfigError: too few persons, or a size that does not fit the population.
            JudgeError: the features' network is not installed.
        """
        from omote.studies.effect_of_f.train_and_measure import reference_of, run_row

        reference, floor = yield from reference_of(self, work)
        yield from work.records("rows", self.rows, lambda row: run_row(self, row, work.out, reference))
        # Earlier runs may have made other rows.
        whole = [row for row in ROWS if (work.out / "rows" / f"{row}.json").exists()]
        found = yield from work.records("rows", whole, lambda row: run_row(self, row, work.out, reference))
        table: dict[Row, Mapping[str, Cell]] = {Row("real"): floor}
        for name, record in found.items():
            for share, mark in zip(self.marks, record["marks"], strict=True):
                table[Row(name) if share == self.marks[-1] else Row(name).under(share=share)] = mark
        return Results(table=table, figure=_drawn(found, floor, f"fd/{reference.extractor.name}"))


def factor_of(row: str) -> int:
    """Downsampling factor of a row's first stage."""
    return int(row.partition("-f")[2] or 1)


def _drawn(rows: Mapping[str, Record], real: Mapping[str, float], key: str) -> str:
    """Fréchet distance over time, and sampling speed."""
    lines = {row: [(mark["training/minutes"], mark[key]) for mark in record["marks"]] for row, record in rows.items()}
    every = [point for points in lines.values() for point in points]
    speeds = {row: record["marks"][-1]["speed/samples_per_s"] for row, record in rows.items()}
    x = axis_over("minutes of training", [a for a, _ in every], logarithmic=True)
    y = axis_over(f"{key} (lower is better)", [real[key], *(b for _, b in every)], logarithmic=True)
    charts = [
        line_chart("Fréchet distance at equal time and size", lines, x, y, {"real": real[key]}),
        bar_chart("drawing speed", speeds, axis_over("faces per second", list(speeds.values()), logarithmic=True)),
    ]
    return figure(charts)
