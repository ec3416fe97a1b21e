"""Region labels per vertex, from parts and landmarks on the template."""

from __future__ import annotations

import itertools

import numpy as np

from omote.head.model import PARTS

NAMES = ("scalp", "forehead", "brow_left", "brow_right", "lid_left", "lid_right", "nose", "cheek_left", "cheek_right",
         "upper_lip", "lower_lip", "chin", "jaw", "ear_left", "ear_right", "neck", "mouth_interior", "eyes", "teeth",
         "tongue")  # fmt: skip


def _distance_to_line(points: np.ndarray, line: np.ndarray) -> np.ndarray:
    best = np.full(len(points), np.inf)
    for a, b in itertools.pairwise(line):
        t = np.clip((points - a) @ (b - a) / max(float((b - a) @ (b - a)), 1e-9), 0, 1)
        best = np.minimum(best, np.linalg.norm(points - a - t[:, None] * (b - a), axis=1))
    return best


def label(
    template: np.ndarray, faces: np.ndarray, face_part: np.ndarray, landmarks: np.ndarray, ear: np.ndarray
) -> tuple[tuple[str, ...], np.ndarray]:
    """(names, uint8 label per vertex); later rules override earlier ones; ``ear`` is True on both ears."""
    x, y, z = template.T
    out = np.full(len(template), NAMES.index("scalp"), np.uint8)

    def put(name: str, where: np.ndarray) -> None:
        out[where] = NAMES.index(name)

    L = landmarks
    chin, jaw_left, jaw_right = L[8], L[12], L[4]
    brow_y = L[17:27, 1].mean()
    ear_z = L[[0, 16], 2].mean()
    hairline = brow_y + 0.78 * (brow_y - L[33, 1])  # the facial thirds: hairline to brows = brows to nose base
    # The plane from under the chin through the angles of the jaw divides face and neck; the nape starts at their height.
    angle = L[[3, 13]].mean(axis=0)
    slope = (angle[1] - 9 - chin[1]) / (angle[2] - chin[2])
    under = np.minimum(chin[1] - 6 + slope * (z - chin[2]), angle[1] + 6)
    face_front = z > ear_z - 4
    put("forehead", (y > brow_y) & (y < hairline) & (z > ear_z + 12))
    for name, sign in (("cheek_left", 1), ("cheek_right", -1)):
        put(name, (x * sign >= 0) & (y <= brow_y) & face_front)
    put("jaw", (y < L[[3, 13], 1].mean()) & face_front & (np.abs(x) > 0.45 * abs(jaw_left[0] - jaw_right[0]) / 2))
    put("chin", (y < L[57, 1] - 5) & face_front & (np.abs(x) <= 0.45 * abs(jaw_left[0] - jaw_right[0]) / 2))
    put("neck", y < under)
    corner = abs(L[[48, 54], 0]).mean()
    mouth_z = L[48:60, 2].min() - 12
    lip_y = np.interp(x, L[[60, 61, 62, 63, 64], 0], (L[[60, 61, 62, 63, 64], 1] + L[[60, 67, 66, 65, 64], 1]) / 2)
    top = np.interp(x, L[48:55, 0], L[48:55, 1]) + 2.0
    base = L[31:36, 1].mean() - 1.0
    near = (np.abs(x) < corner + 3) & (z > mouth_z)
    put("upper_lip", near & (y >= lip_y) & (y < np.maximum(top, base - np.abs(x) * 0.15)))
    put("lower_lip", near & (y < lip_y) & (y > L[57, 1] - 5 + 0.004 * x**2))
    half = np.interp(y, [L[33, 1], L[30, 1], L[27, 1]], [abs(L[[31, 35], 0]).mean() + 7.5, 13.0, 8.0])
    put("nose", (np.abs(x) < half) & (y < L[27, 1] + 2) & (y >= base - 0.02 * x**2) & (z > L[31:36, 2].min() - 8))
    for name, ids in (("lid_left", range(42, 48)), ("lid_right", range(36, 42))):
        ring = L[[*ids, ids[0]]]
        center = ring[:-1].mean(axis=0)
        sx, sy = np.ptp(ring[:, 0]) / 2 + 4.5, np.ptp(ring[:, 1]) / 2 + 5.5
        put(name, (((x - center[0]) / sx) ** 2 + ((y - center[1]) / sy) ** 2 < 1) & (z > ear_z + 20))
    put("brow_left", (_distance_to_line(template, L[22:27]) < 6.0))
    put("brow_right", (_distance_to_line(template, L[17:22]) < 6.0))
    put("ear_left", ear & (x > 0))
    put("ear_right", ear & (x < 0))
    for part, name in (("mouth", "mouth_interior"), ("eye_left", "eyes"), ("eye_right", "eyes"), ("teeth_upper", "teeth"),
                       ("teeth_lower", "teeth"), ("tongue", "tongue")):  # fmt: skip
        inside = np.unique(faces[face_part == PARTS.index(part)])
        if part == "mouth":  # its border belongs to the lips
            inside = np.setdiff1d(inside, np.unique(faces[face_part == PARTS.index("skin")]))
        out[inside] = NAMES.index(name)
    return NAMES, out
