"""The survey of samplers: which methods there are, and a folder of one person."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from omote.progress import finish
from omote.studies.base import ModelStudy, run_study
from omote.studies.samplers import methods
from omote.studies.suites import SamplerSuite
from stand_ins import CopyingEditor, use_stand_ins

SPACE = "{http://www.w3.org/2000/svg}"


def test_every_method_is_measured_and_drawn_over_its_steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_stand_ins(monkeypatch)
    model = CopyingEditor()
    monkeypatch.setattr(ModelStudy, "model", lambda self: model)
    suite = SamplerSuite(persons=1, samplers=("ddim", "heun"), steps=(1, 4), strengths=(0.5,), inversions=(2,), seed=7)
    finish(run_study(suite, tmp_path))
    assert model.asked == list(methods(suite).values())
    assert {settings.seed for settings in model.asked} == {7}
    numbers = json.loads((tmp_path / "metrics.json").read_text())
    for key in ("depth/mae_mm_metric", "identity/faceapi", "time_s/edit", "color/high_frequency_ratio",
                "fd/efficientnet_lite0"):  # fmt: skip
        assert {f"{key}/{row}" for row in methods(suite)} <= set(numbers)
    assert "depth/mae_mm_metric/sdedit/strength=0.5/steps=10" in numbers
    assert "expression/top1_both/ceiling" in numbers
    lines = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert ("sdedit", "0.5", "10") in {(line["row"], line["strength"], line["steps"]) for line in lines}
    said = {e.text for e in ElementTree.parse(tmp_path / "figure.svg").iter(f"{SPACE}text")}
    assert {"ddim", "sdedit 0.5", "inversion", "steps"} <= said
    # Four charts with a line per method: two numbers of steps of each sampler, one of the others.
    lines = [
        (e.get("points") or "").split() for e in ElementTree.parse(tmp_path / "figure.svg").iter(f"{SPACE}polyline")
    ]
    assert sorted(map(len, lines)) == sorted(4 * [2, 2, 1, 1])
