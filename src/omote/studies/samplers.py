"""A survey of samplers: every sampler with several numbers of steps, on the same network and persons.

The condition is the true ARKit weights. The answer is therefore determined, and a sampler is judged by its error and its time;
Fréchet distances compare its images as a set with the true ones. SDEdit (Meng et al. 2022) and inversion are measured beside
them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from omote.datasets.population import Person
from omote.diffusion.settings import EditSettings
from omote.evaluation import metrics
from omote.evaluation.comparison import stacked
from omote.evaluation.figures import figure
from omote.evaluation.ground_truth import GroundTruth
from omote.evaluation.records import Record, Row
from omote.progress import Step, Steps
from omote.rgbd.protocol import StudiedEditor
from omote.studies.base import Results, Work
from omote.studies.edit_methods import seeded
from omote.studies.editors import DETAIL, SECONDS, SETS, over_steps
from omote.studies.persons import Made, measure_rows
from omote.studies.suites import SamplerSuite
from omote.studies.table import CEILING, DEPTH, IDENTITY, curves
from omote.types import Rgbd


def measure_samplers(suite: SamplerSuite, work: Work) -> Steps[Results]:
    """Measure every method with every number of steps.

    Raises:
        JudgeError: the judges are not installed.
        CheckpointError: missing or damaged weights.
    """
    yield Step(stage="load")
    model = suite.model()
    table = yield from measure_rows(suite, work, lambda person, truth: rows_of(model, suite, person, truth))
    at = over_steps([settings.steps for settings in methods(suite).values()])
    lines = {
        Row(row.name, tuple(pair for pair in row.at if pair[0] != "steps")): " ".join(
            [row.name, *(value for axis, value in row.at if axis != "steps")]
        )
        for row in methods(suite)
    }
    charts = [
        curves(table, key, at, "steps", lines=lines, logarithmic=True, logarithmic_values=True)
        for key in (DEPTH, IDENTITY, SECONDS, SETS[-1])
    ]
    return Results(table=table, figure=figure(charts))


def rows_of(model: StudiedEditor, suite: SamplerSuite, person: Person, truth: GroundTruth) -> Made:
    """Each method's row of a person, with its time and its finest detail."""
    source, face, true = truth.images[0], model.face_of(truth.images[0]), stacked(truth.images)
    images: dict[Row, Sequence[Rgbd]] = {CEILING: truth.images}
    records: list[Record] = []
    for row, settings in methods(suite).items():
        start = time.perf_counter()
        images[row] = model.edit(source, person.expressions, seeded(settings, person), face=face)
        seconds = (time.perf_counter() - start) / len(truth.images)
        detail = metrics.high_frequency_ratio(stacked(images[row]).rgb, true.rgb, true.mask)
        records += [
            Record(row=row, measure=SECONDS, values=np.full(len(truth.images), seconds)),
            Record(row=row, measure=DETAIL, values=detail),
        ]
    return Made(images=images, records=records)


def methods(suite: SamplerSuite) -> dict[Row, EditSettings]:
    """Sampler settings by row."""
    given = EditSettings(guidance_scale=suite.guidance_scale, seed=suite.seed)
    out = {
        Row(sampler).under(steps=steps): replace(given, steps=steps, sampler=sampler)
        for sampler in suite.samplers
        for steps in suite.steps
    }
    for strength in suite.strengths:
        row = Row("sdedit").under(strength=strength, steps=suite.edit_steps)
        out[row] = replace(given, steps=suite.edit_steps, strength=strength)
    for steps in suite.inversions:
        out[Row("inversion").under(steps=steps)] = replace(given, steps=steps, inversion_steps=steps)
    return out
