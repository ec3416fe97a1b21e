"""Reports of result folders: what is refused, in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from omote.api.reports import report
from omote.cli.main import main
from omote.errors import ConfigError, OutputError


def test_reports_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least one"):
        report([], out=tmp_path / "a.html")
    with pytest.raises(OutputError, match=r"ends in \.html"):
        report([tmp_path], out=tmp_path / "a.pdf")
    with pytest.raises(ConfigError, match="cannot be read"):
        report([tmp_path], out=tmp_path / "a.html")
    with pytest.raises(ConfigError, match="given twice"):
        report([tmp_path, tmp_path], out=tmp_path / "a.html")
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_exits_with_code_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "a.html")]) == 2
    err = capsys.readouterr().err
    assert err.startswith("omote: ")
    assert err.count("\n") == 1
