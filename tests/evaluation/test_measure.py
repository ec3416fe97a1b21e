"""What is measured of known images, by the catalogue: nothing of the truth itself, and one error by one implementation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from omote.evaluation.comparison import Comparison, RgbdArrays, filled
from omote.evaluation.measure import measured
from omote.evaluation.records import Row
from omote.geometry.camera import orbit_camera

INTRINSICS = np.repeat(orbit_camera(size=32).intrinsics[None], 2, 0)
LANDMARKS = np.full((2, 68, 2), 16.0)


@pytest.fixture
def truth() -> RgbdArrays:
    rng = np.random.default_rng(0)
    depth = (700 + rng.normal(0, 3, (2, 32, 32))).astype(np.float32)
    return RgbdArrays(
        rgb=rng.random((2, 32, 32, 3)).astype(np.float32), depth_mm=depth, mask=np.ones((2, 32, 32), bool)
    )


def values(shown: RgbdArrays, true: RgbdArrays, source: RgbdArrays | None = None) -> dict[str, np.ndarray]:
    found = Comparison(
        shown=filled(shown),
        true=true,
        source=true if source is None else source,
        intrinsics=INTRINSICS,
        landmarks_px=LANDMARKS,
    )
    return {record.measure: record.values for record in measured(Row("model"), found)}


def test_a_row_equal_to_the_truth_has_no_error(truth: RgbdArrays) -> None:
    got = values(truth, truth)
    assert got["color/ssim"] == pytest.approx([1.0, 1.0])
    assert got["depth/delta3"].tolist() == [1.0, 1.0]
    for key in ("depth/normals_deg", "depth/mae_mm_metric", "depth/mae_mm_affine_aligned", "depth/silog"):
        assert got[key] == pytest.approx([0.0, 0.0], abs=1e-6), key
    assert np.isnan(got["depth/mae_mm_moving"]).all()
    tilted = replace(truth, depth_mm=truth.depth_mm + np.linspace(0, 60, 32, dtype=np.float32))
    assert values(tilted, truth)["depth/normals_deg"].min() > 3


def test_what_moves_in_truth_is_not_still(truth: RgbdArrays) -> None:
    source = replace(truth, depth_mm=np.full((2, 32, 32), 700, np.float32))
    true, row = source.depth_mm.copy(), source.depth_mm.copy()
    true[:, :16] += 5
    # The row is wrong by 5 mm where the truth moves, and by 2 mm in a quarter of what rests.
    row[:, 16:24, :16] += 2
    shown, moved = replace(source, depth_mm=row), replace(source, depth_mm=true)
    got = values(shown, moved, source)
    assert got["depth/mae_mm_still"] == pytest.approx([0.5, 0.5])
    assert got["depth/mae_mm_moving"] == pytest.approx([5.0, 5.0])
    unseen = replace(source, mask=source.mask & (np.arange(32)[None, :, None] >= 24))
    assert values(shown, moved, unseen)["depth/mae_mm_still"].tolist() == [0.0, 0.0]


def test_a_missing_answer_is_the_median_and_a_wrong_one(truth: RgbdArrays) -> None:
    holed = replace(truth, mask=truth.mask & (np.arange(32) > 3))
    assert np.unique(filled(holed).depth_mm[0, :, :4]) == np.median(truth.depth_mm[0, :, 4:])
    assert values(holed, truth)["depth/mae_mm_metric"].min() > 0
    nothing = replace(truth, mask=np.zeros_like(truth.mask))
    assert (filled(nothing).depth_mm == 0).all()
