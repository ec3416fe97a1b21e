"""Pictures of rows: where errors show, in which order expressions stand, which persons are shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from omote.datasets.population import PopulationConfig, draw_person
from omote.evaluation.pictures import (
    CELL_PX,
    OUTSIDE,
    error_picture,
    picture_path,
    save_pictures,
    sheet_persons,
)
from omote.evaluation.records import PersonRecords, Record, Row
from omote.geometry.camera import orbit_camera
from omote.head.expressions import CATEGORIES
from omote.head.shipped import shipped_head
from omote.types import Rgbd


def image(gray: float, depth_mm: float = 700.0) -> Rgbd:
    size = 16
    depth = np.full((size, size), depth_mm, np.float32)
    depth[:, :4] = 0
    rgb = np.full((size, size, 3), gray, np.float32)
    return Rgbd(rgb=rgb, depth_mm=depth, mask=depth > 0, camera=orbit_camera(size=size))


def test_errors_grow_lighter_and_a_hole_is_the_worst() -> None:
    truth = image(0.5)
    light = [float(error_picture(image(0.5, 700.0 + e), truth)[8, 8].mean()) for e in (0, 2, 5, 10)]
    assert light == sorted(light)
    assert light[0] < 0.05
    holed = replace(truth, mask=np.zeros_like(truth.mask))
    np.testing.assert_allclose(error_picture(holed, truth)[8, 8], error_picture(image(0.5, 720.0), truth)[8, 8])
    np.testing.assert_allclose(error_picture(truth, truth)[8, 1], OUTSIDE)


def test_a_rows_picture_has_the_categories_in_their_order(tmp_path: Path) -> None:
    person = draw_person(replace(PopulationConfig(split="test"), num_images=7), 0, [shipped_head()])
    shades = [0.1 + 0.1 * CATEGORIES.index(e.category) for e in person.expressions]
    images = [image(shade) for shade in shades]
    save_pictures(tmp_path, person, {Row(name): images for name in ("ceiling", "model", "model_token")}, images)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000000_ceiling.png", "000000_model.png"]
    picture = np.asarray(Image.open(picture_path(tmp_path, 0, "model")).convert("L"))
    assert picture.shape == (3 * CELL_PX, 7 * CELL_PX)
    got = [picture[CELL_PX // 2, CELL_PX * k + CELL_PX // 2] / 255 for k in range(7)]
    assert got == pytest.approx([0.1 + 0.1 * k for k in range(7)], abs=0.02)


def test_best_median_and_worst_are_of_all_persons() -> None:
    def person(*errors: float) -> PersonRecords:
        record = Record(row=Row("model"), measure="depth/mae_mm_moving", values=np.array(errors))
        return PersonRecords(parts={}, category=(0, 1, 2), intensity=(0.0, 1.0, 1.0), records=(record,))

    nan = float("nan")
    persons = [person(nan, v, v + 1) for v in (5.0, 1.0, 3.0, 2.0)] + [person(nan, nan, nan)]
    assert sheet_persons(persons) == {"best": 1, "median": 2, "worst": 0}
    assert sheet_persons(persons[:1]) == {"best": 0}
    assert sheet_persons(persons[4:]) == {}
