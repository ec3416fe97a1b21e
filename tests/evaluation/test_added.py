"""Measures that a person's file gained later: summed up where every person has them."""

from __future__ import annotations

import numpy as np
import pytest

from omote.evaluation.added import added_measures, summarise_added
from omote.geometry.camera import orbit_camera


def person(ssim: float, *, hit: float) -> dict[str, object]:
    intensity = [0.5, 0.4, 0.9]
    return {
        "category": [0, 1, 1],
        "intensity": intensity,
        "ssim/model": [1.0, ssim, ssim],
        "normals/model": [0.0, 3.0, 6.0],
        "asked_both/model": [0.9, hit * 0.4, hit * 0.9],
        "asked_both/copy_source": [0.9, 0.1, 0.1],
        "asked_both/ceiling": [0.9, 0.4, 0.9],
    }


def test_neutral_counts_for_geometry_and_not_for_colour_or_expression() -> None:
    got = summarise_added([person(0.8, hit=1.0), person(0.6, hit=1.0)], ("both",))
    assert got["color/ssim/model"] == pytest.approx(0.7)
    assert got["depth/normals_deg/model"] == pytest.approx(3.0)
    assert got["expression/gain_both/model"] == pytest.approx(1.0)
    assert got["expression/gain_both/copy_source"] == 0.0
    assert got["expression/cls_both/model"] == pytest.approx(1.0)
    assert np.isnan(got["expression/cls_both/copy_source"])


def test_what_one_person_lacks_is_left_out() -> None:
    old = {k: v for k, v in person(0.5, hit=1.0).items() if not k.startswith("asked") and k != "ssim/model"}
    got = summarise_added([person(0.8, hit=1.0), old], ("both",))
    assert set(got) == {"depth/normals_deg/model"}


def test_a_row_equal_to_the_truth_has_no_error() -> None:
    camera = orbit_camera(size=32)
    rng = np.random.default_rng(0)
    depth = (700 + rng.normal(0, 3, (2, 32, 32))).astype(np.float32)
    rgb, mask = rng.random((2, 32, 32, 3)).astype(np.float32), np.ones((2, 32, 32), bool)
    got = added_measures(rgb, depth, rgb, depth, mask, camera, depth, mask)
    assert got["ssim"] == pytest.approx([1.0, 1.0])
    assert got["normals"] == pytest.approx([0.0, 0.0], abs=1e-6)
    assert got["delta3"] == [1.0, 1.0]
    tilted = depth + np.linspace(0, 60, 32, dtype=np.float32)
    assert min(added_measures(rgb, tilted, rgb, depth, mask, camera, depth, mask)["normals"]) > 3


def test_what_moves_in_truth_is_not_still() -> None:
    camera = orbit_camera(size=32)
    rgb, mask = np.full((1, 32, 32, 3), 0.5, np.float32), np.ones((1, 32, 32), bool)
    source = np.full((1, 32, 32), 700, np.float32)
    truth, row = source.copy(), source.copy()
    truth[:, :16] += 5
    # The row is wrong by 5 mm where the truth moves, and by 2 mm in a quarter of what rests.
    row[:, 16:24, :16] += 2
    got = added_measures(rgb, row, rgb, truth, mask, camera, source, mask)
    assert got["still"] == pytest.approx([0.5])
    unseen = mask & (np.arange(32)[None, :, None] >= 24)
    assert added_measures(rgb, row, rgb, truth, mask, camera, source, unseen)["still"] == [0.0]
