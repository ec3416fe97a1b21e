"""The text suite's sums, by hand."""

import pytest

from omote.head.expressions import CATEGORIES
from omote.studies.text_prompts import ROWS, summarise


def person(wrong_in_english):
    right = list(range(len(CATEGORIES)))
    out = {f"judged_{judge}/{row}": list(right) for judge in ("faceapi", "fer", "both") for row in ROWS}
    out["true_category"] = right[::-1]
    for judge in ("faceapi", "fer", "both"):
        out[f"judged_{judge}/ceiling"] = right[::-1]
        for k in range(wrong_in_english):
            out[f"judged_{judge}/text_en"][k] = 6 - k
    return out | {
        "read/en": right, "read/ja": [0] * 7, "intensity_error/en": [0.9] + [0.1] * 6, "intensity_error/ja": [0.2] * 7,
    }  # fmt: skip


def test_words_are_counted_against_categories_and_the_ceiling_against_its_own_order():
    out = summarise([person(0), person(2)])
    assert out["expression/top1_both/category"] == 1.0
    assert out["expression/top1_both/ceiling"] == 1.0
    assert out["expression/top1_both/text_en"] == pytest.approx(1 - 2 / 14)
    assert out["ratio/top1_over_category/text_en"] == pytest.approx(1 - 2 / 14)
    assert out["ratio/top1_over_category/text_ja"] == 1.0
    assert out["text/category_accuracy/en"] == 1.0
    assert out["text/category_accuracy/ja"] == pytest.approx(1 / 7)
    # Neutral has no intensity to be wrong about.
    assert out["text/intensity_mae/en"] == pytest.approx(0.1)
