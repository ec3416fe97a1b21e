"""Category and intensity of an expression: one token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from omote.datasets.cache import NO_CATEGORY
from omote.datasets.pairs import PairBatch
from omote.head.expressions import CATEGORIES, check_category
from omote.head.rest_face import RestFace
from omote.rgbd.conditions.base import Kind, Reader
from omote.types import Expression


@dataclass(frozen=True, kw_only=True)
class Category(Kind):
    """Expression categories at an intensity.

    Attributes:
        category: index into `CATEGORIES`.
        intensity: intensity in [0, 1].
    """

    name: ClassVar[str] = "category"
    dropout: ClassVar[float] = 0.2
    group: ClassVar[str | None] = "expression"

    category: Int[Tensor, "b"]
    intensity: Float[Tensor, "b"]

    @classmethod
    def of(cls, expressions: Sequence[Expression], face: RestFace | None) -> Category:
        """Category and intensity of every expression.

        Raises:
            ConfigError: an unknown category.
        """
        return cls(
            category=torch.tensor([CATEGORIES.index(check_category(e.category)) for e in expressions]),
            intensity=torch.tensor([float(e.intensity) for e in expressions]),
            given=torch.ones(len(expressions), dtype=torch.bool),
        )

    @classmethod
    def of_pairs(cls, pairs: PairBatch, target: Tensor) -> Category:
        """Categories and intensities of the labelled targets."""
        return cls(category=pairs.category.clamp_min(0), intensity=pairs.intensity, given=pairs.category != NO_CATEGORY)


class CategoryReader(Reader):
    """A reader that embeds the category, scaled by a function of the intensity."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.category = nn.Embedding(len(CATEGORIES), width)
        self.intensity = nn.Sequential(nn.Linear(2, width), nn.SiLU(), nn.Linear(width, width))

    def token(self, category: Int[Tensor, "b"], intensity: Float[Tensor, "b"]) -> Float[Tensor, "b w"]:
        """The token of a category at an intensity."""
        powers = torch.stack([intensity, intensity**2], dim=1).to(self.null.dtype)
        return self.category(category) * (1 + self.intensity(powers))

    def tokens(self, value: Category) -> Float[Tensor, "b 1 w"]:
        """`token` of every item."""
        return self.token(value.category, value.intensity)[:, None]
