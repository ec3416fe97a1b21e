"""A clear expression is found and taken off; a face at rest, one side of a unit, or a bent cheek tell nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from omote.align.source_expression import SHOWN, load_regression, shown_units, source_expression, told_units
from omote.errors import CheckpointError
from omote.head.expressions import ARKIT_INDEX, arkit_weights
from omote.head.model import HeadModel
from omote.head.shipped import shipped_head


def test_a_smile_is_shown_by_both_its_sides() -> None:
    assert shown_units(arkit_weights({"mouthSmile": 0.5, "cheekPuff": 0.9, "jawForward": 0.8})) == {"mouthSmile": 0.5}
    one = np.zeros(52)
    one[ARKIT_INDEX["mouthSmileLeft"]] = 0.9
    assert shown_units(one) == {}
    assert shown_units(arkit_weights({"jawOpen": SHOWN / 2})) == {}
    assert shown_units(arkit_weights({"jawOpen": SHOWN / 2}), 0.0)["jawOpen"] > 0


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return shipped_head()


def scanned(head: HeadModel, seed: int, weights: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """(vertices, motion) of a person with an expression."""
    identity = 0.8 * np.random.default_rng(seed).standard_normal(head.num_identity)
    motion = np.tensordot(arkit_weights(weights), head.expression_mm, 1)
    return head.vertices(identity).astype(np.float64) + motion, motion


@pytest.mark.parametrize("seed", range(3))
def test_a_face_at_rest_shows_nothing(head: HeadModel, seed: int) -> None:
    vertices, _ = scanned(head, seed, {"eyeBlink": 0.1})
    assert source_expression(head, vertices, np.zeros(52)) is None


@pytest.mark.parametrize(
    ("weights", "first", "most"),
    [
        ({"mouthSmile": 0.9, "cheekSquint": 0.6, "eyeSquint": 0.3}, "mouthSmile", 0.5),
        ({"mouthFrown": 1.0, "browInnerUp": 1.0, "mouthShrugLower": 0.7, "jawOpen": 0.1}, "browInnerUp", 0.7),
        ({"jawOpen": 0.6, "browOuterUp": 0.7, "browInnerUp": 0.7, "eyeWide": 0.7}, "jawOpen", 0.5),
    ],
)
def test_an_expression_is_found_and_taken_off(
    head: HeadModel, weights: dict[str, float], first: str, most: float
) -> None:
    vertices, motion = scanned(head, 1, weights)
    found = source_expression(head, vertices, np.zeros(52))
    assert found is not None
    assert first in found.units
    moved = np.linalg.norm(motion, axis=1) > 2.0
    left = 1 - (found.motion_mm[moved] * motion[moved]).sum() / (motion[moved] ** 2).sum()
    assert -0.3 < left < most


def test_another_head_model_goes_by_its_fit(head: HeadModel) -> None:
    other, fitted = replace(head, name="mine"), arkit_weights({"jawOpen": 0.5})
    vertices, _ = scanned(head, 1, {})
    assert source_expression(other, vertices, np.zeros(52)) is None
    found = source_expression(other, vertices, fitted)
    assert found is not None
    assert found.units == {"jawOpen": 0.5}
    np.testing.assert_allclose(found.motion_mm, np.tensordot(fitted, head.expression_mm, 1))


def test_sides_are_told_as_one_and_the_strongest_first() -> None:
    weights = arkit_weights({"jawOpen": 0.4, "mouthSmile": 0.8, "cheekPuff": 0.1})
    assert list(told_units(weights)) == ["mouthSmile", "jawOpen"]


def test_missing_weights_name_their_cure(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="omote tool source-expression"):
        load_regression(tmp_path / "none.safetensors")
