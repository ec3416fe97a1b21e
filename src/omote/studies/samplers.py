"""A survey of samplers by measurement: every sampler at several numbers of steps, over the same network and persons.

The condition is the truth's ARKit weights, so the answer is determined and a sampler is judged by how near it comes and how
long it takes; Fréchet distances compare its images, as a set, with the true ones. ``high_frequency_ratio`` is the energy of the
image's finest differences over the truth's: above 1 noise is left, below it detail is lost.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np

from omote.datasets.population import PopulationConfig, draw_person
from omote.diffusion.settings import SamplerName
from omote.evaluation import metrics
from omote.evaluation.figures import axis_over, figure, line_chart
from omote.evaluation.judges import load_expression_judges, load_identity_judge
from omote.evaluation.measure import EvaluationStep, Judges, measure
from omote.evaluation.sets import load_set_networks, save_features, summarise_sets
from omote.evaluation.truth import render_truth
from omote.files import atomic_path
from omote.head.expressions import CATEGORIES
from omote.head.shipped import population_heads
from omote.rgbd.model import EditingModel, EditSettings
from omote.types import Rgbd

MEASURES = {
    "mae": "depth/mae_mm_metric",
    "mae_moving": "depth/mae_mm_moving",
    "psnr": "color/psnr_db",
    "identity": "identity/faceapi",
    "high_frequency": "color/high_frequency_ratio",
    "seconds": "time_s/edit",
}
FIGURE = (
    ("depth/mae_mm_metric", "depth error, mm"),
    ("identity/faceapi", "identity distance"),
    ("time_s/edit", "seconds per edit"),
)


@dataclass(frozen=True, kw_only=True)
class SamplerSurvey:
    """What is surveyed.

    Attributes:
        population: the split must be "test" for numbers that are published.
        num_persons: each with seven expressions, edited as one batch.
        samplers: by name.
        steps: of each.
        strengths: of SDEdit, the source noised so far and sampled anew with `edit_steps`.
        inversions: numbers of steps that carry the source to its own noise, and back with what is wanted.
        edit_steps: of SDEdit.
        guidance_scale: of all.
        seed: of the noise.
    """

    population: PopulationConfig
    num_persons: int = 24
    samplers: tuple[SamplerName, ...] = get_args(SamplerName)
    steps: tuple[int, ...] = (1, 2, 4, 10, 25, 50, 200)
    strengths: tuple[float, ...] = (0.25, 0.5, 0.75, 0.9)
    inversions: tuple[int, ...] = (10, 25)
    edit_steps: int = 10
    guidance_scale: float = 1.0
    seed: int = 0


def survey_samplers(model: EditingModel, config: SamplerSurvey, out: Path) -> Iterator[EvaluationStep]:
    """Survey into ``out``: ``persons/`` and ``features/`` as it goes; at the end ``metrics.json``, ``table.csv``, ``figure.svg``.

    Raises:
        JudgeError: the judges' weights are not installed.
    """
    heads = population_heads(config.population.ict)
    judges = Judges(expression=load_expression_judges(), identity=load_identity_judge())
    networks = load_set_networks()
    numbers_of = {index: out / "persons" / f"{index:06d}.json" for index in range(config.num_persons)}
    features_of = {index: out / "features" / f"{index:06d}.safetensors" for index in numbers_of}
    for folder in ("persons", "features"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for index, path in numbers_of.items():
        if not (path.exists() and features_of[index].exists()):
            person = draw_person(replace(config.population, num_images=len(CATEGORIES)), index, heads)
            truth = render_truth(person, heads)
            source, face = truth.images[0], model.face_of(truth.images[0])
            rows: dict[str, list[Rgbd]] = {"ceiling": truth.images}
            extra: dict[str, list[float]] = {}
            for row, settings in methods(config).items():
                settings = replace(settings, seed=config.seed + 1000 * person.index)
                start = time.perf_counter()
                rows[row] = model.edit(source, person.expressions, settings, face=face)
                extra[f"seconds/{row}"] = [(time.perf_counter() - start) / len(rows[row])] * len(rows[row])
                extra[f"high_frequency/{row}"] = [
                    high_frequency_ratio(a, b) for a, b in zip(rows[row], truth.images, strict=True)
                ]
            save_features(features_of[index], networks, rows, truth.images, truth.landmarks_px[0])
            measured = {**measure(rows, person, heads, truth, judges), **extra}
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps(measured))
        yield EvaluationStep(done=index + 1, total=config.num_persons)
    persons = [json.loads(path.read_text()) for path in numbers_of.values()]
    rows_of = list(methods(config))
    numbers = summarise(persons, rows_of)
    moved = np.array([person["category"] for person in persons]) != CATEGORIES.index("neutral")
    numbers.update(summarise_sets([[path] for path in features_of.values()], moved, networks))
    distances = [f"fd/{extractor.name}" for extractor in networks.extractors]
    with atomic_path(out / "metrics.json") as temporary:
        temporary.write_text(json.dumps(numbers, indent=2, sort_keys=True) + "\n")
    with atomic_path(out / "table.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        columns = [*MEASURES.values(), "expression/top1_both", *distances]
        writer = csv.writer(file)
        writer.writerow(["sampler", "steps", *columns])
        for row in rows_of:
            writer.writerow([*row.rsplit("_", 1), *(f"{numbers[f'{column}/{row}']:.4g}" for column in columns)])
    with atomic_path(out / "figure.svg") as temporary:
        temporary.write_text(
            draw_figure(numbers, rows_of, (*FIGURE, (distances[-1], "Fréchet distance"))), encoding="utf-8"
        )


def draw_figure(numbers: Mapping[str, float], rows: Sequence[str], charts: Sequence[tuple[str, str]]) -> str:
    """Measures over the number of steps, a line per sampler, SDEdit strength or inversion: an SVG file's text.

    Args:
        numbers: ``<metric>/<row>``.
        rows: named ``<sampler>_<steps>``.
        charts: metrics and their titles.
    """
    drawn = []
    for metric, title in charts:
        lines: dict[str, list[tuple[float | int, float | int]]] = {}
        for row in rows:
            name, _, steps = row.rpartition("_")
            lines.setdefault(name, []).append((int(steps), numbers[f"{metric}/{row}"]))
        values = [value for points in lines.values() for _, value in points]
        x = axis_over("steps", [steps for points in lines.values() for steps, _ in points], logarithmic=True)
        drawn.append(line_chart(title, lines, x, axis_over(metric, values, logarithmic=True)))
    return figure(drawn)


def methods(config: SamplerSurvey) -> dict[str, EditSettings]:
    """Row → how it is sampled; a row's name ends in its number of steps."""
    out = {
        f"{sampler}_{steps}": EditSettings(steps=steps, sampler=sampler, guidance_scale=config.guidance_scale)
        for sampler in config.samplers
        for steps in config.steps
    }
    for strength in config.strengths:
        out[f"sdedit_{strength:g}_{config.edit_steps}"] = EditSettings(
            steps=config.edit_steps, strength=strength, guidance_scale=config.guidance_scale
        )
    for steps in config.inversions:
        out[f"inversion_{steps}"] = EditSettings(
            steps=steps, inversion_steps=steps, guidance_scale=config.guidance_scale
        )
    return out


def high_frequency_ratio(image: Rgbd, truth: Rgbd) -> float:
    """Energy of second differences inside the truth's mask, image over truth."""

    def energy(rgb: np.ndarray) -> float:
        x, y = np.diff(rgb, 2, axis=1)[1:-1], np.diff(rgb, 2, axis=0)[:, 1:-1]
        inside = truth.mask[1:-1, 1:-1]
        return float((x[inside] ** 2).sum() + (y[inside] ** 2).sum())

    return energy(image.rgb) / max(energy(truth.rgb), 1e-12)


def summarise(persons: Sequence[Mapping[str, object]], rows: Sequence[str]) -> dict[str, float]:
    """Per-person results → flat keys ``<metric>/<row>``, and the judges' ceiling."""

    def column(key: str) -> np.ndarray:
        return np.array([p[key] for p in persons], dtype=np.float64)

    category = column("category").astype(int)
    moved = category != CATEGORIES.index("neutral")
    out: dict[str, float] = {"count/persons": float(len(persons))}
    for row in (*rows, "ceiling"):
        judged = column(f"judged_both/{row}").astype(int)
        accuracy = metrics.accuracy(category.ravel(), judged.ravel(), len(CATEGORIES))
        out[f"expression/top1_both/{row}"] = accuracy.macro
    for row in rows:
        for key, name in MEASURES.items():
            values = column(f"{key}/{row}")
            # As in the release suite: copying a neutral is perfect and says nothing of colour.
            kept = values[moved] if key in ("psnr", "identity") else values.ravel()
            out[f"{name}/{row}"] = metrics.mean_over_images(kept)
    return out
