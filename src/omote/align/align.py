"""Bring any scan of a head into the canonical frame: find the face, place landmarks, fit the head, refine it.

    points ─ find_faces → candidate poses ─ predict_landmarks ×3 → landmarks ─ fit_head → pose, identity, unit ─ refine

A fit of the head model must confirm a candidate before it is accepted. If none is confirmed, an `AlignmentError` asks for
landmarks, a unit or a crop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial import cKDTree

from omote.align.confirm import MM_PER_UNIT, Located, confidence_of, confirmed_given, unit_of
from omote.align.seam import Seam, moved, ribbon, scan_seam, with_lips
from omote.align.source_expression import WIDE_SIGMA, shown_units, source_expression
from omote.align.surface import ScanSurface, surface_of
from omote.errors import AlignmentError
from omote.geometry.camera import FRONT_TARGET_MM, rgbd_points, transform
from omote.geometry.foreground import connected_parts, without
from omote.geometry.holes import closed, holes_of, with_colors_from_inside
from omote.head.fit import EXPRESSION_SIGMA, Fit, eyeball_centers, face_distance, face_points, fit_head
from omote.head.model import HeadModel
from omote.head.nicp import refine
from omote.runs import Stopwatch
from omote.types import Mesh, PointCloud, Rgbd, Scan

MIN_CONFIDENCE = 0.5
# Half the side length of a box around a head.
HEAD_RADIUS_MM = 160.0
FRONT_OF_HEAD_MM = 90.0  # disconnected parts farther behind the eyes than this are not hair
LEAST_FACE_SHARE = 0.05  # smallest share of the face's pixels with which a part belongs to the person
# Below this confidence a pose is reported as doubtful: half a face, or a worse fit than usual (`benchmarks/align.py`).
DOUBTFUL_CONFIDENCE = 0.9
LOCAL_POINTS = 40_000
# Median distance of a point's twelfth neighbour from which on a scan is sparse: as far as its normals average. Depth frames of
# `benchmarks/align.py` have at most 8.1 mm, its sparse points 9.9 to 26.
SPARSE_REACH_MM, SPARSE_SAMPLE, NORMAL_NEIGHBORS = 9.0, 500, 12
# A fit that is this good over a smaller share of the face lacks surface, not accuracy.
LEAST_COVERAGE, WELL_FITTED_MM = 0.45, 1.5
MOUTH = slice(48, 68)  # of the 68 landmarks
# A wide prior of the expression must bring the surface this much nearer, if it does not bring the mouth's landmarks nearer.
NEARER = 0.85


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """A scan in the canonical frame, with everything estimated along the way.

    Attributes:
        canonical_from_scan: similarity from scan coordinates to the canonical frame in mm.
        unit: "mm", "cm", "m", "in", or "unknown" if the size fits none of them.
        mm_per_unit: scale of the unit.
        unit_given: whether the unit came from the user or from a depth camera instead of an estimate.
        landmarks_mm: the 68 landmarks on the refined head.
        detected_mm: the landmarks as detected or given, before any fit; NaN for unknown ones.
        landmark_confidence: detection confidence of each landmark, in [0, 1]; 1 for given landmarks, 0 for missing ones.
        fit: the linear fit of the head model.
        vertices_mm: vertices of the refined head, with the scan's own expression.
        neutral_mm: vertices of the refined head without the expression in ``shown``.
        inferred: mask of the vertices that no scan point supports.
        confidence: confidence in the pose, in [0, 1]; at least `MIN_CONFIDENCE`.
        scan: the aligned scan, including hair and clothing.
        on_face: mask of the scan's vertices or points that lie on the face.
        median_mm: median distance of the scan's face points from the refined surface.
        p90_mm: 90th percentile of the same distance.
        mouth: "closed", "open", or "unknown" if the scan shows no mouth.
        background_share: share of a depth frame's pixels removed as background; 0 for other scans.
        shown: strengths of the expression that the scan clearly shows, by unit names without a side; empty for a face at rest.
        time_s: seconds per stage.
        sigma_mm: standard deviation of each vertex's error along its normal, mm, if a completion states it
            (`omote.completion.aligned`).
    """

    canonical_from_scan: Float[np.ndarray, "4 4"]
    unit: str
    mm_per_unit: float
    unit_given: bool
    landmarks_mm: Float[np.ndarray, "68 3"]
    detected_mm: Float[np.ndarray, "68 3"]
    landmark_confidence: Float[np.ndarray, " 68"]
    fit: Fit
    vertices_mm: Float[np.ndarray, "v 3"]
    neutral_mm: Float[np.ndarray, "v 3"]
    inferred: Bool[np.ndarray, " v"]
    confidence: float
    scan: PointCloud | Mesh
    on_face: Bool[np.ndarray, " n"]
    median_mm: float
    p90_mm: float
    mouth: str
    background_share: float
    shown: Mapping[str, float]
    time_s: dict[str, float]
    sigma_mm: Float[np.ndarray, " v"] | None = None

    @property
    def doubtful(self) -> bool:
        """Whether the pose may be wrong: accepted, but with less confidence than good poses have."""
        return bool(self.confidence < DOUBTFUL_CONFIDENCE)

    def report(self) -> dict[str, bool | float | str]:
        """All estimates as a flat report."""
        eyes = [self.landmarks_mm[36:42].mean(axis=0), self.landmarks_mm[42:48].mean(axis=0)]
        return {
            "align/confidence": self.confidence,
            "align/doubtful": self.doubtful,
            "align/unit": self.unit,
            "align/unit_source": "given" if self.unit_given else "estimated",
            "align/mm_per_unit": self.mm_per_unit,
            "align/landmark_confidence": float(self.landmark_confidence.mean()),
            "align/eye_distance_mm": float(np.linalg.norm(eyes[0] - eyes[1])),
            "align/mouth": self.mouth,
            "align/background_share": self.background_share,
            "align/expression": " ".join(f"{name} {value:.2f}" for name, value in self.shown.items()) or "none",
            "fit/median_mm": self.median_mm,
            "fit/p90_mm": self.p90_mm,
            "fit/linear_median_mm": self.fit.median_mm,
            "fit/linear_p90_mm": self.fit.p90_mm,
            "fit/coverage": self.fit.coverage,
            "fit/identity_rms_sigma": float(np.sqrt(np.mean(self.fit.identity**2))),
            "fit/expression_max": float(self.fit.expression.max()),
            "fit/inferred_share": float(self.inferred.mean()),
            **{f"time_s/align_{k}": v for k, v in self.time_s.items()},
        }


def align(
    scan: Scan,
    *,
    head: HeadModel,
    landmarks: Float[np.ndarray, "68 3"] | None = None,
    unit: str = "auto",
    refinement: bool = True,
) -> Alignment:
    """Align a scan.

    Args:
        scan: a face in any pose and unit; a depth camera's frame counts as millimetres.
        head: the head model to fit.
        landmarks: 68 points in scan coordinates (NaN rows unknown) that replace the networks.
        unit: "mm", "cm", "m" or "in"; "auto" estimates it.
        refinement: move each vertex onto the scan after the fit.

    Raises:
        AlignmentError: no face, several faces, or one that the fit does not confirm; the message asks for what is missing.
        ScanError: too few points.
    """
    if unit != "auto" and unit not in MM_PER_UNIT:
        raise AlignmentError(f"unit: expected auto or one of {', '.join(MM_PER_UNIT)}, got {unit!r}")
    given_unit = unit if unit != "auto" else "mm" if isinstance(scan, Rgbd) else None

    watch = Stopwatch()
    with watch("sample"):
        surface = surface_of(scan)
    found = _located(head, surface, landmarks, None if given_unit is None else MM_PER_UNIT[given_unit], watch)
    unit_found, scale = _decide_unit(found.fit, given_unit)

    with watch("fit"):
        points, normals = surface.near(found.fit.canonical_from_scan, LOCAL_POINTS)
        seam = scan_seam(head, surface, found)
        marks = found.landmarks if seam is None else with_lips(head, found, seam)
        fitted = partial(
            fit_head,
            head,
            points,
            landmarks=marks,
            normals=normals,
            landmark_weights=found.confidence,
            fixed_scale=scale,
        )
        # Given landmarks are certain, and sparse fits believe in theirs the least.
        sparse = landmarks is None and _is_sparse(transform(found.fit.canonical_from_scan, points))
        fit = fitted(measured=not sparse)
        # The expression of a face that is not at rest is not to be held near zero.
        wide = bool(shown_units(fit.expression))
        if wide or sparse:
            other = fitted(expression_sigma=WIDE_SIGMA if wide else EXPRESSION_SIGMA, sparse=sparse)
            fit = other if sparse or _fits_better(other, fit) else fit

    confidence = confidence_of(fit, found.confidence)
    if confidence < MIN_CONFIDENCE:
        raise AlignmentError(_doubt(fit, confidence, landmarks is not None))
    with watch("refine"):
        refined = _refined(head, fit, points, normals, seam=seam, refinement=refinement)

    canonical_from_scan = refined.fit.canonical_from_scan
    with watch("transform"):
        background = 0.0
        if isinstance(scan, Rgbd):
            left_out = background_of(scan, canonical_from_scan)
            background = float(left_out.sum() / max(int(scan.mask.sum()), 1))
            scan = without(scan, left_out)
        aligned = transformed(scan, canonical_from_scan)
        aligned_points = aligned.vertices if isinstance(aligned, Mesh) else aligned.points
        on_face = _on_face(head, refined.vertices_mm, aligned_points)

    return Alignment(
        canonical_from_scan=canonical_from_scan,
        unit=unit_found,
        mm_per_unit=_scale_of(canonical_from_scan),
        unit_given=given_unit is not None,
        landmarks_mm=head.landmarks(refined.vertices_mm),
        detected_mm=transform(canonical_from_scan, found.landmarks),
        landmark_confidence=found.confidence,
        fit=refined.fit,
        vertices_mm=refined.vertices_mm,
        neutral_mm=refined.neutral_mm,
        inferred=refined.inferred,
        confidence=confidence,
        scan=aligned,
        on_face=on_face,
        median_mm=refined.median_mm,
        p90_mm=refined.p90_mm,
        background_share=background,
        mouth="unknown" if seam is None else "closed" if seam.closed else "open",
        shown=refined.shown,
        time_s=watch.stages_s,
    )


def _fits_better(wide: Fit, narrow: Fit) -> bool:
    """Whether a fit with a wide prior of the expression explains mouth or surface better: a face at rest lets it slide."""
    before, after = (fit.landmark_residual_mm[MOUTH] for fit in (narrow, wide))
    known = np.isfinite(before)
    mouth_nearer = known.any() and after[known].mean() < before[known].mean()
    return bool(mouth_nearer or wide.median_mm < NEARER * narrow.median_mm)


def _located(
    head: HeadModel,
    surface: ScanSurface,
    landmarks: Float[np.ndarray, "68 3"] | None,
    mm_per_unit: float | None,
    watch: Stopwatch,
) -> Located:
    if landmarks is not None:
        with watch("landmarks"):
            return confirmed_given(head, surface, landmarks)
    with watch("load"):
        from omote.align.search import located  # imports torch, which given landmarks do without

    return located(head, surface, watch, mm_per_unit=mm_per_unit)


@dataclass(frozen=True, kw_only=True)
class _Refined:
    """A fit whose vertices lie on the scan, in the canonical frame of its own eyeballs."""

    fit: Fit
    vertices_mm: Float[np.ndarray, "v 3"]
    neutral_mm: Float[np.ndarray, "v 3"]
    inferred: Bool[np.ndarray, " v"]
    median_mm: float
    p90_mm: float
    shown: Mapping[str, float]


def _refined(
    head: HeadModel,
    fit: Fit,
    points: Float[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"],
    *,
    seam: Seam | None,
    refinement: bool,
) -> _Refined:
    """A fit moved onto the scan's points (scan coordinates), vertex by vertex."""
    rotation = fit.canonical_from_scan[:3, :3] / _scale_of(fit.canonical_from_scan)
    points_mm = transform(fit.canonical_from_scan, points)
    vertices, inferred = fit.vertices_mm, np.ones(head.num_vertices, bool)
    if refinement:
        lips = None if seam is None else ribbon(moved(seam, fit.canonical_from_scan), head)
        vertices, inferred = refine(head, vertices, points_mm, normals=normals @ rotation.T, ribbon=lips)
    shown = source_expression(head, vertices, fit.expression)
    # What the linear fit takes for an expression beyond that is part of the person's shape: removing it does more harm than good.
    neutral = vertices if shown is None else vertices - shown.motion_mm
    # Refinement carries the eyeballs along, and the frame is theirs.
    shift = eyeball_centers(head, neutral).mean(axis=0)
    median, p90, _ = face_distance(head, vertices - shift, points_mm - shift)
    return _Refined(
        fit=_shifted(fit, shift),
        vertices_mm=vertices - shift,
        neutral_mm=neutral - shift,
        inferred=inferred,
        median_mm=median,
        p90_mm=p90,
        shown={} if shown is None else shown.units,
    )


def _is_sparse(points_mm: Float[np.ndarray, "n 3"]) -> bool:
    if len(points_mm) <= NORMAL_NEIGHBORS:
        return True
    some = points_mm[:: max(1, len(points_mm) // SPARSE_SAMPLE)]
    reach, _ = cKDTree(points_mm).query(some, k=[NORMAL_NEIGHBORS + 1])
    return bool(np.median(reach) > SPARSE_REACH_MM)


def _doubt(fit: Fit, confidence: float, given: bool) -> str:
    """One line: what was measured, its likely cause, and the cure."""
    measured = f"confidence {confidence:.2f}, fit {fit.median_mm:.1f} mm over {100 * fit.coverage:.0f} % of the face"
    if given:
        return f"the head does not fit the scan at the given landmarks ({measured}): check their order, and --unit"
    if fit.coverage < LEAST_COVERAGE and fit.median_mm < WELL_FITTED_MM:
        return (
            f"too little of a face to be sure ({measured}): give a scan that shows both eyes, nose and mouth, "
            "or --landmarks FILE"
        )
    return (
        f"no face found with certainty ({measured}), though something looks like one: "
        "if it is one, give --landmarks FILE or --unit, or less noise and fewer holes; if not, another scan"
    )


def _decide_unit(fit: Fit, given: str | None) -> tuple[str, float | None]:
    """(unit, mm per unit to keep fixed, or None to leave it free)."""
    if given is None:
        return unit_of(fit.canonical_from_scan)
    ratio = MM_PER_UNIT[given] / _scale_of(fit.canonical_from_scan)
    if not 1 / 1.6 < ratio < 1.6:
        raise AlignmentError(
            f"in {given} the face would be {140 * ratio:.3g} mm wide, not about 140: give another --unit, or "
            "--landmarks if the face found is not one"
        )
    return given, MM_PER_UNIT[given]


def _shifted(fit: Fit, shift: Float[np.ndarray, "3"]) -> Fit:
    matrix = fit.canonical_from_scan.copy()
    matrix[:3, 3] -= shift
    return replace(
        fit,
        canonical_from_scan=matrix,
        origin_mm=fit.origin_mm + shift,
        vertices_mm=fit.vertices_mm - shift,
        neutral_mm=fit.neutral_mm - shift,
    )


def transformed(scan: Scan, matrix: Float[np.ndarray, "4 4"]) -> PointCloud | Mesh:
    """A scan in another frame; a depth camera's as points, holes around the head closed, outlines without background.

    Args:
        scan: a scan in its own coordinates.
        matrix: similarity of those into the canonical frame, mm.
    """
    if isinstance(scan, Mesh):
        return replace(scan, vertices=transform(matrix, scan.vertices.astype(np.float64)))
    if isinstance(scan, Rgbd):
        holes = holes_of(scan)
        whole = closed(with_colors_from_inside(scan, holes), holes & _around_head(scan, matrix))
        points, colors = rgbd_points(whole)
        return PointCloud(points=transform(matrix, points), colors=colors)
    rotation = matrix[:3, :3] / _scale_of(matrix)
    normals = None if scan.normals is None else scan.normals @ rotation.T
    return replace(scan, points=transform(matrix, scan.points.astype(np.float64)), normals=normals)


def background_of(frame: Rgbd, matrix: Float[np.ndarray, "4 4"]) -> Bool[np.ndarray, "h w"]:
    """Pixels of walls, furniture and other people: parts not connected to the face that reach beyond the head.

    Args:
        frame: a depth frame.
        matrix: similarity of its coordinates into the canonical frame, mm.
    """
    part = connected_parts(frame)[frame.mask]
    points = transform(matrix, rgbd_points(frame)[0])
    x, y, z = points.T
    face = (np.abs(x) < 70) & (y > -95) & (y < 55) & (z > -50) & (z < 60)
    beyond = (np.abs(points - FRONT_TARGET_MM) > HEAD_RADIUS_MM).any(axis=1) | (z < -FRONT_OF_HEAD_MM)
    of_face, out, size = (
        np.bincount(part, weights, minlength=frame.mask.size) for weights in (face, beyond, np.ones(len(part)))
    )
    background = (of_face <= LEAST_FACE_SHARE * face.sum()) & (out > 0.5 * size)
    found = np.zeros_like(frame.mask)
    found[frame.mask] = background[part]
    return found


def _around_head(frame: Rgbd, matrix: Float[np.ndarray, "4 4"]) -> Bool[np.ndarray, "h w"]:
    """The part of a frame, as a box of pixels, that shows the head: only there are holes closed."""
    points = transform(matrix, rgbd_points(frame)[0])
    head = np.zeros_like(frame.mask)
    head[frame.mask] = (np.abs(points - FRONT_TARGET_MM) < HEAD_RADIUS_MM).all(axis=1)
    box = np.zeros_like(frame.mask)
    if head.any():
        rows, columns = np.flatnonzero(head.any(axis=1)), np.flatnonzero(head.any(axis=0))
        box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return box


def _on_face(
    head: HeadModel, vertices_mm: Float[np.ndarray, "v 3"], points_mm: Float[np.ndarray, "n 3"], cell_mm: float = 1.5
) -> Bool[np.ndarray, " n"]:
    """`face_points`; millions of points are judged by the small cell they lie in."""
    if len(points_mm) <= 200_000:
        return face_points(head, vertices_mm, points_mm)
    out = np.zeros(len(points_mm), bool)
    box = np.flatnonzero((np.abs(points_mm - np.array([0.0, -30.0, 0.0])) < 130.0).all(axis=1))
    size = int(320 / cell_mm)
    cells = ((points_mm[box] + 160.0) / cell_mm).astype(np.int32)
    code = (cells[:, 0] * size + cells[:, 1]) * size + cells[:, 2]
    grid = np.zeros(size**3, bool)
    grid[code] = True
    used = np.flatnonzero(grid)
    centers = (np.stack([used // size**2, used // size % size, used % size], axis=1) + 0.5) * cell_mm - 160.0
    grid[used] = face_points(head, vertices_mm, centers)
    out[box] = grid[code]
    return out


def _scale_of(similarity: Float[np.ndarray, "4 4"]) -> float:
    return float(np.cbrt(np.linalg.det(similarity[:3, :3])))
