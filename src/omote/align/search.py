"""The search for the face of a scan in any pose and unit: networks propose candidates, fits of the head model confirm them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from omote.align.confirm import Located, confirmed, most_confidence
from omote.align.landmarks import (
    Candidate,
    LandmarkNetworks,
    find_faces,
    in_parallel,
    load_landmark_networks,
    metric_window,
    predict_landmarks,
    whole_windows,
)
from omote.align.surface import ScanSurface
from omote.align.views import robust_ball
from omote.errors import AlignmentError
from omote.head.fit import LANDMARK_WEIGHT, umeyama
from omote.head.model import HeadModel
from omote.runs import Stopwatch

MOST_CANDIDATES = 12
CONFIRMED_FACES = 4  # number of candidates at different places that are fitted
SURE_SCORE = 0.5  # above this score of a quick fit, further candidates at the same face are skipped
SECOND_FACE_SCORE = 0.25  # a quick fit scores lower than a full one, and objects that are no face score far lower
POSSIBLE_RATIO = 1.6  # largest ratio of a face's size in a known unit to an adult's
SMALL_SHARE = 0.09  # a face smaller than this share of a scan's diameter is searched again, magnified
NO_FACE = (
    "no face found in the scan: expected a face seen from the front or at most 60 degrees from it; "
    "give --landmarks FILE, or crop the scan to the head"
)


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """Landmarks of a candidate in scan coordinates, their confidences, and their median scale in mm."""

    landmarks: Float[np.ndarray, "68 3"]
    confidence: Float[np.ndarray, " 68"]
    scale_mm: float


def located(head: HeadModel, surface: ScanSurface, watch: Stopwatch, *, mm_per_unit: float | None = None) -> Located:
    """Find the one face that a fit of the head model confirms.

    Args:
        head: head model to fit.
        surface: surface of the scan.
        watch: stopwatch that records the seconds of load, find, landmarks and confirm.
        mm_per_unit: scale of the scan's unit if it is known; faces of an impossible size are then rejected.

    Raises:
        AlignmentError: no face, or two faces.
    """
    with watch("load"):
        networks = load_landmark_networks()
    mean = head.landmarks(head.template_mm.astype(np.float64))

    def look(candidate: Candidate) -> _Seen:
        return _look(surface, candidate.canonical_from_scan, mean, networks)

    found: list[Located] = []
    # Magnified views cost nine times as much, and are needed only where a face is small in the whole scan.
    for finer in (1, 2):
        with watch("find"):
            if mm_per_unit is not None:
                windows = [metric_window(surface, mm_per_unit)] if finer == 1 else []
            else:
                windows = whole_windows(surface, finer=finer)
            candidates = find_faces(surface.coarse, windows, networks) if windows else []
            candidates = [c for c in candidates if _possible(c, mm_per_unit)][:MOST_CANDIDATES]
        with watch("landmarks"):
            looked = in_parallel(look, candidates)
        with watch("confirm"):
            found = _confirmed(head, surface, sorted(looked, key=lambda s: s.scale_mm), found, mm_per_unit)
        if found and found[0].score > SURE_SCORE and not _small(found[0], surface):
            break
    if not found:
        raise AlignmentError(NO_FACE)
    best = found[0]
    for other in found[1:]:
        if other.score > SECOND_FACE_SCORE and not _same_face(best.landmarks, other.landmarks):
            a, b = (", ".join(f"{x:.4g}" for x in c.landmarks[30]) for c in (best, other))
            raise AlignmentError(
                f"two faces found, noses at ({a}) and ({b}): crop the scan to one head, or give its --landmarks FILE"
            )
    return best


def _possible(candidate: Candidate, mm_per_unit: float | None) -> bool:
    if mm_per_unit is None:
        return True
    ratio = np.cbrt(np.linalg.det(candidate.canonical_from_scan[:3, :3])) / mm_per_unit
    return bool(1 / POSSIBLE_RATIO < ratio < POSSIBLE_RATIO)


def _small(face: Located, surface: ScanSurface) -> bool:
    width = np.linalg.norm(face.landmarks[0] - face.landmarks[16])
    return bool(width < SMALL_SHARE * 2 * robust_ball(surface.coarse)[1])


def _confirmed(
    head: HeadModel,
    surface: ScanSurface,
    looked: Sequence[_Seen],
    before: Sequence[Located],
    mm_per_unit: float | None,
) -> list[Located]:
    """Confirmed faces, best first, including those confirmed before; a certain face is not fitted twice."""
    found = list(before)
    tried = 0
    for seen in looked:
        if tried == CONFIRMED_FACES:
            break
        if any(_same_face(seen.landmarks, c.landmarks) and c.score > SURE_SCORE for c in found):
            continue
        tried += 1
        if most_confidence(seen.confidence) < min(SECOND_FACE_SCORE, max((c.score for c in found), default=0.0)):
            continue  # neither the best nor a second face, whatever a fit would say
        face = confirmed(head, surface, seen.landmarks, seen.confidence, mm_per_unit=mm_per_unit)
        if face is not None:
            found.append(face)
    return sorted(found, key=lambda c: -c.score)


def _look(
    surface: ScanSurface, pose: Float[np.ndarray, "4 4"], mean: Float[np.ndarray, "68 3"], networks: LandmarkNetworks
) -> _Seen:
    """Landmarks after three predictions, each from the frontal view of the previous one."""
    landmarks, scale = np.zeros((68, 3)), np.ones(68)
    for _ in range(3):
        landmarks, scale = predict_landmarks(surface, pose, networks)
        pose = umeyama(landmarks, mean, LANDMARK_WEIGHT / scale**2)
    confidence = np.clip(1.5 / scale, 0.0, 1.0)
    return _Seen(landmarks=landmarks, confidence=confidence, scale_mm=float(np.median(scale[17:])))


def _same_face(a: Float[np.ndarray, "68 3"], b: Float[np.ndarray, "68 3"]) -> bool:
    size = np.linalg.norm(a[0] - a[16])
    return bool(np.linalg.norm(a[27:48].mean(axis=0) - b[27:48].mean(axis=0)) < 0.8 * size)
