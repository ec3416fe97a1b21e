"""What a report's words mean: its definitions, and the sentence that says where the model does not win."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from omote.evaluation.report.html import number, p_value
from omote.evaluation.report.results import title
from omote.evaluation.report.tables import ALPHA, Rivalry

ROWS: Mapping[str, str] = {
    "model": "The networks measured here, given the ARKit weights of the true expression: the answer is determined.",
    "model_category": "The same, given category and intensity; weights drawn as the population draws them, so another "
    "expression of the category is as right as the true one, and pixel errors punish it.",
    "model_token": "The same, given the category's token alone; the network has to decide by itself.",
    "copy_source": "The person at rest, whatever was asked: the floor of every change, and the reference for identity.",
    "head_edit": "A head model fitted to the source with the true landmarks, plus the true blendshape weights, rendered with "
    "the source's colours. The truth is made by blendshapes too, which favours this row.",
    "deformation_transfer": "The head model's deformations by the true weights, transferred triangle by triangle to the surface "
    "that non-rigid ICP found on the source (Sumner & Popović 2004), rendered with the source's colours.",
    "regression": "A network of the model's size trained to give the answer in one pass, without noise.",
    "pixel_diffusion": "The same diffusion on the images themselves: f = 1, no first stage.",
    "autoencoder_ceiling": "The true render sent through the autoencoder: what no editor in its latent space can exceed.",
    "ceiling": "The true render itself: the ceiling of every judge.",
}

METRICS: Sequence[tuple[str, str]] = (
    ("depth error", "Mean |d − g| of z-depth in mm over the true render's valid pixels, not aligned; per image, then averaged."),
    ("moving", "The same over pixels whose true depth differs from the source's by more than 2 mm."),
    ("still", "The same over pixels whose true depth differs from the source's by less than 0.1 mm: forehead, bridge of the "
     "nose, ears. What is wrong there is invented."),
    ("PSNR, SSIM", "Of colours in [0, 1] over the true render's valid pixels, neutral images left out. SSIM: Wang et al. 2004, "
     "11 × 11 Gaussian windows."),
    ("identity distance", "Euclidean distance of face-api's 128-d descriptors, row against true render of the same expression, "
     "neutral left out."),
    ("expression top-1", "How often the judges' first class is the asked one, averaged over the seven classes. “Both” sums the "
     "probabilities of face-api and fer, networks that no model here was trained with. Ceiling: true renders. Floor: copy."),
    ("normals", "Mean angle between the normals of depth images, in degrees."),
    ("δ1, silog, abs. rel.", "Share of pixels with max(d/g, g/d) < 1.25; 100 × deviation of log d − log g; mean |d − g| / g."),
    ("gain", "Share of the true change in the asked class's probability that a row reaches: copy 0, true render 1."),
    ("CLS", "Pearson's correlation of asked intensity and the judges' probability of the asked class, per category, averaged."),
    ("mSCR", "Mean of ½ (C_ij + C_ji) over fearful/surprised and angry/disgusted; less is better."),
    ("intervals", "95 % percentile bootstrap over persons (2000 resamples, seed 0): a person's images are not independent. "
     "An interval without width says that all persons agree, not that the next one will."),
    ("p", "Sign-flip permutation test over persons, paired, two-sided; not corrected for the number of tests."),
)  # fmt: skip

SYNTHETIC = (
    "Ground truth is synthetic: rendered persons of the test split, whom training cannot draw. "
    "Their blendshapes are linear."
)


def describe(row: str) -> str:
    """What a row is."""
    return ROWS.get(row, "A row of this suite.")


def verdict(rivals: Sequence[Rivalry]) -> list[str]:
    """HTML paragraphs: where the model does not beat the baselines, first; then where it does."""
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
    parts: dict[str, list[str]] = {}
    for r in rivals:
        unit = f" {r.metric.unit}" if r.metric.unit else ""
        ours, theirs = (number(v.value, r.metric.digits) for v in (r.model_value, r.baseline_value))
        said = f"{escape(r.metric.title)} ({ours} against {theirs}{unit}, {p_value(r.test.p_value)})"
        parts.setdefault(r.baseline, []).append(said)
    return "; ".join(f"the <b>{escape(title(baseline))}</b> in {', '.join(said)}" for baseline, said in parts.items())
