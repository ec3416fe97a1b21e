"""A task that trains in milliseconds: y = 2x - 1."""

import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from omote.engine.loop import EngineConfig, train


class LineModule(nn.Module):
    """A linear map, with a draw from the global generator in its forward as dropout makes."""

    def __init__(self, width=1, noise=0.0):
        super().__init__()
        self.line = nn.Linear(width, 1)
        self.noise = noise

    def forward(self, batch):
        x, y = batch
        y = y + self.noise * torch.randn_like(y)
        loss = (self.line(x) - y).square().mean()
        return loss, {"mse": loss.detach()}


class LineTask:
    """y = 2x - 1."""

    def __init__(self, width=1, broken_at=None, noise=0.0, pause_s=0.0):
        torch.manual_seed(0)
        self.module = LineModule(width, noise)
        self.broken_at = broken_at
        self.pause_s = pause_s

    def batch(self, step, seed, size, part, parts):
        """A part of a step's batch."""
        time.sleep(self.pause_s)
        generator = torch.Generator().manual_seed(seed + step)
        x = torch.randn(size * parts, self.module.line.in_features, generator=generator)
        x = x[part * size : (part + 1) * size]
        y = 2 * x[:, :1] - 1
        return x, y * math.nan if step == self.broken_at else y

    def schedule(self, images):
        """Nothing."""

    def export(self, weights, folder):
        """The averages as they are."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous() for k, v in weights.items()}, folder / "model.safetensors")

    def preview(self):
        """A grey picture."""
        return torch.full((3, 4, 4), 0.5)


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """A recipe's stand-in."""

    engine: EngineConfig


def config(total=800, **other):
    """Eight images a step, a report each."""
    defaults = {
        "batch_size": 8,
        "precision": "fp32",
        "learning_rate": 0.05,
        "warmup_images": 40,
        "log_images": 8,
        "ema_images": 80,
    }
    return EngineConfig(total_images=total, **{**defaults, **other})


def run_to_end(task, engine, run):
    """All reports."""
    return list(train(task, engine, run, Resolved(engine=engine)))


def train_slowly(run):
    """A run of half a second that saves all the time, for tests that kill it."""
    engine = config(total=1600, checkpoint_s=0.02, log_images=24, threads=1)
    run_to_end(LineTask(width=64, noise=0.1, pause_s=0.003), engine, Path(run))
