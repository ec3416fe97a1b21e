"""Random numbers by (seed, step), so that a resumed run draws what an unbroken one does."""

from __future__ import annotations

import torch


def step_generator(seed: int, step: int) -> torch.Generator:
    """What a step draws for its whole batch, of which each part takes its slice."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)
