"""The release suite end to end with networks that copy: killed, gone on with, and taken over it gives the same bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omote.datasets.population import PopulationConfig
from omote.evaluation.baselines import HeadEdit
from omote.evaluation.features import FeatureExtractor
from omote.rgbd.model import SHIPPED_WEIGHTS, EditingModel, EditSettings
from omote.studies.release import ReleaseConfig, evaluate_release
from omote.studies.rows import NETWORK_ROWS
from omote.types import Expression, Rgbd
from stand_ins import Colours, Pooled, small_networks


class Copying(EditingModel):
    """In the place of the networks: every edit is the source, every reconstruction the truth."""

    weights = SHIPPED_WEIGHTS

    def __init__(self) -> None:
        pass

    def face_of(self, source: Rgbd) -> None:
        return None

    def edit(self, source: Rgbd, expressions: Sequence[Expression], settings: object, **_: object) -> list[Rgbd]:
        return [source] * len(expressions)

    def reconstruct(self, images: Sequence[Rgbd], *_: object, **__: object) -> list[Rgbd]:
        return list(images)


class CopyingToo(HeadEdit):
    """In the place of the edits without networks, whose fit takes seconds: it finds the source and keeps it."""

    def find(self, source: Rgbd, landmarks_mm: object) -> Rgbd:  # type: ignore[override]
        return source

    def edit(self, surface: Rgbd, expressions: Sequence[Expression]) -> list[Rgbd]:  # type: ignore[override]
        return [surface] * len(expressions)


class Shifting(Copying):
    """In the place of another network: the source, further back by a millimetre a step."""

    def __init__(self) -> None:
        self.sources: list[Rgbd] = []

    def edit(self, source: Rgbd, expressions: Sequence[Expression], settings: EditSettings, **_: object) -> list[Rgbd]:  # type: ignore[override]
        self.sources.append(source)
        return [replace(source, depth_mm=source.depth_mm + settings.steps)] * len(expressions)


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> ReleaseConfig:
    monkeypatch.setattr("omote.studies.release.HeadEdit", CopyingToo)
    monkeypatch.setattr("omote.studies.release.DeformationTransfer", CopyingToo)
    monkeypatch.setattr("omote.studies.release.load_expression_judges", lambda: object.__new__(Colours))
    monkeypatch.setattr("omote.studies.release.load_identity_judge", lambda: object.__new__(Pooled))
    return ReleaseConfig(population=PopulationConfig(split="test", size=64), num_persons=2, best_of=1, num_best_of=1)


def run(config: ReleaseConfig, out: Path, rivals: Path | None = None, **more: Any) -> dict[str, bytes]:
    list(evaluate_release(Copying(), config, out, rivals=rivals, **more))
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def test_killed_and_taken_over_it_gives_the_same_bytes(config: ReleaseConfig, tmp_path: Path) -> None:
    whole = run(config, tmp_path / "whole")
    assert {
        f"images/00000{i}_{row}.png" for i in (0, 1) for row in ("ceiling", "model", "deformation_transfer")
    } <= set(whole)

    work = evaluate_release(Copying(), config, tmp_path / "killed")
    next(work)
    work.close()
    assert not (tmp_path / "killed/metrics.json").exists()
    assert run(config, tmp_path / "killed") == whole

    # Rows without networks from elsewhere, one of them not measured there yet.
    (tmp_path / "killed/rivals/000001.json").unlink()
    assert run(config, tmp_path / "other", tmp_path / "killed/rivals") == whole

    # A folder of a version that kept no pictures gets those that the report shows.
    for path in (tmp_path / "killed/images").iterdir():
        path.unlink()
    assert run(config, tmp_path / "killed") == whole

    metrics = json.loads(whole["metrics.json"])
    assert metrics["depth/mae_mm_metric/model"] == metrics["depth/mae_mm_metric/copy_source"]
    assert metrics["depth/mae_mm_metric/autoencoder_ceiling"] == 0
    assert metrics["color/ssim/autoencoder_ceiling"] == pytest.approx(1)
    assert metrics["expression/gain_faceapi/autoencoder_ceiling"] == pytest.approx(1)


def test_sets_are_added_to_a_finished_folder(config: ReleaseConfig, tmp_path: Path) -> None:
    sets = small_networks()
    config = replace(config, num_persons=1, num_best_of=0)
    before = run(config, tmp_path / "a")
    list(evaluate_release(Copying(), config, tmp_path / "a", sets=sets))
    metrics = json.loads((tmp_path / "a/metrics.json").read_text())
    assert {k: v for k, v in metrics.items() if k in json.loads(before["metrics.json"])} == json.loads(
        before["metrics.json"]
    )
    assert metrics["fd/small/autoencoder_ceiling"] == pytest.approx(0, abs=1e-6)
    assert metrics["fd/small/model"] == metrics["fd/small/copy_source"] > 0
    assert metrics["perceptual/pixels/model"] > metrics["perceptual/pixels/autoencoder_ceiling"] == 0
    list(evaluate_release(Copying(), config, tmp_path / "b", sets=sets))
    assert (tmp_path / "b/metrics.json").read_bytes() == (tmp_path / "a/metrics.json").read_bytes()


def test_networks_beside_the_model_are_rows_that_go_on_too(config: ReleaseConfig, tmp_path: Path) -> None:
    networks = {row: Shifting() for row in NETWORK_ROWS}
    config = replace(config, num_best_of=0)
    whole = run(config, tmp_path / "whole", networks=networks)
    metrics = json.loads(whole["metrics.json"])
    copied = metrics["depth/mae_mm_metric/copy_source"]
    # Regression is one pass; diffusion of pixels takes several.
    assert copied < metrics["depth/mae_mm_metric/regression"] < metrics["depth/mae_mm_metric/pixel_diffusion"]
    assert "images/000001_pixel_diffusion.png" in whole

    (tmp_path / "whole/rivals/000001_regression.json").unlink()
    asked = [len(network.sources) for network in networks.values()]
    assert run(config, tmp_path / "whole", networks=networks) == whole
    assert [len(network.sources) for network in networks.values()] == [asked[0] + 1, asked[1]]
    # Rows measured elsewhere come along with their pictures.
    assert run(config, tmp_path / "other", tmp_path / "whole/rivals", networks=networks) == whole
    assert [len(network.sources) for network in networks.values()] == [asked[0] + 1, asked[1]]


def test_a_second_identity_network_judges_every_row_but_the_truth_by_name(
    config: ReleaseConfig, tmp_path: Path
) -> None:
    second = FeatureExtractor(name="arcface_r50", forward=lambda x: x[:, :, ::8, ::8].flatten(1))
    config = replace(config, num_persons=1, num_best_of=0)
    metrics = json.loads(run(config, tmp_path, second_identity=second)["metrics.json"])
    assert metrics["identity/arcface_r50/autoencoder_ceiling"] == pytest.approx(0, abs=1e-9)
    assert 0 < metrics["identity/arcface_r50/model"] == metrics["identity/arcface_r50/copy_source"] < 1
    assert "identity/arcface_r50/head_edit" in metrics


def test_every_row_is_given_what_the_set_captures_and_judged_by_the_truth(
    config: ReleaseConfig, tmp_path: Path
) -> None:
    sources = {}
    for name in ("in-model", "sensor", "expressive"):
        network = Shifting()
        asked = replace(config, test_set=name, num_persons=1, num_best_of=0)
        metrics = json.loads(run(asked, tmp_path / name, networks={"regression": network})["metrics.json"])
        assert metrics["depth/mae_mm_metric/autoencoder_ceiling"] == 0
        assert metrics["depth/mae_mm_metric/copy_source"] > 0
        (sources[name],) = network.sources
    rest, sensed, moved = sources.values()
    assert (rest.mask & ~sensed.mask).sum() > 20
    assert not np.array_equal(rest.rgb, moved.rgb)


def test_cameras_from_the_side_have_numbers_of_their_own(config: ReleaseConfig, tmp_path: Path) -> None:
    config = replace(config, test_set="pose", num_best_of=0)
    metrics = json.loads(run(config, tmp_path)["metrics.json"])
    assert metrics["count/persons_yaw_-30"] == metrics["count/persons_yaw_-20"] == 1
    parts = [metrics[f"depth/mae_mm_metric/copy_source_yaw_{yaw}"] for yaw in (-30, -20)]
    assert np.mean(parts) == pytest.approx(metrics["depth/mae_mm_metric/copy_source"])
