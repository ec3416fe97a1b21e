"""An evaluation folder remembers what was measured and refuses to mix it with anything else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from omote.api.evaluations import QUICK_PERSONS, _claim, evaluate
from omote.api.reports import report
from omote.cli.main import main
from omote.errors import CheckpointError, ConfigError, OutputError
from omote.rgbd.model import EditingModel
from omote.rgbd.weights import fingerprint
from omote.runs import Stopwatch, commit, write_run
from omote.studies.release import ReleaseConfig


def test_a_fingerprint_changes_with_content_and_name_only(tmp_path: Path) -> None:
    def weights(name: str, content: bytes) -> str:
        folder = tmp_path / name / content.hex()
        folder.mkdir(parents=True)
        (folder / f"{name}.safetensors").write_bytes(content)
        (folder / "notes.md").write_bytes(content)
        return fingerprint(folder)

    a = weights("a", b"1")
    assert a == fingerprint(tmp_path / "a" / b"1".hex())
    assert len({a, weights("a", b"2"), weights("b", b"1")}) == 3


def test_rivals_beside_the_weights_are_other_networks(tmp_path: Path) -> None:
    (tmp_path / "editor.safetensors").write_bytes(b"1")
    before = fingerprint(tmp_path)
    (tmp_path / "rivals/regression").mkdir(parents=True)
    (tmp_path / "rivals/regression/editor.safetensors").write_bytes(b"2")
    # Nor is what is told of their training.
    (tmp_path / "training.json").write_text("{}")
    assert fingerprint(tmp_path) == before
    assert fingerprint(tmp_path / "rivals/regression") not in (before, fingerprint(tmp_path / "rivals"))


class Network(EditingModel):
    """In the place of networks: parameters to tell them apart by."""

    def __init__(self, value: float, weights: Path) -> None:
        self.autoencoder, self.editor = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)  # type: ignore[assignment]
        self.weights = weights
        for network in (self.autoencoder, self.editor):
            torch.nn.init.constant_(network.weight, value)
            torch.nn.init.zeros_(network.bias)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What the suite is asked for, in the place of running it; without shipped rivals."""
    got: dict[str, Any] = {}

    def suite(model: object, config: ReleaseConfig, out: Path, **more: object) -> Iterator[None]:
        got.update(more, config=config)
        (out / "metrics.json").write_text(json.dumps({"count/persons": 1, "count/images": 7}))
        yield from ()

    (tmp_path / "shipped").mkdir()
    monkeypatch.setattr("omote.rgbd.weights.SHIPPED_WEIGHTS", tmp_path / "shipped")
    monkeypatch.setattr("omote.studies.editors.load_editor", lambda folder, backend: Network(1, folder))
    monkeypatch.setattr("omote.studies.release.evaluate_release", suite)
    monkeypatch.setattr("omote.evaluation.sets.load_set_networks", lambda: "sets")
    monkeypatch.setattr("omote.evaluation.report.load_results", lambda folder: folder)
    monkeypatch.setattr("omote.evaluation.report.write_report", lambda results: None)
    return got


def test_quick_is_the_release_suite_of_few_persons_with_sets(asked: dict[str, Any], tmp_path: Path) -> None:
    evaluate("quick", out=tmp_path / "quick", weights=tmp_path)
    quick = dict(asked)
    evaluate("release", out=tmp_path / "release", weights=tmp_path)
    assert quick["config"].num_persons == QUICK_PERSONS < asked["config"].num_persons == 200
    assert quick["config"].population == asked["config"].population
    assert quick["sets"] == "sets"
    assert asked["sets"] is None
    evaluate("quick", out=tmp_path / "more", weights=tmp_path, persons=3, test_set="sensor")
    assert (asked["config"].num_persons, asked["config"].test_set) == (3, "sensor")


def test_rivals_without_weights_are_said_to_be_missing(asked: dict[str, Any], tmp_path: Path) -> None:
    evaluate("quick", out=tmp_path / "none", weights=tmp_path)
    run = json.loads((tmp_path / "none/run.json").read_text())
    assert run["run/missing_regression"]
    assert run["run/missing_pixel_diffusion"]
    assert asked["networks"] == {}

    (tmp_path / "shipped/rivals/pixel_diffusion").mkdir(parents=True)
    evaluate("quick", out=tmp_path / "both", weights=tmp_path, regression=tmp_path / "mine")
    run = json.loads((tmp_path / "both/run.json").read_text())
    assert not any(key.startswith("run/missing") for key in run)
    assert {row: network.weights for row, network in asked["networks"].items()} == {
        "regression": tmp_path / "mine",
        "pixel_diffusion": tmp_path / "shipped/rivals/pixel_diffusion",
    }
    # A folder without these rows must not grow them half way.
    with pytest.raises(OutputError, match="other settings"):
        evaluate("quick", out=tmp_path / "none", weights=tmp_path)
    with pytest.raises(ConfigError, match="persons or rows are others"):
        evaluate("quick", out=tmp_path / "taken", weights=tmp_path, rivals=tmp_path / "none")
    evaluate("quick", out=tmp_path / "taken2", weights=tmp_path, regression=tmp_path / "mine", rivals=tmp_path / "both")
    assert asked["rivals"] == tmp_path / "both/rivals"


def test_a_set_of_persons_that_cannot_be_does_not_claim_the_folder(asked: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give --ict"):
        evaluate("quick", out=tmp_path / "out", weights=tmp_path, test_set="cross-model")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="samplers knows one set of persons"):
        evaluate("samplers", out=tmp_path / "out", test_set="pose")


def test_results_of_other_weights_are_not_mixed_in(tmp_path: Path) -> None:
    out = tmp_path / "results"
    settings = {"weights": "abc", "config": {"seed": 0, "num_persons": 10}}
    _claim(out, settings)
    _claim(out, {**settings, "config": {"seed": 0, "num_persons": 200}})
    for other in ({**settings, "weights": "def"}, {**settings, "config": {"seed": 1, "num_persons": 10}}):
        with pytest.raises(OutputError, match="other settings"):
            _claim(out, other)
    (out / "config.json").write_text("half")
    with pytest.raises(OutputError, match="other settings"):
        _claim(out, settings)


def test_a_run_that_only_reads_does_not_claim_to_have_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.json"
    monkeypatch.setattr("omote.runs.commit", lambda: "aaa")
    first = write_run(path, {"count/persons": 3}, Stopwatch(), measured=3)
    assert first["run/commits"] == "aaa"
    assert first["version/omote"]
    assert first["machine/cores"]
    monkeypatch.setattr("omote.runs.commit", lambda: "bbb")
    write_run(path, {"count/persons": 3}, Stopwatch(), measured=0)
    kept = json.loads(path.read_text())
    assert kept["run/commits"] == "aaa"
    assert kept["run/finished_utc"] == first["run/finished_utc"]
    write_run(path, {"count/persons": 5}, Stopwatch(), measured=2)
    both = json.loads(path.read_text())
    assert both["run/commits"] == "aaa bbb"
    assert both["run/times_run"] == 2
    assert both["count/persons"] == 5


def test_what_an_unrecorded_version_measured_is_of_unknown_origin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omote.runs.commit", lambda: "bbb")
    only_read = write_run(tmp_path / "a.json", {"count/persons": 3}, Stopwatch(), measured=0)
    assert only_read == {"run/commits": "unknown", "count/persons": 3}
    gone_on = write_run(tmp_path / "b.json", {"count/persons": 3}, Stopwatch(), measured=1)
    assert gone_on["run/commits"] == "unknown bbb"


def test_a_wrong_identity_network_does_not_claim_the_folder(tmp_path: Path) -> None:
    (tmp_path / "wrong.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="expected arcface_r50"):
        evaluate("judges", out=tmp_path / "out", persons=1, arcface=tmp_path / "wrong.safetensors")
    assert not (tmp_path / "out").exists()


def test_a_commit_is_told_with_its_changes_or_not_at_all() -> None:
    got = commit()
    assert got is None or re.fullmatch(r"[0-9a-f]{12}\+?", got)


def test_reports_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least one"):
        report([], out=tmp_path / "a.html")
    with pytest.raises(OutputError, match=r"ends in \.html"):
        report([tmp_path], out=tmp_path / "a.pdf")
    with pytest.raises(ConfigError, match="finished result folder"):
        report([tmp_path], out=tmp_path / "a.html")
    with pytest.raises(ConfigError, match="given twice"):
        report([tmp_path, tmp_path], out=tmp_path / "a.html")
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_says_so_with_exit_code_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "a.html")]) == 2
    err = capsys.readouterr().err
    assert err.startswith("omote: ")
    assert err.count("\n") == 1
