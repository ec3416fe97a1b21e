"""What bfloat16 costs in quality and saves in time: edits of unseen persons, and trainings from three seeds, against float32.

    make bench BENCH=precision OUT=dir

Edits: the shipped model on 60 unseen persons × 7 expressions in both precisions; how far the two answers lie apart, and how far
each is from the truth. Trainings: `editor-cpu` on encoded edits from nothing, six seeds, in float32 and in the fastest choice of
this machine: both with the same number of images, and float32 also with the other's seconds of computing, at whose end its
learning rate has fallen too. ``train/loss`` is the averaged weights' loss, in float32, on fixed batches of other persons;
intervals (95 %, Student's t over the seeds' paired differences) are half-widths.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from scipy.stats import t as student

from omote.datasets.population import PopulationConfig, draw_person, make_population
from omote.engine.loop import EngineConfig, Task
from omote.engine.precision import candidates, measure
from omote.evaluation import metrics
from omote.evaluation.ground_truth import render_ground_truth
from omote.head.expressions import CATEGORIES
from omote.head.shipped import population_heads, shipped_head
from omote.recipes import RECIPES
from omote.recipes.run import run_recipe, task_of
from omote.rgbd.identity_stage import load_first_stage
from omote.rgbd.load import load_model
from omote.rgbd.model import EditSettings
from omote.rgbd.train.latent_cache import encode_population
from omote.rgbd.weights import SHIPPED_WEIGHTS
from omote.types import Rgbd

PERSONS = 60
SEEDS, IMAGES, POPULATION, HELD_OUT = 6, 1_200, 60, 24
BATCHES, BATCH = 20, 24  # of the held-out loss


def depth_errors(images: list[Rgbd], true: list[Rgbd]) -> float:
    """Mean absolute depth error over the true masks, mm."""
    depth, wanted, mask = (
        np.stack(x)
        for x in zip(*((i.depth_mm, t.depth_mm, t.mask) for i, t in zip(images, true, strict=True)), strict=True)
    )
    return float(metrics.depth_errors(depth, wanted, mask).mae_mm.mean())


def psnr(images: list[Rgbd], true: list[Rgbd]) -> float:
    """Peak signal-to-noise ratio of colour, mean of the images, dB."""
    return float(np.mean([-10 * np.log10(np.square(i.rgb - t.rgb).mean()) for i, t in zip(images, true, strict=True)]))


def half_width(values: list[float]) -> float:
    """Of the mean's 95 % interval."""
    return float(student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))


def edits() -> dict[str, float]:
    """Both precisions on the same persons."""
    config, heads = PopulationConfig(split="test", num_images=len(CATEGORIES)), population_heads()
    models = {
        "fp32": load_model(shipped_head(), backend="torch"),
        "bf16": load_model(shipped_head(), backend="torch-bf16"),
    }
    rows: dict[str, list[float]] = {}
    for index in range(PERSONS):
        person = draw_person(config, index, heads)
        truth = render_ground_truth(person, heads)
        face = models["fp32"].face_of(truth.images[0])
        answers = {}
        for name, model in models.items():
            start = time.process_time()
            answers[name] = model.edit(truth.images[0], person.expressions, EditSettings(seed=1000 * index), face=face)
            rows.setdefault(f"cpu_s/{name}", []).append(time.process_time() - start)
            rows.setdefault(f"depth_mae_mm/{name}", []).append(depth_errors(answers[name], truth.images))
            rows.setdefault(f"psnr_db/{name}", []).append(psnr(answers[name], truth.images))
        both = [(a, b, a.mask & b.mask) for a, b in zip(answers["fp32"], answers["bf16"], strict=True)]
        rows.setdefault("apart_mm", []).append(
            float(np.mean([np.abs(a.depth_mm - b.depth_mm)[m].mean() for a, b, m in both]))
        )
    out = {f"edit/{key}": float(np.mean(values)) for key, values in rows.items() if not key.startswith("cpu_s")}
    out |= {f"edit/{key}": float(np.median(values)) for key, values in rows.items() if key.startswith("cpu_s")}
    for key in ("depth_mae_mm", "psnr_db"):
        apart = list(np.subtract(rows[f"{key}/bf16"], rows[f"{key}/fp32"]))
        out |= {
            f"edit/{key}/bf16_minus_fp32": float(np.mean(apart)),
            f"edit/{key}/bf16_minus_fp32_half_width": half_width(apart),
        }
    return out


def held_out_loss(task: Task, run: Path) -> float:
    """Loss of a run's averaged weights on fixed batches."""
    task.module.load_state_dict(load_file(run / "checkpoint/ema.safetensors"))
    task.module.eval()
    total = 0.0
    with torch.no_grad():
        for step in range(BATCHES):
            torch.manual_seed(step)
            loss, _ = task.module(task.batch(step, 0, BATCH, 0, 1))
            total += float(loss) / BATCHES
    return total


def trainings(folder: Path) -> dict[str, float | int | str]:
    """All seeds in float32, in float32 for the time of the fastest choice, and in that choice."""
    first_stage = load_first_stage(SHIPPED_WEIGHTS / "autoencoder").float().eval().requires_grad_(False)
    recipes = []
    for name, seed, persons in (("train", 0, POPULATION), ("held_out", 1, HELD_OUT)):
        config = PopulationConfig(num_images=8, seed=seed)
        list(make_population(config, population_heads(), folder / name / "population", num_persons=persons))
        list(encode_population(folder / name / "population", first_stage, shipped_head(), folder / name / "edits"))
        recipe = RECIPES["editor-cpu"](folder / name)
        recipes.append(replace(recipe, autoencoder=SHIPPED_WEIGHTS / "autoencoder", latents=folder / name / "edits"))
    recipe, judge = recipes[0], task_of(recipes[1])
    engine = replace(recipe.engine, total_images=IMAGES, warmup_images=240, grid_images=0, clock="cpu")
    best = measure(task_of(recipe), engine, candidates(engine, {}), torch.device("cpu")).best

    loss: dict[str, list[float]] = {"fp32": [], "fp32_short": [], "auto": []}
    ratios = []
    for seed in range(SEEDS):
        seconds: dict[str, float] = {}

        def trained(name: str, engine: EngineConfig, seconds: dict[str, float] = seconds, seed: int = seed) -> None:
            run = folder / f"{name}_{seed}"
            *_, report = run_recipe(replace(recipe, engine=replace(engine, seed=seed)), run)
            loss[name].append(held_out_loss(judge, run))
            seconds[name] = report.seconds

        trained("auto", replace(engine, precision=best.precision, memory_layout=best.layout))
        trained("fp32", replace(engine, precision="fp32"))
        trained("fp32_short", replace(engine, precision="fp32", max_seconds=seconds["auto"]))
        ratios.append(seconds["fp32"] / seconds["auto"])
        print({name: round(values[-1], 4) for name, values in loss.items()}, round(ratios[-1], 2), flush=True)
    equal_images, equal_time = (list(np.subtract(loss["auto"], loss[name])) for name in ("fp32", "fp32_short"))
    return {
        "train/choice": str(best),
        **{f"train/loss/{name}": float(np.mean(values)) for name, values in loss.items()},
        "train/loss/auto_minus_fp32": float(np.mean(equal_images)),
        "train/loss/auto_minus_fp32_half_width": half_width(equal_images),
        "train/loss_at_equal_time/auto_minus_fp32": float(np.mean(equal_time)),
        "train/loss_at_equal_time/auto_minus_fp32_half_width": half_width(equal_time),
        "train/seconds_ratio/fp32_over_auto": float(np.mean(ratios)),
        "count/persons": PERSONS,
        "count/seeds": SEEDS,
        "count/images": IMAGES,
    }


def run() -> dict[str, float | int | str]:
    """For ``make bench``."""
    with tempfile.TemporaryDirectory() as folder:
        return {**edits(), **trainings(Path(folder))}
