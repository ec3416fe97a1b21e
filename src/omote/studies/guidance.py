"""Identity against expression strength under classifier-free guidance.

Classifier-free guidance (Ho & Salimans, "Classifier-Free Diffusion Guidance", 2022, eq. 6) moves an edit further in the direction
of the condition, and further away from the person. Every scale is measured at every intensity: given category and intensity
alone, where the editor chooses the expression, and given the true ARKit weights, where the expression is determined. Distances
are measured from the true render at the same intensity, so that a stronger expression alone is no loss of identity. A scale of 1
means no guidance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from omote.config import Range
from omote.diffusion.settings import EditSettings
from omote.evaluation.figures import figure
from omote.evaluation.records import Row, Table
from omote.evaluation.statistics import Interval
from omote.progress import Steps
from omote.studies.base import Results, Work
from omote.studies.conditions import Asks, Edit, StudyCondition, StudyOfEdits, at_intensity
from omote.studies.table import APART, AUTOENCODER, CEILING, COPY, DEPTH, IDENTITY, LINES, TOP1, cell, curves, trade_off

ASKED_BY: Mapping[Asks, str] = {"weights": "weights given", "category": "weights drawn", "token": "category alone"}
# Metric over the scale → row and metric of its bound, and the bound's name.
MEASURED = {
    TOP1: (CEILING, TOP1, "true render"),
    IDENTITY: (Row(), APART, "other persons"),
    DEPTH: (COPY, DEPTH, "copy"),
}


@dataclass(frozen=True, kw_only=True)
class Guidance(StudyOfEdits):
    """Identity against expression strength, over scales of guidance.

    Attributes:
        asks: conditions of the edits: given weights, weights drawn by the prior, or category alone.
        scales: scales of guidance.
        intensities: requested intensities.
        steps: steps of the sampler.
    """

    NAME = "guidance"

    asks: tuple[Asks, ...] = ("token", "weights")
    scales: tuple[Annotated[float, Range(0, 20)], ...] = (1.0, 1.5, 2.0, 3.0, 5.0)
    intensities: tuple[Annotated[float, Range(0, 1)], ...] = (0.4, 0.7, 1.0)
    steps: Annotated[int, Range(1)] = 1

    def __post_init__(self) -> None:
        if not (self.asks and self.scales and self.intensities):
            raise ValueError("expected at least one of asks, one of scales and one of intensities")

    def run(self, work: Work) -> Steps[Results]:
        """Measure; rows are ``<condition>/guidance=<scale>/intensity=<intensity>``."""
        from omote.studies.measured_edits import measure_conditions

        edits = {
            Row(asks).under(guidance=scale): Edit(
                asks=asks, settings=EditSettings(steps=self.steps, guidance_scale=scale)
            )
            for asks in self.asks
            for scale in self.scales
        }
        conditions = [
            StudyCondition(at={"intensity": value}, edits=edits, shown=partial(at_intensity, intensity=value))
            for value in self.intensities
        ]
        table = yield from measure_conditions(self, work, conditions)
        # For each condition: the trade-off, and both of its metrics over the scale.
        charts = [chart for asks in self.asks for chart in _charts(table, self, asks)]
        return Results(table=table, figure=figure(charts, columns=1 + len(MEASURED)))


def _charts(table: Table, config: Guidance, asks: Asks) -> Iterator[str]:
    named = {value: f"intensity {value:g}" for value in config.intensities}
    traded = {
        name: [Row(asks).under(guidance=scale, intensity=value) for scale in config.scales]
        for value, name in named.items()
    }
    # A copy of the source keeps the identity and has no expression.
    for row in (COPY, AUTOENCODER):
        traded[LINES[row]] = [row.under(intensity=value) for value in config.intensities]
    yield trade_off(table, IDENTITY, TOP1, traded, by=ASKED_BY[asks])

    # Over the scale, with a line per intensity: the axes are exchanged.
    turned = {
        Row(asks).under(intensity=value, guidance=scale): table[Row(asks).under(guidance=scale, intensity=value)]
        for value in config.intensities
        for scale in config.scales
    }
    lines = {Row(asks).under(intensity=value): name for value, name in named.items()}
    scales = [(scale, {"guidance": scale}) for scale in config.scales]
    for metric, (row, bound, called) in MEASURED.items():
        bounds = {value: cell(table, row.under(intensity=value), bound) for value in config.intensities}
        levels = _levels(bounds, called)
        yield curves(turned, metric, scales, f"guidance scale, {ASKED_BY[asks]}", lines=lines, levels=levels)


def _levels(bounds: Mapping[float, Interval | None], called: str) -> dict[str, float]:
    """A level per intensity; equal levels are merged, to keep their labels legible."""
    at: dict[float, list[float]] = {}
    for intensity, found in bounds.items():
        if found is not None:
            at.setdefault(round(found.value, 2), []).append(intensity)
    return {f"{called}, {' '.join(f'{i:g}' for i in those)}": value for value, those in at.items()}
