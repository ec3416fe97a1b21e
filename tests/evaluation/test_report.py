"""What a report says of a result folder: its numbers are metrics.json's, its verdict is honest, its page asks for nothing."""

from __future__ import annotations

import html.parser
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from omote.errors import ConfigError
from omote.evaluation.figures import ticks
from omote.evaluation.pictures import SHEET_ROWS, picture_path, sheet_persons
from omote.evaluation.records import Row, load_records, save_records
from omote.evaluation.report.compare import write_comparison
from omote.evaluation.report.page import write_report
from omote.evaluation.report.results import load_results, names_of
from omote.evaluation.report.tables import DETAIL, HEADLINE, interval, rivalries
from omote.evaluation.report.words import aim, verdict
from omote.evaluation.statistics import paired_test
from omote.evaluation.summary import per_person
from results import write_results


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_results(tmp_path_factory.mktemp("results") / "first")
    results = load_results(folder)
    (folder / "images").mkdir()
    for name, index in sheet_persons(results.persons).items():
        for k, row in enumerate(SHEET_ROWS):
            if (name, row) != ("worst", "head_edit"):
                Image.new("RGB", (70, 30), (20 * k, 90, index)).save(picture_path(folder / "images", index, row))
    write_report(results)
    return folder


class Reader(html.parser.HTMLParser):
    """Collects text, addresses and unclosed elements of a page."""

    VOID = frozenset({"meta", "img", "br", "line", "circle", "rect"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.VOID
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "action", "data", "poster")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_tables_numbers_equal_metrics_json(folder: Path) -> None:
    results = load_results(folder)
    compared = 0
    for metric in (*HEADLINE, *DETAIL):
        for row in results.rows:
            if (got := interval(results, metric, row)) is not None:
                assert got.value == pytest.approx(results.numbers[metric.key, row], rel=1e-9), (metric.key, row)
                assert got.low <= got.value <= got.high
                compared += 1
    assert compared > 70


def test_a_report_needs_nothing_but_itself(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = Reader(text)
    assert page.open == []
    assert page.addresses
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert "default-src 'none'" in text
    assert not re.search(r"url\(|@import|https?://", text)
    assert 'name="viewport"' in text
    shown = " ".join(page.text)
    for part in (
        "true render",
        "3DMM edit",
        "ceiling 0.",
        "confidence",
        "best: person",
        "median: person",
        "worst: person",
    ):
        assert part in shown or part == "confidence"
    assert "no picture was kept" in shown
    # Four rows of three persons, one of them lost; rows of networks that were not measured have no place.
    assert text.count("<img ") == 11
    assert "pixel diffusion:" not in shown


def test_a_folder_is_reported_to_the_same_bytes(folder: Path) -> None:
    first = (folder / "report.html").read_bytes()
    write_report(load_results(folder))
    assert (folder / "report.html").read_bytes() == first


def test_the_verdict_names_losses_before_wins(folder: Path) -> None:
    results = load_results(folder)
    lines = verdict(rivalries(results))
    assert "worse than" in lines[0]
    assert "3DMM edit" in lines[0]
    assert "expression top-1" in lines[0]
    assert "depth error" not in lines[0]
    assert "beats" in lines[1]
    assert "copy of the source" in lines[1]
    (lost,) = [r for r in rivalries(results) if r.verdict == "worse"]
    assert lost.baseline == Row("head_edit")
    assert lost.test.difference.high < 0


def test_the_report_begins_with_the_missed_aims(tmp_path: Path) -> None:
    """Better than copy, 3DMM edit and deformation transfer in depth, expression and identity, all together."""
    results = load_results(write_results(tmp_path / "results"))
    missed, won = aim(rivalries(results))
    assert "does not beat" in missed
    assert "3DMM edit" in missed
    assert "expression top-1" in missed
    assert not any(word in missed for word in ("depth error", "identity distance", "copy of the source"))
    assert "beats" in won
    assert "deformation transfer" in won
    assert "copy of the source" in won
    assert "3DMM edit" not in won
    write_report(results)
    page = (tmp_path / "results/report.html").read_text(encoding="utf-8")
    assert page.index("does not beat") < page.index("<table")

    beaten = [r for r in rivalries(results) if r.baseline != Row("head_edit")]
    (only,) = aim(beaten)
    assert "beats" in only


def test_rows_of_networks_are_shown_and_missing_weights_reported(tmp_path: Path) -> None:
    folder = write_results(tmp_path / "results", networks=["regression"])
    (folder / "run.json").write_text(json.dumps({"run/missing_pixel_diffusion": True}))
    results = load_results(folder)
    assert Row("regression") in results.baselines
    assert {r.baseline.name for r in rivalries(results)} >= {"regression", "deformation_transfer"}
    write_report(results)
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "because the weights are missing: <b>pixel diffusion</b>" in text
    (folder / "run.json").unlink()
    write_report(load_results(folder))
    assert "because the weights are missing" not in (folder / "report.html").read_text(encoding="utf-8")


def test_a_report_describes_its_persons_and_test_set(tmp_path: Path) -> None:
    folder = write_results(tmp_path / "results")
    for path in folder.glob("persons/*.json"):
        person = load_records(path)
        turn = "-30" if int(path.stem.partition("_")[0]) % 3 else "10"
        save_records(path, replace(person, parts={**person.parts, "yaw_deg": turn}))
    config = json.loads((folder / "config.json").read_text())
    config["config"]["test_set"] = "pose"
    (folder / "config.json").write_text(json.dumps(config))
    write_report(load_results(folder))
    shown = " ".join(Reader((folder / "report.html").read_text(encoding="utf-8")).text)
    assert re.search(r"Test set\s+pose", shown)
    assert "20 persons of -30, 10 persons of 10" in shown


def test_a_handful_of_persons_is_called_one(tmp_path: Path) -> None:
    results = load_results(write_results(tmp_path / "few", num_persons=3))
    lines = verdict(rivalries(results))
    assert "no difference of any size" in lines[-1]
    assert all(r.verdict == "even" for r in rivalries(results))
    write_report(results)
    assert "3 persons are few" in (tmp_path / "few/report.html").read_text(encoding="utf-8")


def test_a_comparison_finds_what_pairing_finds(tmp_path: Path) -> None:
    folders = [write_results(tmp_path / "a"), write_results(tmp_path / "b", better_by=0.02)]
    first, second = (load_results(f) for f in folders)
    mae = HEADLINE[0]
    a, b = interval(first, mae, Row("model")), interval(second, mae, Row("model"))
    # The persons' spread hides it from the intervals.
    assert a.low < b.high
    write_comparison([first, second], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert Reader(text).open == []
    model = Row("model")
    test = paired_test(*(per_person(r.persons, mae.key, model) for r in (second, first)))
    assert test.p_value < 0.001
    assert f'<span class="better">{test.difference.value:+.3f}</span>' in text
    assert text.count("copy of the source</th>") == 1


def test_the_same_persons_captured_otherwise_have_baselines_of_their_own(tmp_path: Path) -> None:
    folders = [write_results(tmp_path / "plain"), write_results(tmp_path / "sensed")]
    told = json.loads((folders[1] / "config.json").read_text())
    told["config"]["test_set"] = "sensor"
    (folders[1] / "config.json").write_text(json.dumps(told))
    write_comparison([load_results(f) for f in folders], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "copy of the source, sensed</th>" in text
    # Person by person they can still be compared.
    assert "The folders have different persons" not in text


def test_other_persons_are_not_paired(tmp_path: Path) -> None:
    folders = [write_results(tmp_path / "a"), write_results(tmp_path / "b", seed=1)]
    write_comparison([load_results(f) for f in folders], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "The folders have different persons" in text
    assert 'class="better"' not in text


def test_a_folder_that_is_no_result_is_one_line(tmp_path: Path) -> None:
    folder = write_results(tmp_path / "broken")
    (folder / "metrics.json").write_text("{")
    for bad, said in ((folder, "expected the finished result folder"), (tmp_path / "none", "cannot be read")):
        with pytest.raises(ConfigError, match=said) as caught:
            load_results(bad)
        assert "\n" not in str(caught.value)
    folder = write_results(tmp_path / "apart")
    for path in folder.glob("persons/*_rivals.json"):
        path.unlink()
    with pytest.raises(ConfigError, match="its rows without networks are missing"):
        load_results(folder)


def test_an_older_versions_folder_is_refused_in_one_line(tmp_path: Path) -> None:
    folder = write_results(tmp_path / "old")
    person = json.loads((folder / "persons/000003_model.json").read_text())
    values = {f"{r['measure']}/{r['row']}": r["values"] for r in person["records"]}
    (folder / "persons/000003_model.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match="made by an older version of omote; measure into another folder"):
        load_results(folder)


def test_names_are_as_short_as_tells_folders_apart(tmp_path: Path) -> None:
    assert names_of([tmp_path / "x/a", tmp_path / "y/b"]) == ["a", "b"]
    assert names_of([tmp_path / "x/a", tmp_path / "y/a"]) == ["x/a", "y/a"]
    with pytest.raises(ConfigError, match="given twice"):
        names_of([tmp_path / "a", tmp_path / "x/../a"])


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0.0, 1.94) == pytest.approx([0, 0.5, 1.0, 1.5])
    assert ticks(25.3, 39.9) == pytest.approx([30, 35])
    for low, high in ((0.0, 0.003), (-2.0, 7.0), (0.0, 1234.0)):
        values = ticks(low, high)
        assert 2 <= len(values) <= 6
        assert all(low - 1e-9 <= v <= high + 1e-9 for v in values)
        assert np.allclose(np.diff(values), values[1] - values[0])
