"""The suite for editors with networks that shift depth: what is guided, drawn, compared and resumed."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from omote.errors import CheckpointError
from omote.evaluation.ground_truth import GroundTruth
from omote.evaluation.records import Row
from omote.geometry.camera import orbit_camera
from omote.head.shipped import shipped_head
from omote.progress import finish
from omote.rgbd.load import load_model
from omote.rgbd.model import SHIPPED_WEIGHTS, EditSettings
from omote.studies import editors
from omote.studies.base import run_study
from omote.studies.editors import Edited
from omote.studies.networks import load_editor
from omote.studies.suites import EditorSuite
from omote.types import Expression, Rgbd
from stand_ins import CopyingEditor, use_stand_ins

DEPTH = "depth/mae_mm_metric"


class Shifting(CopyingEditor):
    """Every edit is the source, moved back by 8 mm over the steps; without weights by what the seed says."""

    def moved_mm(self, settings: EditSettings, expressions: Sequence[Expression]) -> float:
        drawn = 0 if expressions[0].arkit is not None else (settings.seed // 100) % 10
        return 8 / settings.steps + drawn


MODELS = {"many": Shifting(), "few_arkit_1": Shifting(folded_guidance=2.0)}


@pytest.fixture
def suite(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> EditorSuite:
    use_stand_ins(monkeypatch)
    monkeypatch.setattr(editors, "load_editor", lambda run, backend: MODELS[run.name])
    runs = tuple(tmp_path / name for name in MODELS)
    return EditorSuite(runs=runs, persons=2, steps=(4, 1), samples=3, guidance_scale=2.0)


def test_editors_are_compared_with_the_first_at_its_most_steps(suite: EditorSuite, tmp_path: Path) -> None:
    out = tmp_path / "out"
    work = run_study(suite, out)
    assert [next(work).done for _ in range(3)] == [0, 0, 1]
    work.close()
    assert not (out / "metrics.json").exists()
    many, few = MODELS.values()
    measured = len(many.asked)
    finish(run_study(suite, out))
    # The person that was there is not measured again; guidance that is folded in is not applied twice.
    assert len(many.asked) == 2 * measured
    assert {s.guidance_scale for s in many.asked} == {2.0}
    assert {s.guidance_scale for s in few.asked} == {1.0}

    numbers = json.loads((out / "metrics.json").read_text())
    first, named = "many/condition=arkit/steps=4", "few_arkit_1/condition=arkit/steps=1"
    assert numbers[f"ratio/{DEPTH}/{first}"] == 1
    assert numbers[f"ratio/{DEPTH}/{named}"] == pytest.approx(numbers[f"{DEPTH}/{named}"] / numbers[f"{DEPTH}/{first}"])
    assert numbers[f"{DEPTH}/autoencoder_ceiling"] == 0
    assert numbers[f"{DEPTH}/copy_source"] > 0
    assert "expression/top1_both/ceiling" in numbers
    # Three draws, 0, 1 and 2 mm further back each.
    by_category = "many/condition=category/steps=4"
    assert numbers[f"diversity/depth_mm/{by_category}"] == pytest.approx(np.std([0, 1, 2]), rel=1e-3)
    best = "depth/mae_mm_best_of_3"
    assert numbers[f"{best}/{by_category}"] <= numbers[f"{DEPTH}/{by_category}"]
    assert f"diversity/depth_mm/{first}" not in numbers
    # With weights drawn for each sample, and the same for each editor.
    assert numbers[f"{best}/many/condition=prior/steps=4"] == numbers[f"{best}/few_arkit_1/condition=prior/steps=4"]

    lines = list(csv.DictReader((out / "table.csv").open()))
    assert {(line["row"], line["condition"], line["steps"]) for line in lines} == {
        *((name, c, s) for name in MODELS for c in ("arkit", "category", "prior") for s in ("4", "1")),
        *((name, "", "") for name in ("ceiling", "autoencoder_ceiling", "copy_source")),
    }
    # Every number that persons have lies between the ends of its interval; sets of images have none.
    cells = next(line for line in lines if line["row"] == "few_arkit_1" and line["steps"] == "1")
    for key in (DEPTH, "expression/top1_both", "color/psnr_db", "time_s/edit"):
        assert float(cells[f"{key}_low"]) <= float(cells[key]) <= float(cells[f"{key}_high"])
    assert not [name for name in cells if name.startswith("fd/") and name.endswith("_low")]
    said = [e.text for e in ElementTree.parse(out / "figure.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert {"few_arkit_1 category", "depth error"} <= set(said)
    assert (out / "images/000001.png").stat().st_size > 0


def test_the_best_sample_counts_by_image() -> None:
    camera = orbit_camera(size=8)

    def at(depth: float) -> Rgbd:
        full = np.full((8, 8), depth, np.float32)
        return Rgbd(rgb=np.full((8, 8, 3), 0.5, np.float32), depth_mm=full, mask=full > 0, camera=camera)

    truth = GroundTruth(images=[at(700), at(710)], landmarks_px=np.zeros((2, 68, 2)), landmarks_mm=np.zeros((2, 68, 3)))

    def measured(*samples: list[Rgbd]) -> dict[str, Any]:
        records = Edited(samples=list(samples), seconds=0.5).records(Row("a"), truth)
        return {record.measure: record.values.tolist() for record in records}

    found = measured([at(701), at(715)], [at(705), at(712)])
    assert found["depth/mae_mm_best_of_2"] == pytest.approx([1, 2])
    assert found["diversity/depth_mm"] == pytest.approx([2, 1.5])
    assert found["time_s/edit"] == [0.5, 0.5]
    assert set(measured([at(701), at(715)])) == {"time_s/edit", "color/high_frequency_ratio"}


def test_a_rival_without_a_first_stage_shares_the_shipped_one(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED_WEIGHTS / "editor", tmp_path / "editor")
    model, shipped = load_editor(tmp_path), load_model(shipped_head())
    assert model.weights == tmp_path
    for name, tensor in shipped.autoencoder.state_dict().items():
        assert torch.equal(model.autoencoder.state_dict()[name], tensor)

    model.editor.delta_std.mul_(1.01)
    model.editor.save_pretrained(tmp_path / "other/editor")
    with pytest.raises(CheckpointError, match="another autoencoder than the shipped one"):
        load_editor(tmp_path / "other")
    # With its own beside it nothing is assumed.
    shutil.copytree(SHIPPED_WEIGHTS / "autoencoder", tmp_path / "other/autoencoder")
    assert load_editor(tmp_path / "other").weights == tmp_path / "other"


def test_a_folder_without_networks_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected config.json and weights"):
        load_editor(tmp_path)
    (tmp_path / "export/editor").mkdir(parents=True)
    (tmp_path / "export/editor/config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="names its autoencoder"):
        load_editor(tmp_path)
