"""What a report's tables say: every number with its interval over persons, and paired tests between rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from omote.evaluation.metrics import accuracy
from omote.evaluation.report.results import BOUNDS, CEILING, FLOOR, MODEL, Results
from omote.evaluation.statistics import Interval, PairedTest, bootstrap_macro_mean, bootstrap_mean, paired_test
from omote.head.expressions import CATEGORIES

ALPHA = 0.05


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A column of the headline table.

    Attributes:
        key: in metrics.json, without its row.
        measure: in a person's file, without its row.
        title: short.
        unit: or "".
        better: the direction.
        digits: after the point.
        with_neutral: whether neutral images count.
        in_bounds: whether the true render has a value that says something.
    """

    key: str
    measure: str
    title: str
    unit: str
    better: Literal["less", "more"]
    digits: int
    with_neutral: bool = True
    in_bounds: bool = False


HEADLINE: tuple[Metric, ...] = (
    Metric(key="depth/mae_mm_metric", measure="mae", title="depth error", unit="mm", better="less", digits=2),
    Metric(key="depth/mae_mm_moving", measure="mae_moving", title="depth error, moving", unit="mm", better="less", digits=2),
    Metric(key="color/psnr_db", measure="psnr", title="PSNR", unit="dB", better="more", digits=1, with_neutral=False),
    Metric(key="color/ssim", measure="ssim", title="SSIM", unit="", better="more", digits=3, with_neutral=False),
    Metric(key="identity/faceapi", measure="identity", title="identity distance", unit="", better="less", digits=3,
           with_neutral=False),
    Metric(key="expression/top1_both", measure="judged_both", title="expression top-1", unit="", better="more", digits=2,
           in_bounds=True),
)  # fmt: skip
DETAIL: tuple[Metric, ...] = (
    Metric(key="depth/rmse_mm_metric", measure="rmse", title="depth RMSE", unit="mm", better="less", digits=2),
    Metric(key="depth/mae_mm_still", measure="still", title="depth error, still", unit="mm", better="less", digits=2),
    Metric(key="depth/absrel", measure="absrel", title="depth abs. rel.", unit="", better="less", digits=5),
    Metric(key="depth/delta1", measure="delta1", title="δ1", unit="", better="more", digits=5),
    Metric(key="depth/mae_mm_affine_aligned", measure="mae_aligned", title="depth error, affine aligned", unit="mm",
           better="less", digits=2),
    Metric(key="identity/arcface_r50", measure="identity_arcface_r50", title="identity, ArcFace r50", unit="", better="less",
           digits=3, with_neutral=False),
    Metric(key="identity/arcface_r100", measure="identity_arcface_r100", title="identity, ArcFace r100", unit="", better="less",
           digits=3, with_neutral=False),
    Metric(key="depth/silog", measure="silog", title="silog", unit="", better="less", digits=3),
    Metric(key="depth/normals_deg", measure="normals", title="normals", unit="°", better="less", digits=1),
    Metric(key="color/psnr_db_mouth", measure="psnr_mouth", title="PSNR, mouth", unit="dB", better="more", digits=1,
           with_neutral=False),
)  # fmt: skip


def is_expression(metric: Metric) -> bool:
    """Whether it is a judge's accuracy."""
    return metric.measure.startswith("judged_")


def measured(results: Results, metric: Metric, row: str) -> bool:
    """Whether a row has the metric."""
    if row == CEILING and not metric.in_bounds:
        return False
    return results.has(metric.measure, row)


def per_image(results: Results, metric: Metric, row: str) -> Float[np.ndarray, "p k"]:
    """A person's value per image, NaN where an image does not count; for a judge, 1 for a hit and 0 for a miss."""
    values = results.column(f"{metric.measure}/{row}")
    if is_expression(metric):
        return (values.astype(int) == results.category).astype(np.float64)
    return values if metric.with_neutral else np.where(results.moved, values, np.nan)


def per_person(results: Results, metric: Metric, row: str) -> Float[np.ndarray, " p"]:
    """Mean over a person's images that count."""
    return _mean_of_images(per_image(results, metric, row))[0]


def _mean_of_images(values: Float[np.ndarray, "p k"]) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"]]:
    count = (~np.isnan(values)).sum(axis=1)
    total = np.nansum(values, axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan), count.astype(np.float64)


def interval(results: Results, metric: Metric, row: str, persons: Bool[np.ndarray, " p"] | None = None) -> Interval:
    """The number of metrics.json with its interval over persons.

    Args:
        results: the folder.
        metric: column.
        row: row.
        persons: which of them; all if None.
    """
    chosen = np.ones(len(results.persons), bool) if persons is None else persons
    values = per_image(results, metric, row)[chosen]
    if is_expression(metric):
        return _macro(values, results.category[chosen])
    means, counts = _mean_of_images(values)
    return bootstrap_mean(means, weights=counts)


def _macro(hits: Float[np.ndarray, "p k"], category: np.ndarray) -> Interval:
    """Of the mean over classes of each class's hits."""
    classes = [(category == c) for c in np.unique(category)]
    per_class = np.stack([(hits * here).sum(axis=1) for here in classes], axis=1)
    counts = np.stack([here.sum(axis=1) for here in classes], axis=1)

    per_person = np.divide(per_class, counts, out=np.full(counts.shape, np.nan), where=counts > 0)
    return bootstrap_macro_mean(per_person, counts.astype(np.float64))


def class_interval(results: Results, judge: str, row: str, category: str) -> Interval:
    """Top-1 of one true class."""
    here = results.category == CATEGORIES.index(category)
    hits = np.where(here, results.column(f"judged_{judge}/{row}").astype(int) == results.category, np.nan)
    means, counts = _mean_of_images(hits.astype(np.float64))
    return bootstrap_mean(means, weights=counts)


def confusion(results: Results, judge: str, row: str) -> Float[np.ndarray, "7 7"]:
    """Rows are true classes and sum to 1, columns the judged ones."""
    judged = results.column(f"judged_{judge}/{row}").astype(int).ravel()
    return accuracy(results.category.ravel(), judged, len(CATEGORIES)).confusion


@dataclass(frozen=True, kw_only=True)
class Rivalry:
    """The model against a baseline in one metric, on the same persons.

    Attributes:
        metric: in which.
        baseline: against which row.
        model_value: of the model, with its interval.
        baseline_value: of the baseline.
        test: of model minus baseline.
        verdict: "better" and "worse" are significant at `ALPHA`; "even" is neither.
    """

    metric: Metric
    baseline: str
    model_value: Interval
    baseline_value: Interval
    test: PairedTest
    verdict: Literal["better", "even", "worse"]


def verdict_of(test: PairedTest, metric: Metric) -> Literal["better", "even", "worse"]:
    """What a paired test says of the first of its rows."""
    if not test.p_value <= ALPHA:
        return "even"
    less = test.difference.value < 0
    return "better" if less == (metric.better == "less") else "worse"


def rivalries(results: Results, row: str = MODEL) -> list[Rivalry]:
    """The row against every baseline in every headline metric that both have.

    Copying the source keeps identity and most pixels for nothing, so its row is compared like any other: where it wins, the
    report has to say so.
    """
    out = []
    for metric in HEADLINE:
        for baseline in results.baselines:
            if not (measured(results, metric, row) and measured(results, metric, baseline)):
                continue
            test = paired_test(per_person(results, metric, row), per_person(results, metric, baseline))
            out.append(
                Rivalry(
                    metric=metric,
                    baseline=baseline,
                    model_value=interval(results, metric, row),
                    baseline_value=interval(results, metric, baseline),
                    test=test,
                    verdict=verdict_of(test, metric),
                )
            )
    return out


def csv_rows(results: Results) -> list[list[str]]:
    """table.csv: a row per row of the headline, every metric with its interval's ends; the first row names the columns."""
    shown = (*HEADLINE, *DETAIL)
    names = [f"{m.key}{end}" for m in shown for end in ("", "_low", "_high")]
    out = [["row", *names]]
    for row in results.rows:
        cells: list[str] = []
        for metric in shown:
            if measured(results, metric, row):
                got = interval(results, metric, row)
                cells += [_number(v) for v in (got.value, got.low, got.high)]
            else:
                cells += ["", "", ""]
        out.append([row, *cells])
    return out


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6g}"


def bounds_of(results: Results, metric: Metric) -> Mapping[str, Interval]:
    """Ceiling and floor of an expression metric."""
    return {
        row: interval(results, metric, row)
        for row in (CEILING, FLOOR)
        if is_expression(metric) and measured(results, metric, row)
    }


def shown_rows(results: Results, metrics: Sequence[Metric]) -> list[str]:
    """Rows that have at least one of the metrics."""
    return [row for row in results.rows if row in BOUNDS or any(measured(results, m, row) for m in metrics)]
