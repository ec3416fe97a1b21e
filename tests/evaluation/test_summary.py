"""Persons' records summed up: which images count, what needs every person, and that an interval is around its value."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from omote.evaluation import metrics
from omote.evaluation.records import PersonRecords, Record, Row, descriptor_by, judged_by, value_of
from omote.evaluation.statistics import Interval
from omote.evaluation.summary import confusions, interval, merged, per_person, persons_apart, summarise, summarise_parts
from omote.head.expressions import CATEGORIES

MODEL, COPY, CEILING = Row("model"), Row("copy_source"), Row("ceiling")


def person(ssim: float, *, hit: float, head: str = "omote", without: tuple[str, ...] = ()) -> PersonRecords:
    records = [
        (MODEL, "color/ssim", [1.0, ssim, ssim]),
        (MODEL, "depth/normals_deg", [0.0, 3.0, 6.0]),
        (MODEL, "expression/asked_both", [0.9, hit * 0.4, hit * 0.9]),
        (COPY, "expression/asked_both", [0.9, 0.1, 0.1]),
        (CEILING, "expression/asked_both", [0.9, 0.4, 0.9]),
    ]
    return PersonRecords(
        parts={"head": head},
        category=(0, 1, 1),
        intensity=(0.5, 0.4, 0.9),
        records=tuple(
            Record(row=row, measure=key, values=np.array(v)) for row, key, v in records if key not in without
        ),
    )


def test_neutral_counts_for_geometry_and_not_for_colour_or_expression() -> None:
    got = summarise([person(0.8, hit=1.0), person(0.6, hit=1.0)])
    assert value_of(got[MODEL]["color/ssim"]) == pytest.approx(0.7)
    assert value_of(got[MODEL]["depth/normals_deg"]) == pytest.approx(3.0)
    assert got[MODEL]["expression/gain_both"] == pytest.approx(1.0)
    assert got[COPY]["expression/gain_both"] == 0.0
    assert got[MODEL]["expression/cls_both"] == pytest.approx(1.0)
    assert np.isnan(value_of(got[COPY]["expression/cls_both"]))


def test_what_one_person_lacks_is_left_out() -> None:
    lacking = person(0.5, hit=1.0, without=("expression/asked_both", "color/ssim"))
    got = summarise([person(0.8, hit=1.0), lacking])
    assert {row: set(cells) for row, cells in got.items()} == {MODEL: {"depth/normals_deg"}}
    assert interval([person(0.8, hit=1.0), lacking], "color/ssim", MODEL) is None
    assert interval([], "color/ssim", MODEL) is None


def test_parts_are_summed_up_apart_and_counted() -> None:
    persons = [person(0.8, hit=1.0), person(0.6, hit=1.0, head="ict"), person(0.4, hit=1.0, head="ict")]
    got = summarise_parts(persons, {"color/ssim"})
    assert {str(row): value_of(cell) for row, cells in got.items() for cell in cells.values()} == pytest.approx(
        {"head=ict": 2, "head=omote": 1, "model/head=ict": 0.5, "model/head=omote": 0.8}
    )
    assert merged({MODEL: {"color/ssim": 1.0}}, {MODEL: {"depth/silog": 2.0}}) == {
        MODEL: {"color/ssim": 1.0, "depth/silog": 2.0}
    }


def test_an_accuracy_is_the_mean_over_classes_with_what_it_is_made_of() -> None:
    rng = np.random.default_rng(0)
    persons = []
    for _ in range(20):
        category = tuple(rng.integers(0, 7, 9).tolist())
        judged = np.where(rng.random(9) < 0.6, category, 6 - np.array(category)).astype(np.float64)
        record = Record(row=MODEL, measure=judged_by("both"), values=judged)
        persons.append(PersonRecords(parts={}, category=category, intensity=(1.0,) * 9, records=(record,)))
    expected = metrics.accuracy(
        np.concatenate([p.category for p in persons]),
        np.concatenate([p.records[0].values for p in persons]).astype(int),
        7,
    )
    cells = summarise(persons)[MODEL]
    top1 = cells["expression/top1_both"]
    assert isinstance(top1, Interval)
    assert top1.value == pytest.approx(expected.macro)
    assert top1.low < top1.value < top1.high
    for k, name in enumerate(CATEGORIES):
        assert value_of(cells[f"expression/top1_both_{name}"]) == pytest.approx(expected.per_class[k])
    matrix = confusions(persons, MODEL)
    assert matrix["expression/confusion_both/model/true=happy/judged=happy"] == pytest.approx(expected.confusion[1, 1])
    mean = per_person(persons, "expression/top1_both", MODEL)
    assert mean is not None
    assert mean[0] == np.mean(persons[0].records[0].values == persons[0].category)


def test_different_persons_lie_apart_and_one_does_not() -> None:
    def described(x: float) -> PersonRecords:
        record = Record(row=CEILING, measure=descriptor_by("faceapi"), values=np.array([[x, 0.0]]))
        return replace(person(0.5, hit=1.0), records=(record,))

    assert persons_apart([described(0), described(1), described(5)]) == {Row(): {"identity_apart/faceapi": 10 / 3}}
    assert persons_apart([described(0)]) == {}
