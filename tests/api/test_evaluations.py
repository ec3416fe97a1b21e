"""An evaluation folder remembers what was measured and refuses to mix it with anything else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from omote.api.evaluations import _claim, evaluate, fingerprint
from omote.api.report import Stopwatch
from omote.api.reports import commit, report, write_run
from omote.cli.main import main
from omote.errors import CheckpointError, ConfigError, OutputError


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
    monkeypatch.setattr("omote.api.reports.commit", lambda: "aaa")
    first = write_run(path, {"count/persons": 3}, Stopwatch(), measured=3)
    assert first["run/commits"] == "aaa"
    assert first["version/omote"]
    assert first["machine/cores"]
    monkeypatch.setattr("omote.api.reports.commit", lambda: "bbb")
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
    monkeypatch.setattr("omote.api.reports.commit", lambda: "bbb")
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
