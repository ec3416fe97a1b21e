"""τ_θ for text: encoded texts → the expression token that cross-attention reads.

A few learned queries attend to the encoders' outputs, token states and sentence vector alike (the resampler of Alayrac et al.,
"Flamingo", NeurIPS 2022, §3.1). The result takes the place of the category's token, so that a frozen editor understands it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float
from torch import Tensor, nn

from omote.engine.weights import load_pretrained
from omote.errors import ConfigError
from omote.head.expressions import CATEGORIES
from omote.nets.precision import keep_float32
from omote.rgbd.conditions.text.encoders import TOKEN_WIDTH, VECTOR_WIDTH, TextFeatures, encode_texts
from omote.types import Expression

MIN_PROBABILITY = 0.5


@dataclass(frozen=True, kw_only=True)
class TextReading:
    """Output of the text conditioner for a batch of texts.

    Attributes:
        token: token that replaces the category's token in the editor.
        logits: logits over `CATEGORIES`.
        intensity: intensity in [0, 1].
    """

    token: Float[Tensor, "b k"]
    logits: Float[Tensor, "b 7"]
    intensity: Float[Tensor, "b"]


class TextConditioner(ModelMixin, ConfigMixin):
    """Text features → `TextReading`.

    Args:
        context_width: width of the editor's tokens.
        width: width of the attention.
        num_queries: number of learned queries.
        heads: number of attention heads.
    """

    @register_to_config
    def __init__(self, context_width: int = 128, width: int = 128, num_queries: int = 4, heads: int = 4) -> None:
        super().__init__()
        self.of_token = nn.Sequential(nn.LayerNorm(TOKEN_WIDTH), nn.Linear(TOKEN_WIDTH, width))
        self.of_vector = nn.Sequential(
            nn.LayerNorm(VECTOR_WIDTH), nn.Linear(VECTOR_WIDTH, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        # A key for texts without tokens and sentence vector, so that the softmax always has one.
        self.nothing = nn.Parameter(torch.zeros(width))
        self.queries = nn.Parameter(torch.randn(num_queries, width) * width**-0.5)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mix = nn.Sequential(
            nn.LayerNorm(num_queries * width), nn.Linear(num_queries * width, 2 * width), nn.GELU(), nn.Dropout(0.1)
        )
        self.token = nn.Linear(2 * width, context_width)
        self.category = nn.Linear(2 * width, len(CATEGORIES))
        self.intensity = nn.Linear(2 * width, 1)
        for head in (self.token, self.category, self.intensity):
            keep_float32(head)

    def forward(self, features: TextFeatures) -> TextReading:
        """Token, category and intensity of a batch of encoded texts."""
        has_vector = features.vector.abs().sum(dim=1, keepdim=True) > 0
        none = self.nothing.expand(len(features.vector), 1, -1)
        keys = torch.cat([none, self.of_vector(features.vector)[:, None], self.of_token(features.tokens)], dim=1)
        seen = torch.cat([torch.ones_like(has_vector), has_vector, features.mask], dim=1)
        queries = self.queries.expand(len(keys), -1, -1)
        x, _ = self.attention(queries, keys, keys, key_padding_mask=~seen, need_weights=False)
        x = self.mix((queries + x).flatten(1))
        return TextReading(
            token=self.token(x), logits=self.category(x), intensity=torch.sigmoid(self.intensity(x)).squeeze(1)
        )

    @torch.no_grad()
    def read(self, texts: Sequence[str]) -> TextReading:
        """Encode and read English or Japanese texts.

        Raises:
            ConfigError: an empty text, or an encoder that is not installed.
        """
        reading: TextReading = self(encode_texts(texts))
        return reading

    def expressions(self, texts: Sequence[str], *, min_probability: float = MIN_PROBABILITY) -> list[Expression]:
        """Expressions that texts describe, as categories and intensities.

        Args:
            texts: English or Japanese texts.
            min_probability: smallest accepted probability of the most probable category; 0 always accepts it.

        Raises:
            ConfigError: no category of a text is probable enough, or an encoder is not installed.
        """
        reading, out = self.read(texts), []
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


def load_text_conditioner(weights: Path) -> TextConditioner:
    """The trained text conditioner beside an editor's weights.

    Raises:
        CheckpointError: missing or damaged weights.
    """
    hint = "train it with `omote train text-cpu`"
    conditioner = load_pretrained(TextConditioner, weights / "text", hint=hint)
    return conditioner.float().eval().requires_grad_(False)
