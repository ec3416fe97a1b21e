"""What bfloat16 costs in quality and saves in time: edits of unseen persons, and trainings from three seeds, against float32.

    make bench BENCH=precision OUT=dir

Edits: the shipped model on 60 unseen persons × 7 expressions in both precisions; how far the two answers lie apart, and how far
each is from the truth. Trainings: `editor-cpu` on encoded edits from nothing, three seeds, the same images in float32 and in the
fastest choice of this machine. Losses are means of the last fifth; intervals (95 %, Student's t over the seeds' paired
differences) are half-widths. ``train/loss_at_equal_time`` is the faster run's own last fifth against the slower one's at the same
seconds of computing.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import t as student

from omote.datasets.population import PopulationConfig, draw_person, make_population
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
SEEDS, IMAGES, POPULATION = 3, 1_800, 60


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


def losses(run: Path) -> np.ndarray:
    """(images, loss) of a run's reports."""
    rows = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    return np.array([[row["images"], row["loss"]] for row in rows])


def trainings(folder: Path) -> dict[str, float | str]:
    """Three seeds in float32 and in the fastest choice."""
    list(
        make_population(
            PopulationConfig(num_images=8), population_heads(), folder / "population", num_persons=POPULATION
        )
    )
    recipe = replace(
        RECIPES["editor-cpu"](folder), autoencoder=SHIPPED_WEIGHTS / "autoencoder", latents=folder / "edits"
    )
    recipe = replace(
        recipe,
        engine=replace(
            recipe.engine, total_images=IMAGES, warmup_images=240, log_images=60, grid_images=0, clock="cpu"
        ),
    )
    first_stage = load_first_stage(SHIPPED_WEIGHTS / "autoencoder").float().eval().requires_grad_(False)
    list(encode_population(folder / "population", first_stage, shipped_head(), folder / "edits"))
    task = task_of(recipe)
    best = measure(task, recipe.engine, candidates(recipe.engine, {}), torch.device("cpu")).best
    engines = {
        "fp32": replace(recipe.engine, precision="fp32"),
        "auto": replace(recipe.engine, precision=best.precision, memory_layout=best.layout),
    }
    last: dict[str, list[float]] = {name: [] for name in engines}
    at_equal_time, ratios = [], []
    for seed in range(SEEDS):
        curves, seconds = {}, {}
        for name, engine in engines.items():
            run = folder / f"{name}_{seed}"
            *_, report = run_recipe(replace(recipe, engine=replace(engine, seed=seed)), run)
            curves[name], seconds[name] = losses(run), report.seconds
            last[name].append(float(curves[name][-len(curves[name]) // 5 :, 1].mean()))
        ratios.append(seconds["fp32"] / seconds["auto"])
        # What float32 had learned when the other was done.
        seen = IMAGES * min(1.0, seconds["auto"] / seconds["fp32"])
        slow = curves["fp32"][curves["fp32"][:, 0] <= seen]
        at_equal_time.append(last["auto"][-1] - float(slow[-len(slow) // 5 :, 1].mean()))
    apart = list(np.subtract(last["auto"], last["fp32"]))
    return {
        "train/choice": str(best),
        "train/loss/fp32": float(np.mean(last["fp32"])),
        "train/loss/auto": float(np.mean(last["auto"])),
        "train/loss/auto_minus_fp32": float(np.mean(apart)),
        "train/loss/auto_minus_fp32_half_width": half_width(apart),
        "train/loss_at_equal_time/auto_minus_fp32": float(np.mean(at_equal_time)),
        "train/loss_at_equal_time/auto_minus_fp32_half_width": half_width(at_equal_time),
        "train/seconds_ratio/fp32_over_auto": float(np.mean(ratios)),
        "count/persons": PERSONS,
        "count/seeds": SEEDS,
        "count/images": IMAGES,
    }


def run() -> dict[str, float | int | str]:
    """For ``make bench``."""
    with tempfile.TemporaryDirectory() as folder:
        return {**edits(), **trainings(Path(folder))}
