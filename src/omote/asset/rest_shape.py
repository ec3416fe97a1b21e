"""The avatar's rest shape: the scan's own shape, less any expression that the scan clearly shows."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from omote.align.align import Alignment
from omote.asset.mouth import seat_mouth
from omote.head.model import HeadModel
from omote.lift.untangle import LipsMay, rest_skin, untangle


def rest_shape(head: HeadModel, alignment: Alignment) -> Float[np.ndarray, "v 3"]:
    """The person at rest, canonical mm, with teeth and tongue behind the lips.

    A face at rest still gets some fitted expression, and taking that off costs more than it gives: its scan is the avatar's
    rest. An expression that the scan shows for sure is taken off; lips that it parted are closed, as near to there as skin
    goes without folds, by the strain from the identity's own face.

    Args:
        head: head model of the alignment.
        alignment: alignment of the scan.
    """
    if not alignment.shown:
        return seat_mouth(head, alignment.vertices_mm)
    lips: LipsMay = "close" if alignment.mouth == "open" else "part"
    skin = rest_skin(head, seat_mouth(head, alignment.fit.neutral_mm))
    return untangle(skin, seat_mouth(head, alignment.neutral_mm), lips=lips)
