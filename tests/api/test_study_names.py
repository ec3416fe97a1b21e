"""Studies by name: what each takes, what is refused in one line, and what a folder may hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest

import omote
from omote.api import studies
from omote.cli.commands.study import Options
from omote.cli.main import main
from omote.errors import ConfigError, OutputError
from omote.progress import Step


@dataclass(frozen=True, kw_only=True)
class Counting:
    """A study that only writes down how it was asked."""

    num_persons: int = 20
    runs: tuple[Path, ...] = ()
    depth: float = 1.0


def count(config: Counting, out: Path) -> Iterator[Step]:
    yield Step(stage="count", done=1, total=1)
    (out / "metrics.json").write_text(f'{{"count/persons": {config.num_persons}, "count/runs": {len(config.runs)}}}')


@pytest.fixture(autouse=True)
def counting(monkeypatch: pytest.MonkeyPatch) -> None:
    here = studies.Study(module=__name__, config="Counting", run="count")
    monkeypatch.setattr(studies, "STUDIES", {**studies.STUDIES, "counting": here})


@pytest.mark.parametrize("name", studies.STUDIES)
def test_every_study_is_where_the_table_says(name: str) -> None:
    found = studies.STUDIES[name]
    module = import_module(found.module)
    assert all(hasattr(module, part) for part in (found.config, found.run, *([found.tiny] if found.tiny else [])))
    # `omote study --help` names it, and each of its options.
    text = Path(import_module(Options.__module__).__file__ or "").read_text(encoding="utf-8")
    assert f"{name}: " in text


def test_the_function_takes_what_the_command_line_takes() -> None:
    options = {field.name for field in fields(Options)}
    assert options - {"study", "set"} == set(signature(studies.study).parameters) - {"name", "changes", "on_step"}


def test_options_reach_the_study_and_steps_come_back(tmp_path: Path) -> None:
    seen: list[Step] = []
    numbers = omote.study("counting", out=tmp_path, persons=3, runs=["a", Path("b")], on_step=seen.append)
    assert numbers == {"count/persons": 3, "count/runs": 2}
    assert [step.stage for step in seen] == ["count"]


def test_more_persons_go_on_in_a_folder_but_not_other_settings(tmp_path: Path) -> None:
    omote.study("counting", out=tmp_path, persons=3)
    omote.study("counting", out=tmp_path, persons=5)
    with pytest.raises(OutputError, match="other settings"):
        omote.study("counting", out=tmp_path, changes=["depth=2"])
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(OutputError, match="another folder"):
        omote.study("counting", out=tmp_path)


def test_a_folder_is_of_the_networks_that_were_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = studies.Study(module=__name__, config="Counting", run="count", measures_runs=True)
    monkeypatch.setattr(studies, "STUDIES", {"counting": here})
    run = tmp_path / "run"
    run.mkdir()
    for weights in (b"a", b"b"):
        (run / "weights.safetensors").write_bytes(weights)
        if weights == b"a":
            omote.study("counting", out=tmp_path / "out", runs=[run])
            omote.study("counting", out=tmp_path / "out", runs=[run], persons=5)
    with pytest.raises(OutputError, match="other settings or weights"):
        omote.study("counting", out=tmp_path / "out", runs=[run])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["countin"], "did you mean 'counting'?"),
        (["counting", "--size", "64"], "size: the study counting has no use for it"),
        (["counting", "--tiny"], "has no tiny form"),
        (["counting", "--set", "dept=1"], "did you mean 'depth'?"),
        (["counting", "--set", "depth=deep"], "expected a number"),
        (["f"], "give --population"),
    ],
)
def test_what_a_study_does_not_take_is_refused_in_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", *arguments, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown study"):
        omote.study("xyz", out=tmp_path)
