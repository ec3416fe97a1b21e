"""Travel bends towards its limit, and what is far from corners and lip stays as it is."""

from __future__ import annotations

import numpy as np
import pytest

from omote.head.expressions import ARKIT_INDEX, FORMS, arkit_weights
from omote.head.shipped import shipped_head
from omote.lift.travel import (
    CORNER_DOWN_MM,
    CORNER_MM,
    CORNERS,
    KNEE,
    UPPER_LIP,
    corner_limit,
    natural_weights,
    saturated,
    upper_lip_limit,
)

HEAD = shipped_head()


def posed(weights: np.ndarray) -> np.ndarray:
    return np.tensordot(weights, HEAD.expression_mm, 1)


def corners(offset: np.ndarray) -> np.ndarray:
    return np.linalg.norm(HEAD.landmarks(offset)[list(CORNERS)], axis=1)


@pytest.mark.parametrize("smile", [0.3, 0.7, 1.0, 2.0])
def test_a_corner_never_passes_its_limit(smile: float) -> None:
    offset = smile * posed(arkit_weights({"mouthSmile": 1.0}))
    before, after = corners(offset), corners(saturated(HEAD, HEAD.template_mm, offset))
    assert (after <= CORNER_MM).all()
    assert (after <= before + 1e-6).all()
    if before.max() < KNEE * CORNER_MM:
        np.testing.assert_allclose(after, before, rtol=1e-6)


def test_one_sided_smiles_leave_the_other_side_alone() -> None:
    offset = 1.5 * HEAD.expression_mm[ARKIT_INDEX["mouthSmileLeft"]]
    out = saturated(HEAD, HEAD.template_mm, offset)
    right = HEAD.template_mm[:, 0] < -20
    assert np.abs(out[right] - offset[right]).max() < 0.05


def test_the_upper_lip_ends_below_the_nose() -> None:
    offset = posed(arkit_weights({"mouthUpperUp": 1.0, "noseSneer": 1.0, "mouthFunnel": 0.8, "mouthShrugUpper": 0.7}))
    limit = upper_lip_limit(HEAD, HEAD.template_mm)
    rise = HEAD.landmarks(offset)[list(UPPER_LIP), 1].mean()
    assert rise > 1.2 * limit
    assert HEAD.landmarks(saturated(HEAD, HEAD.template_mm, offset))[list(UPPER_LIP), 1].mean() < 1.05 * limit


@pytest.mark.parametrize("category", list(FORMS))
def test_natural_weights_keep_every_form_within_reach(category: str) -> None:
    for form in FORMS[category]:
        asked = arkit_weights(form.weights)
        given = natural_weights(HEAD, HEAD.expression_mm, HEAD.template_mm, asked)
        assert (given <= asked + 1e-6).all()
        assert (given[asked > 0] > 0.05 * asked[asked > 0]).all()
        assert corners(posed(given)).max() <= CORNER_MM + 0.5
        # Only the mouth gives way.
        brows = [i for n, i in ARKIT_INDEX.items() if n.startswith(("brow", "eye", "jaw"))]
        np.testing.assert_array_equal(given[brows], asked[brows])


def test_corners_go_less_far_down_than_up() -> None:
    assert corner_limit(np.array([6.0, -7.0, -7.0])) == pytest.approx(CORNER_DOWN_MM)
    assert corner_limit(np.array([4.0, 9.0, -7.0])) == pytest.approx(CORNER_MM), "a smile goes as far as smiles do"
    assert CORNER_DOWN_MM < corner_limit(np.array([10.0, 2.0, 0.0])) < CORNER_MM
    assert corner_limit(np.zeros(3)) == pytest.approx(CORNER_DOWN_MM)


def test_anger_and_fear_at_seven_tenths_each_stay_within_reach() -> None:
    """Both draw the corners the same way, and morph targets add up."""
    both = np.zeros((HEAD.num_vertices, 3))
    for name in ("angry", "fearful"):
        weights = natural_weights(HEAD, HEAD.expression_mm, HEAD.template_mm, arkit_weights(FORMS[name][0].weights))
        both += 0.7 * np.tensordot(weights, HEAD.expression_mm, 1)
    assert np.linalg.norm(HEAD.landmarks(both)[list(CORNERS)], axis=1).max() < 13.0
