"""Texts of a report: its definitions, and the sentence that says where the model does not win."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape

from omote.evaluation.catalogue import Metric
from omote.evaluation.records import Row
from omote.evaluation.report.html import number, p_value
from omote.evaluation.report.results import ReleaseResults, title
from omote.evaluation.report.tables import ALPHA, Rivalry
from omote.evaluation.summary import FLOOR

ROWS: Mapping[str, str] = {
    "model": "The networks measured here, given the ARKit weights of the true expression: the answer is determined.",
    "model_category": "The same, given category and intensity; weights drawn by the diffusion of expressions, so that another "
    "expression of the category is as right as the true one, though pixel errors penalise it.",
    "model_token": "The same, given the category's token alone, without ARKit weights.",
    "copy_source": "The unedited source: the floor of every change, and the reference for identity.",
    "head_edit": "A head model fitted to the source with the true landmarks, plus the true blendshape weights, rendered with "
    "the source's colours. The truth is made by blendshapes too, which favours this row.",
    "deformation_transfer": "The head model's deformations by the true weights, transferred triangle by triangle to the surface "
    "that non-rigid ICP found on the source (Sumner & Popović 2004), rendered with the source's colours.",
    "regression": "A network of the model's size trained to predict the edit in one pass, without noise.",
    "pixel_diffusion": "The same diffusion on the images themselves: f = 1, no first stage.",
    "autoencoder_ceiling": "The true render sent through the autoencoder: what no editor in its latent space can exceed.",
    "ceiling": "The true render itself: the ceiling of every judge.",
}

# Descriptions of `omote.evaluation.test_sets`.
TEST_SETS: Mapping[str, str] = {
    "in-model": "Persons of the head families used in training, at rest, at the standard camera, without noise.",
    "cross-model": "Persons of the second head family alone, at rest. This measures the cost of a new kind of head for networks "
    "trained on the first family only.",
    "sensor": "The source is captured by a depth camera: noise, quantisation, lost edges, holes. The ground truth is the "
    "true render.",
    "pose": "The camera is turned up to 30° to the side, with a seventh of the persons at each angle.",
    "expressive": "The source shows an expression, which a copy keeps.",
}
# The aim of the model: to be better in all of these metrics together than each of these rows.
AIM_METRICS = ("depth/mae_mm_metric", "expression/top1_both", "identity/faceapi")
AIM_BASELINES = (FLOOR, "head_edit", "deformation_transfer")

STATISTICS: Sequence[tuple[str, str]] = (
    ("intervals", "95 % percentile bootstrap over persons (2000 resamples, seed 0): a person's images are not independent. "
    "An interval of width 0 means that all measured persons agree, not that the next one will."),
    ("p", "Sign-flip permutation test over persons, paired, two-sided; not corrected for the number of tests."),
)  # fmt: skip

SYNTHETIC = (
    "Ground truth is synthetic: rendered persons of the test split, whom training cannot draw. "
    "Their blendshapes are linear."
)


def describe(row: Row) -> str:
    """Description of a row."""
    return ROWS.get(row.name, "A row of this suite.")


def definitions(metrics: Iterable[Metric]) -> Iterator[tuple[str, str]]:
    """Terms and definitions of columns."""
    yield from ((metric.title, metric.definition) for metric in metrics)
    yield from STATISTICS


def test_set(results: ReleaseResults) -> str:
    """Name of the test set."""
    return str(results.config["test_set"])


def aim(rivals: Sequence[Rivalry]) -> Iterator[str]:
    """HTML paragraphs: whether the model beats the rows without networks in depth, expression and identity together."""
    asked = [r for r in rivals if r.metric.key in AIM_METRICS and r.baseline.name in AIM_BASELINES]
    missed = [r for r in asked if r.verdict != "better"]
    won = [row for row in map(Row, AIM_BASELINES) if any(r.baseline == row for r in asked)]
    won = [row for row in won if not any(r.baseline == row for r in missed)]
    together = "in depth, expression accuracy and identity together"
    if missed:
        yield (
            f'The model <b class="worse">does not beat</b> every row without networks {together}: not '
            f"{_by_baseline(missed)}."
        )
    if won:
        named = " and ".join(f"the <b>{escape(title(row))}</b>" for row in won)
        yield f'The model <b class="better">beats</b> {named} {together}.'


def missing(results: ReleaseResults) -> Iterator[str]:
    """HTML paragraphs: rows that could not be measured."""
    rows = [key.removeprefix("run/missing_") for key in sorted(results.run) if key.startswith("run/missing_")]
    if rows:
        named = ", ".join(f"<b>{escape(title(Row(row)))}</b>" for row in rows)
        yield f"Not measured, because the weights are missing: {named} (they come with omote's repository, not with its wheel)."


def verdict(rivals: Sequence[Rivalry]) -> list[str]:
    """HTML paragraphs: first where the model does not beat the baselines, then where it does."""
    lines = []
    if lost := [r for r in rivals if r.verdict == "worse"]:
        lines.append(f'<b class="worse">The model is worse than</b> {_by_baseline(lost)}.')
    if even := [r for r in rivals if r.verdict == "even"]:
        lines.append(f"<b>No significant difference</b> (p &gt; {ALPHA:g}) from {_by_baseline(even)}.")
    if won := [r for r in rivals if r.verdict == "better"]:
        if not lost and not even:
            lines.append("The model beats every baseline in every metric of this table.")
        lines.append(f'<b class="better">It beats</b> {_by_baseline(won)}.')
    else:
        lines.append("It beats no baseline significantly.")
    num_persons = max((r.test.difference.num_persons for r in rivals), default=0)
    if 2 / 2**num_persons > ALPHA:
        lines.append(f"With {num_persons} persons no difference of any size could be significant.")
    return lines


def _by_baseline(rivals: Sequence[Rivalry]) -> str:
    parts: dict[Row, list[str]] = {}
    for r in rivals:
        unit = f" {r.metric.unit}" if r.metric.unit else ""
        ours, theirs = (number(v.value, r.metric.digits) for v in (r.model_value, r.baseline_value))
        said = f"{escape(r.metric.title)} ({ours} against {theirs}{unit}, {p_value(r.test.p_value)})"
        parts.setdefault(r.baseline, []).append(said)
    return "; ".join(f"the <b>{escape(title(baseline))}</b> in {', '.join(said)}" for baseline, said in parts.items())
