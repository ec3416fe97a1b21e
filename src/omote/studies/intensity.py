"""Intensity: requested against obtained strength of an expression.

It is measured in two ways. The first is a judge's probability of the requested category, which stands for the seen intensity; its
correlation with the requested intensity is CLS. The second is the change of depth, edit minus source, in millimetres: its root
mean square over the pixels that both images show (``displacement/rms_mm``), and its projection onto the true change, divided by
the true change (``displacement/ratio``): 1 moves as far as the truth, 0 stays at the source. The ratio is left out where the
truth hardly moves, as at an intensity of 0, where faces still differ in how they rest. A category alone has many right answers,
of which the truth is one: there the root mean square says how far an edit moves, and the ratio how much of the true movement it
shares.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import numpy as np

from omote.config import Range
from omote.evaluation.figures import figure
from omote.evaluation.records import PersonRecords, Record, Row, Table, values_of
from omote.evaluation.statistics import Interval, bootstrap
from omote.head.expressions import CATEGORIES
from omote.progress import Steps
from omote.studies.base import Results, Work
from omote.studies.conditions import BESIDE, Edit, StudyCondition, StudyOfEdits, at_intensity
from omote.studies.table import ASKED, CEILING, COPY, DEPTH, LINES, OBTAINED, RATIO, TOP1, At, curves

if TYPE_CHECKING:
    from omote.evaluation.ground_truth import GroundTruth
    from omote.types import Rgbd

EDITS = {Row("weights"): Edit(), Row("category"): Edit(asks="category")}
CORRELATED = {ASKED: "expression/cls_both", OBTAINED: "displacement/pearson"}
# A correlation takes longer to compute than a mean, and few persons limit the interval's precision anyway.
NUM_RESAMPLES = 500


@dataclass(frozen=True, kw_only=True)
class Intensity(StudyOfEdits):
    """Requested against obtained intensity of an expression.

    Attributes:
        intensities: requested intensities.
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
            StudyCondition(at=condition, edits=EDITS, shown=partial(at_intensity, intensity=value))
            for value, condition in at
        ]
        table = yield from measure_conditions(self, work, conditions, more=displacements, overall=correlations)
        lines = {**{row: row.name for row in EDITS}, **{row: LINES[row] for row in (CEILING, COPY)}}
        charts = [
            curves(table, metric, at, "asked intensity", lines=lines)
            for metric in (OBTAINED, RATIO, ASKED, TOP1, DEPTH)
        ]
        return Results(table=table, figure=figure(charts, columns=3))


def displacements(images: Mapping[Row, Sequence[Rgbd]], truth: GroundTruth) -> Iterator[Record]:
    """The change of depth in every row, edit minus source, and its share of the true change.

    Args:
        images: images by row.
        truth: true renders of the same expressions.
    """
    from omote.evaluation.comparison import stacked
    from omote.evaluation.metrics import displacement_mm, displacement_ratio

    true = stacked(truth.images)
    rest = stacked([truth.images[truth.source_index]] * len(truth.images))
    for row, seen in images.items():
        shown = stacked(seen)
        both = shown.mask & true.mask & rest.mask
        change, wanted = shown.depth_mm - rest.depth_mm, true.depth_mm - rest.depth_mm
        yield Record(row=row, measure=OBTAINED, values=displacement_mm(change, both))
        yield Record(row=row, measure=RATIO, values=displacement_ratio(change, wanted, both))


def correlations(found: Sequence[Sequence[PersonRecords]]) -> Table:
    """Pearson correlation of requested and obtained intensity within categories, without neutral, per row.

    Args:
        found: records of the persons, per intensity.
    """
    from omote.evaluation.metrics import intensity_correlation

    category = np.array([[person.category for person in persons] for persons in found])
    asked = np.array([[person.intensity for person in persons] for persons in found])
    counts = category != CATEGORIES.index("neutral")
    table: dict[Row, dict[str, Interval]] = {}
    for row in (*EDITS, *BESIDE):
        for measure, key in CORRELATED.items():
            values = [values_of(persons, row, measure) for persons in found]
            got = np.array([np.stack(v) for v in values if v is not None])

            def correlation(chosen: np.ndarray, got: np.ndarray = got) -> float:
                here = counts[:, chosen] & ~np.isnan(got[:, chosen])
                return intensity_correlation(asked[:, chosen][here], got[:, chosen][here], category[:, chosen][here])

            if len(got) == len(found):
                table.setdefault(row, {})[key] = bootstrap(correlation, len(found[0]), num_resamples=NUM_RESAMPLES)
    return table
