"""Editors against each other by condition and number of steps: what few steps cost, and where diffusion pays.

Three conditions. ``arkit``: the truth's weights are given, the answer is determined, and an editor is judged by how near it
comes. ``category``: category and intensity alone; many faces are right, so beside the error of one sample stand the best of
several (``best_of``), how far they differ (``diversity``), and, over all images as a set, Fréchet distance, precision and recall.
``prior``: the same is asked, and the diffusion of expressions (`omote.rgbd.expression_prior`) chooses the weights of each sample.

Rows are ``<editor>_<condition>_<steps>``; beside them stand the truth (``ceiling``), the first editor's autoencoder
(``autoencoder_ceiling``) and the source as it is (``copy_source``). ``ratio/…`` compares with the first editor at its most steps,
in the same condition.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from omote.datasets.population import PopulationConfig, draw_person
from omote.errors import CheckpointError
from omote.evaluation import metrics
from omote.evaluation.figures import axis_over, figure, line_chart
from omote.evaluation.judges import load_expression_judges, load_identity_judge
from omote.evaluation.measure import EvaluationStep, Judges, measure
from omote.evaluation.pictures import save_strips
from omote.evaluation.records import Row
from omote.evaluation.sets import load_set_networks, save_features, summarise_sets
from omote.evaluation.statistics import Interval, bootstrap_mean
from omote.evaluation.truth import Truth, answered, render_truth, stacked
from omote.files import atomic_path
from omote.head.expressions import CATEGORIES
from omote.head.shipped import population_heads, shipped_head
from omote.rgbd.load import load_model, load_model_parts
from omote.rgbd.model import SHIPPED_WEIGHTS, Backend, EditingModel, EditSettings
from omote.studies.measured_edits import summarised
from omote.studies.rows import without_weights
from omote.studies.samplers import MEASURES, high_frequency_ratio
from omote.types import Expression, Rgbd

Asked = Literal["arkit", "category", "prior"]
CONDITIONS: tuple[Asked, ...] = get_args(Asked)
BESIDE = ("autoencoder_ceiling", "copy_source")
FIGURE = (
    ("depth/mae_mm_metric", "depth error, mm"),
    ("expression/top1_both", "expression top-1"),
    ("color/high_frequency_ratio", "finest detail over the truth's"),
    ("time_s/edit", "seconds per edit"),
)
# Where many samples are drawn: key in a person's file → key in metrics.json.
PER_SAMPLE: Mapping[str, str] = {"best_of": "depth/mae_mm_best_of", "diversity": "diversity/depth_mm"}
# What a ratio says something of, and whose zero means nothing went wrong.
COMPARED = ("depth/mae_mm_metric", "depth/mae_mm_moving", "expression/top1_both")


@dataclass(frozen=True, kw_only=True)
class EditorSuite:
    """What is measured.

    Attributes:
        population: the split must be "test" for numbers that are published.
        num_persons: each with seven expressions.
        conditions: of the above.
        steps: numbers of steps of each editor.
        samples: per expression where many answers are right.
        guidance_scale: of editors that have none folded in.
        seed: of the noise.
    """

    population: PopulationConfig
    num_persons: int = 40
    conditions: tuple[Asked, ...] = CONDITIONS
    steps: tuple[int, ...] = (50, 4, 2, 1)
    samples: int = 8
    guidance_scale: float = 1.0
    seed: int = 0


def load_editor(run: Path, backend: Backend = "auto") -> EditingModel:
    """The editor of a run with the autoencoder that it was trained behind, or both from a weights folder.

    A weights folder without ``autoencoder/`` shares the shipped one, so that a rival of the shipped editor ships without a
    second copy.

    Raises:
        CheckpointError: nothing usable there, or an editor that was trained behind another autoencoder than the shipped one.
    """
    editor = run / "export" / "editor"
    if not (editor / "config.json").is_file():
        if (run / "editor" / "config.json").is_file() and not (run / "autoencoder").exists():
            return _behind_shipped(run, backend)
        return load_model(shipped_head(), run, backend=backend)
    try:
        autoencoder = Path(json.loads((run / "config.json").read_text(encoding="utf-8"))["autoencoder"])
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckpointError(
            f"{run}: expected config.json of a run of an editor, which names its autoencoder"
        ) from None
    return load_model_parts(shipped_head(), autoencoder, editor, weights=editor.parent, backend=backend)


def _behind_shipped(weights: Path, backend: Backend) -> EditingModel:
    model = load_model_parts(
        shipped_head(), SHIPPED_WEIGHTS / "autoencoder", weights / "editor", weights=weights, backend=backend
    )
    # The units are measured on what an encoder gives: no two encoders' are alike. Weights ship in half precision.
    units = (
        (model.editor.delta_std, model.autoencoder.delta_std),
        (model.editor.latent_std, model.autoencoder.latent_std),
    )
    if not all(torch.equal(a.half(), b.half()) for a, b in units):
        raise CheckpointError(
            f"{weights}: its editor was trained behind another autoencoder than the shipped one; put that beside it"
        )
    return model


def evaluate_editors(models: Mapping[str, EditingModel], config: EditorSuite, out: Path) -> Iterator[EvaluationStep]:
    """Measure into ``out``: ``persons/``, ``features/`` and ``images/`` as it goes; then the table.

    Args:
        models: by name; the first is what the others are compared with.
        config: the suite.
        out: folder of ``metrics.json``, ``table.csv`` and ``figure.svg``.

    Raises:
        JudgeError: the judges' weights are not installed.
    """
    heads = population_heads(config.population.ict)
    judges = Judges(expression=load_expression_judges(), identity=load_identity_judge())
    networks = load_set_networks()
    for folder in ("persons", "features", "images"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    numbers_of = [out / "persons" / f"{index:06d}.json" for index in range(config.num_persons)]
    features_of = [out / "features" / f"{index:06d}.safetensors" for index in range(config.num_persons)]
    names = rows_of(list(models), config)
    for index, path in enumerate(numbers_of):
        if not (path.exists() and features_of[index].exists()):
            person = draw_person(replace(config.population, num_images=len(CATEGORIES)), index, heads)
            truth = render_truth(person, heads)
            seed = config.seed + 1000 * person.index
            edits = {
                f"{name}_{row}": found
                for name, model in models.items()
                for row, found in edited(model, truth, person.expressions, config, seed).items()
            }
            rows = {row: found.samples[0] for row, found in edits.items()}
            first = next(iter(models.values()))
            source = truth.images[0]
            rows |= {
                "ceiling": truth.images,
                "autoencoder_ceiling": first.reconstruct(
                    truth.images, [source] * len(truth.images), person.expressions
                ),
                "copy_source": [source] * len(truth.images),
            }
            save_strips(out / "images" / f"{index:06d}.png", {row: rows[row] for row in ("ceiling", *names)})
            save_features(features_of[index], networks, rows, truth.images, truth.landmarks_px[0])
            measured = measure(rows, person, heads, truth, judges)
            for row, found in edits.items():
                measured |= {f"{key}/{row}": values for key, values in found.measured(truth).items()}
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps(measured))
        yield EvaluationStep(done=index + 1, total=config.num_persons)
    persons = [json.loads(path.read_text()) for path in numbers_of]
    numbers = summarise(persons, names)
    moved = np.array([person["category"] for person in persons]) != CATEGORIES.index("neutral")
    numbers.update(summarise_sets([[path] for path in features_of], moved, networks))
    with atomic_path(out / "metrics.json") as temporary:
        temporary.write_text(json.dumps(numbers, indent=2, sort_keys=True) + "\n")
    with atomic_path(out / "table.csv") as temporary:
        write_table(numbers, intervals(persons, [*names, *BESIDE]), [*names, *BESIDE], temporary)
    sets = [f"fd/{extractor.name}" for extractor in networks.extractors]
    charts = (*FIGURE, *((key, f"Fréchet distance, {key.partition('/')[2]}") for key in sets))
    with atomic_path(out / "figure.svg") as temporary:
        temporary.write_text(draw_figure(numbers, list(models), config, charts), encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class Edited:
    """A row of one person.

    Attributes:
        samples: of all expressions, one list per draw of the noise.
        seconds: per image.
    """

    samples: list[list[Rgbd]]
    seconds: float

    def measured(self, truth: Truth) -> dict[str, list[float]]:
        """What `measure` does not: detail and time, and of several samples the best one's error and how they differ."""
        count = len(truth.images)
        first = self.samples[0]
        out = {
            "seconds": [self.seconds] * count,
            "high_frequency": [high_frequency_ratio(a, b) for a, b in zip(first, truth.images, strict=True)],
        }
        if len(self.samples) > 1:
            true = answered(stacked(truth.images))
            masks = np.stack([image.mask for image in truth.images])
            depths = np.stack([answered(stacked(images)) for images in self.samples])
            errors = [metrics.depth_errors(depth, true, masks).mae_mm for depth in depths]
            spread = [depths[:, i].std(axis=0)[masks[i]].mean() for i in range(count)]
            out |= {"best_of": np.min(errors, axis=0).tolist(), "diversity": [float(s) for s in spread]}
        return out


def edited(
    model: EditingModel, truth: Truth, expressions: Sequence[Expression], config: EditorSuite, seed: int
) -> dict[str, Edited]:
    """Condition and steps → the edits of a person."""
    source, out = truth.images[0], {}
    folded = float(model.editor.config.folded_guidance)
    face, named = model.face_of(source), without_weights(expressions)
    for condition in config.conditions:
        samples = 1 if condition == "arkit" else config.samples
        for steps in config.steps:
            # What is folded in must not be applied twice.
            settings = EditSettings(steps=steps, guidance_scale=1.0 if folded != 1 else config.guidance_scale)
            start = time.perf_counter()
            drawn = []
            for k in range(samples):
                mine = seed + 100 * k
                wanted: Sequence[Expression] = expressions if condition == "arkit" else named
                if condition == "prior":
                    wanted = model.expression_prior.drawn(named, mine)
                drawn.append(model.edit(source, wanted, replace(settings, seed=mine), face=face))
            seconds = (time.perf_counter() - start) / samples / len(named)
            out[f"{condition}_{steps}"] = Edited(samples=drawn, seconds=seconds)
    return out


def rows_of(names: Sequence[str], config: EditorSuite) -> list[str]:
    """Rows of all editors."""
    return [
        f"{name}_{condition}_{steps}" for name in names for condition in config.conditions for steps in config.steps
    ]


def summarise(persons: Sequence[Mapping[str, object]], rows: Sequence[str]) -> dict[str, float]:
    """Per-person results → flat keys ``<metric>/<row>``, the judges' ceiling and floor, and ratios."""

    def column(key: str) -> np.ndarray:
        return np.array([person[key] for person in persons], dtype=np.float64)

    category = column("category").astype(int)
    moved = category != CATEGORIES.index("neutral")
    out: dict[str, float] = {"count/persons": float(len(persons))}
    for row in (*rows, *BESIDE, "ceiling"):
        judged = column(f"judged_both/{row}").astype(int)
        out[f"expression/top1_both/{row}"] = metrics.accuracy(category.ravel(), judged.ravel(), len(CATEGORIES)).macro
        for key, name in MEASURES.items():
            if f"{key}/{row}" in persons[0]:
                values = column(f"{key}/{row}")
                # As in the release suite: copying a neutral is perfect and says nothing of colour.
                kept = values[moved] if key in ("psnr", "identity") else values.ravel()
                out[f"{name}/{row}"] = metrics.mean_over_images(kept)
        for key, name in PER_SAMPLE.items():
            if f"{key}/{row}" in persons[0]:
                out[f"{name}/{row}"] = metrics.mean_over_images(column(f"{key}/{row}").ravel())
    for condition in CONDITIONS:
        those = [row for row in rows if row.rsplit("_", 2)[1] == condition]
        if not those:
            continue
        first = those[0].rsplit("_", 2)[0]
        reference = max(
            (row for row in those if row.rsplit("_", 2)[0] == first), key=lambda row: int(row.rsplit("_", 1)[1])
        )
        for row in those:
            for name in COMPARED:
                out[f"ratio/{name}/{row}"] = out[f"{name}/{row}"] / out[f"{name}/{reference}"]
    return out


def intervals(persons: Sequence[Mapping[str, object]], rows: Sequence[str]) -> dict[str, Interval]:
    """Bootstraps over persons of what each person has a value of, by ``<metric>/<row>``; sets of images have none."""
    out = {
        f"{key}/{row}": found
        for row, cells in summarised(persons, list(map(Row, rows)), {}).items()
        for key, found in cells.items()
    }
    for row in rows:
        for key, name in PER_SAMPLE.items():
            if f"{key}/{row}" in persons[0]:
                values = np.array([person[f"{key}/{row}"] for person in persons], dtype=np.float64)
                out[f"{name}/{row}"] = bootstrap_mean(values.reshape(len(persons), -1).mean(axis=1))
    return out


def write_table(numbers: Mapping[str, float], spread: Mapping[str, Interval], rows: Sequence[str], path: Path) -> None:
    """A line per row, with the ends of the 95 % intervals; what does not apply to it is empty.

    Args:
        numbers: flat keys ``<metric>/<row>``.
        spread: of those that have one, by the same keys.
        rows: in order.
        path: of the CSV file.
    """
    found = sorted({key.rpartition("/")[0] for key in numbers if key.rpartition("/")[2] in rows})
    spread_of = {key.rpartition("/")[0] for key in spread}
    names = [name for key in found for name in ([key, f"{key}_low", f"{key}_high"] if key in spread_of else [key])]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", *names])
        for row in rows:
            cells: list[float | None] = []
            for key in found:
                at = f"{key}/{row}"
                cells.append(numbers.get(at))
                if key in spread_of:
                    ends = spread.get(at)
                    cells += [None, None] if ends is None else [ends.low, ends.high]
            writer.writerow([row, *("" if v is None or np.isnan(v) else f"{v:.4g}" for v in cells)])


def draw_figure(
    numbers: Mapping[str, float], names: Sequence[str], config: EditorSuite, charts: Sequence[tuple[str, str]]
) -> str:
    """Measures over the number of steps, a line per editor and condition: an SVG file's text."""
    x = axis_over("steps", config.steps, logarithmic=True)
    drawn = []
    for metric, title in charts:
        lines = {
            f"{name} {condition}": [(s, numbers[f"{metric}/{name}_{condition}_{s}"]) for s in sorted(config.steps)]
            for name in names
            for condition in config.conditions
        }
        values = [value for points in lines.values() for _, value in points]
        drawn.append(line_chart(title, lines, x, axis_over(metric, values)))
    return figure(drawn)
