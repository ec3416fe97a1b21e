"""A metric from outside: registered, it is measured of every row of a person, summed up and in the table of the docs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from omote.evaluation.catalogue import Metric, markdown, register
from omote.evaluation.comparison import Comparison
from omote.progress import finish
from omote.studies.base import ModelStudy, run_study
from omote.studies.suites import SamplerSuite
from stand_ins import CopyingEditor, use_metrics, use_stand_ins


def test_a_metric_is_added_in_a_few_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_metrics(monkeypatch)
    use_stand_ins(monkeypatch)
    monkeypatch.setattr(ModelStudy, "model", lambda self: CopyingEditor())

    # All that adding one takes.
    def brightness_error(found: Comparison) -> np.ndarray:
        return np.abs(found.shown.rgb.mean(axis=(1, 2, 3)) - found.true.rgb.mean(axis=(1, 2, 3))).astype(np.float64)

    register(
        Metric(
            "mine/brightness", "brightness", "", "lower", 3, brightness_error, "|mean colour − true mean colour|.",
            measure=brightness_error,
        )
    )  # fmt: skip

    finish(run_study(SamplerSuite(persons=1, samplers=("ddim",), steps=(1,), strengths=(), inversions=()), tmp_path))
    assert json.loads((tmp_path / "metrics.json").read_text())["mine/brightness/ddim/steps=1"] > 0
    assert "mine/brightness_low" in (tmp_path / "table.csv").read_text()
    assert "| `mine/brightness` |  | lower | \\|mean colour − true mean colour\\|. |" in markdown()
