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
from typing import Annotated

from omote.config import Range
from omote.diffusion.settings import EditSettings
from omote.evaluation.figures import figure
from omote.progress import Steps
from omote.studies.base import Results, Table, Work
from omote.studies.conditions import Asks, Condition, Edit, StudyOfEdits, at_intensity
from omote.studies.table import DEPTH, IDENTITY, LINES, OTHERS, TOP1, cell, curves, row_of, trade_off

ASKED_BY: Mapping[Asks, str] = {"weights": "weights given", "category": "weights drawn", "token": "category alone"}
# Metric over the scale → the row that bounds it, and its name.
MEASURED = {TOP1: ("ceiling", "true render"), IDENTITY: (OTHERS, "other persons"), DEPTH: ("copy_source", "copy")}


@dataclass(frozen=True, kw_only=True)
class Guidance(StudyOfEdits):
    """Identity against expression strength, over scales of guidance.

    Attributes:
        asks: how an expression is asked for.
        scales: of guidance.
        intensities: asked for.
        steps: of the sampler.
    """

    NAME = "guidance"

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

    def run(self, work: Work) -> Steps[Results]:
        """Measure; rows are ``<asks>_guidance_<scale>_intensity_<intensity>``."""
        from omote.studies.measured_edits import measure_conditions

        edits = {
            _edit(asks, scale): Edit(asks=asks, settings=EditSettings(steps=self.steps, guidance_scale=scale))
            for asks in self.asks
            for scale in self.scales
        }
        conditions = [
            Condition(name=name, edits=edits, shown=partial(at_intensity, intensity=intensity))
            for intensity, name in self.at().items()
        ]
        table = yield from measure_conditions(self, work, conditions)
        # For each way of asking the trade-off, and its parts over the scale.
        charts = [chart for asks in self.asks for chart in _charts(table, self, asks)]
        return Results(table=table, figure=figure(charts, columns=1 + len(MEASURED)))


def _edit(asks: Asks, scale: float) -> str:
    return f"{asks}_guidance_{scale:g}"


def _charts(table: Table, config: Guidance, asks: Asks) -> Iterator[str]:
    at = config.at()
    traded = {
        f"intensity {intensity:g}": [row_of(_edit(asks, scale), name) for scale in config.scales]
        for intensity, name in at.items()
    }
    # A copy of the source: all of the identity that an expression leaves, and no expression.
    for row in ("copy_source", "autoencoder_ceiling"):
        traded[LINES[row]] = [row_of(row, name) for name in at.values()]
    yield trade_off(table, IDENTITY, TOP1, traded, by=ASKED_BY[asks])

    for metric, (bound, called) in MEASURED.items():
        # Over the scale, a line per intensity: rows are named the other way round.
        turned = {
            row_of(name, f"{scale:g}"): table[row_of(_edit(asks, scale), name)]
            for name in at.values()
            for scale in config.scales
        }
        lines = {name: f"intensity {intensity:g}" for intensity, name in at.items()}
        levels = _levels(table, metric, {i: row_of(bound, name) for i, name in at.items()}, called)
        scales = [(scale, f"{scale:g}") for scale in config.scales]
        yield curves(turned, metric, scales, f"guidance scale, {ASKED_BY[asks]}", lines=lines, levels=levels)


def _levels(table: Table, metric: str, rows: Mapping[float, str], called: str) -> dict[str, float]:
    """A level per intensity; equal levels become one, so that its name can be read."""
    at: dict[float, list[float]] = {}
    for intensity, row in rows.items():
        if (found := cell(table, row, metric)) is not None:
            at.setdefault(round(found.value, 2), []).append(intensity)
    return {f"{called}, {' '.join(f'{i:g}' for i in those)}": value for value, those in at.items()}
