"""Captions as input to a denoiser, drawn once, and their encoding by the text conditioner."""

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
from omote.rgbd.conditions.text.words import Language
from omote.rgbd.weights import SHIPPED_WEIGHTS

ENCODE_AT_ONCE = 32


class Captions:
    """Captions of every category.

    Args:
        count: number of captions.
        seed: seed of the random draw of captions.
        language: language of the captions; both if None.
    """

    def __init__(self, count: int, seed: int, language: Language | None = None) -> None:
        rng = np.random.default_rng([seed, 9])
        drawn = [draw_caption(rng, language=language, category=CATEGORIES[i % len(CATEGORIES)]) for i in range(count)]
        self.texts = [caption.text for caption in drawn]
        self.category = np.array([CATEGORIES.index(caption.category) for caption in drawn])
        self.intensity = np.array([caption.intensity for caption in drawn])

    def like(self, category: int, intensity: float, rng: np.random.Generator) -> int:
        """Index of a random caption of a category, with about the given intensity where there is one."""
        fitting = np.flatnonzero((self.category == category) & (np.abs(self.intensity - intensity) < 0.26))
        if not len(fitting):
            fitting = np.flatnonzero(self.category == category)
        return int(fitting[rng.integers(len(fitting))])


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
