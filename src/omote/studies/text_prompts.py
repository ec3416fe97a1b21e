"""The suite of texts: whether expressions requested in held-out words are as recognisable as those requested by category.

Each unseen person gets seven expressions per form of request: category and intensity, and an English and a Japanese caption of
the same category and intensity that was held out from training. Everything is measured twice: with ARKit weights drawn from the
read category, as an avatar is made, and with the token in cross-attention alone (``given=token``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from omote.datasets.population import Person, draw_person
from omote.diffusion.settings import EditSettings
from omote.evaluation.comparison import batch, stacked
from omote.evaluation.ground_truth import GroundTruth, render_ground_truth
from omote.evaluation.judges.panel import ExpressionJudges, load_expression_judges
from omote.evaluation.measure import judged
from omote.evaluation.records import (
    Cell,
    PersonRecords,
    Record,
    Row,
    Table,
    is_evidence,
    load_records,
    save_records,
    value_of,
)
from omote.evaluation.summary import TOP1, merged, summarise
from omote.head.expressions import CATEGORIES, draw_expression
from omote.head.shipped import population_heads
from omote.progress import Step, Steps
from omote.rgbd.conditions.text.captions import Caption, draw_caption
from omote.rgbd.conditions.text.words import LANGUAGES, Language
from omote.rgbd.model import EditingModel
from omote.studies.base import Results, Work
from omote.studies.edit_methods import seeded
from omote.studies.suites import TextSuite
from omote.studies.table import CEILING
from omote.types import Expression, Rgbd

BY_CATEGORY = Row("category")
IN_WORDS: Mapping[Language, Row] = {language: Row("text").under(language=language) for language in LANGUAGES}
# Random streams of captions and of drawn weights.
CAPTION_STREAM, WEIGHT_STREAM = 17, 91
BOTH = "expression/top1_both"
assert BOTH in TOP1


def measure_text(suite: TextSuite, work: Work) -> Steps[Results]:
    """Measure every form of request.

    Raises:
        CheckpointError: the text encoders are not installed, or damaged weights.
        JudgeError: the judges are not installed.
    """
    yield Step(stage="load")
    model, judges, population = suite.model(), load_expression_judges(), suite.unseen()
    heads = population_heads(population.ict)

    def measure(name: str) -> PersonRecords:
        person = draw_person(population, int(name), heads)
        truth = render_ground_truth(person, heads)
        captions = {language: captions_of(person, language) for language in LANGUAGES}
        read = {
            language: model.text_conditioner.expressions([c.text for c in asked], min_probability=0.0)
            for language, asked in captions.items()
        }
        images = images_of(model, EditSettings(seed=suite.seed), person, truth, captions, read)
        return PersonRecords(
            parts={"head": heads[person.head].name},
            category=tuple(range(len(CATEGORIES))),
            intensity=tuple(c.intensity for c in captions["en"]),
            records=(*reading(captions, read), *recognised(images, truth, judges)),
        )

    found = yield from work.kept("persons", suite.names(), measure, save_records, load_records)
    persons = list(found.values())
    table = summarise(persons)
    return Results(table=merged(table, over_category(table)))


def captions_of(person: Person, language: Language) -> list[Caption]:
    """A held-out caption per category, drawn for the person."""
    rng = np.random.default_rng([CAPTION_STREAM, person.index, LANGUAGES.index(language)])
    return [draw_caption(rng, language=language, category=c, split="test") for c in CATEGORIES]


def reading(
    captions: Mapping[Language, Sequence[Caption]], read: Mapping[Language, Sequence[Expression]]
) -> Iterator[Record]:
    """Whether captions are read as the category that they were written for."""
    for language, row in IN_WORDS.items():
        pairs = list(zip(read[language], captions[language], strict=True))
        right = np.array([e.category == c.category for e, c in pairs], np.float64)
        off = np.array([abs(e.intensity - c.intensity) for e, c in pairs], np.float64)
        yield Record(row=row, measure="text/category_accuracy", values=right)
        yield Record(row=row, measure="text/intensity_mae", values=off)


def images_of(
    model: EditingModel,
    settings: EditSettings,
    person: Person,
    truth: GroundTruth,
    captions: Mapping[Language, Sequence[Caption]],
    read: Mapping[Language, Sequence[Expression]],
) -> dict[Row, Sequence[Rgbd]]:
    """Images by every form of request, and the true renders, in the order of `CATEGORIES`."""
    source, own = truth.images[0], seeded(settings, person)
    face = model.face_of(source)

    def led(asked: Sequence[Expression]) -> list[Expression]:
        # Recipe and jitter are the same for every form of request: only what was read differs.
        rngs = [np.random.default_rng([WEIGHT_STREAM, own.seed, i]) for i in range(len(asked))]
        return [
            replace(draw_expression(e.category, rng, intensity=e.intensity), text=e.text)
            for e, rng in zip(asked, rngs, strict=True)
        ]

    asked: dict[Row, Sequence[Expression]] = {row: read[language] for language, row in IN_WORDS.items()}
    # Requests by category have the intensities of the English captions.
    asked[BY_CATEGORY] = [Expression(category=c.category, intensity=c.intensity) for c in captions["en"]]
    shown = [e.category for e in person.expressions]
    images: dict[Row, Sequence[Rgbd]] = {CEILING: [truth.images[shown.index(name)] for name in CATEGORIES]}
    for row, expressions in asked.items():
        images[row] = model.edit(source, led(expressions), own, face=face)
        images[row.under(given="token")] = model.edit(source, expressions, own)
    return images


def recognised(images: Mapping[Row, Sequence[Rgbd]], truth: GroundTruth, judges: ExpressionJudges) -> Iterator[Record]:
    """The judges' top answers."""
    neutral = torch.from_numpy(np.repeat(truth.landmarks_px[:1], len(CATEGORIES), 0))
    for row, seen in images.items():
        found = judged(row, batch(stacked(seen)), neutral, CATEGORIES, judges)
        # Rows have different intensities, on which probabilities depend.
        yield from (record for record in found if is_evidence(record.measure))


def over_category(table: Table) -> Table:
    """Accuracy of requests in words, divided by that of requests by category."""
    out: dict[Row, dict[str, Cell]] = {}
    for row in IN_WORDS.values():
        for of, reference in ((row, BY_CATEGORY), (row.under(given="token"), BY_CATEGORY.under(given="token"))):
            ratio = value_of(table[of][BOTH]) / max(value_of(table[reference][BOTH]), 1e-9)
            out[of] = {"ratio/top1_over_category": ratio}
    return out
