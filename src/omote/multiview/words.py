"""Captions as input to a denoiser, drawn and encoded once because the text encoders are frozen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from omote.head.expressions import CATEGORIES
from omote.rgbd.conditions.text.captions import draw_caption
from omote.rgbd.conditions.text.conditioner import load_text_conditioner
from omote.rgbd.weights import SHIPPED_WEIGHTS

ENCODE_AT_ONCE = 32


class Captions:
    """Captions of every category, encoded as tokens by a trained text conditioner.

    Args:
        count: number of captions.
        seed: seed of the random draw of captions.
        weights: folder with the conditioner's weights; if None, the shipped conditioner.

    Raises:
        ConfigError: the text encoders are not installed.
        CheckpointError: there is no trained conditioner.
    """

    def __init__(self, count: int, seed: int, weights: Path | None = None) -> None:
        rng = np.random.default_rng([seed, 9])
        drawn = [draw_caption(rng, category=CATEGORIES[i % len(CATEGORIES)]) for i in range(count)]
        self.tokens = text_tokens([caption.text for caption in drawn], weights)
        self.category = np.array([CATEGORIES.index(caption.category) for caption in drawn])
        self.intensity = np.array([caption.intensity for caption in drawn])

    def like(self, category: int, intensity: float, rng: np.random.Generator) -> Float[Tensor, "128"]:
        """Token of a random caption of a category, with about the given intensity where there is one."""
        fitting = np.flatnonzero((self.category == category) & (np.abs(self.intensity - intensity) < 0.26))
        if not len(fitting):
            fitting = np.flatnonzero(self.category == category)
        return self.tokens[int(fitting[rng.integers(len(fitting))])]


@torch.no_grad()
def text_tokens(texts: Sequence[str], weights: Path | None = None) -> Float[Tensor, "b 128"]:
    """Tokens of English or Japanese texts from the conditioner in ``weights``, or from the shipped one.

    Raises:
        ConfigError: the text encoders are not installed.
        CheckpointError: there is no trained conditioner.
    """
    conditioner = load_text_conditioner(SHIPPED_WEIGHTS if weights is None else weights)
    chunks = [texts[i : i + ENCODE_AT_ONCE] for i in range(0, len(texts), ENCODE_AT_ONCE)]
    return torch.cat([conditioner.read(chunk).token for chunk in chunks])
