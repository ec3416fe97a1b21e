"""Random numbers by (seed, step), so that a resumed run draws the same as an uninterrupted one."""

from __future__ import annotations

import torch


def step_generator(seed: int, step: int) -> torch.Generator:
    """Generator of a step's random numbers, drawn for the whole batch; each part takes its slice of them."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)
