"""``run.json``: what filled a folder, and what only read it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from omote.runs import Stopwatch, commit, write_run


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


def test_a_commit_is_reported_with_its_changes_or_not_at_all() -> None:
    got = commit()
    assert got is None or re.fullmatch(r"[0-9a-f]{12}\+?", got)
