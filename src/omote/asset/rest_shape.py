"""The avatar's rest shape: the scan's own shape, without any expression that the scan clearly shows."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from omote.align.align import Alignment
from omote.asset.mouth import seat_mouth
from omote.head.model import HeadModel
from omote.lift.untangle import LipsMay, rest_skin, untangle


def rest_shape(head: HeadModel, alignment: Alignment) -> Float[np.ndarray, "v 3"]:
    """Vertices of the person at rest in canonical mm, with teeth and tongue behind the lips.

    The fit gives some expression even to a face at rest, and removing it does more harm than good: such a scan is used as it is.
    A clearly shown expression is removed, and lips that it parted are closed as far as the skin goes without folds, measured by
    its strain from the identity's own face.

    Args:
        head: head model of the alignment.
        alignment: alignment of the scan.
    """
    if not alignment.shown:
        return seat_mouth(head, alignment.vertices_mm)
    lips: LipsMay = "close" if alignment.mouth == "open" else "part"
    skin = rest_skin(head, seat_mouth(head, alignment.fit.neutral_mm))
    return untangle(skin, seat_mouth(head, alignment.neutral_mm), lips=lips)
