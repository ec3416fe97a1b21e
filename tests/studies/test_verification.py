"""Verification of invented results: training and time of each row, and nothing is measured twice."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Literal
from xml.etree import ElementTree

import pytest

from omote.cli.main import main
from omote.errors import ConfigError, OmoteError
from omote.files import sha256
from omote.progress import finish
from omote.rgbd.weights import SHIPPED_WEIGHTS
from omote.studies import edit_time, verification
from omote.studies.base import run_study
from omote.studies.edit_time import TimeRequest, time_edits, timed_apart
from omote.studies.training_cost import Stage, cost_of, read_run, stages_of
from omote.studies.verification import Verification
from results import write_results

EDITOR = {"drop_source": 0.0, "pixels": False, "objective": {"at_noise": 0.9}}


def write_run(run: Path, config: dict[str, object], *, images: int = 1000, seconds: float = 360.0) -> Path:
    (run / "checkpoint").mkdir(parents=True)
    (run / "config.json").write_text(json.dumps(config))
    progress = run / "checkpoint/progress.json"
    progress.write_text(json.dumps({"images": images, "seconds": float(seconds)}))
    (run / "checkpoint/checksums.json").write_text(json.dumps({progress.name: sha256(progress)}))
    return run


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[TimeRequest]:
    """What is timed; a second for one edit, four for seven, and OpenVINO is always there."""
    found: list[TimeRequest] = []

    def timed(request: TimeRequest) -> dict[str, float]:
        found.append(request)
        seconds = {"time_s/head_fit": 0.5, "time_s/one_edit": 1.0, "time_s/seven_edits": 4.0}
        return {**seconds, "memory_mb/peak": 700.0, "time/threads": 1}

    monkeypatch.setattr(edit_time, "timed_apart", timed)
    monkeypatch.setattr(verification, "find_spec", lambda name: object())
    return found


def test_every_row_has_its_accuracy_time_and_training(asked: list[TimeRequest], tmp_path: Path) -> None:
    release = write_results(tmp_path / "release", networks=["regression"])
    editor = write_run(tmp_path / "editor", EDITOR, images=5000, seconds=7200)
    # A rival need not be named twice.
    begun = {**EDITOR, "objective": {"at_noise": 1.0}, "start_from": "else/editor/export/editor"}
    rival = write_run(tmp_path / "rival", begun, seconds=1800)
    config = Verification(release=release, runs=(editor,), regression=rival)
    out = tmp_path / "out"
    finish(run_study(config, out))
    assert {(r.row, r.backend) for r in asked} >= {
        ("model", "torch"),
        ("model", "openvino"),
        ("regression", "openvino"),
    }
    assert [(r.backend, r.weights) for r in asked if r.row == "head_edit"] == [("torch", None)]
    assert next(r.weights for r in asked if r.row == "regression") == rival

    numbers = json.loads((out / "metrics.json").read_text())
    table = {line["row"]: line for line in csv.DictReader((out / "table.csv").open()) if not line["backend"]}
    told = json.loads((release / "metrics.json").read_text())
    for row in ("model", "copy_source", "head_edit", "regression"):
        for key in ("depth/mae_mm_metric", "depth/mae_mm_moving", "color/psnr_db", "expression/top1_both"):
            assert numbers[f"{key}/{row}"] == pytest.approx(told[f"{key}/{row}"])
            ends = [float(table[row][f"{key}{end}"]) for end in ("_low", "", "_high")]
            assert ends == sorted(ends)
    assert numbers["time_s/seven_edits/head_edit"] == numbers["time_s/seven_edits/model/backend=openvino"] == 4
    assert "time_s/one_edit/copy_source" not in numbers
    # The shipped record says the rest: 40 minutes of the autoencoder, 350 of the decoder.
    assert numbers["training/hours/model"] == pytest.approx(2 + (40 + 350) / 60)
    assert numbers["training/hours/regression"] == pytest.approx(2 + 0.5 + (40 + 350) / 60)
    assert numbers["training/images/model"] == 5000 + 26_000 + 135_000
    assert "training/hours/head_edit" not in numbers

    assert float(table["model"]["expression/top1_both_ceiling"]) == pytest.approx(
        told["expression/top1_both/ceiling"], rel=1e-5
    )
    assert float(table["model"]["expression/top1_both_floor"]) == pytest.approx(1 / 7, rel=1e-5)
    assert table["head_edit"]["training/hours"] == ""
    said = [e.text for e in ElementTree.parse(out / "figure.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert {"3DMM edit", "ceiling", "floor", "hours of training"} <= set(said)
    # Gone on with, nothing is timed again.
    count = len(asked)
    finish(run_study(config, out))
    assert len(asked) == count


def test_results_of_other_weights_are_refused(asked: list[TimeRequest], tmp_path: Path) -> None:
    release = write_results(tmp_path / "release")
    settings = json.loads((release / "config.json").read_text())
    (release / "config.json").write_text(json.dumps({**settings, "weights": {"model": "other"}}))
    with pytest.raises(ConfigError, match="other weights"):
        finish(run_study(Verification(release=release), tmp_path / "out"))
    assert not asked


def test_bad_folders_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    release = write_results(tmp_path / "release")
    for arguments in (
        ["--release", str(tmp_path / "none")],
        ["--release", str(release), "--runs", str(tmp_path / "none")],
        ["--release", str(release), "--weights", str(tmp_path / "none")],
    ):
        assert main(["study", "verification", "--out", str(tmp_path / "out" / arguments[-2]), *arguments]) == 2
        said = capsys.readouterr().err
        assert str(tmp_path / "none") in said
        assert said.count("\n") == 1


def test_a_runs_stage_is_read_from_its_config(tmp_path: Path) -> None:
    kinds = {
        "editor": EDITOR,
        "pixel": {**EDITOR, "pixels": True},
        "regression": {**EDITOR, "objective": {"at_noise": 1.0}},
        "decoder": {"clean_share": 0.3, "autoencoder": "a"},
        "autoencoder": {"kl_weight": 1e-6, "learned_channels": 4},
        "expressions": {"width": 192, "depth": 4, "objective": {}},
    }
    for kind, config in kinds.items():
        assert read_run(write_run(tmp_path / kind, config)).kind == kind
    with pytest.raises(ConfigError, match="leave it out"):
        read_run(write_run(tmp_path / "text", {"num_captions": 3}))
    few = write_run(tmp_path / "few", {"teacher": "runs/editor-flow/export/editor"})
    assert (read_run(few).kind, read_run(few).starts_from) == ("editor", "editor-flow")


def test_a_rival_counts_the_editor_that_it_goes_on_with_and_no_other() -> None:
    stages = [
        Stage(name="autoencoder", kind="autoencoder", images=1, minutes=60.0),
        Stage(name="editor", kind="editor", images=10, minutes=120.0),
        Stage(name="flow", kind="editor", images=100, minutes=60.0, starts_from="editor"),
        Stage(name="plain", kind="regression", images=1000, minutes=30.0, starts_from="editor"),
    ]
    model, rival = cost_of("model", stages), cost_of("regression", stages)
    # What a prior of expressions saw are no images, but its time counts.
    prior = Stage(name="prior", kind="expressions", images=10_000, minutes=60.0)
    by_category = cost_of("model_category", [*stages, prior])
    assert by_category is not None
    assert (by_category.images, by_category.hours) == (111, 5)
    assert model is not None
    assert rival is not None
    assert (model.images, model.hours) == (111, 4)
    assert (rival.images, rival.hours) == (1011, 3.5)
    assert cost_of("pixel_diffusion", stages) is None
    assert cost_of("copy_source", stages) is None


def test_the_shipped_record_covers_every_network() -> None:
    assert {stage.kind for stage in stages_of([], [SHIPPED_WEIGHTS])} >= {"autoencoder", "editor", "decoder"}


@pytest.mark.parametrize(("clock", "look"), [("wall", "perf_counter"), ("cpu", "process_time")])
def test_the_head_is_found_once_for_one_and_for_seven(
    clock: Literal["wall", "cpu"], look: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(10**6))
    monkeypatch.setattr(edit_time, "time", SimpleNamespace(**{look: lambda: float(next(ticks))}))
    asked: list[int] = []
    monkeypatch.setattr(
        edit_time,
        "_networks",
        lambda request, source: (lambda: "face", lambda face, wanted: asked.append(len(wanted)) or list(wanted)),
    )
    found = time_edits(TimeRequest(row="model", weights=SHIPPED_WEIGHTS, size=32, repeat=2, clock=clock))
    # A tick between any two looks: fit, one edit, seven edits.
    assert [found[f"time_s/{part}"] for part in ("head_fit", "one_edit", "seven_edits")] == [1, 2, 2]
    assert asked == [1, 7] * 3
    assert found["memory_mb/peak"] > 50


def test_a_failed_timing_is_reported_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(failure: str, function: object, *arguments: object) -> None:
        assert (function, arguments) == (time_edits, (request,))
        raise OmoteError(failure)

    request = TimeRequest(row="model", weights=tmp_path / "none", size=32)
    monkeypatch.setattr(edit_time, "apart", failing)  # which tests/studies/test_apart.py tests
    with pytest.raises(OmoteError, match="model: its edits could not be timed"):
        timed_apart(request)
    monkeypatch.undo()
    with pytest.raises(OmoteError, match="none"):
        time_edits(request)
