"""The one face of a scan in any pose and unit: networks propose, fits confirm."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from omote.align.confirm import Located, confirmed
from omote.align.landmarks import LandmarkNetworks, find_faces, in_parallel, load_landmark_networks, predict_landmarks
from omote.align.surface import ScanSurface
from omote.errors import AlignmentError
from omote.head.fit import LANDMARK_WEIGHT, umeyama
from omote.head.model import HeadModel
from omote.runs import Stopwatch

MOST_CANDIDATES = 10
CONFIRMED_FACES = 3  # candidates that get a fit
SURE_SCORE = 0.8  # from here on, further candidates at the same face are skipped
SECOND_FACE_SCORE = 0.6
NO_FACE = "no face found in the scan: give --landmarks FILE, or crop the scan to the head"


def located(head: HeadModel, surface: ScanSurface, watch: Stopwatch) -> Located:
    """Find the one face that a fit confirms.

    Args:
        head: the head model to fit.
        surface: the scan.
        watch: stopwatch that takes the seconds of load, find, landmarks and confirm.

    Raises:
        AlignmentError: no face, or two.
    """
    with watch("load"):
        networks = load_landmark_networks()
    with watch("find"):
        candidates = find_faces(surface.coarse, networks)[:MOST_CANDIDATES]
    if not candidates:
        raise AlignmentError(NO_FACE)
    with watch("landmarks"):
        mean = head.landmarks(head.template_mm.astype(np.float64))
        looked = in_parallel(lambda c: _look(surface, c.canonical_from_scan, mean, networks), candidates)
        looked.sort(key=lambda item: item[2])
    with watch("confirm"):
        found = _confirmed(head, surface, [(landmarks, confidence) for landmarks, confidence, _ in looked])
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


def _confirmed(
    head: HeadModel,
    surface: ScanSurface,
    looked: list[tuple[Float[np.ndarray, "68 3"], Float[np.ndarray, " 68"]]],
) -> list[Located]:
    """The first few faces that fit, best first."""
    found: list[Located] = []
    for landmarks, confidence in looked:
        if len(found) == CONFIRMED_FACES:
            break
        if any(_same_face(landmarks, c.landmarks) and c.score > SURE_SCORE for c in found):
            continue
        face = confirmed(head, surface, landmarks, confidence)
        if face is not None:
            found.append(face)
    return sorted(found, key=lambda c: -c.score)


def _look(
    surface: ScanSurface, pose: Float[np.ndarray, "4 4"], mean: Float[np.ndarray, "68 3"], networks: LandmarkNetworks
) -> tuple[Float[np.ndarray, "68 3"], Float[np.ndarray, " 68"], float]:
    """(landmarks, confidence, scale in mm) after three predictions, each from the frontal view that the one before implies."""
    landmarks, scale = np.zeros((68, 3)), np.ones(68)
    for _ in range(3):
        landmarks, scale = predict_landmarks(surface.coarse, pose, networks)
        pose = umeyama(landmarks, mean, LANDMARK_WEIGHT / scale**2)
    return landmarks, np.clip(1.5 / scale, 0.0, 1.0), float(np.median(scale[17:]))


def _same_face(a: Float[np.ndarray, "68 3"], b: Float[np.ndarray, "68 3"]) -> bool:
    size = np.linalg.norm(a[0] - a[16])
    return bool(np.linalg.norm(a[27:48].mean(axis=0) - b[27:48].mean(axis=0)) < 0.8 * size)
