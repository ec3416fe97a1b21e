"""The mechanism of suites and studies with a study of coins: files, resuming, several processes, refused folders."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest

from omote.config import Range
from omote.errors import ConfigError, OutputError
from omote.evaluation.figures import axis_over, figure, row_chart
from omote.evaluation.records import Row
from omote.evaluation.statistics import bootstrap_mean
from omote.progress import Step, Steps, finish
from omote.studies.base import FREE, PersonStudy, Record, Results, Work, run_study
from stand_ins import use_metrics


@dataclass(frozen=True, kw_only=True)
class Coins(PersonStudy):
    """How often coins fall heads up.

    Attributes:
        chance: of heads.
        coin: a folder whose content is the coin.
        slow_s: seconds per item.
    """

    NAME = "coins"
    chance: Annotated[float, Range(0, 1)] = 0.5
    coin: Annotated[Path | None, FREE] = None
    slow_s: float = 0.0

    def check(self) -> None:
        if self.chance == 0.25:
            raise ConfigError("chance: a quarter is refused")

    def fingerprints(self) -> Mapping[str, str]:
        return {} if self.coin is None else {"coin": (self.coin / "side").read_text()}

    def run(self, work: Work) -> Steps[Results]:
        def measure(name: str) -> Record:
            time.sleep(self.slow_s)
            with (work.out / "thrown.txt").open("a") as file:
                file.write(f"{name} {os.getpid()}\n")
            return {"heads": bool(np.random.default_rng([self.seed, int(name)]).random() < self.chance)}

        found = yield from work.records("persons", self.names(), measure)
        heads = bootstrap_mean(np.array([float(record["heads"]) for record in found.values()]))
        chart = row_chart("heads", {"coin": (heads.value, heads.low, heads.high)}, axis_over("share", [0.0, 1.0]))
        return Results(
            table={
                Row("coin"): {"share/heads": heads, "share/fair": self.chance},
                Row("coin").under(side="b"): {"share/fair": 0.5},
                Row().under(side="b"): {"count/coins": 1},
            },
            notes={Row("coin"): {"metal": "silver"}},
            numbers={"share/undefined": float("nan")},
            figure=figure([chart]),
            page=lambda out: (out / "report.html").write_text((out / "run.json").read_text()) and None,
        )


@pytest.fixture(autouse=True)
def metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    use_metrics(monkeypatch, "share/heads", "share/fair", "share/undefined", "count/coins", "training/loss")


def thrown(out: Path) -> list[str]:
    return [line.split()[0] for line in (out / "thrown.txt").read_text().splitlines()]


def test_a_study_writes_numbers_table_figure_facts_and_page(tmp_path: Path) -> None:
    numbers = finish(run_study(Coins(persons=4), tmp_path))
    assert json.loads((tmp_path / "metrics.json").read_text()) == {**numbers, "share/undefined": None}
    assert numbers["share/heads/coin"] in (0, 0.25, 0.5, 0.75, 1)
    assert numbers["share/fair/coin/side=b"] == 0.5
    assert numbers["count/coins/side=b"] == 1
    first, second = csv.DictReader((tmp_path / "table.csv").open())
    assert list(first) == [
        "row", "side", "share/heads", "share/heads_low", "share/heads_high", "share/fair", "metal",
    ]  # fmt: skip
    assert float(first["share/heads_low"]) <= float(first["share/heads"]) <= float(first["share/heads_high"])
    assert list(second.values()) == ["coin", "b", "", "", "", "0.5", ""]
    assert first["metal"] == "silver"
    assert (tmp_path / "figure.svg").read_text().startswith("<svg")
    run = json.loads((tmp_path / "report.html").read_text())
    assert run["run/study"] == "coins"
    assert run["config/persons"] == run["count/persons"] == run["count/measured_last"] == 4
    assert run["version/omote"]
    assert not list(tmp_path.rglob(".*"))


def test_a_killed_run_resumes_with_the_same_bytes(tmp_path: Path) -> None:
    finish(run_study(Coins(persons=4), tmp_path / "whole"))
    work = run_study(Coins(persons=4), tmp_path / "killed")
    assert [next(work) for _ in range(3)][-1] == Step(stage="persons", done=2, total=4, note="000002")
    work.close()
    assert not (tmp_path / "killed/metrics.json").exists()
    finish(run_study(Coins(persons=4), tmp_path / "killed"))
    assert thrown(tmp_path / "killed") == ["000000", "000001", "000002", "000003"]
    for name in ("metrics.json", "table.csv", "figure.svg", "config.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_more_persons_are_measured_into_the_same_folder(tmp_path: Path) -> None:
    finish(run_study(Coins(persons=2), tmp_path))
    finish(run_study(Coins(persons=3), tmp_path))
    assert thrown(tmp_path) == ["000000", "000001", "000002"]
    run = json.loads((tmp_path / "run.json").read_text())
    assert (run["run/times_run"], run["count/measured_last"], run["count/persons"]) == (2, 1, 3)


def test_a_folder_of_other_settings_or_weights_is_refused_in_one_line(tmp_path: Path) -> None:
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
        (tmp_path / side / "side").write_text(side)
    coins, out = Coins(persons=1, coin=tmp_path / "a"), tmp_path / "out"
    finish(run_study(coins, out))
    (tmp_path / "a").rename(tmp_path / "moved")
    finish(run_study(replace(coins, coin=tmp_path / "moved"), out))  # the same weights elsewhere
    for other in (replace(coins, coin=tmp_path / "b"), replace(coins, coin=tmp_path / "moved", seed=1)):
        with pytest.raises(OutputError, match="other settings or weights; give another folder"):
            finish(run_study(other, out))
    settings = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({"suite": "coins", "config": settings["config"]}))
    with pytest.raises(OutputError, match="made by an older version of omote; measure into another folder"):
        finish(run_study(replace(coins, coin=tmp_path / "moved"), out))
    (out / "config.json").write_text("{")
    with pytest.raises(OutputError, match="give another folder"):
        finish(run_study(replace(coins, coin=tmp_path / "moved"), out))


def test_what_cannot_be_measured_does_not_claim_the_folder(tmp_path: Path) -> None:
    for wrong, message in (({"chance": 2.0}, "chance: expected 0 to 1"), ({"chance": 0.25}, "a quarter")):
        with pytest.raises(ConfigError, match=message):
            finish(run_study(Coins(**wrong), tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def _throw(out: Path) -> None:
    finish(run_study(Coins(persons=6, slow_s=0.2), out))


def test_processes_on_one_folder_share_the_items_and_all_end_with_the_table(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_throw, args=(tmp_path,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert sorted(thrown(tmp_path)) == [f"{index:06d}" for index in range(6)]
    assert len({line.split()[1] for line in (tmp_path / "thrown.txt").read_text().splitlines()}) == 2
    assert json.loads((tmp_path / "metrics.json").read_text())["count/persons"] == 6


def test_a_study_may_train_before_it_measures_and_show_that(tmp_path: Path) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Trained(PersonStudy):
        """A study that trains."""

        NAME = "trained"

        def run(self, work: Work) -> Steps[Results]:
            def train(name: str) -> Steps[Record]:
                yield Step(stage=f"train {name}", done=1, total=2)
                return {"loss": len(name)}

            found = yield from work.records("runs", ["a", "bb"], train)
            return Results(table={Row(name): {"training/loss": record["loss"]} for name, record in found.items()})

    steps: list[Step] = []
    numbers = finish(run_study(Trained(), tmp_path), steps.append)
    assert numbers == {"count/persons": 20, "training/loss/a": 1, "training/loss/bb": 2}
    assert [step.stage for step in steps] == ["runs", "train a", "runs", "train bb"]


def test_a_number_that_is_no_metric_of_the_catalogue_is_not_written(tmp_path: Path) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Undefined(PersonStudy):
        """A study whose number is not in the catalogue."""

        NAME = "undefined"

        def run(self, work: Work) -> Steps[Results]:
            yield Step(stage="nothing")
            return Results(table={Row("coin"): {"share/tails": 0.5}})

    with pytest.raises(ValueError, match="share/tails/coin: no such metric in the catalogue"):
        finish(run_study(Undefined(), tmp_path))
    assert not (tmp_path / "metrics.json").exists()
