"""Source noise: error against a depth camera's noise, holes and quantisation, one at a time.

Only the source is degraded (`omote.rendering.sensor`); condition and ground truth stay those of the true render. ``copy_source``
is the degraded source with holes filled by its median depth, so an edit's advantage over it includes what the edit restores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import numpy as np

from omote.config import Range
from omote.evaluation.figures import figure
from omote.geometry.camera import FRONT_DISTANCE_MM
from omote.progress import Steps
from omote.studies.base import Results, Work
from omote.studies.conditions import Edit, StudyCondition, StudyOfEdits
from omote.studies.table import COPY, DEPTH, IDENTITY, LINES, MODEL, TOP1, At, curves, levels_of

if TYPE_CHECKING:
    from omote.datasets.population import Person
    from omote.types import Rgbd

NOISE_STREAM = 73
AXES: Mapping[str, str] = {
    "noise_mm": "depth noise at 0.7 m, mm",
    "holes": "share of the head without depth",
    "quantisation_mm": "depth step at 0.7 m, mm",
    "color_noise": "colour noise, of 1",
}


@dataclass(frozen=True, kw_only=True)
class SourceNoise(StudyOfEdits):
    """Error against depth noise, holes, quantisation and colour noise of the source.

    Attributes:
        noise_mm: standard deviations of depth in mm, at the standard camera's distance, for surface that faces it.
        holes: shares of the head without depth, in round patches.
        quantisation_mm: depth steps in mm at that distance; the steps of a sensor are uniform in disparity.
        color_noise: standard deviations of colours in [0, 1].
    """

    NAME = "source-noise"

    noise_mm: tuple[Annotated[float, Range(0)], ...] = (0.5, 1.0, 2.0, 4.0)
    holes: tuple[Annotated[float, Range(0, 0.9)], ...] = (0.03, 0.1, 0.2, 0.4)
    quantisation_mm: tuple[Annotated[float, Range(0)], ...] = (0.5, 1.0, 2.0, 4.0)
    color_noise: tuple[Annotated[float, Range(0, 1)], ...] = (0.02, 0.05, 0.1)

    def on(self, axis: str) -> list[tuple[float, At]]:
        """Values of an axis with their conditions in order, including the clean source's."""
        values: tuple[float, ...] = getattr(self, axis)
        return [(0.0, {}), *((value, {axis: value}) for value in sorted(values) if value > 0)]

    def run(self, work: Work) -> Steps[Results]:
        """Measure; rows are ``<row>/<axis>=<value>``, and ``<row>`` for the clean source."""
        from omote.studies.measured_edits import measure_conditions

        edits = {MODEL: Edit()}
        conditions = [StudyCondition(edits=edits)]
        for axis in AXES:
            for value, at in self.on(axis):
                if at:
                    # The true render is the same everywhere, and so are its judgements and its latent.
                    noisy = partial(captured, axis=axis, value=value)
                    conditions.append(StudyCondition(at=at, edits=edits, captured=noisy, beside=(COPY,)))
        table = yield from measure_conditions(self, work, conditions)

        charts = []
        for metric in (DEPTH, IDENTITY, TOP1):
            levels = levels_of(table, metric)
            # Each axis has copies of its own sources.
            del levels[LINES[COPY]]
            lines = {row: LINES[row] for row in (MODEL, COPY)}
            charts += [
                curves(table, metric, self.on(axis), label, lines=lines, levels=levels) for axis, label in AXES.items()
            ]
        return Results(table=table, figure=figure(charts, columns=len(AXES)))


def captured(image: Rgbd, person: Person, axis: str, value: float) -> Rgbd:
    """The source with one degradation of a sensor.

    Args:
        image: true render of the source.
        person: person whose index seeds the noise.
        axis: one of `AXES`.
        value: strength of the degradation.
    """
    from omote.evaluation.test_sets import holes
    from omote.rendering.sensor import SensorModel, sense

    rng = np.random.default_rng([NOISE_STREAM, person.index])
    metres = FRONT_DISTANCE_MM / 1000
    if axis == "noise_mm":
        return sense(image, SensorModel(axial_mm=value / metres**2), rng)
    if axis == "quantisation_mm":
        return sense(image, SensorModel(disparity_step=value / 1000 / metres**2), rng)
    if axis == "color_noise":
        return sense(image, SensorModel(color_noise=value), rng)
    mask = image.mask.copy()
    while mask.sum() > (1 - value) * image.mask.sum():
        mask &= ~holes(mask, rng)
    return replace(image, mask=mask, depth_mm=np.where(mask, image.depth_mm, 0.0).astype(np.float32))
