"""Brow hairs on drawn skin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from omote.asset.brows import add_brow_hairs, nearest_line
from omote.head.model import HeadModel
from omote.head.shipped import shipped_head
from omote.rendering.appearance import brow_color, drawn_person
from omote.rendering.paint_regions import brow_lines, paint_regions


@pytest.fixture(scope="module")
def model() -> HeadModel:
    return shipped_head()


def test_hairs_grow_on_both_brows_and_nowhere_else(model: HeadModel) -> None:
    points = model.template_mm
    skin = np.full((len(points), 3), 0.8)
    person = replace(drawn_person(3), brow_density=0.8)
    drawn = add_brow_hairs(skin, points, model, person)
    changed = np.abs(drawn - skin).max(axis=1) > 0.02
    far = paint_regions(model).brow_mm > person.brow_width_mm + 8
    assert not changed[far].any()
    for side in (points[:, 0] > 0, points[:, 0] < 0):
        assert changed[side].sum() > 20
    assert drawn.min() >= brow_color(person).min() - 1e-9
    np.testing.assert_array_equal(add_brow_hairs(skin, points, model, person), drawn)


def test_no_density_grows_no_hair(model: HeadModel) -> None:
    skin = np.full((model.num_vertices, 3), 0.8)
    drawn = add_brow_hairs(skin, model.template_mm, model, replace(drawn_person(3), brow_density=0.0))
    np.testing.assert_array_equal(drawn, skin)


def test_places_are_measured_from_the_inner_end_and_upwards(model: HeadModel) -> None:
    lines = brow_lines(model)
    for side, line in enumerate(lines):
        place = nearest_line(line + np.array([0.0, 2.0, 1.0]), lines)
        assert (place.left == bool(side)).all()
        assert (np.diff(place.along_mm) > 0).all()
        assert ((place.above_mm > 1.0) & (place.above_mm < 2.5)).all()
        assert (nearest_line(line - np.array([0.0, 2.0, 0.0]), lines).above_mm < -1.0).all()
