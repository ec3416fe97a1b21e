"""The release suite's options, and the suites' refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import omote
from omote.errors import CheckpointError, ConfigError, OutputError
from omote.studies.base import ModelStudy
from omote.studies.release import ReleaseConfig
from omote.studies.suites import JudgeSuite, QuickSuite, ReleaseSuite


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What the suite is asked for, in the place of running it; without shipped rivals."""
    got: dict[str, Any] = {}

    def suite(model: object, config: ReleaseConfig, out: Path, **more: object) -> Iterator[None]:
        got.update(more, config=config)
        (out / "metrics.json").write_text(json.dumps({"count/persons": 1, "count/images": 7}))
        yield from ()

    (tmp_path / "shipped").mkdir()
    monkeypatch.setattr("omote.studies.suites.SHIPPED_WEIGHTS", tmp_path / "shipped")
    monkeypatch.setattr("omote.studies.editors.load_editor", lambda folder, backend: SimpleNamespace(weights=folder))
    monkeypatch.setattr(ModelStudy, "model", lambda self: "model")
    monkeypatch.setattr("omote.studies.release.evaluate_release", suite)
    monkeypatch.setattr("omote.evaluation.sets.load_set_networks", lambda: "sets")
    monkeypatch.setattr("omote.evaluation.report.load_results", lambda folder: folder)
    monkeypatch.setattr("omote.evaluation.report.write_report", lambda results: None)
    return got


def test_quick_is_the_release_suite_of_few_persons_with_sets(asked: dict[str, Any], tmp_path: Path) -> None:
    omote.evaluate(QuickSuite(weights=tmp_path), out=tmp_path / "quick")
    quick = dict(asked)
    omote.evaluate(ReleaseSuite(weights=tmp_path), out=tmp_path / "release")
    assert quick["config"].num_persons == 10 < asked["config"].num_persons == 200
    assert quick["config"].population == asked["config"].population
    assert quick["sets"] == "sets"
    assert asked["sets"] is None
    omote.evaluate(QuickSuite(weights=tmp_path, persons=3, test_set="sensor"), out=tmp_path / "more")
    assert (asked["config"].num_persons, asked["config"].test_set) == (3, "sensor")


def test_rivals_without_weights_are_said_to_be_missing(asked: dict[str, Any], tmp_path: Path) -> None:
    plain = QuickSuite(weights=tmp_path)
    omote.evaluate(plain, out=tmp_path / "none")
    run = json.loads((tmp_path / "none/run.json").read_text())
    assert run["run/missing_regression"]
    assert run["run/missing_pixel_diffusion"]
    assert asked["networks"] == {}

    (tmp_path / "shipped/rivals/pixel_diffusion").mkdir(parents=True)
    omote.evaluate(QuickSuite(weights=tmp_path, regression=tmp_path / "mine"), out=tmp_path / "both")
    run = json.loads((tmp_path / "both/run.json").read_text())
    assert not any(key.startswith("run/missing") for key in run)
    assert {row: network.weights for row, network in asked["networks"].items()} == {
        "regression": tmp_path / "mine",
        "pixel_diffusion": tmp_path / "shipped/rivals/pixel_diffusion",
    }
    # A folder without these rows must not grow them half way.
    with pytest.raises(OutputError, match="other settings"):
        omote.evaluate(plain, out=tmp_path / "none")
    with pytest.raises(ConfigError, match="persons or rows are others"):
        omote.evaluate(QuickSuite(weights=tmp_path, rivals=tmp_path / "none"), out=tmp_path / "taken")
    taken = QuickSuite(weights=tmp_path, regression=tmp_path / "mine", rivals=tmp_path / "both")
    omote.evaluate(taken, out=tmp_path / "taken2")
    assert asked["rivals"] == tmp_path / "both/rivals"


def test_a_set_of_persons_that_cannot_be_does_not_claim_the_folder(asked: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give --ict"):
        omote.evaluate(QuickSuite(weights=tmp_path, test_set="cross-model"), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_wrong_identity_network_does_not_claim_the_folder(tmp_path: Path) -> None:
    (tmp_path / "wrong.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="expected arcface_r50"):
        omote.evaluate(JudgeSuite(persons=1, arcface=tmp_path / "wrong.safetensors"), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
