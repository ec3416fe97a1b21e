"""`make bench` finds a benchmark by its file's name and writes its numbers beside the machine's facts."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).resolve().parents[1] / "benchmarks/run.py"


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_runner", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "toy.py").write_text("def run():\n    return {'rate_per_s/toy': 2.5, 'rows': 3}\n")
    (tmp_path / "_shared.py").touch()
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    return module


def test_numbers_and_facts_are_written(runner: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", "toy", "--out", str(tmp_path / "out")])
    assert runner.main() == 0
    (tmp_path / "out/metrics.json").write_text('{"rate_per_s/toy": 1.0, "rate_per_s/other": 4.0}')
    assert runner.main() == 0
    numbers = json.loads((tmp_path / "out/metrics.json").read_text())
    assert numbers == {"rate_per_s/toy": 2.5, "rate_per_s/other": 4.0, "rows": 3}
    result = json.loads((tmp_path / "out/toy.json").read_text())
    assert (result["rate_per_s/toy"], result["rows"], result["benchmark"]) == (2.5, 3, "toy")
    assert {"date", "time_s/total", "machine/cores", "version/numpy"} <= set(result)


def test_an_unknown_name_is_one_line(
    runner: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", "toi", "--out", str(tmp_path / "out")])
    assert runner.main() == 2
    assert capsys.readouterr().err == "omote: toi: no such benchmark (did you mean 'toy'?)\n"
    assert runner.names() == ["toy"]
    assert not (tmp_path / "out").exists()
