"""The catalogue of metrics: definition, unit and direction of every number in a ``metrics.json``.

Texts of reports, table columns, figure titles and the table in docs/evaluation.md come from here. Further metrics are added with
`register`; one with ``measure`` is then measured on every row of images.

References:
    Eigen et al., "Depth Map Prediction from a Single Image using a Multi-Scale Deep Network", NeurIPS 2014 (absrel, δ, silog);
    Wang et al., "Image Quality Assessment", IEEE TIP 2004 (SSIM); Heusel et al., NeurIPS 2017 (Fréchet distance); Bińkowski et
    al., ICLR 2018 (KID); Kynkäänniemi et al., NeurIPS 2019 (precision and recall); Zhang et al., CVPR 2018 (perceptual
    distance); Guo et al., ICML 2017 (calibration error).
"""

from __future__ import annotations

from time import perf_counter

import numpy as np
from scipy.spatial.distance import pdist
from torch import get_num_threads
from torch.nn import Module

from omote.evaluation import anatomy, avatars, completed, distribution, metrics, surfaces, turns, verification
from omote.evaluation.features import PerceptualDistance
from omote.evaluation.judges.crop import CropRule
from omote.evaluation.judges.panel import ExpressionJudges
from omote.evaluation.registry import (
    Metric,
    catalogue,
    checked,
    markdown,
    metric_of,
    register,
    split,
    write_metrics,
)
from omote.lift.solids import Solids
from omote.memory import peak_memory_mb
from omote.nets.quantiser import codebook_use

__all__ = ["Metric", "catalogue", "checked", "markdown", "metric_of", "register", "split", "write_metrics"]

EIGEN, WANG, HEUSEL = "Eigen et al., NeurIPS 2014", "Wang et al., IEEE TIP 2004", "Heusel et al., NeurIPS 2017"
BINKOWSKI, SALIMANS = "Bińkowski et al., ICLR 2018", "Salimans et al., NeurIPS 2016"
MANIFOLD, ZHANG = "Kynkäänniemi et al., NeurIPS 2019", "Zhang et al., CVPR 2018"


# Depth of a row's images, d, against the true render's, g, over the pixels that are valid there.
DEPTH = (
    Metric("depth/mae_mm_metric", "depth error", "mm", "lower", 2, metrics.depth_errors,
           "Mean |d − g| of z-depth over the true render's valid pixels, not aligned; per image, then averaged.",
           measure=lambda c: c.depth.mae_mm),
    Metric("depth/mae_mm_face", "depth error, face", "mm", "lower", 2, metrics.face_masks,
           "Mean |d − g| within the outline of the true face alone, so that no row is punished for where its neck ends.",
           measure=lambda c: c.depth_mae_mm(c.face)),
    Metric("depth/mae_mm_moving", "depth error, moving", "mm", "lower", 2, metrics.moving_mask,
           "Mean |d − g| over pixels whose true depth differs from the source's by more than 2 mm.",
           measure=lambda c: c.depth_mae_mm(c.moving)),
    Metric("depth/mae_mm_still", "depth error, still", "mm", "lower", 2, metrics.depth_errors,
           "Mean |d − g| over pixels whose true depth differs from the source's by less than 0.1 mm: forehead, bridge of the "
           "nose, ears. What is wrong there is invented.", measure=lambda c: c.depth_mae_mm(c.still)),
    Metric("depth/rmse_mm_metric", "depth RMSE", "mm", "lower", 2, metrics.depth_errors,
           "Root of the mean (d − g)², not aligned.", source=EIGEN, measure=lambda c: c.depth.rmse_mm),
    Metric("depth/mae_mm_affine_aligned", "depth error, affine aligned", "mm", "lower", 2, metrics.affine_aligned,
           "Mean |d − g| after d is scaled and shifted to g by least squares.",
           measure=lambda c: metrics.depth_errors(metrics.affine_aligned(*c.depths), *c.depths[1:]).mae_mm),
    Metric("depth/absrel", "depth abs. rel.", "", "lower", 5, metrics.depth_errors,
           "Mean |d − g| / g.", source=EIGEN, measure=lambda c: c.depth.absrel),
    Metric("depth/delta1", "δ1", "", "higher", 5, metrics.depth_errors,
           "Share of pixels with max(d/g, g/d) < 1.25.", source=EIGEN, measure=lambda c: c.depth.delta1),
    Metric("depth/delta2", "δ2", "", "higher", 5, metrics.depth_errors,
           "Share of pixels with max(d/g, g/d) < 1.25².", source=EIGEN, measure=lambda c: c.depth.delta2),
    Metric("depth/delta3", "δ3", "", "higher", 5, metrics.depth_errors,
           "Share of pixels with max(d/g, g/d) < 1.25³.", source=EIGEN, measure=lambda c: c.depth.delta3),
    Metric("depth/silog", "silog", "", "lower", 3, metrics.depth_errors,
           "100 × the standard deviation of log d − log g.", source=EIGEN, measure=lambda c: c.depth.silog),
    Metric("depth/normals_deg", "normals", "°", "lower", 1, metrics.depth_normals_error_deg,
           "Mean angle between the normals of the two depth images, where a pixel's neighbours are valid too.",
           measure=lambda c: metrics.depth_normals_error_deg(*c.depths, c.intrinsics)),
    Metric("depth/mae_mm_best_of_{n}", "depth error, best of {n}", "mm", "lower", 2, metrics.depth_errors,
           "The least depth error among {n} samples of an image from category and intensity alone."),
    Metric("ratio/best_of_{n}_over_determined", "best of {n} over determined", "", "lower", 2, metrics.depth_errors,
           "Depth error of the best of {n} samples of `model_category` over that of `model`, on the same persons."),
    Metric("diversity/depth_mm", "diversity", "mm", "neither", 2, np.std,
           "Standard deviation of depth over the samples of an image, averaged over the true render's pixels."),
    Metric("depth/nearest_mm", "nearest real depth", "mm", "lower", 1, distribution.nearest_depth_mm,
           "Mean |d − g| of a drawn face over the mask of the real face that is nearest."),
    Metric("displacement/rms_mm", "change of depth", "mm", "neither", 2, metrics.displacement_mm,
           "Root mean square of the change of depth, row against source, over what both see.",
           with_neutral=False, of_truth=True),
    Metric("displacement/ratio", "change over the truth's", "", "neither", 2, metrics.displacement_ratio,
           "The change of depth projected onto the true change, over the true change: 1 moves as far as the truth, 0 not at "
           "all.", with_neutral=False, of_truth=True),
    Metric("displacement/pearson", "change of depth follows intensity", "", "higher", 2, metrics.intensity_correlation,
           "Pearson's correlation of the asked intensity and the change of depth, per category, averaged.", of_truth=True),
)  # fmt: skip

# Colour of a row's images against the true render, in [0, 1], over the true render's valid pixels.
COLOR = (
    Metric("color/psnr_db", "PSNR", "dB", "higher", 1, metrics.psnr_db,
           "Peak signal-to-noise ratio over the true render's valid pixels; neutral left out, as copying it is perfect.",
           measure=lambda c: metrics.psnr_db(*c.colors), with_neutral=False),
    Metric("color/psnr_db_face", "PSNR, face", "dB", "higher", 1, metrics.face_masks,
           "PSNR within the outline of the true face; neutral left out.",
           measure=lambda c: metrics.psnr_db(*c.colors[:2], c.face), with_neutral=False),
    Metric("color/psnr_db_mouth", "PSNR, mouth", "dB", "higher", 1, metrics.mouth_boxes,
           "PSNR in a box about the true mouth; neutral left out.",
           measure=lambda c: metrics.psnr_db(*c.colors[:2], c.mouth), with_neutral=False),
    Metric("color/ssim", "SSIM", "", "higher", 3, metrics.ssim,
           "Structural similarity, 11 × 11 Gaussian windows; neutral left out.",
           source=WANG, measure=lambda c: metrics.ssim(*c.colors), with_neutral=False),
    Metric("color/psnr_db_all", "PSNR", "dB", "higher", 1, metrics.psnr_db, "`color/psnr_db` with neutral images."),
    Metric("color/psnr_db_mouth_all", "PSNR, mouth", "dB", "higher", 1, metrics.mouth_boxes,
           "`color/psnr_db_mouth` with neutral images."),
    Metric("color/ssim_all", "SSIM", "", "higher", 3, metrics.ssim, "`color/ssim` with neutral images.", source=WANG),
    Metric("color/high_frequency_ratio", "finest detail over the truth's", "", "neither", 2, metrics.high_frequency_ratio,
           "Energy of colour's second differences over the true render's: above 1 noise is left, below it detail is lost."),
    Metric("mask/iou", "mask", "", "higher", 3, metrics.mask_iou, "Intersection over union of the two masks."),
)  # fmt: skip

# A mesh in correspondence with the true one: over the face's vertices (`omote.head.region`), per image, then averaged.
MESH = (
    Metric("mesh/vertex_mm", "vertex error", "mm", "lower", 2, surfaces.vertex_errors,
           "Mean distance of a vertex to the same vertex of the true mesh, not aligned."),
    Metric("mesh/vertex_mm_moving", "vertex error, moving", "mm", "lower", 2, surfaces.vertex_errors,
           "The same over vertices that the expression moves by more than 2 mm; neutral left out.", with_neutral=False),
    Metric("mesh/surface_mm", "surface error", "mm", "lower", 2, surfaces.vertex_errors,
           "Median distance of a vertex to the true surface; sliding along it does not count."),
    Metric("mesh/surface_mm_moving", "surface error, moving", "mm", "lower", 2, surfaces.vertex_errors,
           "Mean distance to the true surface of vertices that the expression moves by more than 2 mm; neutral left out.",
           with_neutral=False),
    Metric("mesh/vertex_mm_moving_best_of_{n}", "vertex error, moving, best of {n}", "mm", "lower", 2, surfaces.vertex_errors,
           "The least `mesh/vertex_mm_moving` among {n} samples of an expression.", with_neutral=False),
    Metric("diversity/mesh_mm", "diversity of meshes", "mm", "neither", 2, np.std,
           "Root mean square distance of vertices that the expression moves by more than 2 mm from their mean over the samples.",
           with_neutral=False),
    Metric("views/disagreement_mm", "disagreement of views", "mm", "lower", 2, np.median,
           "Median |depth of view i projected into view j − depth of view j| over the surface that both see."),
    Metric("views/color_disagreement", "disagreement of colours", "", "lower", 3, np.mean,
           "Mean |colour of view i − colour of view j| over the surface that both see, in [0, 1]; views without depth of their "
           "own are related by the made mesh."),
)  # fmt: skip

# Identity: distances of the descriptors of a face recognition network; Euclidean for face-api, 1 − cosine for ArcFace.
PAIRS = (
    "descriptor distances over pairs of images: of one person in another capture or with another expression, or of two"
)
IDENTITY = (
    Metric("identity/{network}", "identity distance ({network})", "", "lower", 3, metrics.identity_distance,
           "Distance of descriptors, row against true render of the same expression; neutral left out.", with_neutral=False),
    Metric("identity_to_source/{network}", "identity distance to source ({network})", "", "lower", 3, metrics.identity_distance,
           "Distance of descriptors, row against the source's own image; neutral left out.", with_neutral=False),
    Metric("identity_apart/{network}", "identity distance of different persons ({network})", "", "neither", 3, pdist,
           "Mean distance of the descriptors of different persons' true images at rest."),
    Metric("identity_pairs/distance_mean", "mean", "", "neither", 2, np.mean, f"Mean of {PAIRS}."),
    Metric("identity_pairs/distance_p05", "5th percentile", "", "neither", 2, np.percentile, f"5th percentile of {PAIRS}."),
    Metric("identity_pairs/distance_p95", "95th percentile", "", "neither", 2, np.percentile, f"95th percentile of {PAIRS}."),
    Metric("identity_pairs/accuracy", "accuracy", "", "higher", 3, verification.verification,
           "Share of pairs of one person and of two told rightly by a threshold chosen on other persons (ten folds); both "
           "kinds count half."),
    Metric("identity_pairs/threshold", "threshold", "", "neither", 3, verification.verification,
           "Mean of the folds' thresholds."),
    Metric("identity_pairs/auc", "AUC", "", "higher", 3, verification.verification,
           "How often a pair of one person is nearer than a pair of two."),
)  # fmt: skip

# Expression: what judges see. They are networks that no model here was trained with; "both" sums their probabilities.
EXPRESSION = (
    Metric("expression/top1_{judge}", "expression top-1 ({judge})", "", "higher", 2, metrics.accuracy,
           "How often the judge's first class is the asked one, averaged over the seven classes. Ceiling: true renders. Floor: "
           "the copy.", of_truth=True),
    Metric("expression/top1_{judge}_{category}", "{category} ({judge})", "", "higher", 2, metrics.accuracy,
           "How often the judge's first class is {category}, of images that show it.", of_truth=True),
    Metric("expression/confusion_{judge}", "confusion ({judge})", "", "neither", 2, metrics.confusion_counts,
           "Share of the images of one class that are judged as another.", of_truth=True),
    Metric("expression/mscr_{judge}", "mSCR ({judge})", "", "lower", 2, metrics.mean_symmetric_confusion_rate,
           "Mean of ½ (C_ij + C_ji) over fearful/surprised and angry/disgusted.", of_truth=True),
    Metric("expression/asked_{judge}", "probability of what is asked ({judge})", "", "higher", 2, ExpressionJudges.probabilities,
           "The judge's probability of the asked category; neutral left out.", with_neutral=False, of_truth=True),
    Metric("expression/cls_{judge}", "CLS ({judge})", "", "higher", 2, metrics.intensity_correlation,
           "Pearson's correlation of the asked intensity and the judge's probability of the asked category, per category, "
           "averaged; neutral left out.", of_truth=True),
    Metric("expression/gain_{judge}", "gain ({judge})", "", "higher", 2, metrics.relative_expression_gain,
           "Share of the true change in the asked category's probability that a row reaches: copy 0, true render 1.",
           of_truth=True),
    Metric("expression/confidence_{judge}", "confidence ({judge})", "", "neither", 2, np.max,
           "Mean probability of the judge's first class.", of_truth=True),
    Metric("expression/calibration_error_{judge}", "calibration error ({judge})", "", "lower", 2, verification.calibration_error,
           "|accuracy − confidence| in ten bins, weighed by their images.", source="Guo et al., ICML 2017", of_truth=True),
    Metric("judge/crop_side", "crop's side", "", "neither", 2, CropRule,
           "Side of the square that a judge sees, over the distance from eyes to chin."),
    Metric("judge/crop_down", "crop's centre", "", "neither", 2, CropRule,
           "Centre of that square, from the eyes (0) to the chin (1)."),
)  # fmt: skip

# Sets of images, in features of a named network. Only with inception_v3 is the Fréchet distance FID.
SETS = (
    Metric("fd/{extractor}", "Fréchet distance ({extractor})", "", "lower", 3, distribution.frechet_distance,
           "Fréchet distance of the features of the row's images and of the reference: true renders, or a folder's images. Few "
           "images make it large. With `inception_v3` it is FID.", source=HEUSEL),
    Metric("fd/{extractor}_shaded_depth", "Fréchet distance, shapes ({extractor})", "", "lower", 3, distribution.frechet_distance,
           "Fréchet distance of the shapes alone, drawn as grey clay under one light.", source=HEUSEL),
    Metric("kid/{extractor}", "KID ({extractor})", "", "lower", 6, distribution.kernel_distance,
           "Kernel distance of the same two sets, over random subsets.", source=BINKOWSKI),
    Metric("kid_std/{extractor}", "deviation of KID ({extractor})", "", "neither", 6, distribution.kernel_distance,
           "Standard deviation of the kernel distance over its subsets.", source=BINKOWSKI),
    Metric("precision/{extractor}", "precision ({extractor})", "", "higher", 3, distribution.precision_recall,
           "Share of the row's images inside the reference's manifold.", source=MANIFOLD),
    Metric("recall/{extractor}", "recall ({extractor})", "", "higher", 3, distribution.precision_recall,
           "Share of the reference inside the manifold of the row's images.", source=MANIFOLD),
    Metric("is/{extractor}", "Inception score ({extractor})", "", "higher", 2, distribution.inception_score,
           "Exp E KL(p(y|x) ‖ p(y)) of the network's classes.", source=SALIMANS),
    Metric("is_std/{extractor}", "deviation of the Inception score ({extractor})", "", "neither", 2,
           distribution.inception_score, "Standard deviation of the Inception score over ten parts of the images.",
           source=SALIMANS),
    Metric("perceptual_pairs/{perceptual}", "perceptual distance of pairs ({perceptual})", "", "lower", 3, PerceptualDistance,
           "Mean distance of an image from the reference image of the same name, both at 256 × 256.", source=ZHANG),
    Metric("diversity/{perceptual}", "perceptual diversity ({perceptual})", "", "neither", 3, PerceptualDistance,
           "Mean distance of random pairs of a row's images, at 256 × 256.", source=ZHANG),
    Metric("perceptual/{perceptual}", "perceptual distance ({perceptual})", "", "lower", 3, PerceptualDistance,
           "Distance of feature maps, row against true render; neutral left out. Only `lpips_vgg16` is LPIPS.",
           source=ZHANG, with_neutral=False),
    Metric("perceptual/{perceptual}_all", "perceptual distance ({perceptual})", "", "lower", 3, PerceptualDistance,
           "`perceptual/{perceptual}` with neutral images.", source=ZHANG),
)  # fmt: skip

# Real scans, of which no other expression is known.
SCANS = (
    Metric("depth/mae_mm_rest", "change at rest", "mm", "lower", 2, metrics.depth_errors,
           "Mean |d − s| of the row asked for neutral, s the scan's own depth, over the scan's pixels. A copy has none."),
    Metric("depth/mae_mm_unmoved", "change where nothing moves", "mm", "lower", 2, metrics.depth_errors,
           "Mean |d − s| of the six other categories, over pixels whose depth the head model's own edit changes by less than "
           "0.1 mm.", with_neutral=False),
    *(
        Metric(f"fit/{way}_{short}_mm", f"{said}, {short}", "mm", "lower", 2, surfaces.surface_errors,
               f"{long} of the distances from {said}; of the fitted head model alone (`linear`) and refined.")
        for way, said in (("scan_to_surface", "scan to head"), ("surface_to_scan", "head to scan"))
        for short, long in (("median", "Median"), ("p90", "90th percentile"))
    ),
)  # fmt: skip

# Avatars: made meshes against true ones, over the vertices of the avatar's face.
_MOVING = "where the true skin moves by more than 2 mm"
AVATARS = (
    *(
        Metric(f"avatar/surface_mm{key}", f"surface error{title}", "mm", "lower", 2, avatars.mesh_errors,
               f"Mean distance of the posed vertices to the true posed skin, {where}.", with_neutral=key != "_moving")
        for key, title, where in (
            ("", "", "over the face"), ("_moving", ", moving", _MOVING), ("_lips", ", lips", "over the lips"),
            ("_lids", ", lids", "over the lids"),
        )
    ),
    Metric("avatar/rest_mm", "surface error at rest", "mm", "lower", 2, avatars.mesh_errors,
           "`avatar/surface_mm` of the avatar at rest alone."),
    Metric("avatar/vertex_mm", "vertex error", "mm", "lower", 2, avatars.mesh_errors,
           "Mean distance of the posed vertices to where the true points that they lie on at rest have moved (within 2 mm)."),
    Metric("avatar/vertex_mm_moving", "vertex error, moving", "mm", "lower", 2, avatars.mesh_errors,
           f"`avatar/vertex_mm` {_MOVING}.", with_neutral=False),
    Metric("avatar/motion_cosine", "direction of motion", "", "higher", 3, avatars.mesh_errors,
           f"Mean cosine of the angle between made and true motion {_MOVING}.", with_neutral=False),
    Metric("avatar/motion_size", "size of motion", "", "neither", 2, avatars.mesh_errors,
           f"Made motion over true motion, {_MOVING}.", with_neutral=False),
    Metric("avatar/rigid_mm", "motion of the skull", "mm", "lower", 2, avatars.mesh_errors,
           "The farthest motion of a vertex of crown, bridge of the nose, ears or back."),
    Metric("avatar/folded", "folded triangles", "", "lower", 1, anatomy.folded,
           "Triangles of the front skin turned by more than 90° from rest.", with_neutral=False),
    Metric("avatar/lips_crossing", "lips crossing", "", "lower", 1, anatomy.Lips.crossing,
           "Vertices of a lip more than 1 mm inside the other that are not so at rest.", with_neutral=False),
    Metric("avatar/piercing", "piercing edges", "", "lower", 1, Solids.piercing,
           "Edges of skin or teeth that pass through skin or teeth, and vertices of lids inside eyeballs, by more than 0.5 mm, "
           "that do not at rest.", with_neutral=False),
    Metric("avatar/whole", "without self-intersection", "", "higher", 3, Solids.piercing,
           "Share of expressions in which neither lips cross nor an edge pierces.", with_neutral=False),
    Metric("avatar/corner_mm", "travel of the mouth's corner", "mm", "neither", 1, anatomy.Lips.corner_travel,
           "Of the corner that goes farther.", with_neutral=False),
    Metric("avatar/corner_difference_mm", "corners apart in travel", "mm", "lower", 1, anatomy.Lips.corner_difference,
           "How much farther one corner goes than the other; the expressions asked for are symmetric.", with_neutral=False),
    *(
        Metric(f"avatar/{what}_worst_{kind}", f"{title}, worst {kind}", unit, "lower", 1, anatomy.measure_anatomy,
               f"`avatar/{what}` of the worst {of}.")
        for what, title, unit in (
            ("folded", "folded triangles", ""), ("lips_crossing", "lips crossing", ""),
            ("corner_mm", "travel of the corner", "mm"),
        )
        for kind, of in (("unit", "ARKit unit alone at 1"), ("pair", "pair of expressions at .7 each"))
    ),
    Metric("avatar/teeth_rest_mm2", "teeth at rest", "mm²", "lower", 1, anatomy.visible_mm2,
           "Teeth seen from the front at rest, beyond what the true mesh shows."),
    Metric("avatar/teeth_hidden", "teeth hidden at rest", "", "higher", 3, anatomy.visible_mm2,
           "Share of avatars with at most 2 mm² of teeth at rest, of those whose truth shows no more."),
    Metric("avatar/lip_gap_mm", "gap of the lips at rest", "mm", "lower", 2, avatars.lip_gap_mm,
           "How far the distance of the lips' inner landmarks is from the true one."),
    Metric("avatar/seam_apart_mm", "seam of the lips at rest, worst place", "mm", "lower", 2, avatars.seam_apart_mm,
           "Largest vertical distance of the line along which the lips meet from the true one, of closed mouths."),
    Metric("avatar/motion_kept", "source's expression kept", "", "lower", 2, avatars.motion_kept,
           f"How much of a source's expression is left in the avatar's neutral, {_MOVING}: 0 none, 1 all of it."),
)  # fmt: skip

# Heads completed from partial scans. Missing is true surface without a point of the scan within 3 mm.
COMPLETION = (
    *(
        Metric(f"completion/{what}_mm_{key}", f"{title}, {where}", "mm", "lower", 2, function, f"{definition}, {where}.")
        for what, title, function, definition in (
            ("depth", "depth error", completed.in_both,
             "Mean |d − g| in the pixels of cameras that no scan was made with, at most 20 mm each"),
            ("surface", "surface error", completed.surface_distance,
             "Mean distance of points of the true surface to the completed one, at most 20 mm each"),
            ("vertex", "vertex error", completed.in_both,
             "Mean distance of a vertex to the same vertex of the true head, at most 20 mm each"),
        )
        for key, where in (("missing", "where the scan lacks surface"), ("seen", "where the scan has surface"))
    ),
    Metric("completion/within_1_sigma", "errors within 1 σ", "", "neither", 3, completed.calibration,
           "Share of the vertices whose error along the normal is at most its standard deviation; .683 if errors are normal."),
    Metric("completion/within_2_sigma", "errors within 2 σ", "", "neither", 3, completed.calibration,
           "Share within two standard deviations; .954 if errors are normal."),
    Metric("completion/decile_ratio", "error in σ's top decile over its bottom one", "", "higher", 1, completed.calibration,
           "Mean error of the tenth of the vertices with the largest standard deviation over that of the tenth with the least."),
    Metric("completion/within_1_sigma_depth", "depth errors within 1 σ", "", "neither", 3, completed.calibration,
           "`completion/within_1_sigma` of depth, over pixels."),
    Metric("completion/within_2_sigma_depth", "depth errors within 2 σ", "", "neither", 3, completed.calibration,
           "`completion/within_2_sigma` of depth, over pixels."),
    Metric("completion/missing_share", "share missing", "", "neither", 3, completed.missing_from,
           "Share of the true surface that the scan lacks."),
    Metric("completion/refused", "scans without a fitted head", "", "lower", 2, np.mean,
           "Share of partial scans that no head could be fitted to; no other number counts them."),
)  # fmt: skip

# Frames of a head that turns, and what is made of them.
TURNS = (
    Metric("turn/pose_deg", "pose error", "°", "lower", 2, turns.pose_errors,
           "Mean angle between a frame's pose and the true one, after one rigid motion of all frames."),
    Metric("turn/pose_mm", "pose error", "mm", "lower", 2, turns.pose_errors,
           "Mean distance of the head's middle by a frame's pose from that by the true one, after the same motion."),
    Metric("turn/pose_deg_worst", "pose error, worst frame", "°", "lower", 2, turns.pose_errors,
           "`turn/pose_deg` of the worst frame."),
    Metric("turn/pose_mm_worst", "pose error, worst frame", "mm", "lower", 2, turns.pose_errors,
           "`turn/pose_mm` of the worst frame."),
    Metric("turn/posed_within", "frames posed within 2° and 2 mm", "", "higher", 3, turns.pose_errors,
           "Share of all frames, those without a pose counted as wrong."),
    *(
        Metric(f"turn/{part}_mm", f"surface error, {title}", "mm", "lower", 2, completed.surface_distance,
               f"Mean distance of points of the true surface of {definition} to the made one, at most 20 mm each.")
        for part, title, definition in (
            ("ears", "ears", "both ears, front and back"),
            ("profile", "profile", "the profile, a strip of 8 mm along the middle from the crown to the throat"),
            ("face", "face", "the face"),
            ("head", "head", "the head above the chin, without the back of the skull"),
        )
    ),
    Metric("turn/refused", "turns without a scan or a fitted head", "", "lower", 2, np.mean,
           "Share of turns of which nothing was made; no other number counts them."),
)  # fmt: skip

# Expressions asked for in words, and rows over other rows.
RATIOS = (
    Metric("text/category_accuracy", "category read right", "", "higher", 2, np.mean,
           "How often a caption is read as the category that it was written of."),
    Metric("text/intensity_mae", "intensity error", "", "lower", 2, np.mean,
           "Mean |read − asked| of the intensity; neutral left out.", with_neutral=False),
    Metric("ratio/top1_over_category", "top-1 over category's", "", "higher", 2, np.divide,
           "`expression/top1_both` of a row asked in words over that of the row asked by category."),
    Metric("ratio/{metric}", "{metric}, over the first editor's", "", "neither", 2, np.divide,
           "A row's value over that of the first editor at its most steps, in the same condition."),
    Metric("against_regression/{metric}", "{metric}, over the regression's", "", "neither", 2, np.divide,
           "A row's value over that of the regression's one step by category."),
    Metric("refused/share", "sources without a face found", "", "lower", 2, np.mean,
           "Share of persons in whose source no face was found; their row answers with the source."),
)  # fmt: skip

# Costs, facts and counts.
COSTS = (
    Metric("time_s/edit", "seconds per edit", "s", "lower", 2, perf_counter, "Wall time of an edit in a batch of seven."),
    Metric("time_s/views_edit", "edit of views", "s", "lower", 2, perf_counter,
           "Wall time of a person's edits: networks and sampling, without the meshes."),
    Metric("time_s/mesh", "seconds per mesh", "s", "lower", 3, perf_counter,
           "Wall time from views, latents or an image to one mesh."),
    Metric("time_s/completion", "seconds per completion", "s", "lower", 3, perf_counter,
           "Wall time from a partial scan with its fitted head to the whole head."),
    Metric("time_s/one_edit", "one edit", "s", "lower", 2, perf_counter, "Edit of one expression, with finding the head."),
    Metric("time_s/seven_edits", "seven edits", "s", "lower", 2, perf_counter,
           "All seven in one batch, with finding the head."),
    Metric("time_s/head_fit", "finding the head", "s", "lower", 2, perf_counter, "Finding the head in the source."),
    Metric("time/threads", "threads", "", "neither", 2, get_num_threads, "Threads that torch had."),
    Metric("memory_mb/peak", "peak memory", "MiB", "lower", 2, peak_memory_mb, "Peak of a process that measures this row alone."),
    Metric("speed/samples_per_s", "faces per second", "1/s", "higher", 2, perf_counter, "Faces drawn, decoder included."),
    Metric("training/hours", "hours of training", "h", "lower", 2, perf_counter, "Training of all networks of a row together."),
    Metric("training/minutes", "minutes of training", "min", "neither", 2, perf_counter, "Training of a run."),
    Metric("training/images", "images trained on", "", "neither", 0, len, "Images seen, repeats counted."),
    Metric("training/persons", "persons trained on", "", "neither", 0, len, "Persons that the images are of."),
    Metric("first_stage/minutes", "minutes of the first stage", "min", "neither", 2, perf_counter,
           "Training of a row's first stage, counted apart."),
    Metric("first_stage/images", "images of the first stage", "", "neither", 2, len,
           "Images that a row's first stage has seen."),
    Metric("first_stage/parameters", "parameters of the first stage", "", "neither", 2, Module.parameters,
           "Parameters of a row's first stage."),
)  # fmt: skip
FACTS = (
    Metric("model/f", "f", "", "neither", 0, len, "By how much a first stage shrinks a side of an image."),
    Metric("model/vq", "vector quantised", "", "neither", 0, bool,
           "1 where a latent is quantised (VQ-reg.), else 0 (KL-reg.)."),
    Metric("model/size_px", "size", "", "neither", 0, len, "Pixels of an image's side."),
    Metric("model/parameters", "parameters", "", "neither", 0, Module.parameters, "Parameters of a network."),
    Metric("model/latent_values", "latent values", "", "neither", 0, len, "Numbers in a latent."),
    Metric("model/learned_channels", "learned channels", "", "neither", 0, len, "Channels of a latent that are learned."),
    Metric("codebook/codes", "codes", "", "neither", 0, len, "Size of a codebook."),
    Metric("codebook/share_used", "codes used", "", "higher", 2, codebook_use, "Share of the codes that occur."),
    Metric("codebook/perplexity", "perplexity", "", "higher", 0, codebook_use, "Exp of the entropy of their frequencies."),
    Metric("count/persons", "persons", "", "neither", 0, len, "Persons that were measured."),
    Metric("count/images", "images", "", "neither", 0, len, "Images of them."),
    Metric("count/set_images", "images of a set", "", "neither", 0, len, "Images in each of the sets that are compared."),
    Metric("count/generated_images", "generated images", "", "neither", 0, len, "Images of the folder that is measured."),
    Metric("count/reference_images", "reference images", "", "neither", 0, len, "Images of the folder it is compared with."),
    Metric("count/manifold_images", "images of a manifold", "", "neither", 0, len,
           "Images of each folder that precision and recall are of."),
    Metric("count/kid_subset_size", "images of a KID subset", "", "neither", 0, len, "In each of KID's random subsets."),
    Metric("count/scans", "scans", "", "neither", 0, len, "Real scans that were measured."),
    Metric("count/skipped", "scans skipped", "", "neither", 0, len, "Real scans that could not be read or show no face."),
)  # fmt: skip

for _metric in (
    *DEPTH,
    *COLOR,
    *MESH,
    *IDENTITY,
    *EXPRESSION,
    *SETS,
    *SCANS,
    *AVATARS,
    *COMPLETION,
    *TURNS,
    *RATIOS,
    *COSTS,
    *FACTS,
):
    register(_metric)
