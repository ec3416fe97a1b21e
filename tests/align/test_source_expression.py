"""Both sides of a unit tell an expression; one side, or a unit that bends a cheek, does not."""

import numpy as np

from omote.align.source_expression import SHOWN, shown_units
from omote.head.expressions import ARKIT_INDEX, arkit_weights


def test_a_smile_is_shown_by_both_its_sides() -> None:
    assert shown_units(arkit_weights({"mouthSmile": 0.5, "cheekPuff": 0.9, "jawForward": 0.8})) == {"mouthSmile": 0.5}
    one = np.zeros(52)
    one[ARKIT_INDEX["mouthSmileLeft"]] = 0.9
    assert shown_units(one) == {}
    assert shown_units(arkit_weights({"jawOpen": SHOWN / 2})) == {}
    assert shown_units(arkit_weights({"jawOpen": SHOWN / 2}), 0.0)["jawOpen"] > 0
