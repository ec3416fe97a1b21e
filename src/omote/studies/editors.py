"""Editors against each other by condition and number of steps: what few steps cost, and where diffusion pays.

Three conditions. ``arkit``: the truth's weights are given, the answer is determined, and an editor is judged by how near it
comes. ``category``: category and intensity alone; many faces are right, so beside the error of one sample stand the best of
several, how far they differ (``diversity``), and, over all images as a set, Fréchet distance, precision and recall. ``prior``:
the same is asked, and the diffusion of expressions (`omote.rgbd.expression_prior`) chooses the weights of each sample.

Beside the editors stand the truth (``ceiling``), the first editor's autoencoder (``autoencoder_ceiling``) and the source as it is
(``copy_source``). ``ratio/…`` compares with the first editor at its most steps, in the same condition.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from omote.datasets.population import Person, draw_person
from omote.diffusion.settings import EditSettings
from omote.evaluation import metrics
from omote.evaluation.catalogue import metric_of
from omote.evaluation.comparison import answered, stacked
from omote.evaluation.figures import axis_over, figure, line_chart
from omote.evaluation.pictures import save_strips
from omote.evaluation.records import Cell, Record, Row, Table, value_of
from omote.evaluation.sets import load_set_networks, summarise_sets
from omote.evaluation.summary import merged, summarise
from omote.evaluation.truth import Truth, render_truth
from omote.head.shipped import population_heads
from omote.progress import Step, Steps
from omote.rgbd.model import EditingModel
from omote.studies.base import Results, Work
from omote.studies.networks import load_editor
from omote.studies.persons import Group, Made, load_judges, measure_persons
from omote.studies.rows import AUTOENCODER, CEILING, COPY, least_depth_error, without_weights
from omote.studies.suites import EditorSuite, row_names
from omote.types import Expression, Rgbd

DEPTH, TOP1, DETAIL, SECONDS = (
    "depth/mae_mm_metric",
    "expression/top1_both",
    "color/high_frequency_ratio",
    "time_s/edit",
)
# What a ratio says something of: a zero of these means that nothing went wrong.
COMPARED = (DEPTH, "depth/mae_mm_moving", TOP1)


def measure_editors(suite: EditorSuite, work: Work) -> Steps[Results]:
    """Measure every editor in every condition at every number of steps.

    Raises:
        JudgeError: the judges are not installed.
        CheckpointError: missing or damaged weights.
    """
    yield Step(stage="load")
    models = {
        name: load_editor(run, suite.backend) for name, run in zip(row_names(suite.runs), suite.runs, strict=True)
    }
    population = suite.unseen()
    heads, judges, sets = population_heads(population.ict), load_judges(), load_set_networks()

    def draw(index: int) -> tuple[Person, Truth]:
        person = draw_person(population, index, heads)
        return person, render_truth(person, heads)

    group = Group(name="editors", make=lambda person, truth: rows_of(models, suite, person, truth))
    names = suite.names()
    found = yield from measure_persons(work, names, draw, [group], heads, judges, sets=sets, pictures=_strips)
    persons = [person for (person,) in found]
    table = merged(summarise(persons), summarise_sets([[group.features(work.out, n)] for n in names], persons, sets))
    charts = (DEPTH, TOP1, DETAIL, SECONDS, *(f"fd/{extractor.name}" for extractor in sets.extractors))
    return Results(
        table=merged(table, ratios(table, list(models), max(suite.steps))),
        numbers={"count/persons": len(persons)},
        figure=drawn_over_steps(table, charts),
    )


def _strips(folder: Path, person: Person, images: Mapping[Row, Sequence[Rgbd]], truth: Sequence[Rgbd]) -> None:
    shown = {row: seen for row, seen in images.items() if row not in (AUTOENCODER, COPY)}
    save_strips(folder / f"{person.index:06d}.png", shown)


def rows_of(models: Mapping[str, EditingModel], suite: EditorSuite, person: Person, truth: Truth) -> Made:
    """Every editor's rows of a person, and what they are compared with."""
    seed, first = suite.seed + 1000 * person.index, next(iter(models.values()))
    copies = [truth.images[0]] * len(truth.images)
    images: dict[Row, Sequence[Rgbd]] = {CEILING: truth.images}
    records: list[Record] = []
    for name, model in models.items():
        for row, found in edited(Row(name), model, truth, person.expressions, suite, seed).items():
            images[row] = found.samples[0]
            records += found.records(row, truth)
    images[AUTOENCODER] = first.reconstruct(truth.images, copies, person.expressions)
    images[COPY] = copies
    return Made(images=images, records=records)


@dataclass(frozen=True, kw_only=True)
class Edited:
    """A row of one person.

    Attributes:
        samples: of all expressions, one list per draw of the noise.
        seconds: per image.
    """

    samples: list[list[Rgbd]]
    seconds: float

    def records(self, row: Row, truth: Truth) -> list[Record]:
        """Detail and time, and of several samples the best one's error and how they differ."""
        count = len(truth.images)
        true, first = stacked(truth.images), stacked(self.samples[0])
        measured = {
            SECONDS: np.full(count, self.seconds),
            DETAIL: metrics.high_frequency_ratio(first.rgb, true.rgb, true.mask),
        }
        if len(self.samples) > 1:
            depths = np.stack([answered(stacked(images)) for images in self.samples])
            spread = [depths[:, i].std(axis=0)[true.mask[i]].mean() for i in range(count)]
            measured |= {
                f"depth/mae_mm_best_of_{len(self.samples)}": least_depth_error(self.samples, truth),
                "diversity/depth_mm": np.array(spread, np.float64),
            }
        return [Record(row=row, measure=key, values=values) for key, values in measured.items()]


def edited(
    row: Row, model: EditingModel, truth: Truth, expressions: Sequence[Expression], suite: EditorSuite, seed: int
) -> dict[Row, Edited]:
    """The edits of a person under every condition and number of steps."""
    source, out = truth.images[0], {}
    folded = float(model.editor.config.folded_guidance)
    face, named = model.face_of(source), without_weights(expressions)
    for condition in suite.conditions:
        samples = 1 if condition == "arkit" else suite.samples
        for steps in suite.steps:
            # What is folded in must not be applied twice.
            settings = EditSettings(steps=steps, guidance_scale=1.0 if folded != 1 else suite.guidance_scale)
            start = time.perf_counter()
            drawn = []
            for k in range(samples):
                mine = seed + 100 * k
                wanted: Sequence[Expression] = expressions if condition == "arkit" else named
                if condition == "prior":
                    wanted = model.expression_prior.drawn(named, mine)
                drawn.append(model.edit(source, wanted, replace(settings, seed=mine), face=face))
            seconds = (time.perf_counter() - start) / samples / len(named)
            out[row.under(condition=condition, steps=steps)] = Edited(samples=drawn, seconds=seconds)
    return out


def ratios(table: Table, names: Sequence[str], most_steps: int) -> Table:
    """Each editor's row over that of the first editor at its most steps, in the same condition."""
    out: dict[Row, dict[str, Cell]] = {}
    for row in table:
        if row.name not in names:
            continue
        condition = row.on("condition")
        assert condition is not None, "every row of an editor is under one"
        reference = Row(names[0]).under(condition=condition, steps=most_steps)
        out[row] = {f"ratio/{key}": value_of(table[row][key]) / value_of(table[reference][key]) for key in COMPARED}
    return out


def drawn_over_steps(table: Table, keys: Sequence[str], *, logarithmic: bool = False) -> str:
    """Metrics over the number of steps, a line per row's name and further condition: the text of an SVG file.

    Args:
        table: rows under ``steps`` are drawn.
        keys: of metrics, a chart each.
        logarithmic: whether the metrics' axes are.
    """
    charts = []
    for key in keys:
        lines: dict[str, list[tuple[float, float]]] = {}
        for row, cells in table.items():
            if (steps := row.on("steps")) is not None and key in cells:
                name = " ".join([row.name, *(value for axis, value in row.at if axis != "steps")])
                lines.setdefault(name, []).append((float(steps), value_of(cells[key])))
        points = [point for line in lines.values() for point in line]
        x = axis_over("steps", [steps for steps, _ in points], logarithmic=True)
        y = axis_over(metric_of(key).label(), [value for _, value in points], logarithmic=logarithmic)
        charts.append(line_chart(metric_of(key).title, {n: sorted(line) for n, line in lines.items()}, x, y))
    return figure(charts)
