"""The catalogue of metrics: what every number in a ``metrics.json`` is, in which unit, and which direction is better.

Report words, table columns, figure titles and the table in docs/evaluation.md come from here. Further metrics are added with
`register`; one with ``measure`` is then measured of every row of images.

References:
    Eigen et al., "Depth Map Prediction from a Single Image using a Multi-Scale Deep Network", NeurIPS 2014 (absrel, δ, silog);
    Wang et al., "Image Quality Assessment", IEEE TIP 2004 (SSIM); Heusel et al., NeurIPS 2017 (Fréchet distance); Bińkowski et
    al., ICLR 2018 (KID); Kynkäänniemi et al., NeurIPS 2019 (precision and recall); Zhang et al., CVPR 2018 (perceptual
    distance); Guo et al., ICML 2017 (calibration error).
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import numpy as np
from scipy.spatial.distance import pdist
from torch import get_num_threads
from torch.nn import Module

from omote.evaluation import distribution, metrics, surfaces, verification
from omote.evaluation.features import PerceptualDistance
from omote.evaluation.judges.crop import CropRule
from omote.evaluation.judges.panel import ExpressionJudges
from omote.evaluation.registry import (
    Better,
    Metric,
    catalogue,
    checked,
    metric_of,
    register,
    split,
    write_metrics,
)
from omote.memory import peak_memory_mb
from omote.nets.quantiser import codebook_use

__all__ = ["Metric", "catalogue", "checked", "metric_of", "register", "split", "write_metrics"]

EIGEN, WANG = "Eigen et al., NeurIPS 2014", "Wang et al., IEEE TIP 2004"

# Depth of a row's images against the true render, over the true render's valid pixels.
DEPTH = (
    Metric(
        key="depth/mae_mm_metric", title="depth error", unit="mm", better="lower", digits=2, function=metrics.depth_errors,
        definition="Mean |d − g| of z-depth over the true render's valid pixels, not aligned; per image, then averaged.",
        measure=lambda c: c.depth.mae_mm,
    ),
    Metric(
        key="depth/mae_mm_moving", title="depth error, moving", unit="mm", better="lower", digits=2,
        function=metrics.moving_mask, measure=lambda c: c.depth_mae_mm(c.moving),
        definition="The same over pixels whose true depth differs from the source's by more than 2 mm.",
    ),
    Metric(
        key="depth/mae_mm_still", title="depth error, still", unit="mm", better="lower", digits=2,
        function=metrics.depth_errors, measure=lambda c: c.depth_mae_mm(c.still),
        definition="The same over pixels whose true depth differs from the source's by less than 0.1 mm: forehead, bridge of the "
        "nose, ears.",
    ),
    Metric(
        key="depth/rmse_mm_metric", title="depth RMSE", unit="mm", better="lower", digits=2, function=metrics.depth_errors,
        definition="Root of the mean (d − g)², not aligned.", source=EIGEN, measure=lambda c: c.depth.rmse_mm,
    ),
    Metric(
        key="depth/mae_mm_affine_aligned", title="depth error, affine aligned", unit="mm", better="lower", digits=2,
        function=metrics.affine_aligned,
        definition="Mean |d − g| after scaling and shifting d to g by least squares.",
        measure=lambda c: metrics.depth_errors(
            metrics.affine_aligned(c.shown.depth_mm, c.true.depth_mm, c.true.mask), c.true.depth_mm, c.true.mask
        ).mae_mm,
    ),
    Metric(
        key="depth/absrel", title="depth abs. rel.", better="lower", digits=5, function=metrics.depth_errors, source=EIGEN,
        definition="Mean |d − g| / g.", measure=lambda c: c.depth.absrel,
    ),
    Metric(
        key="depth/delta1", title="δ1", better="higher", digits=5, function=metrics.depth_errors, source=EIGEN,
        definition="Share of pixels with max(d/g, g/d) < 1.25.", measure=lambda c: c.depth.delta1,
    ),
    Metric(
        key="depth/delta2", title="δ2", better="higher", digits=5, function=metrics.depth_errors, source=EIGEN,
        definition="The same with 1.25².", measure=lambda c: c.depth.delta2,
    ),
    Metric(
        key="depth/delta3", title="δ3", better="higher", digits=5, function=metrics.depth_errors, source=EIGEN,
        definition="The same with 1.25³.", measure=lambda c: c.depth.delta3,
    ),
    Metric(
        key="depth/silog", title="silog", better="lower", function=metrics.depth_errors, source=EIGEN,
        definition="100 × the standard deviation of log d − log g.", measure=lambda c: c.depth.silog,
    ),
    Metric(
        key="depth/normals_deg", title="normals", unit="°", better="lower", digits=1,
        function=metrics.depth_normals_error_deg,
        definition="Mean angle between the normals of the two depth images, where the true one's neighbours are all valid.",
        measure=lambda c: metrics.depth_normals_error_deg(
            c.shown.depth_mm, c.true.depth_mm, c.true.mask, c.intrinsics
        ),
    ),
    Metric(
        key="depth/mae_mm_best_of_{n}", title="depth error, best of {n}", unit="mm", better="lower", digits=2,
        function=metrics.depth_errors,
        definition="The least depth error among {n} samples of an image, of category and intensity alone.",
    ),
    Metric(
        key="ratio/best_of_{n}_over_determined", title="best of {n} over determined", better="lower", digits=2,
        function=metrics.depth_errors,
        definition="Depth error of the best of {n} samples over that of `model` on the same persons.",
    ),
    Metric(
        key="diversity/depth_mm", title="diversity", unit="mm", better="neither", digits=2, function=np.std,
        definition="Standard deviation of depth over the samples of an image, averaged over the true render's pixels.",
    ),
    Metric(
        key="depth/nearest_mm", title="nearest real depth", unit="mm", better="lower", digits=1,
        function=distribution.nearest_depth_mm,
        definition="Mean |d − g| of a drawn face over the mask of the real face that is nearest.",
    ),
    Metric(
        key="displacement/rms_mm", title="change of depth", unit="mm", better="neither", digits=2, with_neutral=False,
        of_truth=True, function=metrics.displacement_mm,
        definition="Root mean square of the change of depth, row against source, over what both see.",
    ),
    Metric(
        key="displacement/ratio", title="change over the truth's", better="neither", digits=2, with_neutral=False,
        of_truth=True, function=metrics.displacement_ratio,
        definition="The change of depth projected onto the true change, over the true change: 1 moves as far as the truth, 0 not "
        "at all.",
    ),
    Metric(
        key="displacement/pearson", title="change of depth follows intensity", better="higher", digits=2, of_truth=True,
        function=metrics.intensity_correlation,
        definition="Pearson's correlation of the asked intensity and the change of depth, per category, averaged.",
    ),
)  # fmt: skip

# Colour of a row's images against the true render.
COLOR = (
    Metric(
        key="color/psnr_db", title="PSNR", unit="dB", better="higher", digits=1, with_neutral=False, function=metrics.psnr_db,
        definition="Peak signal-to-noise ratio of colours in [0, 1] over the true render's valid pixels, neutral left out.",
        measure=lambda c: metrics.psnr_db(c.shown.rgb, c.true.rgb, c.true.mask),
    ),
    Metric(
        key="color/psnr_db_mouth", title="PSNR, mouth", unit="dB", better="higher", digits=1, with_neutral=False,
        function=metrics.mouth_boxes, definition="The same in a box about the true mouth.",
        measure=lambda c: metrics.psnr_db(c.shown.rgb, c.true.rgb, c.mouth),
    ),
    Metric(
        key="color/ssim", title="SSIM", better="higher", with_neutral=False, function=metrics.ssim, source=WANG,
        definition="Structural similarity over the true render's valid pixels, 11 × 11 Gaussian windows, neutral left out.",
        measure=lambda c: metrics.ssim(c.shown.rgb, c.true.rgb, c.true.mask),
    ),
    Metric(
        key="color/psnr_db_all", title="PSNR", unit="dB", better="higher", digits=1, function=metrics.psnr_db,
        definition="`color/psnr_db` with neutral images.",
    ),
    Metric(
        key="color/psnr_db_mouth_all", title="PSNR, mouth", unit="dB", better="higher", digits=1,
        function=metrics.mouth_boxes, definition="`color/psnr_db_mouth` with neutral images.",
    ),
    Metric(
        key="color/ssim_all", title="SSIM", better="higher", function=metrics.ssim, source=WANG,
        definition="`color/ssim` with neutral images.",
    ),
    Metric(
        key="color/high_frequency_ratio", title="finest detail over the truth's", better="neither", digits=2,
        function=metrics.high_frequency_ratio,
        definition="Energy of colour's second differences over the true render's: above 1 noise is left, below it detail is "
        "lost.",
    ),
    Metric(
        key="mask/iou", title="mask", better="higher", function=metrics.mask_iou,
        definition="Intersection over union of the two masks.",
    ),
)  # fmt: skip

# Identity: descriptors of faces.
IDENTITY = (
    Metric(
        key="identity/{network}", title="identity distance ({network})", better="lower", with_neutral=False,
        function=metrics.identity_distance,
        definition="Distance of descriptors, row against true render of the same expression, neutral left out: Euclidean for "
        "face-api, 1 − cosine for ArcFace.",
    ),
    Metric(
        key="identity_to_source/{network}", title="identity distance to the source ({network})", better="lower",
        with_neutral=False, function=metrics.identity_distance,
        definition="The same, row against the source's own image.",
    ),
    Metric(
        key="identity_apart/{network}", title="identity distance of different persons ({network})", better="neither",
        function=pdist, definition="Mean distance of the descriptors of different persons, true images at rest.",
    ),
    *(
        Metric(
            key=f"identity_pairs/distance_{name}", title=title, better="neither", digits=2, function=np.percentile,
            definition=f"{title.capitalize()} of descriptor distances over pairs of images: of one person in another capture, of "
            "one person with another expression, or of different persons.",
        )
        for name, title in (("mean", "mean"), ("p05", "5th percentile"), ("p95", "95th percentile"))
    ),
    Metric(
        key="identity_pairs/accuracy", title="accuracy", better="higher", function=verification.verification,
        definition="Share of same and different pairs told rightly by a threshold chosen on other persons (ten folds); both "
        "kinds count half.",
    ),
    Metric(
        key="identity_pairs/threshold", title="threshold", better="neither", function=verification.verification,
        definition="Mean of the folds' thresholds.",
    ),
    Metric(
        key="identity_pairs/auc", title="AUC", better="higher", function=verification.verification,
        definition="How often a pair of one person is nearer than a pair of two.",
    ),
)  # fmt: skip

# Expression: what judges see. Judges are networks that no model here was trained with; "both" sums their probabilities.
EXPRESSION = (
    Metric(
        key="expression/top1_{judge}", title="expression top-1 ({judge})", better="higher", digits=2, of_truth=True,
        function=metrics.accuracy,
        definition="How often the judge's first class is the asked one, averaged over the seven classes.",
    ),
    Metric(
        key="expression/top1_{judge}_{category}", title="{category} ({judge})", better="higher", digits=2, of_truth=True,
        function=metrics.accuracy, definition="The same of images of one true class.",
    ),
    Metric(
        key="expression/confusion_{judge}", title="confusion ({judge})", better="neither", digits=2, of_truth=True,
        function=metrics.confusion_counts,
        definition="Share of the images of one class that are judged as another.",
    ),
    Metric(
        key="expression/mscr_{judge}", title="mSCR ({judge})", better="lower", digits=2, of_truth=True,
        function=metrics.mean_symmetric_confusion_rate,
        definition="Mean of ½ (C_ij + C_ji) over fearful/surprised and angry/disgusted.",
    ),
    Metric(
        key="expression/asked_{judge}", title="probability of what is asked ({judge})", better="higher", digits=2,
        with_neutral=False, of_truth=True, function=ExpressionJudges.probabilities,
        definition="The judge's probability of the asked category, neutral left out.",
    ),
    Metric(
        key="expression/cls_{judge}", title="CLS ({judge})", better="higher", digits=2, of_truth=True,
        function=metrics.intensity_correlation,
        definition="Pearson's correlation of the asked intensity and the judge's probability of the asked category, per "
        "category, averaged; neutral left out.",
    ),
    Metric(
        key="expression/gain_{judge}", title="gain ({judge})", better="higher", digits=2, of_truth=True,
        function=metrics.relative_expression_gain,
        definition="Share of the true change in the asked category's probability that a row reaches: copy 0, true render 1.",
    ),
    Metric(
        key="expression/confidence_{judge}", title="confidence ({judge})", better="neither", digits=2, of_truth=True,
        function=np.max, definition="Mean probability of the judge's first class.",
    ),
    Metric(
        key="expression/calibration_error_{judge}", title="calibration error ({judge})", better="lower", digits=2,
        of_truth=True, function=verification.calibration_error, source="Guo et al., ICML 2017",
        definition="|accuracy − confidence| in ten bins, weighed by their images.",
    ),
    Metric(
        key="judge/crop_side", title="crop's side", better="neither", digits=2, function=CropRule,
        definition="Side of the square that a judge sees, over the distance from eyes to chin.",
    ),
    Metric(
        key="judge/crop_down", title="crop's centre", better="neither", digits=2, function=CropRule,
        definition="Centre of that square, from the eyes (0) to the chin (1).",
    ),
)  # fmt: skip

# Sets of images, in features of a named network.
SETS = (
    Metric(
        key="fd/{extractor}", title="Fréchet distance ({extractor})", better="lower", function=distribution.frechet_distance,
        source="Heusel et al., NeurIPS 2017",
        definition="Fréchet distance of the features of the row's images and of the true renders. Few images make it large.",
    ),
    Metric(
        key="fd/{extractor}_shaded_depth", title="Fréchet distance of shapes ({extractor})", better="lower",
        function=distribution.frechet_distance, source="Heusel et al., NeurIPS 2017",
        definition="The same of the shapes alone, drawn as grey clay under one light.",
    ),
    Metric(
        key="kid/{extractor}", title="KID ({extractor})", better="lower", digits=6, function=distribution.kernel_distance,
        source="Bińkowski et al., ICLR 2018",
        definition="Kernel distance of the same two sets, over random subsets.",
    ),
    Metric(
        key="precision/{extractor}", title="precision ({extractor})", better="higher", function=distribution.precision_recall,
        source="Kynkäänniemi et al., NeurIPS 2019",
        definition="Share of the row's images inside the true renders' manifold.",
    ),
    Metric(
        key="recall/{extractor}", title="recall ({extractor})", better="higher", function=distribution.precision_recall,
        source="Kynkäänniemi et al., NeurIPS 2019",
        definition="Share of the true renders inside the manifold of the row's images.",
    ),
    Metric(
        key="is/{extractor}", title="Inception score ({extractor})", better="higher", digits=2,
        function=distribution.inception_score, source="Salimans et al., NeurIPS 2016",
        definition="Exp E KL(p(y|x) ‖ p(y)) of the network's classes.",
    ),
    Metric(
        key="perceptual/{perceptual}", title="perceptual distance ({perceptual})", better="lower", with_neutral=False,
        function=PerceptualDistance, source="Zhang et al., CVPR 2018",
        definition="Distance of feature maps, row against true render, neutral left out. Only `lpips_vgg16` is LPIPS.",
    ),
    Metric(
        key="perceptual/{perceptual}_all", title="perceptual distance ({perceptual})", better="lower",
        function=PerceptualDistance, source="Zhang et al., CVPR 2018",
        definition="`perceptual/{perceptual}` with neutral images.",
    ),
)  # fmt: skip

# Real scans, of which nobody knows another expression.
SCANS = (
    Metric(
        key="depth/mae_mm_rest", title="change at rest", unit="mm", better="lower", digits=2, function=metrics.depth_errors,
        definition="Mean |d − s| of the row asked for neutral, s the scan's own depth, over the scan's pixels.",
    ),
    Metric(
        key="depth/mae_mm_unmoved", title="change where nothing moves", unit="mm", better="lower", digits=2,
        function=metrics.depth_errors, with_neutral=False,
        definition="The same of the six other categories, over pixels whose depth the head model's own edit changes by less than "
        "0.1 mm.",
    ),
    *(
        Metric(
            key=f"fit/{way}_{name}_mm", title=f"{said}, {name}", unit="mm", better="lower", digits=2,
            function=surfaces.surface_errors,
            definition=f"{'Median' if name == 'median' else '90th percentile'} of the distances from {said}, of the fitted head "
            "model alone (`linear`) or refined.",
        )
        for way, said in (("scan_to_surface", "scan to head"), ("surface_to_scan", "head to scan"))
        for name in ("median", "p90")
    ),
)  # fmt: skip

# What is asked in words, and what is compared with another row.
RATIOS = (
    Metric(
        key="text/category_accuracy", title="category read right", better="higher", digits=2, function=np.mean,
        definition="How often a caption is read as the category that it was written of.",
    ),
    Metric(
        key="text/intensity_mae", title="intensity error", better="lower", digits=2, function=np.mean,
        definition="Mean |read − asked| of the intensity, neutral left out.",
    ),
    Metric(
        key="ratio/top1_over_category", title="top-1 over category's", better="higher", digits=2, function=metrics.accuracy,
        definition="`expression/top1_both` of a row asked in words over that of the row asked by category.",
    ),
    Metric(
        key="ratio/{metric}", title="{metric}, over the first editor's", better="neither", digits=2, function=np.divide,
        definition="A row's value over that of the first editor at its most steps, in the same condition.",
    ),
    Metric(
        key="against_regression/{metric}", title="{metric}, over the regression's", better="neither", digits=2,
        function=np.divide, definition="A row's value over that of the regression's one step by category.",
    ),
    Metric(
        key="refused/share", title="sources without a face found", better="lower", digits=2, function=np.mean,
        definition="Share of persons in whose source no face was found; their row answers with the source.",
    ),
)  # fmt: skip


def _m(
    key: str, title: str, unit: str, better: Better, digits: int, function: Callable[..., object], definition: str
) -> Metric:
    return Metric(
        key=key, title=title, unit=unit, better=better, digits=digits, function=function, definition=definition
    )


# Costs, facts and counts.
COSTS = (
    _m("time_s/edit", "seconds per edit", "s", "lower", 2, perf_counter, "Wall time of an edit in a batch of seven."),
    _m("time_s/one_edit", "one edit", "s", "lower", 2, perf_counter, "Edit of one expression, with finding the head."),
    _m("time_s/seven_edits", "seven edits", "s", "lower", 2, perf_counter, "All seven in one batch, with finding the head."),
    _m("time_s/head_fit", "finding the head", "s", "lower", 2, perf_counter, "Finding the head in the source."),
    _m("time/threads", "threads", "", "neither", 2, get_num_threads, "Threads that torch had."),
    _m("memory_mb/peak", "peak memory", "MiB", "lower", 2, peak_memory_mb, "Of a process that measures this row alone."),
    _m("speed/samples_per_s", "faces per second", "1/s", "higher", 2, perf_counter, "With the decoder."),
    _m("training/hours", "hours of training", "h", "lower", 2, perf_counter, "Training of all networks of a row together."),
    _m("training/minutes", "minutes of training", "min", "neither", 2, perf_counter, "Training of a run."),
    _m("training/images", "images trained on", "", "neither", 2, len, "Images seen, repeats counted."),
    _m("training/persons", "persons trained on", "", "neither", 2, len, "Persons that the images are of."),
    _m("first_stage/minutes", "minutes of the first stage", "min", "neither", 2, perf_counter, "Of its training, counted apart."),
    _m("first_stage/images", "images of the first stage", "", "neither", 2, len, "Images that a row's first stage has seen."),
    _m("first_stage/parameters", "parameters of the first stage", "", "neither", 2, Module.parameters, "Of a row's first stage."),
)  # fmt: skip
FACTS = (
    _m("model/f", "f", "", "neither", 0, len, "By how much a first stage shrinks a side."),
    _m("model/vq", "vector quantised", "", "neither", 0, bool, "1 where a latent is quantised (VQ-reg.), else 0 (KL-reg.)."),
    _m("model/size_px", "size", "", "neither", 0, len, "Pixels of an image's side."),
    _m("model/parameters", "parameters", "", "neither", 0, Module.parameters, "Parameters of a network."),
    _m("model/latent_values", "latent values", "", "neither", 0, len, "Numbers in a latent."),
    _m("model/learned_channels", "learned channels", "", "neither", 0, len, "Channels of a latent that are learned."),
    _m("codebook/codes", "codes", "", "neither", 0, len, "Size of a codebook."),
    _m("codebook/share_used", "codes used", "", "higher", 2, codebook_use, "Share of the codes that occur."),
    _m("codebook/perplexity", "perplexity", "", "higher", 0, codebook_use, "Exp of the entropy of their frequencies."),
    _m("count/persons", "persons", "", "neither", 0, len, "Persons that were measured."),
    _m("count/images", "images", "", "neither", 0, len, "Images of them."),
    _m("count/set_images", "images of a set", "", "neither", 0, len, "Images in each of the sets that are compared."),
    _m("count/kid_subset_size", "images of a KID subset", "", "neither", 0, len, "In each of KID's random subsets."),
    _m("count/scans", "scans", "", "neither", 0, len, "Real scans that were measured."),
    _m("count/skipped", "scans skipped", "", "neither", 0, len, "Real scans that could not be read or show no face."),
)  # fmt: skip

for _metric in (*DEPTH, *COLOR, *IDENTITY, *EXPRESSION, *SETS, *SCANS, *RATIOS, *COSTS, *FACTS):
    register(_metric)
