"""Comparison of editors by condition and number of steps: the cost of few steps, and where diffusion pays.

There are three conditions. ``arkit``: the true weights are given, the answer is determined, and an editor is judged by its error.
``category``: category and intensity alone are given; many faces are right, so the error of one sample is reported with that of
the best of several samples, their ``diversity``, and Fréchet distance, precision and recall of all images as a set. ``prior``:
the same is given, and the diffusion of expressions (`omote.rgbd.expression_prior`) draws the weights of each sample.

Rows beside the editors are the truth (``ceiling``), the first editor's autoencoder (``autoencoder_ceiling``) and the unedited
source (``copy_source``). ``ratio/…`` compares with the first editor with its most steps, under the same condition.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from omote.datasets.population import Person
from omote.diffusion.settings import EditSettings
from omote.evaluation import metrics
from omote.evaluation.comparison import filled, stacked
from omote.evaluation.figures import figure
from omote.evaluation.ground_truth import GroundTruth
from omote.evaluation.pictures import save_strips
from omote.evaluation.records import Cell, Record, Row, Table, value_of
from omote.evaluation.summary import merged
from omote.progress import Step, Steps
from omote.rgbd.protocol import StudiedEditor
from omote.studies.base import Results, Work
from omote.studies.edit_methods import least_depth_error, without_weights
from omote.studies.networks import load_editor
from omote.studies.persons import Made, measure_rows
from omote.studies.suites import EditorSuite, row_names
from omote.studies.table import AUTOENCODER, CEILING, COPY, DEPTH, MOVING, TOP1, At, curves
from omote.types import Expression, Rgbd

DETAIL, SECONDS = "color/high_frequency_ratio", "time_s/edit"
SETS = ("fd/efficientnet_lite0", "fd/face_id")
# Metrics with a meaningful ratio: their zero means no error.
COMPARED = (DEPTH, MOVING, TOP1)


def measure_editors(suite: EditorSuite, work: Work) -> Steps[Results]:
    """Measure every editor under every condition with every number of steps.

    Raises:
        JudgeError: the judges are not installed.
        CheckpointError: missing or damaged weights.
    """
    yield Step(stage="load")
    models = {
        name: load_editor(run, suite.backend) for name, run in zip(row_names(suite.runs), suite.runs, strict=True)
    }
    table = yield from measure_rows(
        suite, work, lambda person, truth: rows_of(models, suite, person, truth), pictures=_strips
    )
    lines = {
        Row(name).under(condition=condition): f"{name} {condition}" for name in models for condition in suite.conditions
    }
    return Results(
        table=merged(table, ratios(table, list(models), max(suite.steps))),
        figure=figure(
            [
                curves(table, key, over_steps(suite.steps), "steps", lines=lines, logarithmic=True)
                for key in (DEPTH, TOP1, DETAIL, SECONDS, *SETS)
            ]
        ),
    )


def over_steps(steps: Sequence[int]) -> list[tuple[float, At]]:
    """Numbers of steps as an axis of `curves`."""
    return [(float(n), {"steps": n}) for n in sorted(set(steps))]


def _strips(folder: Path, person: Person, images: Mapping[Row, Sequence[Rgbd]], truth: Sequence[Rgbd]) -> None:
    shown = {row: seen for row, seen in images.items() if row not in (AUTOENCODER, COPY)}
    save_strips(folder / f"{person.index:06d}.png", shown)


def rows_of(models: Mapping[str, StudiedEditor], suite: EditorSuite, person: Person, truth: GroundTruth) -> Made:
    """All rows of a person: the editors', and those that they are compared with."""
    seed, first = suite.seed + 1000 * person.index, next(iter(models.values()))
    copies = [truth.images[0]] * len(truth.images)
    images: dict[Row, Sequence[Rgbd]] = {CEILING: truth.images}
    records: list[Record] = []
    for name, model in models.items():
        for row, found in edited(Row(name), model, truth, person.expressions, suite, seed).items():
            images[row] = found.samples[0]
            records += found.records(row, truth)
    images[AUTOENCODER] = first.decode(first.encode(truth.images), copies, person.expressions)
    images[COPY] = copies
    return Made(images=images, records=records)


@dataclass(frozen=True, kw_only=True)
class Edited:
    """A row of one person.

    Attributes:
        samples: images of all expressions, one list per sample of the noise.
        seconds: time per image.
    """

    samples: list[list[Rgbd]]
    seconds: float

    def records(self, row: Row, truth: GroundTruth) -> list[Record]:
        """Records of detail and time, and, of several samples, the best one's error and the diversity."""
        count = len(truth.images)
        true, first = stacked(truth.images), stacked(self.samples[0])
        measured = {
            SECONDS: np.full(count, self.seconds),
            DETAIL: metrics.high_frequency_ratio(first.rgb, true.rgb, true.mask),
        }
        if len(self.samples) > 1:
            depths = np.stack([filled(stacked(images)).depth_mm for images in self.samples])
            spread = [depths[:, i].std(axis=0)[true.mask[i]].mean() for i in range(count)]
            measured |= {
                f"depth/mae_mm_best_of_{len(self.samples)}": least_depth_error(self.samples, truth),
                "diversity/depth_mm": np.array(spread, np.float64),
            }
        return [Record(row=row, measure=key, values=values) for key, values in measured.items()]


def edited(
    row: Row, model: StudiedEditor, truth: GroundTruth, expressions: Sequence[Expression], suite: EditorSuite, seed: int
) -> dict[Row, Edited]:
    """The edits of a person under every condition and with every number of steps."""
    source, out = truth.images[0], {}
    folded = model.folded_guidance
    face, named = model.face_of(source), without_weights(expressions)
    for condition in suite.conditions:
        samples = 1 if condition == "arkit" else suite.samples
        for steps in suite.steps:
            # Distilled guidance must not be applied twice.
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
    """Each editor's row divided by that of the first editor with its most steps, under the same condition."""
    out: dict[Row, dict[str, Cell]] = {}
    for row in table:
        if row.name not in names:
            continue
        condition = row.on("condition")
        assert condition is not None, "every row of an editor has a condition"
        reference = Row(names[0]).under(condition=condition, steps=most_steps)
        out[row] = {f"ratio/{key}": value_of(table[row][key]) / value_of(table[reference][key]) for key in COMPARED}
    return out
