"""Intensity: how strong an expression is asked for, against how strong it is shown.

Measured in two ways. A judge's probability of the category that is asked for stands for the intensity that it sees, and its
correlation with the asked intensity is CLS. And the change of depth, edit minus source, is measured in millimetres: its root mean
square over the pixels that both show (``displacement/rms_mm``), and its projection onto the true change, over the true change
(``displacement/ratio``): 1 moves as far as the truth, 0 stays where the source is. The ratio is left out where the truth hardly
moves, as at an intensity of 0, where faces still differ by how they rest. A category alone has many true changes, of which the
truth is one: there the first number says how far an edit moves, and the second how much of it the truth shares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import numpy as np

from omote.config import Range
from omote.evaluation.figures import figure
from omote.evaluation.records import Row
from omote.evaluation.statistics import Interval, bootstrap
from omote.head.expressions import CATEGORIES
from omote.progress import Steps
from omote.studies.base import Record, Results, Work
from omote.studies.conditions import BESIDE, Condition, Edit, StudyOfEdits, at_intensity
from omote.studies.table import ASKED, CEILING, COPY, DEPTH, LINES, OBTAINED, RATIO, TOP1, At, Table, curves

if TYPE_CHECKING:
    from omote.evaluation.truth import Truth
    from omote.types import Rgbd

EDITS = {Row("weights"): Edit(), Row("category"): Edit(asks="category")}
CORRELATED = {"asked_both": "expression/cls_both", "displaced": "displacement/pearson"}
# A correlation takes longer than a mean, and its interval is no finer than the persons are many.
NUM_RESAMPLES = 500
# Below an expression: how a face rests differs by .3 mm from one image to another, a quarter of an expression by 2.
LEAST_MM = 1.0


@dataclass(frozen=True, kw_only=True)
class Intensity(StudyOfEdits):
    """Asked against obtained intensity of an expression.

    Attributes:
        intensities: asked for.
    """

    NAME = "intensity"

    intensities: tuple[Annotated[float, Range(0, 1)], ...] = (0.0, 0.25, 0.5, 0.75, 1.0)

    def __post_init__(self) -> None:
        if len(set(self.intensities)) < 2:
            raise ValueError(f"intensities: expected at least two, got {self.intensities}")

    def run(self, work: Work) -> Steps[Results]:
        """Measure; rows without an intensity are over all of them."""
        from omote.studies.measured_edits import measure_conditions

        at: list[tuple[float, At]] = [(value, {"intensity": value}) for value in sorted(set(self.intensities))]
        conditions = [
            Condition(at=condition, edits=EDITS, shown=partial(at_intensity, intensity=value))
            for value, condition in at
        ]
        table = yield from measure_conditions(self, work, conditions, more=displacements, overall=correlations)
        lines = {**{row: row.name for row in EDITS}, **{row: LINES[row] for row in (CEILING, COPY)}}
        charts = [
            curves(table, metric, at, "asked intensity", lines=lines)
            for metric in (OBTAINED, RATIO, ASKED, TOP1, DEPTH)
        ]
        return Results(table=table, figure=figure(charts, columns=3))


def displacements(images: Mapping[str, Sequence[Rgbd]], truth: Truth) -> dict[str, list[float]]:
    """Per row and image ``displaced``, mm, and ``displacement``, a share of the true change.

    Args:
        images: by row.
        truth: of the same expressions.
    """
    out: dict[str, list[float]] = {}
    rest = truth.images[truth.source_index]
    for row, shown in images.items():
        moved, along = [], []
        for image, true in zip(shown, truth.images, strict=True):
            seen = image.mask & true.mask & rest.mask
            change = image.depth_mm[seen].astype(np.float64) - rest.depth_mm[seen]
            wanted = true.depth_mm[seen].astype(np.float64) - rest.depth_mm[seen]
            moved.append(float(np.sqrt(np.mean(change**2))) if seen.any() else np.nan)
            asked = float(np.mean(wanted**2)) if seen.any() else 0.0
            along.append(float(np.mean(change * wanted)) / asked if asked > LEAST_MM**2 else np.nan)
        out |= {f"displaced/{row}": moved, f"displacement/{row}": along}
    return out


def correlations(found: Sequence[Sequence[Record]]) -> Table:
    """Pearson of asked and obtained over all intensities, within categories, per row; neutral left out.

    Args:
        found: of each intensity, the records of its persons.
    """

    def column(key: str) -> np.ndarray:
        return np.stack([np.array([p[key] for p in persons], np.float64) for persons in found], axis=1)

    from omote.evaluation.metrics import intensity_correlation

    category = column("category").astype(int)
    counts = category != CATEGORIES.index("neutral")
    asked = column("intensity")
    table: dict[Row, dict[str, Interval]] = {}
    for row in (*EDITS, *BESIDE):
        table[row] = {}
        for measure, name in CORRELATED.items():
            got = column(f"{measure}/{row}")

            def correlation(chosen: np.ndarray, got: np.ndarray = got) -> float:
                here = counts[chosen] & ~np.isnan(got[chosen])
                return intensity_correlation(asked[chosen][here], got[chosen][here], category[chosen][here])

            table[row][name] = bootstrap(correlation, len(category), num_resamples=NUM_RESAMPLES)
    return table
