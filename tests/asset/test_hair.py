"""Hair is found where there is some, at its line and in its colour, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from omote.asset.hair import match_hair
from omote.head.region import head_region
from omote.head.shipped import shipped_head
from omote.rendering.appearance import Appearance, paint

HEAD = shipped_head()


def seen_from_the_front() -> np.ndarray:
    high = HEAD.landmarks(HEAD.template_mm)[19:25, 1].mean()
    front = HEAD.template_mm[:, 2] > -40
    found: np.ndarray = front & (head_region(HEAD).face | (HEAD.template_mm[:, 1] > high))
    return found


@pytest.mark.parametrize("hairline_mm", [-14.0, 0.0, 16.0])
@pytest.mark.parametrize("color", [(0.10, 0.08, 0.07), (0.55, 0.54, 0.53)])
def test_hair_is_found_at_its_line(hairline_mm: float, color: tuple[float, float, float]) -> None:
    person = Appearance(tone=0.3, cap=1.0, hairline_mm=hairline_mm, hair=color)
    hair = match_hair(HEAD, paint(HEAD, person), seen_from_the_front())
    assert hair is not None
    assert abs(hair.hairline_mm - hairline_mm) <= 6
    np.testing.assert_allclose(hair.color, color, atol=0.05)


@pytest.mark.parametrize("tone", [0.0, 0.5, 1.0])
def test_a_bald_head_has_none(tone: float) -> None:
    assert match_hair(HEAD, paint(HEAD, Appearance(tone=tone)), seen_from_the_front()) is None


def test_a_lamp_above_is_no_hair() -> None:
    lit = paint(HEAD, Appearance(tone=0.3)) * (1 + 0.004 * (HEAD.template_mm[:, 1:2] - 60).clip(-40, 60))
    assert match_hair(HEAD, lit, seen_from_the_front()) is None


def test_a_face_cut_below_the_forehead_gives_no_hair() -> None:
    seen = head_region(HEAD).face & (HEAD.template_mm[:, 2] > 0)
    seen &= HEAD.template_mm[:, 1] < HEAD.landmarks(HEAD.template_mm)[19:25, 1].mean()
    assert match_hair(HEAD, paint(HEAD, Appearance(cap=1.0)), seen) is None
