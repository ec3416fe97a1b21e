"""The release suite end to end with networks that copy: killed, gone on with, and taken over it gives the same bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from stand_ins import Colours, Pooled, small_networks

from omote.data.population import PopulationConfig
from omote.evaluation.baselines import HeadEdit
from omote.evaluation.release import ReleaseConfig, evaluate_release
from omote.ldm.editing import EditingModel
from omote.types import Expression, Rgbd


class Copying(EditingModel):
    """In the place of the networks: every edit is the source, every reconstruction the truth."""

    def __init__(self) -> None:
        pass

    def face_of(self, source: Rgbd) -> None:
        return None

    def edit(self, source: Rgbd, expressions: Sequence[Expression], settings: object, **_: object) -> list[Rgbd]:
        return [source] * len(expressions)

    def reconstruct(self, images: Sequence[Rgbd], *_: object, **__: object) -> list[Rgbd]:
        return list(images)


class CopyingToo(HeadEdit):
    """In the place of the 3DMM edit, whose fit takes seconds."""

    def __call__(self, source: Rgbd, landmarks_mm: object, expressions: Sequence[Expression]) -> list[Rgbd]:
        return [source] * len(expressions)


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> ReleaseConfig:
    monkeypatch.setattr("omote.evaluation.release.HeadEdit", CopyingToo)
    monkeypatch.setattr("omote.evaluation.release.load_expression_judges", lambda: object.__new__(Colours))
    monkeypatch.setattr("omote.evaluation.release.load_identity_judge", lambda: object.__new__(Pooled))
    return ReleaseConfig(population=PopulationConfig(split="test", size=64), num_persons=2, best_of=1, num_best_of=1)


def run(config: ReleaseConfig, out: Path, rivals: Path | None = None) -> dict[str, bytes]:
    list(evaluate_release(Copying(), config, out, rivals=rivals))
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def test_killed_and_taken_over_it_gives_the_same_bytes(config: ReleaseConfig, tmp_path: Path) -> None:
    whole = run(config, tmp_path / "whole")
    assert {f"images/00000{i}_{row}.png" for i in (0, 1) for row in ("ceiling", "model", "head_edit")} <= set(whole)

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
