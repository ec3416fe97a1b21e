"""A head model's ARKit units on one person.

The units' offsets are scaled to the person's face along each axis, which on these heads differs from deformation transfer
(Sumner & Popović, SIGGRAPH 2004) by a tenth of a millimetre; the lids are then made to meet on this person's eyes.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from omote.head.expressions import ARKIT_INDEX
from omote.head.model import HeadModel

# Landmarks: face width and height, and upper / lower lid pairs per eye.
WIDTH, HEIGHT = (1, 15), (27, 8)
LIDS = {"Right": ((37, 41), (38, 40)), "Left": ((43, 47), (44, 46))}


def personal_units(
    model: HeadModel, neutral_mm: Float[np.ndarray, "v 3"]
) -> Float[np.ndarray, "52 v 3"]:
    """The 52 units' offsets (mm) on a person at rest, linear in their weights."""
    mean, own = model.landmarks(model.template_mm), model.landmarks(neutral_mm)
    width = abs(own[WIDTH[1], 0] - own[WIDTH[0], 0]) / abs(mean[WIDTH[1], 0] - mean[WIDTH[0], 0])
    height = abs(own[HEIGHT[0], 1] - own[HEIGHT[1], 1]) / abs(mean[HEIGHT[0], 1] - mean[HEIGHT[1], 1])
    scale = np.clip([width, height, (width + height) / 2], 0.75, 1.35).astype(np.float32)
    units = model.expression_mm * scale
    eyeballs = model.part_vertices("eye_left", "eye_right")
    units[:, eyeballs] = model.expression_mm[:, eyeballs]
    for side, pairs in LIDS.items():
        gap = [np.mean([np.linalg.norm(m[a] - m[b]) for a, b in pairs]) for m in (own, mean)]
        # Closed by as much as the eye is open: a scan with closed eyes has nothing left to close.
        units[ARKIT_INDEX[f"eyeBlink{side}"]] *= float(np.clip(gap[0] / gap[1] / scale[1], 0.05, 1.6))
    return units
