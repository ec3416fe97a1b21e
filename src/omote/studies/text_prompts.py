"""The text suite: whether expressions asked for in held-out words are as recognisable as those asked for by category.

Each unseen person shows seven expressions per way of asking: by category and intensity, and by an English and a Japanese
caption that training never saw, of the same category and intensity. Twice: led by ARKit weights drawn from what was read, as an
avatar is made, and with nothing but the token in cross-attention.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from omote.datasets.population import Person, PopulationConfig, draw_person
from omote.evaluation import metrics
from omote.evaluation.judges import JUDGES, load_expression_judges
from omote.evaluation.measure import EvaluationStep
from omote.evaluation.truth import Truth, render_truth
from omote.files import atomic_path
from omote.head.expressions import CATEGORIES, draw_expression
from omote.head.shipped import population_heads
from omote.rgbd.conditions.text.captions import Caption, draw_caption
from omote.rgbd.conditions.text.words import LANGUAGES, Language
from omote.rgbd.model import EditingModel, EditSettings
from omote.types import Expression, Rgbd

WAYS = ("category", *(f"text_{language}" for language in LANGUAGES))
ROWS = (*WAYS, *(f"{way}_token" for way in WAYS), "ceiling")


@dataclass(frozen=True, kw_only=True)
class TextSuite:
    """What is measured.

    Attributes:
        population: the split must be "test" for numbers that are published.
        num_persons: each with seven expressions, in both languages.
        settings: how the model samples.
    """

    population: PopulationConfig
    num_persons: int = 40
    settings: EditSettings = EditSettings()


def evaluate_text(model: EditingModel, config: TextSuite, out: Path) -> Iterator[EvaluationStep]:
    """Run the suite into ``out``: ``persons/*.json`` as it goes, ``metrics.json`` at the end.

    Raises:
        CheckpointError: the text encoders are not installed.
        JudgeError: the judges' weights are not installed.
    """
    heads = population_heads(config.population.ict)
    judges = load_expression_judges()
    (out / "persons").mkdir(parents=True, exist_ok=True)
    persons = []
    for index in range(config.num_persons):
        path = out / "persons" / f"{index:06d}.json"
        if not path.exists():
            person = draw_person(replace(config.population, num_images=len(CATEGORIES)), index, heads)
            truth = render_truth(person, heads)
            captions = {language: _captions(person, language) for language in LANGUAGES}
            read = {
                language: model.reader.expressions([c.text for c in asked], min_probability=0.0)
                for language, asked in captions.items()
            }
            neutral = torch.from_numpy(np.repeat(truth.landmarks_px[:1], len(CATEGORIES), 0))
            result: dict[str, object] = {
                "captions": [c.text for asked in captions.values() for c in asked],
                # True renders show the person's own draw, in its own order.
                "true_category": [CATEGORIES.index(e.category) for e in person.expressions],
            }
            for language, asked in captions.items():
                result[f"read/{language}"] = [CATEGORIES.index(e.category) for e in read[language]]
                result[f"intensity_error/{language}"] = [
                    abs(e.intensity - c.intensity) for e, c in zip(read[language], asked, strict=True)
                ]
            for row, images in _images(model, config, person, truth, captions, read).items():
                rgb = torch.from_numpy(np.stack([i.rgb for i in images])).permute(0, 3, 1, 2).contiguous()
                for judge, probabilities in judges.probabilities(rgb, neutral).named().items():
                    result[f"judged_{judge}/{row}"] = probabilities.argmax(dim=1).tolist()
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps(result, ensure_ascii=False))
        persons.append(json.loads(path.read_text()))
        yield EvaluationStep(done=index + 1, total=config.num_persons)
    with atomic_path(out / "metrics.json") as temporary:
        temporary.write_text(json.dumps(summarise(persons), indent=2, sort_keys=True) + "\n")


def _captions(person: Person, language: Language) -> list[Caption]:
    """A held-out caption per category, of the person's own draw."""
    rng = np.random.default_rng([17, person.index, LANGUAGES.index(language)])
    return [draw_caption(rng, language=language, category=c, split="test") for c in CATEGORIES]


def _images(
    model: EditingModel,
    config: TextSuite,
    person: Person,
    truth: Truth,
    captions: Mapping[Language, Sequence[Caption]],
    read: Mapping[Language, Sequence[Expression]],
) -> dict[str, list[Rgbd]]:
    source = truth.images[0]
    face = model.face_of(source)
    settings = replace(config.settings, seed=config.settings.seed + 1000 * person.index)

    def led(asked: Sequence[Expression]) -> list[Expression]:
        # The same draw of recipe and jitter for every way of asking: only what was understood differs.
        rngs = [np.random.default_rng([91, settings.seed, i]) for i in range(len(asked))]
        return [
            replace(draw_expression(e.category, rng, intensity=e.intensity), text=e.text)
            for e, rng in zip(asked, rngs, strict=True)
        ]

    asked = {f"text_{language}": list(read[language]) for language in LANGUAGES}
    # By category the asked intensities are those of the English captions.
    asked["category"] = [Expression(category=c.category, intensity=c.intensity) for c in captions["en"]]
    out = {"ceiling": truth.images}
    for way, expressions in asked.items():
        out[way] = model.edit(source, led(expressions), settings, face=face)
        out[f"{way}_token"] = model.edit(source, expressions, settings)
    return out


def summarise(persons: Sequence[Mapping[str, object]]) -> dict[str, float]:
    """Per-person results → flat keys ``<metric>/<row>``."""

    def column(key: str) -> np.ndarray:
        return np.array([p[key] for p in persons], dtype=np.float64)

    category = np.tile(np.arange(len(CATEGORIES)), len(persons))
    true_category = column("true_category").astype(int).ravel()
    out: dict[str, float] = {"count/persons": float(len(persons))}
    for row in ROWS:
        for judge in JUDGES:
            judged = column(f"judged_{judge}/{row}").astype(int).ravel()
            asked = true_category if row == "ceiling" else category
            accuracy = metrics.accuracy(asked, judged, len(CATEGORIES))
            out[f"expression/top1_{judge}/{row}"] = accuracy.macro
            for name, value in zip(CATEGORIES, accuracy.per_class, strict=True):
                out[f"expression/top1_{judge}_{name}/{row}"] = float(value)
    shown = category != CATEGORIES.index("neutral")
    for language in LANGUAGES:
        row = f"text_{language}"
        for suffix in ("", "_token"):
            ratio = out[f"expression/top1_both/{row}{suffix}"] / max(
                out[f"expression/top1_both/category{suffix}"], 1e-9
            )
            out[f"ratio/top1_over_category/{row}{suffix}"] = ratio
        out[f"text/category_accuracy/{language}"] = float((column(f"read/{language}").ravel() == category).mean())
        out[f"text/intensity_mae/{language}"] = float(column(f"intensity_error/{language}").ravel()[shown].mean())
    return out
