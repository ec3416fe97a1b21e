"""Time and memory of an edit, with a process per row, since a process's peak memory never falls again.

A source is a frontal image here. The time does not include aligning a scan; finding the head in the image is measured separately.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch

from omote.datasets.population import PopulationConfig
from omote.diffusion.settings import EditSettings
from omote.evaluation.baselines import HeadEdit
from omote.evaluation.deformation_transfer import DeformationTransfer
from omote.evaluation.ground_truth import captured_ground_truth
from omote.evaluation.test_sets import TestSetName, draw_test_person
from omote.head.expressions import CATEGORIES
from omote.head.shipped import population_heads
from omote.memory import peak_memory_mb
from omote.rgbd.weights import Backend
from omote.studies.apart import apart
from omote.studies.edit_methods import NETWORK_ROWS, without_weights
from omote.studies.networks import load_editor
from omote.types import Expression, Rgbd

NETWORK_FREE = ("head_edit", "deformation_transfer")
MODELS = ("model", "model_category", "model_token")
# Rows that edit without finding the head.
UNFITTED = ("model_token",)
Edit = Callable[[Any, Sequence[Expression]], Sequence[Rgbd]]


@dataclass(frozen=True, kw_only=True)
class TimeRequest:
    """Settings of a timing.

    Attributes:
        row: row of `MODELS`, `NETWORK_FREE` or `NETWORK_ROWS`.
        weights: folder of the row's networks; None for rows without networks.
        backend: library that runs the networks.
        test_set: test set, which determines the capture of the source.
        size: side of the image in pixels.
        seed: seed of the person.
        repeat: number of measurements, whose median is reported.
        threads: number of torch's threads; 0 keeps torch's own choice.
        clock: clock of all times: "wall", or "cpu" for the computing time of all cores together.
    """

    row: str
    weights: Path | None = None
    backend: Backend = "torch"
    test_set: TestSetName = "in-model"
    size: int = 128
    seed: int = 0
    repeat: int = 5
    threads: int = 0
    clock: Literal["wall", "cpu"] = "wall"


def timed_apart(request: TimeRequest) -> dict[str, float]:
    """`time_edits` in a separate process.

    Raises:
        OmoteError: the edits could not be timed, with the reason.
    """
    return apart(f"{request.row}: its edits could not be timed", time_edits, request)


def time_edits(request: TimeRequest) -> dict[str, float]:
    """Time the edits in this process; the first edits, which also convert networks, do not count.

    Returns:
        Metrics of the catalogue: median seconds (of finding the head, 0 for rows that need none; of one expression including the
        head's fit; of all seven in one batch with one fit), and this process's peak memory.
    """
    if request.threads:
        torch.set_num_threads(request.threads)
    population = PopulationConfig(seed=request.seed, split="test", size=request.size, num_images=len(CATEGORIES))
    heads = population_heads(population.ict)
    person = draw_test_person(request.test_set, population, 0, heads)
    truth = captured_ground_truth(request.test_set, person, heads)
    expressions = person.expressions
    wanted = next(e for e in expressions if e.category != "neutral")
    if request.row in NETWORK_FREE:
        by = (HeadEdit if request.row == "head_edit" else DeformationTransfer)(heads[0])

        def fit() -> Any:
            return by.find(truth.source, truth.source_landmarks_mm)

        edit: Edit = by.edit
    else:
        fit, edit = _networks(request, truth.source)

    now = time.perf_counter if request.clock == "wall" else time.process_time
    fits, ones, sevens = [], [], []
    for _ in range(request.repeat + 1):
        start = now()
        face = None if request.row in UNFITTED else fit()
        fitted = now()
        edit(face, [wanted])
        edited = now()
        edit(face, expressions)
        done = now()
        fits.append(fitted - start)
        ones.append(edited - start)
        sevens.append(fitted - start + done - edited)
    return {
        "time_s/one_edit": median(ones[1:]),
        "time_s/seven_edits": median(sevens[1:]),
        "time_s/head_fit": 0.0 if request.row in UNFITTED else median(fits[1:]),
        "memory_mb/peak": peak_memory_mb(),
        "time/threads": torch.get_num_threads(),
    }


def _networks(request: TimeRequest, source: Rgbd) -> tuple[Callable[[], Any], Edit]:
    """A row's functions that find the head and edit, as in the release suite."""
    assert request.weights is not None
    network = load_editor(request.weights, request.backend)
    settings = EditSettings(seed=request.seed)
    if request.row in NETWORK_ROWS:
        settings = replace(settings, steps=NETWORK_ROWS[request.row])

    def edit(face: Any, expressions: Sequence[Expression]) -> Sequence[Rgbd]:
        asked: Sequence[Expression] = expressions
        if request.row == "model_category":
            asked = network.expression_prior.drawn(without_weights(expressions), settings.seed)
        elif request.row == "model_token":
            asked = without_weights(expressions)
        return network.edit(source, asked, settings, face=face)

    return lambda: network.face_of(source), edit
