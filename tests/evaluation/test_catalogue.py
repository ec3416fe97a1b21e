"""The catalogue decides every key: what it is, what it is of, and that nothing else can be written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from omote.errors import ConfigError
from omote.evaluation import registry
from omote.evaluation.catalogue import Metric, catalogue, checked, markdown, metric_of, register, split, write_metrics
from omote.evaluation.records import PersonRecords, Record, Row, joined, load_records, save_records
from stand_ins import use_metrics


def metric(key: str) -> Metric:
    return Metric(key=key, title="", unit="", better="neither", digits=0, function=len, definition="")


def test_a_key_is_read_back_as_the_metric_and_the_row_that_it_was_written_of() -> None:
    rows = (
        Row(),
        Row("my_category_net"),
        Row("model").under(head="omote"),
        Row().under(head="ict"),
        Row("my_arkit_4").under(condition="category", steps=4),
    )
    keys = [key.replace("{n}", "8").replace("{metric}", "depth/silog") for key in registry._BY_KEY]
    assert len(keys) > 150
    for key in keys:
        for row in rows:
            got, of = split(f"{key}/{row}".rstrip("/"))
            assert (got.key, str(of)) == (key, str(row))
            assert "{" not in got.title + got.definition


def test_parameters_are_closed_sets_and_counts() -> None:
    assert metric_of("fd/face_id_mean_crop").title == "Fréchet distance (face_id_mean_crop)"
    assert metric_of("depth/mae_mm_best_of_4").definition.startswith("The least depth error among 4 samples")
    assert metric_of("ratio/depth/mae_mm_metric").title == "depth error, over the first editor's"
    for wrong in ("fd/face", "depth/mae_mm_best_of_0", "depth/mae_mm_best_of_", "ratio/depth", "expression/top1_you"):
        with pytest.raises(ValueError, match="no such metric"):
            metric_of(wrong)


def test_what_is_not_in_the_catalogue_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="depth/mae_mm_metrics/model: no such metric.*'depth/mae_mm_metric'"):
        write_metrics(tmp_path / "metrics.json", {"depth/mae_mm_metrics/model": 1.0})
    assert not list(tmp_path.iterdir())
    write_metrics(tmp_path / "metrics.json", {"depth/silog/model": float("nan"), "count/persons": 3})
    text = (tmp_path / "metrics.json").read_text()
    assert json.loads(text) == {"count/persons": 3, "depth/silog/model": None}
    assert list(checked({"depth/silog/b": 1.0, "depth/silog/a": 2.0})) == ["depth/silog/a", "depth/silog/b"]


def test_two_metrics_cannot_share_a_key_nor_one_be_a_row_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    use_metrics(monkeypatch)
    for taken in ("depth/silog", "fd/face_id", "fd/{extractor}", "depth/silog/model", "depth/mae_mm_best_of_{n}"):
        with pytest.raises(ValueError, match="already"):
            register(metric(taken))
    for undecidable in ("mine", "mine/{something}", "Mine/a", "mine/a=b"):
        with pytest.raises(ValueError, match="expected"):
            register(metric(undecidable))
    register(metric("mine/a"))
    assert checked({"mine/a/model": 1.0})


def test_every_metric_has_a_definition() -> None:
    for m in catalogue():
        assert callable(m.function)
        assert m.title
        assert m.definition.endswith(".")
        assert m.better in ("lower", "higher", "neither")


def test_the_table_of_the_docs_is_the_catalogue() -> None:
    page = (Path(__file__).parents[2] / "docs/evaluation.md").read_text(encoding="utf-8")
    table = page.partition("<!-- metrics -->\n")[2].partition("<!-- /metrics -->")[0]
    assert table == markdown(), "python scripts/metric_table.py"


def test_names_that_would_make_a_key_ambiguous_are_refused() -> None:
    for wrong in (lambda: Row("a/b"), lambda: Row("lr=1"), lambda: Row("a").under(scan="x/y")):
        with pytest.raises(ConfigError, match="without / and ="):
            wrong()


def person(*records: Record) -> PersonRecords:
    return PersonRecords(
        parts={"head": "omote", "yaw_deg": "-30"}, category=(0, 1), intensity=(0.0, 0.7), records=records
    )


def test_records_are_read_back_as_they_were_saved(tmp_path: Path) -> None:
    row = Row("many_arkit").under(condition="prior", steps=4)
    saved = person(
        Record(row=row, measure="depth/silog", values=np.array([np.nan, 1 / 3])),
        Record(row=Row("ceiling"), measure="descriptor/faceapi", values=np.arange(4.0).reshape(1, 4)),
    )
    save_records(tmp_path / "a.json", saved)
    assert "NaN" not in (tmp_path / "a.json").read_text()
    got = load_records(tmp_path / "a.json")
    assert (got.parts, got.category, got.intensity) == (saved.parts, saved.category, saved.intensity)
    assert got.rows() == saved.rows() == [row, Row("ceiling")]
    for a, b in zip(got.records, saved.records, strict=True):
        assert a.measure == b.measure
        np.testing.assert_array_equal(a.values, b.values)
    assert got.find(row, "depth/mae_mm_metric") is None
    assert joined([got, person()]).rows() == got.rows()


def test_an_older_versions_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"category": [0], "mae/model": [1.0]}))
    with pytest.raises(ConfigError, match="made by an older version of omote; measure into another folder"):
        load_records(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ConfigError, match="expected a person's records"):
        load_records(tmp_path / "a.json")
