"""Contents of a report's tables: metrics, and paired tests between rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool

from omote.evaluation.catalogue import Metric, metric_of
from omote.evaluation.records import Row
from omote.evaluation.report.results import MODEL, ReleaseResults
from omote.evaluation.statistics import Interval, PairedTest, paired_test
from omote.evaluation.summary import CEILING, FLOOR, TOP1
from omote.evaluation.summary import interval as interval_of
from omote.evaluation.summary import per_person as per_person_of

ALPHA = 0.05
HEADLINE = tuple(
    map(
        metric_of,
        (
            "depth/mae_mm_metric",
            "depth/mae_mm_face",
            "depth/mae_mm_moving",
            "color/psnr_db",
            "color/ssim",
            "identity/faceapi",
            "expression/top1_both",
        ),
    )
)
DETAIL = tuple(
    map(
        metric_of,
        (
            "depth/rmse_mm_metric",
            "depth/mae_mm_still",
            "depth/absrel",
            "depth/delta1",
            "depth/mae_mm_affine_aligned",
            "identity/arcface_r50",
            "identity/arcface_r100",
            "depth/silog",
            "depth/normals_deg",
            "color/psnr_db_face",
            "color/psnr_db_mouth",
        ),
    )
)

Verdict = Literal["better", "even", "worse"]


def interval(
    results: ReleaseResults, metric: Metric, row: Row, persons: Bool[np.ndarray, " p"] | None = None
) -> Interval | None:
    """A number of metrics.json with its interval over persons, or None.

    Args:
        results: results of the folder.
        metric: metric of the column.
        row: row of the table.
        persons: mask of the persons to include; all if None.
    """
    chosen = [p for k, p in enumerate(results.persons) if persons is None or persons[k]]
    return interval_of(chosen, metric.key, row)


@dataclass(frozen=True, kw_only=True)
class Rivalry:
    """The model against a baseline in one metric, on the same persons.

    Attributes:
        metric: metric of the comparison.
        baseline: row of the baseline.
        model_value: value of the model, with its interval.
        baseline_value: value of the baseline.
        test: paired test of model minus baseline.
        verdict: "better" or "worse" if significant at `ALPHA`, otherwise "even".
    """

    metric: Metric
    baseline: Row
    model_value: Interval
    baseline_value: Interval
    test: PairedTest
    verdict: Verdict


def verdict_of(test: PairedTest, metric: Metric) -> Verdict:
    """The verdict of a paired test on the first of its rows."""
    if not test.p_value <= ALPHA:
        return "even"
    lower = test.difference.value < 0
    return "better" if lower == (metric.better == "lower") else "worse"


def rivalries(results: ReleaseResults, row: Row = MODEL) -> list[Rivalry]:
    """Comparisons of a row with every baseline in every headline metric that both have.

    Copying the source keeps identity and most pixels trivially. Its row is compared like any other, so that the report says where
    it wins.
    """
    out = []
    for metric in HEADLINE:
        for baseline in results.baselines:
            ours, theirs = (per_person_of(results.persons, metric.key, r) for r in (row, baseline))
            model_value, baseline_value = (interval(results, metric, r) for r in (row, baseline))
            if ours is None or theirs is None or model_value is None or baseline_value is None:
                continue
            test = paired_test(ours, theirs)
            out.append(
                Rivalry(
                    metric=metric,
                    baseline=baseline,
                    model_value=model_value,
                    baseline_value=baseline_value,
                    test=test,
                    verdict=verdict_of(test, metric),
                )
            )
    return out


def bounds_of(results: ReleaseResults, metric: Metric) -> Mapping[str, Interval]:
    """Ceiling and floor of a judge's accuracy; empty for other metrics."""
    rows = (CEILING, FLOOR) if metric.key in TOP1 else ()
    found = {row: interval(results, metric, Row(row)) for row in rows}
    return {row: cell for row, cell in found.items() if cell is not None}
