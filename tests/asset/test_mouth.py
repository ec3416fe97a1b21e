"""Teeth behind the lips: where they end, what stays, and that closed lips still hide them."""

import numpy as np
import pytest

from omote.asset.mouth import FARTHEST_MM, INNER_LIPS, LIP_MM, seat_mouth
from omote.asset.primitives import split_primitives
from omote.geometry.camera import orbit_camera
from omote.head.expressions import ARKIT_NAMES
from omote.head.ict import ict_head
from omote.head.model import PARTS
from omote.head.shipped import shipped_head
from omote.rendering.zbuffer import rasterize

HEAD = shipped_head()
INSIDE = HEAD.part_vertices("teeth_upper", "teeth_lower", "mouth", "tongue")


@pytest.fixture(scope="module", params=[0, 1, 2])
def person(request):
    rng = np.random.default_rng(request.param)
    return HEAD.vertices(np.clip(0.5 * rng.standard_normal(HEAD.num_identity), -1, 1))


def test_the_front_teeth_carry_the_lips(person):
    seated = seat_mouth(HEAD, person)
    upper = HEAD.part_vertices("teeth_upper")
    moved = seated[upper, 2].max() - person[upper, 2].max()
    assert 0 <= moved <= FARTHEST_MM + 1e-4
    gap = HEAD.landmarks(seated)[list(INNER_LIPS), 2].mean() - seated[upper, 2].max()
    assert gap >= LIP_MM - 1e-3
    assert gap == pytest.approx(LIP_MM, abs=1e-3) or moved == pytest.approx(FARTHEST_MM, abs=1e-3)
    assert np.ptp(seated[upper, 0]) > 1.1 * np.ptp(person[upper, 0])


def test_everything_else_stays(person):
    seated = seat_mouth(HEAD, person)
    outside = np.setdiff1d(np.arange(HEAD.num_vertices), INSIDE)
    np.testing.assert_array_equal(seated[outside], person[outside])
    np.testing.assert_array_equal(seat_mouth(HEAD, seated)[outside], person[outside])


def shown(vertices) -> int:
    raster = rasterize(orbit_camera(size=256), vertices, HEAD.faces, cull_back=True)
    teeth = np.isin(HEAD.face_part[raster.face_id], [PARTS.index("teeth_upper"), PARTS.index("teeth_lower")])
    return int((teeth & (raster.face_id >= 0)).sum())


@pytest.mark.parametrize("unit", ["mouthRollUpper", "mouthRollLower", "mouthPucker", "mouthPressLeft"])
def test_lips_hide_them_as_before(person, unit):
    move = HEAD.expression_mm[ARKIT_NAMES.index(unit)]
    assert shown(seat_mouth(HEAD, person) + move) <= shown(person + move) + 3


def test_teeth_that_carry_the_lips_already_stay(shared_dir):
    other = ict_head(shared_dir / "data/ict_facekit.npz")
    np.testing.assert_allclose(seat_mouth(other, other.template_mm), other.template_mm, atol=1e-4)


def test_lines_between_the_front_teeth_are_dark():
    """The upper incisors meet at x = 0 and are some 8 mm wide."""
    head = shipped_head()
    _, primitives = split_primitives(head, head.template_mm, {})
    teeth = next(p for p in primitives if p.name == "teeth")
    place = teeth.positions * 1000
    upper = place[place[:, 2] > place[:, 2].max() - 3]
    height = upper[np.abs(upper[:, 0]) < 5, 1]
    place[place[:, 2] < place[:, 2].max() - 2.5] = np.inf
    line, left, right = (
        teeth.shade[np.linalg.norm(place[:, :2] - [x, np.median(height)], axis=1).argmin()] for x in (0.0, 4.0, -4.0)
    )
    assert line < 0.7 * min(left, right)
    assert abs(left - right) < 0.05
