"""Limits of facial movement: travel saturates at the limits of anatomy, whatever the sum of the units.

The mouth's corner: twelve adults with optical markers moved it 9.3 ± 2.8 mm (6.5 to 12.1) from rest to a full smile, brows
10.6 ± 2.5 mm and lids 9.1 ± 2.2 mm ("Objective computerised evaluation of normal patterns of facial muscles contraction",
Braz. J. Otorhinolaryngol.). The upper lip: in spontaneous smiles it rises by 28 % of its height at rest (Am. J. Orthod.
Dentofacial Orthop. 2005;128:8-15); bared teeth need more, up to the nose. Units are linear and have no such limit, so travel
beyond `KNEE` of its limit L is compressed towards L by a hyperbolic tangent: small motions are unchanged, and no sum exceeds
L.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from omote.head.expressions import ARKIT_NAMES
from omote.head.model import HeadModel

CORNER_MM = 12.1
# Down or straight outward. Expressions that do so all draw the corners the same way, and the morph targets of two of them add up:
# at .7 each, fear with its limit and anger with its smaller motion stay within 13 mm.
CORNER_DOWN_MM = 11.0
UPWARD = 0.5  # sine of the rise from which a corner may go as far as in a smile
UPPER_LIP_MM = 7.5
UPPER_LIP_SHARE = 0.38  # share of the distance from the nose's base to the line between the lips
KNEE = 0.75
CORNER_SPREAD_MM = 18.0
LIP_SPREAD_MM = 11.0
# Mouth corners among the 68 landmarks.
CORNERS = (48, 54)
UPPER_LIP = (50, 51, 52)
UPPER_BORDER = slice(49, 54)
NOSE_BASE = 33
SEAM = (62, 66)
ROUNDS = 4
MOST_GIVEN = 0.6  # largest share of a weight that is given up in a round
# The jaw opens as far as requested; the other units that move a corner or the lip are reduced.
_MOUTH_UNITS = np.array([n.startswith(("mouth", "noseSneer")) for n in ARKIT_NAMES])
_LEFT = np.array([not n.endswith("Right") for n in ARKIT_NAMES])
_RIGHT = np.array([not n.endswith("Left") for n in ARKIT_NAMES])


def upper_lip_limit(model: HeadModel, neutral_mm: Float[np.ndarray, "v 3"]) -> float:
    """Largest rise (mm) of this person's upper lip."""
    landmarks = model.landmarks(neutral_mm)
    room = float(landmarks[NOSE_BASE, 1] - landmarks[list(SEAM), 1].mean())
    return min(UPPER_LIP_MM, UPPER_LIP_SHARE * max(room, 8.0))


def corner_limit(travel_mm: Float[np.ndarray, "3"]) -> float:
    """Farthest travel (mm) of a mouth's corner in the direction of ``travel_mm``."""
    rise = float(travel_mm[1] / max(np.linalg.norm(travel_mm), 1e-9))
    return float(np.interp(rise, (0.0, UPWARD), (CORNER_DOWN_MM, CORNER_MM)))


def saturated(
    model: HeadModel,
    neutral_mm: Float[np.ndarray, "v 3"],
    offsets_mm: Float[np.ndarray, "v 3"],
    *,
    knee: float = KNEE,
) -> Float[np.ndarray, "v 3"]:
    """Limit the travel of mouth corners and upper lip; the skin around them follows smoothly.

    Args:
        model: head model.
        neutral_mm: vertices of the person at rest.
        offsets_mm: offsets of an expression from rest.
        knee: share of a limit up to which travel is unchanged.
    """
    rest, moved = model.landmarks(neutral_mm), model.landmarks(offsets_mm)
    out = offsets_mm.copy()
    for corner in CORNERS:
        share = _share(float(np.linalg.norm(moved[corner])), corner_limit(moved[corner]), knee)
        if share < 1:
            near = np.exp(-0.5 * np.sum((neutral_mm - rest[corner]) ** 2, axis=1) / CORNER_SPREAD_MM**2)
            out *= (1 - (1 - share) * near)[:, None].astype(out.dtype)
    rise = float(model.landmarks(out)[list(UPPER_LIP), 1].mean())
    share = _share(rise, upper_lip_limit(model, neutral_mm), knee)
    if share < 1:
        border = rest[UPPER_BORDER]
        square = np.min(np.sum((neutral_mm[:, None] - border[None]) ** 2, axis=2), axis=1)
        near = np.exp(-0.5 * square / LIP_SPREAD_MM**2)
        # Skin that moves down beside a rising lip isn't limited.
        near = np.where(out[:, 1] > 0, near, 0.0)
        out *= (1 - (1 - share) * near)[:, None].astype(out.dtype)
    return out


def natural_weights(
    model: HeadModel, units_mm: Float[np.ndarray, "52 v 3"], neutral_mm: Float[np.ndarray, "v 3"],
    weights: Float[np.ndarray, "52"],
) -> Float[np.ndarray, "52"]:  # fmt: skip
    """Lower ARKit weights until corners and upper lip are within reach; units that move them farthest are lowered most.

    Args:
        model: head model.
        units_mm: units personalised to this person.
        neutral_mm: vertices of the person at rest.
        weights: ARKit weights of an expression, in [0, 1].
    """
    out = np.array(weights, np.float64)
    at = np.einsum("ulkc,lk->ulc", units_mm[:, model.landmark_vertices], model.landmark_weights)
    upward = at[:, list(UPPER_LIP)].mean(axis=1) * [0.0, 1.0, 0.0]
    carried = (at[:, CORNERS[0]] * _RIGHT[:, None], at[:, CORNERS[1]] * _LEFT[:, None], upward)
    ends = [corner_limit(out @ c) for c in carried[:2]]
    limits = (*ends, upper_lip_limit(model, neutral_mm))
    lengths = [float(np.linalg.norm(out @ c)) for c in carried]
    for _ in range(ROUNDS):
        for units, length, limit in zip(carried, lengths, limits, strict=True):
            _give_way(out, units, length * _share(length, limit))
    return out.astype(np.float32)


def _give_way(weights: Float[np.ndarray, "52"], carried: Float[np.ndarray, "52 3"], wanted_mm: float) -> None:
    """Lower the mouth units' weights in place until the point that they move travels no farther than ``wanted_mm``."""
    travel = weights @ carried
    length = float(np.linalg.norm(travel))
    if length - wanted_mm < 0.05:
        return
    along = np.where(_MOUTH_UNITS, np.clip(carried @ (travel / length), 0.0, None), 0.0)
    # The least relative change: a unit is lowered in proportion to its share of the travel, so teeth stay bared in a smile.
    part = weights * along
    square = float(part @ part)
    if square > 0:
        weights *= 1 - np.clip((length - wanted_mm) * part / square, 0.0, MOST_GIVEN)


def _share(travel_mm: float, limit_mm: float, knee: float = KNEE) -> float:
    """Share of a travel that the limit leaves."""
    bent = knee * limit_mm
    if travel_mm <= bent:
        return 1.0
    rest = limit_mm - bent
    return float((bent + rest * np.tanh((travel_mm - bent) / rest)) / travel_mm)
