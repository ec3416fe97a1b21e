"""Words → expressions: what avatar, editor and evaluation share of text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from omote.engine.weights import load_pretrained
from omote.errors import ConfigError
from omote.head.expressions import CATEGORIES
from omote.rgbd.conditions.text.conditioner import TextConditioner
from omote.rgbd.conditions.text.encoders import encode_texts
from omote.rgbd.weights import SHIPPED_WEIGHTS
from omote.types import Expression

MIN_PROBABILITY = 0.5


class TextReader:
    """The trained text conditioner with its encoders."""

    def __init__(self, conditioner: TextConditioner) -> None:
        self.conditioner = conditioner.eval().requires_grad_(False)

    @classmethod
    def load(cls, folder: Path = SHIPPED_WEIGHTS) -> TextReader:
        """Load ``folder/text``.

        Raises:
            CheckpointError: missing or damaged weights.
        """
        hint = "train it with `omote train text-cpu`"
        return cls(load_pretrained(TextConditioner, folder / "text", hint=hint).float())

    @torch.no_grad()
    def tokens(self, texts: Sequence[str]) -> Float[Tensor, "b k"]:
        """For cross-attention, in the category's place.

        Raises:
            ConfigError: an encoder is not installed.
        """
        return self.conditioner(encode_texts(texts)).token

    @torch.no_grad()
    def expressions(self, texts: Sequence[str], *, min_probability: float = MIN_PROBABILITY) -> list[Expression]:
        """What texts ask for, as categories and intensities.

        Args:
            texts: English or Japanese.
            min_probability: a category less certain is an error; 0 takes the best whatever it is.

        Raises:
            ConfigError: an encoder is not installed, or a text asks for nothing recognisable.
        """
        reading = self.conditioner(encode_texts(texts))
        out = []
        for text, shares, intensity in zip(texts, reading.logits.softmax(dim=1), reading.intensity, strict=True):
            best = int(shares.argmax())
            if float(shares[best]) < min_probability:
                raise ConfigError(
                    f"text: {text!r} names no expression with certainty (nearest {CATEGORIES[best]}, "
                    f"{float(shares[best]):.2f}); say it with one of {', '.join(CATEGORIES)}"
                )
            category = CATEGORIES[best]
            strength = 0.0 if category == "neutral" else float(intensity)
            out.append(Expression(category=category, intensity=strength, text=text))
        return out
