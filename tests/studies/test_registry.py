"""Suites and studies by name: a further one in a few lines, options from its config alone, and refusals in one line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from omote.cli.main import main
from omote.evaluation.figures import axis_over, bar_chart, figure
from omote.evaluation.records import Row
from omote.progress import Steps
from omote.studies import registry
from omote.studies.base import PersonStudy, Results, Study, Work
from stand_ins import use_metrics

KINDS = (*registry.SUITES, *registry.STUDIES)


# A further study, as anyone would write it: a config, a function and its place in the list.
@dataclass(frozen=True, kw_only=True)
class Powers(PersonStudy):
    """How fast powers grow.

    Attributes:
        exponent: of the power.
    """

    NAME = "powers"
    exponent: float = 2.0

    def run(self, work: Work) -> Steps[Results]:
        found = yield from work.records("persons", self.names(), lambda n: {"speed/power": int(n) ** self.exponent})
        bars = {name: cells["speed/power"] for name, cells in found.items()}
        chart = bar_chart("powers", bars, axis_over("", [0, 9]))
        return Results(table={Row(name): cells for name, cells in found.items()}, figure=figure([chart]))


@pytest.fixture
def powers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    use_metrics(monkeypatch, "speed/power")
    registry.STUDIES.append(Powers)
    yield
    registry.STUDIES.remove(Powers)


@pytest.mark.usefixtures("powers")
def test_a_further_study_runs_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "powers", "--out", str(tmp_path), "--persons", "3", "--exponent", "3"]) == 0
    assert json.loads((tmp_path / "metrics.json").read_text()) == {
        "count/persons": 3, "speed/power/000000": 0, "speed/power/000001": 1, "speed/power/000002": 8,
    }  # fmt: skip
    assert (tmp_path / "table.csv").read_text().splitlines() == ["row,speed/power", "000000,0", "000001,1", "000002,8"]
    assert (tmp_path / "figure.svg").read_text().startswith("<svg")
    assert "4 numbers" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["study", "powers", "--help"])
    said = capsys.readouterr().out
    assert "of the power" in said
    assert "--scales" not in said
    with pytest.raises(SystemExit):
        main(["study", "--help"])
    assert "How fast powers grow." in capsys.readouterr().out


def test_names_are_told_once_and_described() -> None:
    assert len({kind.NAME for kind in KINDS}) == len(KINDS)
    for kind in KINDS:
        told = " ".join(base.__doc__ or "" for base in kind.__mro__ if issubclass(base, Study))
        missing = [field.name for field in fields(kind) if f"{field.name}:" not in told]
        assert not missing, (kind, missing)
        assert set(kind.TINY) <= {field.name for field in fields(kind)}


def test_every_suite_and_study_is_listed_and_documented() -> None:
    root = Path(registry.__file__).parents[3]
    written = {name for file in (root / "src/omote/studies").rglob("*.py")
               for name in re.findall(r'^    NAME = "([\w-]+)"$', file.read_text(), re.MULTILINE)}  # fmt: skip
    assert written == {kind.NAME for kind in KINDS}
    docs = " ".join((root / "docs" / name).read_text() for name in ("evaluation.md", "studies.md"))
    commands = [
        *(f"omote evaluate {kind.NAME}" for kind in registry.SUITES),
        *(f"omote study {kind.NAME}" for kind in registry.STUDIES),
    ]
    assert not [command for command in commands if command not in docs]


def test_the_options_of_all_are_there_without_a_heavy_import() -> None:
    program = (
        "import sys, omote.studies.registry, omote.cli.studies;"
        "print(sorted({'torch', 'diffusers', 'scipy', 'numba', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["guidanc"], "guidanc: unknown study (did you mean 'guidance'?)"),
        (["guidance", "--persons", "0"], "persons: expected at least 1, got 0"),
        (["guidance", "--scales", "99"], "scales[0]: expected 0 to 20"),
        (["intensity", "--intensities", "1"], "intensities: expected at least two"),
        (["cross-model", "--population", "none"], "give --ict"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", *arguments, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_option_of_another_study_is_no_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["study", "guidance", "--out", str(tmp_path / "out"), "--marks", "0.5"])
    assert end.value.code == 2
    assert "--marks" in capsys.readouterr().err


def test_tiny_changes_what_is_not_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from omote import api

    asked = []
    monkeypatch.setattr(api, "evaluate", lambda config, **_: asked.append(config) or {})
    assert main(["study", "f", "--out", str(tmp_path), "--population", "p", "--tiny", "--steps", "7"]) == 0
    assert (asked[0].steps, asked[0].size, asked[0].population) == (7, 32, Path("p"))
