"""Identity against expression strength: what guidance buys of one and costs of the other.

Classifier-free guidance (Ho & Salimans, "Classifier-Free Diffusion Guidance", 2022, eq. 6) pushes an edit further along what is
asked for, and further from the person. Every scale is asked for at every intensity: by category and intensity alone, where the
editor decides what to show, and with the truth's ARKit weights, where little is left to decide. Distances are to the true render
at that intensity, so that a stronger expression is no loss of identity by itself. A scale of 1 is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from omote.config import Range
from omote.evaluation.figures import figure
from omote.evaluation.statistics import Interval
from omote.evaluation.table import DEPTH, IDENTITY, LINES, OTHERS, TOP1, Table, curves, row_of, trade_off
from omote.progress import Step
from omote.rgbd.model import EditSettings
from omote.studies.conditions import Asks, Condition, Edit, StudyOfEdits, at_intensity, run_conditions

ASKED_BY: Mapping[Asks, str] = {"weights": "weights given", "category": "weights drawn", "token": "category alone"}
# Against the scale; what an expression and an identity are seen by stands beside: true renders, and other persons.
MEASURED = {TOP1: ("ceiling", "true render"), IDENTITY: (OTHERS, "other persons"), DEPTH: ("copy_source", "copy")}


@dataclass(frozen=True, kw_only=True)
class Guidance(StudyOfEdits):
    """The study.

    Attributes:
        asks: how an expression is asked for.
        scales: of guidance.
        intensities: asked for.
        steps: of the sampler.
    """

    asks: tuple[Asks, ...] = ("token", "weights")
    scales: tuple[Annotated[float, Range(0, 20)], ...] = (1.0, 1.5, 2.0, 3.0, 5.0)
    intensities: tuple[Annotated[float, Range(0, 1)], ...] = (0.4, 0.7, 1.0)
    steps: Annotated[int, Range(1)] = 1

    def __post_init__(self) -> None:
        if not (self.asks and self.scales and self.intensities):
            raise ValueError("expected at least one of asks, one of scales and one of intensities")

    def at(self) -> dict[float, str]:
        """Intensities, and the names of their conditions."""
        return {intensity: f"intensity_{intensity:g}" for intensity in self.intensities}


def study_guidance(config: Guidance, out: Path) -> Iterator[Step]:
    """Run the study into ``out`` (`run_conditions`); rows are ``<asks>_guidance_<scale>_intensity_<intensity>``."""
    edits = {
        _edit(asks, scale): Edit(asks=asks, settings=EditSettings(steps=config.steps, guidance_scale=scale))
        for asks in config.asks
        for scale in config.scales
    }
    conditions = [
        Condition(name=name, edits=edits, shown=partial(at_intensity, intensity=intensity))
        for intensity, name in config.at().items()
    ]
    yield from run_conditions(config, conditions, out, lambda table: _drawn(table, config))


def _edit(asks: Asks, scale: float) -> str:
    return f"{asks}_guidance_{scale:g}"


def _drawn(table: Table, config: Guidance) -> str:
    """For each way of asking the trade-off, and what it is made of against the scale."""
    charts = [chart for asks in config.asks for chart in _charts(table, config, asks)]
    return figure(charts, columns=1 + len(MEASURED))


def _charts(table: Table, config: Guidance, asks: Asks) -> Iterator[str]:
    at = config.at()
    traded = {
        f"intensity {intensity:g}": [row_of(_edit(asks, scale), name) for scale in config.scales]
        for intensity, name in at.items()
    }
    # A copy of the source: as much identity as an expression leaves, and no expression.
    for row in ("copy_source", "autoencoder_ceiling"):
        traded[LINES[row]] = [row_of(row, name) for name in at.values()]
    yield trade_off(table, IDENTITY, TOP1, traded, by=ASKED_BY[asks])
    for metric, (beside, called) in MEASURED.items():
        # Scales stand across here, and a line is an intensity: rows are named the other way round.
        turned = {
            row_of(name, f"{scale:g}"): table[row_of(_edit(asks, scale), name)]
            for name in at.values()
            for scale in config.scales
        }
        lines = {name: f"intensity {intensity:g}" for intensity, name in at.items()}
        levels = _levels({i: table.get(row_of(beside, name), {}).get(metric) for i, name in at.items()}, called)
        scales = [(scale, f"{scale:g}") for scale in config.scales]
        yield curves(turned, metric, scales, f"guidance scale, {ASKED_BY[asks]}", lines=lines, levels=levels)


def _levels(found: Mapping[float, Interval | None], called: str) -> dict[str, float]:
    """Intensity → value, as levels; those that would lie on each other become one, so that its name can be read."""
    at: dict[float, list[float]] = {}
    for intensity, cell in found.items():
        if cell is not None:
            at.setdefault(round(cell.value, 2), []).append(intensity)
    return {f"{called}, {' '.join(f'{i:g}' for i in those)}": value for value, those in at.items()}
