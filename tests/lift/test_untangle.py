"""Skin that folds is brought to where it doesn't, and the rest stays: strain limits, lips, and what pairs of expressions do."""

from __future__ import annotations

import numpy as np
import pytest

from omote.geometry.mesh import face_normals
from omote.head.expressions import ARKIT_NAMES, typical_expression
from omote.head.shipped import shipped_head
from omote.lift.untangle import (
    MAX_STRETCH,
    MIN_FACING,
    SEAL_MM,
    RestSkin,
    _strain,
    rest_skin,
    untangle,
)

HEAD = shipped_head()
REST = HEAD.template_mm.astype(np.float64)


@pytest.fixture(scope="module")
def skin() -> RestSkin:
    return rest_skin(HEAD, HEAD.template_mm)


def moved(**weights: float) -> np.ndarray:
    return sum(w * HEAD.expression_mm[ARKIT_NAMES.index(n)].astype(np.float64) for n, w in weights.items())


def folded(posed: np.ndarray) -> int:
    faces = HEAD.faces[np.isin(HEAD.faces, HEAD.part_vertices("skin")).all(axis=1)]
    before, after = face_normals(REST, faces), face_normals(posed, faces)
    front = before[:, 2] > 0.3 * np.linalg.norm(before, axis=1)
    return int((front & (np.einsum("fc,fc->f", before, after) < 0)).sum())


def test_strain_of_known_deformations(skin: RestSkin) -> None:
    low, high, elsewhere = np.zeros(len(skin.triangles)), np.zeros(len(skin.triangles)), REST + 1.0
    _strain(REST, elsewhere, skin.triangles, skin.frame, skin.gradient, low, high)
    np.testing.assert_allclose([low.min(), low.max(), high.min(), high.max()], 1.0, atol=1e-5)
    _strain(1.5 * REST, elsewhere, skin.triangles, skin.frame, skin.gradient, low, high)
    np.testing.assert_allclose([low.min(), high.max()], 1.5, atol=1e-5)
    angle = np.deg2rad(60)  # about the triangle's own normal or not: the in-plane part of a turn is its cosine, or less
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    _strain(REST @ turn.T, elsewhere, skin.triangles, skin.frame, skin.gradient, low, high)
    np.testing.assert_allclose(high, 1.0, atol=1e-5)
    assert low.min() == pytest.approx(0.5, abs=1e-3)
    untouched = low.copy()
    _strain(REST, REST, skin.triangles, skin.frame, skin.gradient, low, high)
    np.testing.assert_array_equal(low, untouched)  # only what moved is measured


def test_what_keeps_the_limits_stays_as_it_is(skin: RestSkin) -> None:
    np.testing.assert_allclose(untangle(skin, REST), REST, atol=1e-6)
    smile = REST + moved(browOuterUpLeft=0.3, browOuterUpRight=0.3)
    np.testing.assert_allclose(untangle(skin, smile), smile, atol=1e-4)


@pytest.mark.parametrize("category", ["angry", "disgusted"])
def test_recipes_that_fold_no_longer_do(skin: RestSkin, category: str) -> None:
    offset = np.tensordot(typical_expression(category).arkit, HEAD.expression_mm, 1).astype(np.float64)
    tangled = REST + 1.3 * offset
    assert folded(tangled) > 50
    out = untangle(skin, tangled)
    assert folded(out) == 0
    low, high = np.ones(len(skin.triangles)), np.ones(len(skin.triangles))
    _strain(out, REST, skin.triangles, skin.frame, skin.gradient, low, high)
    front = np.isfinite(skin.least_facing)
    assert low[front].min() > MIN_FACING - 0.15
    assert np.quantile(high, 0.999) < MAX_STRETCH + 0.1
    # The nearest such face, not another one.
    assert np.linalg.norm(out - tangled, axis=1).mean() < 0.1 * np.linalg.norm(offset, axis=1)[skin.movable].mean()


def test_two_untangled_expressions_do_not_fold_together(skin: RestSkin) -> None:
    parts = []
    for category in ("angry", "happy"):
        offset = np.tensordot(typical_expression(category).arkit, HEAD.expression_mm, 1)
        parts.append(untangle(skin, REST + offset) - REST)
    assert folded(REST + 0.7 * sum(parts)) <= 2


def test_lips_meet_and_do_not_cross(skin: RestSkin) -> None:
    closing = REST + moved(mouthClose=0.4)
    assert (skin.lips.gap_mm(closing) - skin.lips.least_mm).min() < -2.0
    assert (skin.lips.gap_mm(untangle(skin, closing)) - skin.lips.least_mm).min() > -1.0
    assert (skin.lips.gap_mm(untangle(skin, closing, lips="cross")) - skin.lips.least_mm).min() < -2.0


def test_closed_lips_stay_closed(skin: RestSkin) -> None:
    parted = REST + moved(mouthLowerDownLeft=0.3, mouthLowerDownRight=0.3)
    assert (skin.lips.gap_mm(parted) - skin.lips.most_mm).max() > 1.0
    assert (skin.lips.gap_mm(untangle(skin, parted, lips="close")) - skin.lips.most_mm).max() < SEAL_MM
