"""The common part of both generators' trainings: batches of a set, equal network sizes, and the export."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from omote.engine.loop import BaseTask
from omote.studies.effect_of_f.latents import read_latents

Width = TypeVar("Width")


class FaceTask(BaseTask):
    """An `omote.engine.loop.Task` without module and batches, which subclasses add.

    Args:
        folder: folder of the set (`omote.studies.effect_of_f.latents`).
        held_out_share: share of the persons, counted from the last one, that no network is trained on.
        seed: seed of the network's initial weights.
    """

    def __init__(self, folder: Path, held_out_share: float, seed: int) -> None:
        self.set = read_latents(folder)
        self.training, _ = self.set.split(held_out_share)
        torch.manual_seed(seed)

    def draw(self, step: int, seed: int, size: int, part: int, parts: int) -> tuple[Tensor, Tensor]:
        """Part ``part`` of a step's batch: scaled values and their categories."""
        whole = np.random.default_rng([seed, step]).choice(self.training, size * parts)
        chosen = whole[part * size : (part + 1) * size]
        mean, std = self.set.units
        return (self.set.take(chosen) - mean) / std, torch.from_numpy(self.set.category[chosen])

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """The generator's averaged weights in diffusers' format."""
        self.averaged("generator", weights).save_pretrained(folder / "generator")


def nearest(parameters: int, widths: Iterable[Width], network: Callable[[Width], Any]) -> Width:
    """The width whose network has closest to ``parameters`` parameters; ``widths`` must increase."""
    best: tuple[float, Width] | None = None
    for width in widths:
        with torch.device("meta"):
            count = sum(p.numel() for p in network(width).parameters())
        if best is None or abs(count - parameters) < best[0]:
            best = abs(count - parameters), width
        if count > 1.2 * parameters:
            break
    assert best is not None
    return best[1]
