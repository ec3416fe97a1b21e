"""The text suite's sums, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from omote.evaluation.records import PersonRecords, Record, Row, judged_by, value_of
from omote.evaluation.summary import merged, summarise
from omote.head.expressions import CATEGORIES
from omote.rgbd.conditions.text.captions import Caption
from omote.studies.edit_methods import CEILING
from omote.studies.text_prompts import BY_CATEGORY, IN_WORDS, over_category, reading
from omote.types import Expression

EN, JA = IN_WORDS.values()


def person(wrong_in_english: int) -> PersonRecords:
    right = np.arange(7.0)
    records = []
    for row in (BY_CATEGORY, EN, JA):
        for given in (row, row.under(given="token")):
            judged = right.copy()
            if given == EN:
                judged[:wrong_in_english] = 6 - judged[:wrong_in_english]
            records.append(Record(row=given, measure=judged_by("both"), values=judged))
    records.append(Record(row=CEILING, measure=judged_by("both"), values=right))
    asked = {
        language: [Caption(text="", language=language, category=name, intensity=0.5) for name in CATEGORIES]
        for language in IN_WORDS
    }
    off = {"en": [0.5] + [0.1] * 6, "ja": [0.2] * 7}
    # All Japanese is read as neutral.
    read = {
        "en": [Expression(category=name, intensity=0.5 + off["en"][k]) for k, name in enumerate(CATEGORIES)],
        "ja": [Expression(category="neutral", intensity=0.5 + x) for x in off["ja"]],
    }
    records += reading(asked, read)
    return PersonRecords(parts={}, category=tuple(range(7)), intensity=(0.5,) * 7, records=tuple(records))


def test_words_are_counted_against_categories() -> None:
    found = summarise([person(0), person(2)])
    table = merged(found, over_category(found))

    def value(row: Row, key: str) -> float:
        return value_of(table[row][key])

    assert value(BY_CATEGORY, "expression/top1_both") == value(CEILING, "expression/top1_both") == 1.0
    assert value(EN, "expression/top1_both") == pytest.approx(1 - 2 / 14)
    assert value(EN, "ratio/top1_over_category") == pytest.approx(1 - 2 / 14)
    assert value(JA, "ratio/top1_over_category") == value(EN.under(given="token"), "ratio/top1_over_category") == 1.0
    assert value(EN, "text/category_accuracy") == 1.0
    assert value(JA, "text/category_accuracy") == pytest.approx(1 / 7)
    # Neutral has no intensity to be wrong about.
    assert value(EN, "text/intensity_mae") == pytest.approx(0.1)
    assert str(EN.under(given="token")) == "text/language=en/given=token"
