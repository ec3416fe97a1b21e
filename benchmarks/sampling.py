"""Sampling an edit: ours at its defaults against the stock way of diffusers, over the same trained network and the same persons.

    make bench BENCH=sampling OUT=dir

The peer is what a diffusers pipeline does with a latent editor: a `DDIMScheduler` of 50 steps, classifier-free guidance at 1,
one image per call. Ours: all seven expressions as one batch, the shipped sampler and steps. Both in float32 and under bfloat16
autocast; the face is fitted before, once for either (``face_fit_s``). Quality is measured on the same persons (depth error
against the truth, all and moving pixels), since a faster answer that is worse is none; the memory of each is the peak of a
process of its own.
"""

from __future__ import annotations

import multiprocessing
import time
from dataclasses import replace

import numpy as np
import torch

from omote.datasets.population import Person, PopulationConfig, draw_person
from omote.evaluation import metrics
from omote.evaluation.ground_truth import GroundTruth, render_ground_truth
from omote.head.expressions import CATEGORIES
from omote.head.rest_face import RestFace
from omote.head.shipped import population_heads, shipped_head
from omote.memory import peak_memory_mb
from omote.rgbd.load import load_model
from omote.rgbd.model import EditingModel, EditSettings
from omote.rgbd.weights import Backend
from omote.types import Rgbd

PERSONS = 4
BACKENDS: dict[str, Backend] = {"fp32": "torch", "bf16": "torch-bf16"}
STOCK = EditSettings(steps=50, sampler="ddim")


def persons() -> list[tuple[Person, GroundTruth]]:
    config = PopulationConfig(split="test", num_images=len(CATEGORIES))
    drawn = [draw_person(config, index, population_heads(config.ict)) for index in range(PERSONS)]
    return [(person, render_ground_truth(person, population_heads(config.ict))) for person in drawn]


def edit(kind: str, model: EditingModel, person: Person, truth: GroundTruth, face: RestFace) -> list[Rgbd]:
    source, seed = truth.images[0], 1000 * person.index
    if kind == "ours":
        return model.edit(source, person.expressions, EditSettings(seed=seed), face=face)
    return [
        model.edit(source, [expression], replace(STOCK, seed=seed + i), face=face)[0]
        for i, expression in enumerate(person.expressions)
    ]


def measure(kind: str, precision: str) -> dict[str, float]:
    model, drawn = load_model(shipped_head(), backend=BACKENDS[precision]), persons()
    edit(kind, model, *drawn[0], model.face_of(drawn[0][1].images[0]))
    fits, seconds, errors, moving = [], [], [], []
    for person, truth in drawn:
        start = time.perf_counter()
        face = model.face_of(truth.images[0])
        fits.append(time.perf_counter() - start)
        start = time.perf_counter()
        images = edit(kind, model, person, truth, face)
        seconds.append(time.perf_counter() - start)
        depth, true, mask = (
            np.stack(x)
            for x in (
                [i.depth_mm for i in images],
                [i.depth_mm for i in truth.images],
                [i.mask for i in truth.images],
            )
        )
        moves = metrics.moving_mask(true, mask, np.repeat(true[:1], len(true), 0), np.repeat(mask[:1], len(true), 0))
        errors.append(metrics.depth_errors(depth, true, mask).mae_mm.mean())
        moving.append(np.nanmean(metrics.depth_errors(depth, true, moves).mae_mm))
    return {
        f"{kind}_{precision}/seven_edits_s": min(seconds),
        f"{kind}_{precision}/face_fit_s": min(fits),
        f"{kind}_{precision}/depth_mae_mm": float(np.mean(errors)),
        f"{kind}_{precision}/depth_mae_mm_moving": float(np.mean(moving)),
        f"{kind}_{precision}/memory_mb_peak": peak_memory_mb(),
    }


def run() -> dict[str, float | int | str]:
    """For ``make bench``."""
    out: dict[str, float | int | str] = {"count/persons": PERSONS, "stock_diffusers/steps": STOCK.steps}
    # A process each: the peak of the first would be the second's too.
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for kind in ("ours", "stock_diffusers"):
            for precision in BACKENDS:
                out |= pool.apply(measure, (kind, precision))
    for what, key in (("seconds", "seven_edits_s"), ("depth_error", "depth_mae_mm")):
        for precision in BACKENDS:
            stock, ours = (float(out[f"{kind}_{precision}/{key}"]) for kind in ("stock_diffusers", "ours"))
            out[f"ratio/{what}_stock_diffusers_over_ours/{precision}"] = stock / ours
    out["ours/threads"] = torch.get_num_threads()
    return out
