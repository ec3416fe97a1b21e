"""Errors of made meshes: zero for the truth itself, and what was put in for a mesh that is off by it."""

import numpy as np
import pytest

from omote.evaluation.avatars import lip_gap_mm, mesh_errors, motion_kept, seam_apart_mm, true_motion
from omote.head.expressions import arkit_weights
from omote.head.model import PARTS
from omote.head.shipped import shipped_head

HEAD = shipped_head()
SKIN = HEAD.faces[HEAD.face_part == PARTS.index("skin")].astype(np.int64)
REST = HEAD.template_mm.astype(np.float64)
SMILE = HEAD.vertices(None, arkit_weights({"mouthSmile": 0.8, "jawOpen": 0.3})).astype(np.float64)


def test_the_truth_itself_has_no_error() -> None:
    truth = true_motion(HEAD, REST, REST, np.stack([REST, SMILE]), SKIN)
    found = mesh_errors(HEAD, REST, np.stack([REST, SMILE]), truth)
    for key in ("surface_mm", "surface_mm_lips", "surface_mm_lids", "vertex_mm"):
        assert np.abs(found[f"avatar/{key}"]).max() < 1e-3
    assert found["avatar/surface_mm_moving"][1] == pytest.approx(0, abs=1e-3)
    assert np.isnan(found["avatar/surface_mm_moving"][0])  # nothing moves at rest
    assert found["avatar/motion_cosine"][1] == pytest.approx(1, abs=1e-4)
    assert found["avatar/motion_size"][1] == pytest.approx(1, abs=1e-4)


def test_half_a_motion_has_half_its_size_and_its_direction() -> None:
    truth = true_motion(HEAD, REST, REST, SMILE[None], SKIN)
    found = mesh_errors(HEAD, REST, ((REST + SMILE) / 2)[None], truth)
    assert found["avatar/motion_size"][0] == pytest.approx(0.5, abs=1e-3)
    assert found["avatar/motion_cosine"][0] == pytest.approx(1, abs=1e-3)
    # Sliding along the skin is an error per vertex, and hardly one of the surface.
    assert found["avatar/surface_mm_moving"][0] < 0.8 * found["avatar/vertex_mm_moving"][0]


def test_a_smile_left_in_the_neutral_is_measured() -> None:
    shown = true_motion(HEAD, SMILE, SMILE, REST[None], SKIN)
    assert motion_kept(REST, SMILE, shown) == pytest.approx(0, abs=1e-3)
    assert motion_kept(SMILE, SMILE, shown) == pytest.approx(1, abs=1e-3)
    assert motion_kept(REST + 0.3 * (SMILE - REST), SMILE, shown) == pytest.approx(0.3, abs=1e-2)


def test_an_open_jaw_parts_the_lips() -> None:
    opened = HEAD.vertices(None, arkit_weights({"jawOpen": 0.5}))
    assert lip_gap_mm(HEAD, opened) > lip_gap_mm(HEAD, HEAD.template_mm) + 5


def test_the_worst_place_of_a_seam_counts() -> None:
    assert seam_apart_mm(HEAD, REST, HEAD, REST) == 0
    around = HEAD.landmarks(REST)[63]
    bent = REST + [0, 3, 0] * np.exp(-(((REST - around) / 6.0) ** 2).sum(axis=1))[:, None]
    assert seam_apart_mm(HEAD, bent, HEAD, REST) == pytest.approx(3, abs=0.8)
    assert np.isnan(seam_apart_mm(HEAD, HEAD.vertices(None, arkit_weights({"jawOpen": 0.5})), HEAD, REST))
