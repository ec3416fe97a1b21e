"""Search ARKit weights that the two expression judges recognise, near each recipe of the expression table.

Persons come from the tuning split, which neither training nor any test draws from. What is found is typed into
`omote/head/expressions.py` by a person who has looked at it: a recipe must also look like its category to people.

    python scripts/tune_recipes.py --ict PATH --categories angry fearful --persons 8 --rounds 12 --out recipes.json
    python scripts/tune_recipes.py --ict PATH --categories fearful --persons 8 --rounds 7 --draws 12 --avatars --out forms.json

With ``--avatars`` the forms of avatars (`FORMS`) are searched, on avatars of the persons' meshes, drawn as their files show them:
the eyes, the teeth and the limits of motion differ from the population's renders.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from omote.align.align import align
from omote.datasets.population import Person, PopulationConfig, draw_person, render_person
from omote.evaluation.judges.panel import load_expression_judges
from omote.head.expressions import (
    ARKIT_NAMES,
    CATEGORIES,
    FORMS,
    RECIPES,
    Recipe,
    arkit_weights,
    draw_expression,
    expressions_of,
)
from omote.head.model import HeadModel
from omote.head.shipped import population_heads
from omote.pipelines.result import AvatarResult
from omote.pipelines.rgbd import RgbdPipeline
from omote.pipelines.settings import AvatarSettings
from omote.progress import finish
from omote.rgbd.load import load_model
from omote.runs import Stopwatch
from omote.studies.avatar_methods import rendered_meshes, scan_of

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


Weights = Mapping[str, float]


class Renders(Protocol):
    """Images of persons with tried weights, and their neutral landmarks."""

    neutral: torch.Tensor

    def images(self, category: str, tried: Sequence[Weights]) -> list[torch.Tensor]:
        """One image per person, for each of the tried weights."""


class PopulationRenders:
    """The population's renders, each person with a fixed draw of the variety.

    The variety belongs in the search: weights found without intensity, jitter and resting lids do not survive them.
    """

    def __init__(self, persons: list[Person], heads: list[HeadModel]) -> None:
        self.persons, self.heads = persons, heads
        self.neutral = torch.from_numpy(np.stack([next(iter(render_person(p, heads)))[1] for p in persons]))

    def images(self, category: str, tried: Sequence[Weights]) -> list[torch.Tensor]:
        """One image per person, for each of the tried weights."""
        found = []
        for weights in tried:
            recipe = Recipe(action_units="tried", weights=weights)
            rgb = []
            for person in self.persons:
                shown = draw_expression(category, np.random.default_rng([5, person.index]), recipe=recipe)
                rgb.append(next(iter(render_person(person, self.heads, [shown])))[0].rgb)
            found.append(torch.from_numpy(np.stack(rgb)).permute(0, 3, 1, 2).contiguous())
        return found


class AvatarRenders:
    """Avatars of the persons' meshes, drawn as their files show them."""

    def __init__(self, persons: list[Person], heads: list[HeadModel]) -> None:
        editor = load_model(heads[0])
        self.avatars: list[AvatarResult] = []
        for person in persons:
            alignment = align(scan_of(person, heads[person.head], "mesh", None), head=heads[0])
            steps = RgbdPipeline(editor, heads[0]).made(
                alignment, expressions_of(("neutral",)), AvatarSettings(), watch=Stopwatch()
            )
            self.avatars.append(finish(steps, None))
            print(f"avatars: {len(self.avatars)} of {len(persons)}", flush=True)
        self.neutral = torch.cat([self._drawn(avatar, [{}])[1] for avatar in self.avatars])

    def images(self, category: str, tried: Sequence[Weights]) -> list[torch.Tensor]:
        """One image per person, for each of the tried weights."""
        del category
        by_person = [self._drawn(avatar, tried)[0] for avatar in self.avatars]
        return [torch.stack([rgb[k] for rgb in by_person]) for k in range(len(tried))]

    @staticmethod
    def _drawn(made: AvatarResult, tried: Sequence[Weights]) -> tuple[torch.Tensor, torch.Tensor]:
        rest = made.avatar.neutral.vertices_mm
        units = np.stack([made.avatar.morphs_mm[name] for name in ARKIT_NAMES])
        posed = rest + np.tensordot(np.stack([arkit_weights(w) for w in tried]), units, 1)
        names = [f"tried{k}" for k in range(len(tried))]
        return rendered_meshes(made.head, rest, posed, made.avatar.texture, made, names)


def score(rgb: torch.Tensor, neutral: torch.Tensor, category: str, judges: object) -> tuple[float, float]:
    """(mean log of the judges' mean probability, top-1 share) over persons."""
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
    parser.add_argument("--avatars", action="store_true", help="search the first form of an avatar's category")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = PopulationConfig(split="tuning", ict=options.ict, num_images=1)
    heads = population_heads(config.ict)
    persons = balanced_persons(config, heads, options.persons)
    renders: Renders = AvatarRenders(persons, heads) if options.avatars else PopulationRenders(persons, heads)
    judges = load_expression_judges()
    found: dict[str, object] = {}
    for category in options.categories:
        names = list(ALLOWED[category])
        upper = np.array([ALLOWED[category][n] for n in names])
        for recipe in FORMS[category][:1] if options.avatars else RECIPES[category]:
            rng = np.random.default_rng(0)
            start = np.array([recipe.weights.get(n, 0.0) for n in names])
            mean, spread = start.copy(), 0.25 * np.ones(len(names))
            best = (-np.inf, start, 0.0)
            for _ in range(options.rounds):
                draws = np.clip(mean + spread * rng.standard_normal((options.draws, len(names))), 0, upper)
                draws[0] = np.clip(mean, 0, upper)
                tried = [dict(zip(names, w.tolist(), strict=True)) for w in draws]
                scored = []
                for w, rgb in zip(draws, renders.images(category, tried), strict=True):
                    value, hits = score(rgb, renders.neutral, category, judges)
                    scored.append((value - options.nearness * float(((w - start) ** 2).sum()), w, hits))
                scored.sort(key=lambda s: -s[0])
                print(f"{category}: {scored[0][0]:.3f}, top-1 {scored[0][2]:.2f}", flush=True)
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
