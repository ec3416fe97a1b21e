"""The expression that a scan shows, if it shows one clearly.

A linear fit gives every face some expression: units that bend a cheek or narrow an eye compensate for an identity that the head
model lacks. A neutral face hardly ever gets both sides of a smile, a frown or raised brows at once, or an open jaw.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from omote.head.expressions import ARKIT_INDEX

TELLING = (
    "jawOpen", "mouthSmile", "mouthFrown", "mouthStretch", "mouthUpperUp", "mouthLowerDown", "mouthFunnel", "browInnerUp",
    "browDown", "browOuterUp", "noseSneer", "eyeWide",
)  # fmt: skip
# Fitted with the prior of a face at rest, ten neutral faces got at most .17 of any of these units. Twelve faces with an
# expression got .2 to .44, except sad ones and smiles with closed lips.
SHOWN = 0.2
# Standard deviation of the prior when fitting a face that shows an expression.
WIDE_SIGMA = 0.4
LEAST = 0.05


def shown_units(expression: Float[np.ndarray, "52"], least: float = SHOWN) -> Mapping[str, float]:
    """Strengths of the units in `TELLING` by names without a side (the weaker side counts), without those below ``least``."""
    strength = {}
    for name in TELLING:
        sides = [name] if name in ARKIT_INDEX else [f"{name}Left", f"{name}Right"]
        strength[name] = float(min(expression[ARKIT_INDEX[side]] for side in sides))
    return {name: value for name, value in strength.items() if value >= least}
