"""The release suite end to end with networks that copy: killed, resumed and taken over it gives the same bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from omote.evaluation.baselines import HeadEdit
from omote.evaluation.features import FeatureExtractor
from omote.progress import finish
from omote.rgbd.model import EditingModel
from omote.studies.base import run_study
from omote.studies.edit_methods import NETWORK_ROWS
from omote.studies.suites import ReleaseSuite, WithNetworks
from omote.types import Expression, Rgbd
from stand_ins import CopyingEditor, ShiftingEditor, small_networks, use_stand_ins

pytestmark = pytest.mark.early

DEPTH = "depth/mae_mm_metric"


class CopyingToo(HeadEdit):
    """In the place of the edits without networks, whose fit takes seconds: it finds the source and keeps it."""

    def find(self, source: Rgbd, landmarks_mm: object) -> Rgbd:  # type: ignore[override]
        return source

    def edit(self, surface: Rgbd, expressions: Sequence[Expression]) -> list[Rgbd]:  # type: ignore[override]
        return [surface] * len(expressions)


NETWORKS: dict[str, EditingModel] = {}


@pytest.fixture
def suite(monkeypatch: pytest.MonkeyPatch) -> ReleaseSuite:
    use_stand_ins(monkeypatch)
    monkeypatch.setattr("omote.studies.release.HeadEdit", CopyingToo)
    monkeypatch.setattr("omote.studies.release.DeformationTransfer", CopyingToo)
    monkeypatch.setattr("omote.studies.release.load_feature_networks", small_networks)
    monkeypatch.setattr(WithNetworks, "model", lambda self: CopyingEditor())
    monkeypatch.setattr(WithNetworks, "networks", lambda self: NETWORKS)
    monkeypatch.setattr(WithNetworks, "fingerprints", lambda self: {"model": "a", **dict.fromkeys(NETWORKS, "b")})
    NETWORKS.clear()
    return ReleaseSuite(persons=2, best_of=2, best_of_persons=1)


def run(suite: ReleaseSuite, out: Path) -> dict[str, bytes]:
    """Every file but what tells of the run."""
    finish(run_study(suite, out))
    told = ("run.json", "report.html", "config.json")
    return {
        str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file() and p.name not in told
    }


def numbers_of(files: Mapping[str, bytes]) -> dict[str, float]:
    numbers: dict[str, float] = json.loads(files["metrics.json"])
    return numbers


def test_killed_and_taken_over_it_gives_the_same_bytes(suite: ReleaseSuite, tmp_path: Path) -> None:
    whole = run(suite, tmp_path / "whole")
    assert {
        f"images/00000{i}_{row}.png" for i in (0, 1) for row in ("ceiling", "model", "deformation_transfer")
    } <= set(whole)

    work = run_study(suite, tmp_path / "killed")
    assert [next(work).done for _ in range(3)] == [0, 0, 1]
    work.close()
    assert not (tmp_path / "killed/metrics.json").exists()
    assert run(suite, tmp_path / "killed") == whole

    # Rows without networks from elsewhere, one of them not measured there yet.
    (tmp_path / "killed/persons/000001_rivals.json").unlink()
    assert run(replace(suite, rivals=tmp_path / "killed"), tmp_path / "other") == whole

    numbers = numbers_of(whole)
    assert numbers[f"{DEPTH}/model"] == numbers[f"{DEPTH}/copy_source"]
    assert numbers[f"{DEPTH}/autoencoder_ceiling"] == 0
    assert numbers["color/ssim/autoencoder_ceiling"] == pytest.approx(1)
    assert numbers["expression/gain_faceapi/autoencoder_ceiling"] == pytest.approx(1)
    assert numbers[f"{DEPTH}/model/head=omote"] == numbers[f"{DEPTH}/model"]
    assert (numbers["count/persons"], numbers["count/images"], numbers["count/persons/head=omote"]) == (2, 14, 2)
    assert "3DMM edit" in (tmp_path / "whole/report.html").read_text()


@pytest.mark.parametrize("count", [2, 4])
def test_the_best_of_several_is_named_by_their_true_number(suite: ReleaseSuite, tmp_path: Path, count: int) -> None:
    numbers = numbers_of(run(replace(suite, best_of=count, persons=1), tmp_path))
    assert {key for key in numbers if "best_of" in key} == {
        f"depth/mae_mm_best_of_{count}/model_category",
        f"ratio/best_of_{count}_over_determined",
    }
    # Every sample is the same copy.
    assert numbers[f"ratio/best_of_{count}_over_determined"] == 1


def test_nobody_with_several_samples_has_no_best_of_them(suite: ReleaseSuite, tmp_path: Path) -> None:
    numbers = numbers_of(run(replace(suite, best_of_persons=0, persons=1), tmp_path))
    assert not [key for key in numbers if "best_of" in key]


def test_sets_are_added_to_a_finished_folder(suite: ReleaseSuite, tmp_path: Path) -> None:
    suite = replace(suite, persons=1, best_of_persons=0)
    before = numbers_of(run(suite, tmp_path / "a"))
    after = run(replace(suite, sets=True), tmp_path / "a")
    numbers = numbers_of(after)
    assert {key: value for key, value in numbers.items() if key in before} == before
    fd = "fd/efficientnet_lite0"
    assert numbers[f"{fd}/autoencoder_ceiling"] == pytest.approx(0, abs=1e-6)
    assert numbers[f"{fd}/model"] == numbers[f"{fd}/copy_source"] > 0
    perceptual = "perceptual/efficientnet_lite0"
    assert numbers[f"{perceptual}/model"] > numbers[f"{perceptual}/autoencoder_ceiling"] == 0
    assert run(replace(suite, sets=True), tmp_path / "b")["metrics.json"] == after["metrics.json"]


def test_networks_beside_the_model_are_rows_that_resume_too(suite: ReleaseSuite, tmp_path: Path) -> None:
    shifting = {row: ShiftingEditor() for row in NETWORK_ROWS}
    NETWORKS.update(shifting)
    suite = replace(suite, best_of_persons=0)
    whole = run(suite, tmp_path / "whole")
    numbers = numbers_of(whole)
    # Regression is one pass; diffusion of pixels takes several.
    assert numbers[f"{DEPTH}/copy_source"] < numbers[f"{DEPTH}/regression"] < numbers[f"{DEPTH}/pixel_diffusion"]
    assert "images/000001_pixel_diffusion.png" in whole

    (tmp_path / "whole/persons/000001_regression.json").unlink()
    asked = [len(network.sources) for network in shifting.values()]
    assert run(suite, tmp_path / "whole") == whole
    assert [len(network.sources) for network in shifting.values()] == [asked[0] + 1, asked[1]]
    # Rows measured elsewhere come along with their pictures.
    assert run(replace(suite, rivals=tmp_path / "whole"), tmp_path / "other") == whole
    assert [len(network.sources) for network in shifting.values()] == [asked[0] + 1, asked[1]]


def test_a_second_identity_network_judges_every_row_but_the_truth_by_name(
    suite: ReleaseSuite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = FeatureExtractor(name="arcface_r50", forward=lambda x: x[:, :, ::8, ::8].flatten(1))
    for module in ("omote.studies.release", "omote.evaluation.features"):
        monkeypatch.setattr(f"{module}.load_arcface", lambda path: second)
    (tmp_path / "weights").write_bytes(b"")
    suite = replace(suite, persons=1, best_of_persons=0, arcface=tmp_path / "weights")
    numbers = numbers_of(run(suite, tmp_path / "out"))
    assert numbers["identity/arcface_r50/autoencoder_ceiling"] == pytest.approx(0, abs=1e-9)
    assert 0 < numbers["identity/arcface_r50/model"] == numbers["identity/arcface_r50/copy_source"] < 1
    assert "identity/arcface_r50/head_edit" in numbers


def test_every_row_is_given_what_the_set_captures_and_judged_by_the_truth(suite: ReleaseSuite, tmp_path: Path) -> None:
    sources = {}
    for name in ("in-model", "sensor", "expressive"):
        network = ShiftingEditor()
        NETWORKS["regression"] = network
        numbers = numbers_of(run(replace(suite, test_set=name, persons=1, best_of_persons=0), tmp_path / name))
        assert numbers[f"{DEPTH}/autoencoder_ceiling"] == 0
        assert numbers[f"{DEPTH}/copy_source"] > 0
        (sources[name],) = network.sources
    rest, sensed, moved = sources.values()
    assert (rest.mask & ~sensed.mask).sum() > 20
    assert not np.array_equal(rest.rgb, moved.rgb)


def test_cameras_from_the_side_have_numbers_of_their_own(suite: ReleaseSuite, tmp_path: Path) -> None:
    numbers = numbers_of(run(replace(suite, test_set="pose"), tmp_path))
    assert numbers["count/persons/yaw_deg=-30"] == numbers["count/persons/yaw_deg=-20"] == 1
    parts = [numbers[f"{DEPTH}/copy_source/yaw_deg={yaw}"] for yaw in (-30, -20)]
    assert np.mean(parts) == pytest.approx(numbers[f"{DEPTH}/copy_source"])
    assert re.search(r"1 persons of -20, 1 persons of -30", (tmp_path / "report.html").read_text())
