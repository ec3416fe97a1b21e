"""τ_θ for text: encoded words → the expression token that cross-attention reads.

A few learned queries attend to the encoders' outputs, token states and sentence vector alike (the resampler of Alayrac et al.,
"Flamingo", NeurIPS 2022, §3.1). The result speaks in the category's place among the editor's tokens
(`omote.rgbd.conditions.base`), so that a frozen editor understands it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float
from torch import Tensor, nn

from omote.head.expressions import CATEGORIES
from omote.rgbd.conditions.text.encoders import TOKEN_WIDTH, VECTOR_WIDTH, TextFeatures


@dataclass(frozen=True, kw_only=True)
class TextReading:
    """What texts ask for.

    Attributes:
        token: in the category's place among the editor's tokens.
        logits: over `CATEGORIES`.
        intensity: [0, 1].
    """

    token: Float[Tensor, "b k"]
    logits: Float[Tensor, "b 7"]
    intensity: Float[Tensor, "b"]


class TextConditioner(ModelMixin, ConfigMixin):
    """Text features → `TextReading`.

    Args:
        context_width: of the editor's tokens.
        width: of the attention.
        num_queries: learned.
        heads: of the attention.
    """

    @register_to_config
    def __init__(self, context_width: int = 128, width: int = 128, num_queries: int = 4, heads: int = 4) -> None:
        super().__init__()
        self.of_token = nn.Sequential(nn.LayerNorm(TOKEN_WIDTH), nn.Linear(TOKEN_WIDTH, width))
        self.of_vector = nn.Sequential(
            nn.LayerNorm(VECTOR_WIDTH), nn.Linear(VECTOR_WIDTH, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        # What is read where neither is given; it also keeps the softmax from having nothing to choose from.
        self.nothing = nn.Parameter(torch.zeros(width))
        self.queries = nn.Parameter(torch.randn(num_queries, width) * width**-0.5)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mix = nn.Sequential(
            nn.LayerNorm(num_queries * width), nn.Linear(num_queries * width, 2 * width), nn.GELU(), nn.Dropout(0.1)
        )
        self.token = nn.Linear(2 * width, context_width)
        self.category = nn.Linear(2 * width, len(CATEGORIES))
        self.intensity = nn.Linear(2 * width, 1)

    def forward(self, features: TextFeatures) -> TextReading:
        """Read a batch."""
        has_vector = features.vector.abs().sum(dim=1, keepdim=True) > 0
        keys = torch.cat(
            [
                self.nothing.expand(len(features.vector), 1, -1),
                self.of_vector(features.vector)[:, None],
                self.of_token(features.tokens),
            ],
            dim=1,
        )
        seen = torch.cat([torch.ones_like(has_vector), has_vector, features.mask], dim=1)
        queries = self.queries.expand(len(keys), -1, -1)
        x, _ = self.attention(queries, keys, keys, key_padding_mask=~seen, need_weights=False)
        x = self.mix((queries + x).flatten(1))
        return TextReading(
            token=self.token(x), logits=self.category(x), intensity=torch.sigmoid(self.intensity(x)).squeeze(1)
        )
