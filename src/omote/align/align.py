"""Bring any scan of a head into the canonical frame: find the face, place landmarks, fit the head, refine it.

    points ─ find_faces → candidate poses ─ predict_landmarks ×3 → landmarks ─ fit_head → pose, identity, unit ─ refine

Every candidate must survive a fit: networks propose, geometry confirms. What is not confirmed is an `AlignmentError` that
says what to give.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from omote.align.surface import Surface, surface_of
from omote.errors import AlignmentError
from omote.geometry.camera import FRONT_TARGET_MM, rgbd_points, transform
from omote.geometry.holes import closed, with_colors_from_inside
from omote.head.fit import LANDMARK_WEIGHT, Fit, eyeball_centers, face_distance, face_points, fit_head, umeyama
from omote.head.model import HeadModel
from omote.head.nicp import refine
from omote.types import Camera, Mesh, PointCloud, Rgbd

MM_PER_UNIT = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "in": 25.4}
UNIT_TOLERANCE = 1.3  # a fit's free scale this near to a unit decides for it; adult heads differ by far less
MIN_CONFIDENCE = 0.5
# Half a side of a box that holds a head.
HEAD_RADIUS_MM = 160.0
# Below this, poses of unseen heads that were off by more than 5 degrees or 3 mm are found (`benchmarks/align.py`).
DOUBTFUL_CONFIDENCE = 0.98
SECOND_FACE_CONFIDENCE = 0.6
LOCAL_POINTS, CHECK_POINTS = 40_000, 8_000
CONFIRMED_FACES = 3  # candidates that get a fit


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """A scan in the canonical frame, and everything that was estimated on the way.

    Attributes:
        canonical_from_scan: similarity from scan coordinates to canonical mm.
        unit: "mm", "cm", "m", "in", or "unknown" where the size fits none of them.
        mm_per_unit: its scale.
        unit_given: the unit came from the user (or from the depth camera), not from the estimate.
        landmarks_mm: the 68 landmarks on the refined head.
        detected_mm: the landmarks as they were detected or given, before any fit; NaN where unknown.
        landmark_confidence: [0, 1] each, of the detection behind them; 1 for given ones, 0 for none.
        fit: the linear fit of the head model.
        vertices_mm: the refined head with the scan's own expression.
        neutral_mm: the refined head at rest.
        inferred: vertices that no scan point supports.
        camera: the depth camera in the canonical frame, for an RGB-D scan.
        confidence: [0, 1]; at least `MIN_CONFIDENCE`.
        scan: the scan itself, aligned, with its hair and clothing.
        on_face: which of its vertices or points lie on the face.
        median_mm: of the scan's face points to the refined surface.
        p90_mm: the same, 90th percentile.
        time_s: seconds per stage.
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
    camera: Camera | None
    confidence: float
    scan: PointCloud | Mesh
    on_face: Bool[np.ndarray, " n"]
    median_mm: float
    p90_mm: float
    time_s: dict[str, float]

    @property
    def doubtful(self) -> bool:
        """Whether the pose may be off: accepted, but with less confidence than good poses have."""
        return bool(self.confidence < DOUBTFUL_CONFIDENCE)

    def report(self) -> dict[str, bool | float | str]:
        """Everything estimated, flat."""
        eyes = [self.landmarks_mm[36:42].mean(axis=0), self.landmarks_mm[42:48].mean(axis=0)]
        return {
            "align/confidence": self.confidence,
            "align/doubtful": self.doubtful,
            "align/unit": self.unit,
            "align/unit_source": "given" if self.unit_given else "estimated",
            "align/mm_per_unit": self.mm_per_unit,
            "align/landmark_confidence": float(self.landmark_confidence.mean()),
            "align/eye_distance_mm": float(np.linalg.norm(eyes[0] - eyes[1])),
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


@dataclass(frozen=True, kw_only=True)
class _Located:
    """A face with its landmarks in scan coordinates, confirmed or not."""

    landmarks: Float[np.ndarray, "68 3"]
    confidence: Float[np.ndarray, " 68"]
    fit: Fit
    score: float


def align(
    scan: PointCloud | Mesh | Rgbd,
    *,
    head: HeadModel,
    landmarks: Float[np.ndarray, "68 3"] | None = None,
    unit: str = "auto",
    refinement: bool = True,
) -> Alignment:
    """Align a scan.

    Args:
        scan: in any pose and unit; a depth camera's frame counts as millimetres.
        head: the head model to fit.
        landmarks: 68 points in scan coordinates (NaN rows unknown) that replace the networks.
        unit: "mm", "cm", "m" or "in"; "auto" estimates it.
        refinement: also move each vertex onto the scan.

    Raises:
        AlignmentError: no face, several faces, or one that the fit does not confirm; says what to give.
        ScanError: too few points.
    """
    if unit != "auto" and unit not in MM_PER_UNIT:
        raise AlignmentError(f"unit: expected auto or one of {', '.join(MM_PER_UNIT)}, got {unit!r}")
    clock = _Clock()
    given_unit = unit if unit != "auto" else "mm" if isinstance(scan, Rgbd) else None
    surface = surface_of(scan)
    clock("sample")
    if landmarks is not None:
        located = _confirm_given(head, surface, landmarks)
        clock("landmarks")
    else:
        located = _locate(head, surface, clock)
    unit_found, scale = _decide_unit(located.fit, given_unit)
    clock("unit")

    points, normals = surface.near(located.fit.canonical_from_scan, LOCAL_POINTS)
    fit = fit_head(
        head,
        points,
        landmarks=located.landmarks,
        normals=normals,
        landmark_weights=located.confidence,
        fixed_scale=scale,
    )
    clock("fit")
    confidence = _confidence(fit, located.confidence)
    if confidence < MIN_CONFIDENCE:
        raise AlignmentError(_doubt(fit, confidence, landmarks is not None))
    vertices, inferred = fit.vertices_mm, np.ones(head.num_vertices, bool)
    rotation = fit.canonical_from_scan[:3, :3] / np.cbrt(np.linalg.det(fit.canonical_from_scan[:3, :3]))
    points_mm, normals_mm = transform(fit.canonical_from_scan, points), normals @ rotation.T
    if refinement:
        vertices, inferred = refine(head, fit.vertices_mm, points_mm, normals=normals_mm)
    neutral = vertices - (fit.vertices_mm - fit.neutral_mm)
    # Refinement carries the eyeballs along, and the frame is theirs.
    shift = eyeball_centers(head, neutral).mean(axis=0)
    fit = _shifted(fit, shift)
    vertices, neutral, points_mm = vertices - shift, neutral - shift, points_mm - shift
    median, p90, _ = face_distance(head, vertices, points_mm)
    clock("refine")
    aligned = transformed(scan, fit.canonical_from_scan)
    on_face = _on_face(head, vertices, aligned.vertices if isinstance(aligned, Mesh) else aligned.points)
    clock("transform")
    return Alignment(
        canonical_from_scan=fit.canonical_from_scan,
        unit=unit_found,
        mm_per_unit=float(np.cbrt(np.linalg.det(fit.canonical_from_scan[:3, :3]))),
        unit_given=given_unit is not None,
        landmarks_mm=head.landmarks(vertices),
        detected_mm=transform(fit.canonical_from_scan, located.landmarks),
        landmark_confidence=located.confidence,
        fit=fit,
        vertices_mm=vertices,
        neutral_mm=neutral,
        inferred=inferred,
        camera=_camera(scan, fit.canonical_from_scan) if isinstance(scan, Rgbd) else None,
        confidence=confidence,
        scan=aligned,
        on_face=on_face,
        median_mm=median,
        p90_mm=p90,
        time_s=clock.time_s,
    )


class _Clock:
    def __init__(self) -> None:
        self.time_s: dict[str, float] = {}
        self._last = time.perf_counter()

    def __call__(self, stage: str) -> None:
        now = time.perf_counter()
        self.time_s[stage] = self.time_s.get(stage, 0.0) + now - self._last
        self._last = now


def _locate(head: HeadModel, surface: Surface, clock: _Clock) -> _Located:
    """Find the one face that a fit confirms."""
    from omote.align.landmarks import find_faces, in_parallel, load_networks

    networks = load_networks()
    clock("load")
    candidates = find_faces(surface.coarse, networks)
    clock("find")
    if not candidates:
        raise AlignmentError("no face found in the scan: give --landmarks FILE, or crop the scan to the head")
    mean = head.landmarks(head.template_mm.astype(np.float64))
    looked = in_parallel(lambda c: _look(surface, c.canonical_from_scan, mean, networks), candidates[:10])
    looked.sort(key=lambda item: item[2])
    clock("landmarks")
    confirmed: list[_Located] = []
    for landmarks, confidence, _ in looked:
        if len(confirmed) == CONFIRMED_FACES:
            break
        # A second look at a face already confirmed says nothing new.
        if any(_same_face(landmarks, c.landmarks) and c.score > 0.8 for c in confirmed):
            continue
        located = _confirm(head, surface, landmarks, confidence)
        if located is not None:
            confirmed.append(located)
    clock("confirm")
    if not confirmed:
        raise AlignmentError("no face found in the scan: give --landmarks FILE, or crop the scan to the head")
    confirmed.sort(key=lambda c: -c.score)
    best = confirmed[0]
    for other in confirmed[1:]:
        if other.score > SECOND_FACE_CONFIDENCE and not _same_face(best.landmarks, other.landmarks):
            a, b = (", ".join(f"{x:.4g}" for x in c.landmarks[30]) for c in (best, other))
            raise AlignmentError(
                f"two faces found, noses at ({a}) and ({b}): crop the scan to one head, or give its --landmarks FILE"
            )
    return best


def _look(
    surface: Surface, pose: Float[np.ndarray, "4 4"], mean: Float[np.ndarray, "68 3"], networks: object
) -> tuple[Float[np.ndarray, "68 3"], Float[np.ndarray, " 68"], float]:
    """Landmarks from three looks, each from where the one before says the front is: (landmarks, confidence, scale mm)."""
    from omote.align.landmarks import Networks, predict_landmarks

    assert isinstance(networks, Networks)
    landmarks, scale = np.zeros((68, 3)), np.ones(68)
    for _ in range(3):
        landmarks, scale = predict_landmarks(surface.coarse, pose, networks)
        pose = umeyama(landmarks, mean, LANDMARK_WEIGHT / scale**2)
    return landmarks, np.clip(1.5 / scale, 0.0, 1.0), float(np.median(scale[17:]))


def _same_face(a: Float[np.ndarray, "68 3"], b: Float[np.ndarray, "68 3"]) -> bool:
    size = np.linalg.norm(a[0] - a[16])
    return bool(np.linalg.norm(a[27:48].mean(axis=0) - b[27:48].mean(axis=0)) < 0.8 * size)


def _confirm(
    head: HeadModel, surface: Surface, landmarks: Float[np.ndarray, "68 3"], confidence: Float[np.ndarray, " 68"]
) -> _Located | None:
    """A quick fit with few modes; None where there is nothing to fit to."""
    given = np.isfinite(landmarks).all(axis=1)
    mean = head.landmarks(head.template_mm.astype(np.float64))
    pose = umeyama(landmarks[given], mean[given], LANDMARK_WEIGHT[given] * confidence[given] + 1e-9)
    _, scale = _unit_of(pose)
    points, normals = surface.near(pose, CHECK_POINTS)
    if len(points) < 100:
        return None
    try:
        fit = fit_head(
            head, points, landmarks=landmarks, normals=normals, landmark_weights=confidence,
            fixed_scale=scale, num_identity=30, iterations=8, expression=False,
        )  # fmt: skip
    except AlignmentError:
        return None
    return _Located(landmarks=landmarks, confidence=confidence, fit=fit, score=_confidence(fit, confidence))


def _confirm_given(head: HeadModel, surface: Surface, landmarks: Float[np.ndarray, "68 3"]) -> _Located:
    given = np.isfinite(landmarks).all(axis=1)
    if given.sum() < 6:
        raise AlignmentError(f"landmarks: expected at least 6 known points, got {given.sum()}; see docs/scan-input.md")
    located = _confirm(head, surface, landmarks.astype(np.float64), given.astype(np.float64))
    if located is None:
        raise AlignmentError("no scan points near the given landmarks; are they in the scan's own coordinates?")
    return located


def _confidence(fit: Fit, landmark_confidence: Float[np.ndarray, " 68"]) -> float:
    """[0, 1]: high only where the fit lies on the scan, covers a good part of the face, and agrees with the landmarks."""

    def step(value: float, middle: float, width: float) -> float:
        return float(1 / (1 + np.exp(np.clip((middle - value) / width, -40, 40))))

    inner = np.arange(68) >= 17
    w = LANDMARK_WEIGHT * landmark_confidence * inner * np.isfinite(fit.landmark_residual_mm)
    residual = float(w @ np.nan_to_num(fit.landmark_residual_mm) / max(w.sum(), 1e-9)) if w.sum() > 0 else 20.0
    plausible = step(-float(np.sqrt(np.mean(fit.identity**2))), -1.6, 0.15)
    return (
        step(fit.coverage, 0.42, 0.05) * step(-min(fit.median_mm, 99.0), -1.9, 0.2) * step(-residual, -9.0, 1.2)
        * step(float(landmark_confidence[inner].mean()), 0.12, 0.03) * plausible
    )  # fmt: skip


def _doubt(fit: Fit, confidence: float, given: bool) -> str:
    measured = f"confidence {confidence:.2f}, fit {fit.median_mm:.1f} mm over {100 * fit.coverage:.0f} % of the face"
    if given:
        return f"the head does not fit the scan at the given landmarks ({measured}): check their order, and --unit"
    return f"no face found with certainty ({measured}): give --landmarks FILE or --unit, or crop the scan to the head"


def _decide_unit(fit: Fit, given: str | None) -> tuple[str, float | None]:
    """(unit, mm per unit to keep fixed, or None to leave it free)."""
    if given is None:
        return _unit_of(fit.canonical_from_scan)
    ratio = MM_PER_UNIT[given] / float(np.cbrt(np.linalg.det(fit.canonical_from_scan[:3, :3])))
    if not 1 / 1.6 < ratio < 1.6:
        raise AlignmentError(
            f"in {given} the face would be {140 * ratio:.3g} mm wide, not about 140: give another --unit, or "
            "--landmarks if the face found is not one"
        )
    return given, MM_PER_UNIT[given]


def _unit_of(canonical_from_scan: Float[np.ndarray, "4 4"]) -> tuple[str, float | None]:
    """The unit whose scale is near enough to a pose's, with that scale; ("unknown", None) where none is."""
    scale = float(np.cbrt(np.linalg.det(canonical_from_scan[:3, :3])))
    unit = min(MM_PER_UNIT, key=lambda u: abs(np.log(MM_PER_UNIT[u] / scale)))
    near = abs(np.log(MM_PER_UNIT[unit] / scale)) < np.log(UNIT_TOLERANCE)
    return (unit, MM_PER_UNIT[unit]) if near else ("unknown", None)


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


def transformed(scan: PointCloud | Mesh | Rgbd, matrix: Float[np.ndarray, "4 4"]) -> PointCloud | Mesh:
    """A scan in another frame; a depth camera's as points, holes around the head closed, outlines without background.

    Args:
        scan: in its own coordinates.
        matrix: similarity of those into the canonical frame, mm.
    """
    if isinstance(scan, Mesh):
        return replace(scan, vertices=transform(matrix, scan.vertices.astype(np.float64)))
    if isinstance(scan, Rgbd):
        points, colors = rgbd_points(closed(with_colors_from_inside(scan), within=_around_head(scan, matrix)))
        return PointCloud(points=transform(matrix, points), colors=colors)
    rotation = matrix[:3, :3] / np.cbrt(np.linalg.det(matrix[:3, :3]))
    normals = None if scan.normals is None else scan.normals @ rotation.T
    return replace(scan, points=transform(matrix, scan.points.astype(np.float64)), normals=normals)


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


def _camera(scan: Rgbd, matrix: Float[np.ndarray, "4 4"]) -> Camera:
    """The scan's camera in the canonical frame; a scale other than 1 moves it, its picture stays the same."""
    scale = float(np.cbrt(np.linalg.det(matrix[:3, :3])))
    rotation = scan.camera.cam_from_world[:3, :3] @ (matrix[:3, :3] / scale).T
    out = np.eye(4)
    out[:3, :3] = rotation
    out[:3, 3] = scale * scan.camera.cam_from_world[:3, 3] - rotation @ matrix[:3, 3]
    return replace(scan.camera, cam_from_world=out)
