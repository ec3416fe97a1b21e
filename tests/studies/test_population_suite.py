"""Judges on true renders: numbers under the ceiling's keys, and a sheet to look at."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from omote.head.expressions import CATEGORIES
from omote.progress import finish
from omote.studies import population
from omote.studies.base import run_study
from omote.studies.suites import PopulationSuite
from stand_ins import JUDGES, use_small_persons


def test_true_renders_are_judged_and_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_small_persons(monkeypatch)
    monkeypatch.setattr(population, "load_expression_judges", lambda: JUDGES.expression)
    monkeypatch.setattr(population, "SHEET_COLUMNS", 2)
    finish(run_study(PopulationSuite(persons=3), tmp_path))
    numbers = json.loads((tmp_path / "metrics.json").read_text())
    assert numbers["count/persons"] == 3
    per_class = [numbers[f"expression/top1_both_{name}/ceiling"] for name in CATEGORIES]
    assert numbers["expression/top1_both/ceiling"] == pytest.approx(np.mean(per_class))
    row = [numbers[f"expression/confusion_fer/ceiling/true=sad/judged={name}"] for name in CATEGORIES]
    assert sum(row) == pytest.approx(1)
    # A row per category, a column per person.
    assert Image.open(tmp_path / "sheet.png").size == (2 * 64, 7 * 64)
    more = finish(run_study(PopulationSuite(persons=4), tmp_path))
    assert more["count/persons"] == 4
