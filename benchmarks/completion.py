"""The three completions of `omote.recipes.completion`: parameters, and processor time of scans and training steps, one thread.

``ms/drawn`` is a partial scan for training, its fit included; ``ms/NAME`` completes a scan, ``ms/NAME/step`` is a forward and a
backward pass. ``fit_mm`` is the mean error along the normal, at the coarse vertices, of the head fitted to those partial scans:
``quick`` as training fits it, ``whole`` with all points, iterations and other landmarks of the same noise.

Run: ``make bench BENCH=completion OUT=dir``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from omote.completion.partials import found_landmarks
from omote.completion.train import CompletionModule, CompletionTask
from omote.completion.trained import NETWORKS, TrainedCompletion
from omote.datasets.population import PopulationConfig
from omote.engine.weights import built
from omote.geometry.camera import transform
from omote.geometry.mesh import vertex_normals
from omote.geometry.rig import Rig
from omote.head.fit import fit_head
from omote.head.shipped import shipped_head
from omote.recipes.completion import COMPLETION

SCANS, ROUNDS = 20, 7


def _ms(make: Callable[[Any], object], given: object) -> float:
    begun = time.process_time()
    make(given)
    return 1000 * (time.process_time() - begun)


def run() -> dict[str, float | int | str]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    head = shipped_head()
    population = PopulationConfig(size=128, num_images=1, rig=Rig())
    config = replace(COMPLETION["part-graph-cpu"](Path()), population=population)
    task = CompletionTask(config, [head])
    out: dict[str, float | int | str] = {"scans": SCANS}

    drawn, fits, partials = [], [], []
    for shard, row, rng in task.source.views.drawn(0, 0, SCANS, 0, 1):
        begun = time.process_time()
        known = task.source.of_face(shard, row, 0, rng)
        drawn.append(1000 * (time.process_time() - begun))
        partials.append((known.partial, known.truth_mm))
    for number, (partial, truth) in enumerate(partials):
        rng = np.random.default_rng(number)
        fit = fit_head(
            head,
            partial.points_mm,
            landmarks=found_landmarks(head.landmarks(truth), partial.points_mm, rng),
            normals=partial.normals,
            fixed_scale=1.0,
        )
        again = transform(fit.canonical_from_scan, truth)
        fits.append(
            [
                np.abs(((vertices - true) * vertex_normals(vertices, head.faces)).sum(axis=1)[task.coarse.ids]).mean()
                for vertices, true in ((partial.fitted_mm, truth), (fit.vertices_mm, again))
            ]
        )
    out["ms/drawn"] = float(np.median(drawn))
    out["fit_mm/quick"], out["fit_mm/whole"] = (float(value) for value in np.mean(fits, axis=0))

    batch = task.batch(0, 0, 1, 0, 1)
    for name, kind in NETWORKS.items():
        network = built(kind, COMPLETION[f"{name}-cpu"](Path()))
        completion = TrainedCompletion(network, head)
        module = CompletionModule(network)
        out[f"parameters/{name}"] = sum(p.numel() for p in network.parameters())
        whole, step = [], []
        for _ in range(ROUNDS):
            whole.append(_ms(completion, partials[0][0]))
            step.append(_ms(lambda module: module(batch)[0].backward(), module))
        out[f"ms/{name}"], out[f"ms/{name}/step"] = float(np.median(whole)), float(np.median(step))
    torch.set_num_threads(threads)
    return out
