"""Search ARKit weights that the two expression judges recognise, near each recipe of the expression table.

Persons come from the tuning split, which neither training nor any test draws from. What is found is typed into
`omote/head/expressions.py` by a person who has looked at it: a recipe must also look like its category to people.

    python scripts/tune_recipes.py --ict PATH --categories angry fearful --persons 8 --rounds 12 --out recipes.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from omote.datasets.population import Person, PopulationConfig, draw_person, render_person
from omote.evaluation.judges.panel import load_expression_judges
from omote.head.expressions import CATEGORIES, RECIPES, Recipe, draw_expression
from omote.head.shipped import population_heads

# Units that FACS allows in a category (and what goes with them in a real face), with their upper bounds.
ALLOWED = {
    "happy": {"mouthSmile": 1, "cheekSquint": 1, "eyeSquint": 0.5, "mouthDimple": 0.8, "mouthUpperUp": 0.9,
              "mouthLowerDown": 0.8, "jawOpen": 0.4, "mouthStretch": 0.6, "mouthPress": 0.5, "mouthShrugUpper": 0.3,
              "browOuterUp": 0.3},
    "sad": {"browInnerUp": 1, "browDown": 0.6, "mouthFrown": 1, "mouthShrugLower": 1, "mouthShrugUpper": 0.5,
            "mouthRollLower": 0.6, "mouthPress": 0.6, "mouthStretch": 0.5, "eyeSquint": 0.4, "eyeBlink": 0.25,
            "eyeLookDown": 0.3, "cheekSquint": 0.5, "mouthLowerDown": 0.4, "mouthPucker": 0.3},
    "angry": {"browDown": 1, "eyeSquint": 0.9, "eyeWide": 0.8, "noseSneer": 1, "mouthPress": 1, "mouthRollLower": 0.9,
              "mouthRollUpper": 0.9, "mouthFrown": 1, "mouthUpperUp": 1, "mouthLowerDown": 1, "jawOpen": 0.6,
              "mouthStretch": 0.8, "mouthShrugLower": 1, "mouthShrugUpper": 0.8, "mouthFunnel": 1, "jawForward": 0.8,
              "cheekSquint": 0.7, "mouthPucker": 0.5},
    "surprised": {"browInnerUp": 1, "browOuterUp": 1, "eyeWide": 1, "jawOpen": 0.8, "mouthFunnel": 0.6},
    "fearful": {"browInnerUp": 1, "browDown": 0.7, "browOuterUp": 1, "eyeWide": 1, "mouthStretch": 1, "jawOpen": 0.6,
                "mouthLowerDown": 1, "mouthUpperUp": 0.6, "mouthFrown": 1, "mouthFunnel": 0.5, "mouthRollLower": 0.5,
                "eyeSquint": 0.5, "cheekSquint": 0.4, "mouthShrugUpper": 0.4},
    "disgusted": {"noseSneer": 1, "mouthUpperUp": 1, "mouthFrown": 1, "mouthLowerDown": 1, "mouthShrugLower": 1,
                  "mouthShrugUpper": 1, "browDown": 1, "cheekSquint": 1, "eyeSquint": 1, "jawOpen": 0.5,
                  "mouthStretch": 0.6, "mouthRollLower": 0.5, "mouthPucker": 0.5, "tongueOut": 0.3,
                  "eyeBlink": 0.4},
}  # fmt: skip
NEARNESS = 0.05  # price of leaving the recipe, per squared weight


def log_probability(
    weights: dict[str, float], category: str, persons: list[Person], heads: list, judges: object, neutral: torch.Tensor
) -> tuple[float, float]:
    """(mean log of the judges' mean probability, top-1 share) over persons, each with a fixed draw of the variety.

    The variety belongs in the search: weights found without intensity, jitter and resting lids do not survive them.
    """
    recipe = Recipe(action_units="tried", weights=weights)
    images = []
    for person in persons:
        shown = draw_expression(category, np.random.default_rng([5, person.index]), recipe=recipe)
        images.append(next(iter(render_person(person, heads, [shown])))[0].rgb)
    rgb = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    both = judges.probabilities(rgb, neutral).both  # type: ignore[attr-defined]
    wanted = CATEGORIES.index(category)
    return float(torch.log(both[:, wanted] / 2 + 0.02).mean()), float((both.argmax(1) == wanted).float().mean())


def balanced_persons(config: PopulationConfig, heads: list, count: int) -> list[Person]:
    """The first persons from 500 on, equally many of each head: a recipe must work on all."""
    quota = {head: count // len(heads) for head in range(len(heads))}
    persons, index = [], 500
    while any(quota.values()):
        person = draw_person(config, index, heads)
        if quota[person.head]:
            quota[person.head] -= 1
            persons.append(person)
        index += 1
    return persons


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ict", type=Path)
    parser.add_argument("--categories", nargs="+", default=list(ALLOWED))
    parser.add_argument("--persons", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--draws", type=int, default=14)
    parser.add_argument("--nearness", type=float, default=NEARNESS)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = PopulationConfig(split="tuning", ict=options.ict, num_images=1)
    heads = population_heads(config.ict)
    persons = balanced_persons(config, heads, options.persons)
    rest = [next(iter(render_person(p, heads))) for p in persons]
    neutral = torch.from_numpy(np.stack([r[1] for r in rest]))
    judges = load_expression_judges()
    found: dict[str, object] = {}
    for category in options.categories:
        names = list(ALLOWED[category])
        upper = np.array([ALLOWED[category][n] for n in names])
        for recipe in RECIPES[category]:
            rng = np.random.default_rng(0)
            start = np.array([recipe.weights.get(n, 0.0) for n in names])
            mean, spread = start.copy(), 0.25 * np.ones(len(names))
            best = (-np.inf, start, 0.0)
            for _ in range(options.rounds):
                draws = np.clip(mean + spread * rng.standard_normal((options.draws, len(names))), 0, upper)
                draws[0] = np.clip(mean, 0, upper)
                scored = []
                for w in draws:
                    weights = dict(zip(names, w.tolist(), strict=True))
                    score, hits = log_probability(weights, category, persons, heads, judges, neutral)
                    score -= options.nearness * float(((w - start) ** 2).sum())
                    scored.append((score, w, hits))
                scored.sort(key=lambda s: -s[0])
                best = max(best, scored[0], key=lambda s: s[0])
                elite = np.stack([w for _, w, _ in scored[: max(3, options.draws // 4)]])
                mean, spread = 0.3 * mean + 0.7 * elite.mean(0), 0.5 * spread + 0.5 * (elite.std(0) + 0.03)
            key = f"{category}/{recipe.action_units}"
            weights = {n: round(float(w), 2) for n, w in zip(names, best[1], strict=True) if w >= 0.04}
            found[key] = {"weights": weights, "top1": best[2], "score": round(best[0], 3)}
            print(key, found[key], flush=True)
            options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
