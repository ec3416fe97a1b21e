"""Is the population's ground truth recognisable? Judges on true renders of unseen persons, and sheets to look at."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from omote.datasets.population import PopulationConfig, draw_person, render_person
from omote.evaluation import metrics
from omote.evaluation.judges import JUDGES, load_expression_judges
from omote.evaluation.measure import EvaluationStep
from omote.files import atomic_path
from omote.head.expressions import CATEGORIES, RECIPES, draw_expression
from omote.head.shipped import population_heads

SHEET_COLUMNS = 12


@dataclass(frozen=True, kw_only=True)
class PopulationSuite:
    """Which persons.

    Attributes:
        population: its split must be "test" for numbers that are published, "tuning" while recipes change.
        num_persons: each shows every category once.
    """

    population: PopulationConfig
    num_persons: int = 100


def evaluate_population(config: PopulationSuite, out: Path) -> Iterator[EvaluationStep]:
    """Judge true renders into ``out/metrics.json`` and ``out/sheet.png`` (a row per category, a column per person)."""
    heads = population_heads(config.population.ict)
    judges = load_expression_judges()
    out.mkdir(parents=True, exist_ok=True)
    judged: dict[str, list[np.ndarray]] = {judge: [] for judge in JUDGES}
    truth: list[int] = []
    tiles: list[list[np.ndarray]] = [[] for _ in CATEGORIES]
    for index in range(config.num_persons):
        person = draw_person(replace(config.population, num_images=1), index, heads)
        rng = np.random.default_rng([17, config.population.seed, index])
        shown = tuple(draw_expression(category, rng) for category in CATEGORIES)
        rendered = list(render_person(person, heads, shown))
        rgb = torch.from_numpy(np.stack([r[0].rgb for r in rendered])).permute(0, 3, 1, 2).contiguous()
        neutral = torch.from_numpy(np.repeat(rendered[0][1][None], len(CATEGORIES), 0))
        for judge, probabilities in judges.probabilities(rgb, neutral).named().items():
            judged[judge].append(probabilities.argmax(dim=1).numpy())
        truth.extend(range(len(CATEGORIES)))
        if index < SHEET_COLUMNS:
            for row, (image, _, _) in zip(tiles, rendered, strict=True):
                row.append(image.rgb)
        yield EvaluationStep(done=index + 1, total=config.num_persons)
    numbers: dict[str, float | list[list[float]]] = {"count/persons": config.num_persons}
    for judge in JUDGES:
        accuracy = metrics.accuracy(np.array(truth), np.concatenate(judged[judge]), len(CATEGORIES))
        numbers[f"expression/top1_{judge}/ceiling"] = accuracy.macro
        for name, value in zip(CATEGORIES, accuracy.per_class, strict=True):
            numbers[f"expression/top1_{judge}_{name}/ceiling"] = float(value)
        numbers[f"expression/confusion_{judge}"] = accuracy.confusion.round(3).tolist()
    with atomic_path(out / "metrics.json") as temporary:
        temporary.write_text(json.dumps(numbers, indent=2, sort_keys=True) + "\n")
    sheet = np.concatenate([np.concatenate(row, axis=1) for row in tiles])
    with atomic_path(out / "sheet.png") as temporary:
        Image.fromarray(np.round(sheet * 255).astype(np.uint8)).save(temporary)


def judge_recipes(config: PopulationSuite) -> dict[str, float]:
    """Per recipe ("category/action units"), the summed judges' top-1 rate: what recipes are tuned by."""
    heads = population_heads(config.population.ict)
    judges = load_expression_judges()
    hits: dict[str, list[bool]] = {}
    for index in range(config.num_persons):
        person = draw_person(replace(config.population, num_images=1), index, heads)
        rng = np.random.default_rng([23, config.population.seed, index])
        names, shown = [], []
        for category in CATEGORIES:
            for recipe in RECIPES[category]:
                names.append((category, recipe.action_units))
                shown.append(draw_expression(category, rng, recipe=recipe))
        rendered = list(render_person(person, heads, shown))
        rgb = torch.from_numpy(np.stack([r[0].rgb for r in rendered])).permute(0, 3, 1, 2).contiguous()
        neutral = torch.from_numpy(np.repeat(rendered[0][1][None], len(shown), 0))
        best = judges.probabilities(rgb, neutral).both.argmax(dim=1).tolist()
        for (category, units), got in zip(names, best, strict=True):
            hits.setdefault(f"{category}/{units}", []).append(got == CATEGORIES.index(category))
    return {name: float(np.mean(values)) for name, values in hits.items()}
