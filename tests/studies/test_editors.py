"""The suite for editors with networks that shift depth: what is guided, drawn, compared and gone on with."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from omote.datasets.population import PopulationConfig
from omote.errors import CheckpointError
from omote.evaluation.truth import Truth
from omote.geometry.camera import orbit_camera
from omote.head.shipped import shipped_head
from omote.rgbd.load import load_model
from omote.rgbd.model import SHIPPED_WEIGHTS, EditingModel, EditSettings
from omote.studies import editors
from omote.studies.editors import Edited, EditorSuite, evaluate_editors, load_editor
from omote.types import Expression, Rgbd
from stand_ins import Colours, Pooled, small_networks


class Shifting(EditingModel):
    """Every edit is the source, moved back by 8 mm over the steps; without weights by what the seed says."""

    weights = SHIPPED_WEIGHTS

    def __init__(self, folded: float = 1.0) -> None:
        self.editor = SimpleNamespace(config=SimpleNamespace(folded_guidance=folded))
        self.asked: list[EditSettings] = []

    def face_of(self, source: Rgbd) -> None:
        return None

    def edit(self, source: Rgbd, expressions: Sequence[Expression], settings: EditSettings, **_: object) -> list[Rgbd]:
        self.asked.append(settings)
        drawn = 0 if expressions[0].arkit is not None else (settings.seed // 100) % 10
        return [replace(source, depth_mm=source.depth_mm + 8 / settings.steps + drawn)] * len(expressions)

    def reconstruct(self, images: Sequence[Rgbd], *_: object, **__: object) -> list[Rgbd]:
        return list(images)


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> EditorSuite:
    monkeypatch.setattr(editors, "load_expression_judges", lambda: object.__new__(Colours))
    monkeypatch.setattr(editors, "load_identity_judge", lambda: object.__new__(Pooled))
    monkeypatch.setattr(editors, "load_set_networks", small_networks)
    return EditorSuite(
        population=PopulationConfig(split="test", size=64), num_persons=2, steps=(4, 1), samples=3, guidance_scale=2.0
    )


def test_editors_are_compared_with_the_first_at_its_most_steps(config: EditorSuite, tmp_path: Path) -> None:
    models = {"many": Shifting(), "few_ones": Shifting(folded=2.0)}
    work = evaluate_editors(models, config, tmp_path)
    next(work)
    work.close()
    assert not (tmp_path / "metrics.json").exists()
    measured = len(models["many"].asked)
    list(evaluate_editors(models, config, tmp_path))
    # The person that was there is not measured again; guidance that is folded in is not applied twice.
    assert len(models["many"].asked) == 2 * measured
    assert {s.guidance_scale for s in models["many"].asked} == {2.0}
    assert {s.guidance_scale for s in models["few_ones"].asked} == {1.0}

    numbers = json.loads((tmp_path / "metrics.json").read_text())
    assert numbers["ratio/depth/mae_mm_metric/many_arkit_4"] == 1
    assert numbers["ratio/depth/mae_mm_metric/few_ones_arkit_1"] == pytest.approx(
        numbers["depth/mae_mm_metric/few_ones_arkit_1"] / numbers["depth/mae_mm_metric/many_arkit_4"]
    )
    assert numbers["depth/mae_mm_metric/autoencoder_ceiling"] == 0
    assert numbers["depth/mae_mm_metric/copy_source"] > 0
    assert "expression/top1_both/ceiling" in numbers
    # Three draws, 0, 1 and 2 mm further back each.
    assert numbers["diversity/depth_mm/many_category_4"] == pytest.approx(np.std([0, 1, 2]), rel=1e-3)
    assert numbers["depth/mae_mm_best_of/many_category_4"] <= numbers["depth/mae_mm_metric/many_category_4"]
    assert "diversity/depth_mm/many_arkit_4" not in numbers
    # With weights drawn for each sample, and the same for each editor.
    assert numbers["depth/mae_mm_best_of/many_prior_4"] == numbers["depth/mae_mm_best_of/few_ones_prior_4"]

    lines = list(csv.reader((tmp_path / "table.csv").open()))
    assert [line[0] for line in lines[1:]] == [
        *(f"{name}_{c}_{s}" for name in models for c in ("arkit", "category", "prior") for s in (4, 1)),
        "autoencoder_ceiling",
        "copy_source",
    ]
    # Every number that persons have lies between the ends of its interval; sets of images have none.
    cells = next(line for line in csv.DictReader((tmp_path / "table.csv").open()) if line["row"] == "few_ones_arkit_1")
    for key in ("depth/mae_mm_metric", "expression/top1_both", "color/psnr_db"):
        assert float(cells[f"{key}_low"]) <= float(cells[key]) <= float(cells[f"{key}_high"])
    assert not [name for name in lines[0] if name.startswith("fd/") and name.endswith("_low")]
    said = [e.text for e in ElementTree.parse(tmp_path / "figure.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert "few_ones category" in said
    assert (tmp_path / "images/000001.png").stat().st_size > 0


def test_the_best_sample_counts_by_image() -> None:
    camera = orbit_camera(size=8)

    def at(depth: float) -> Rgbd:
        full = np.full((8, 8), depth, np.float32)
        return Rgbd(rgb=np.full((8, 8, 3), 0.5, np.float32), depth_mm=full, mask=full > 0, camera=camera)

    truth = Truth(images=[at(700), at(710)], landmarks_px=np.zeros((2, 68, 2)), landmarks_mm=np.zeros((2, 68, 3)))
    found = Edited(samples=[[at(701), at(715)], [at(705), at(712)]], seconds=0.5).measured(truth)
    assert found["best_of"] == pytest.approx([1, 2])
    assert found["diversity"] == pytest.approx([2, 1.5])
    assert found["seconds"] == [0.5, 0.5]
    assert "best_of" not in Edited(samples=[[at(701), at(715)]], seconds=0.5).measured(truth)


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
