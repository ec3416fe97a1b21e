"""Text as a kind of condition: the text conditioner's token, which replaces the category's token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from omote.rgbd.conditions.base import Kind
from omote.rgbd.conditions.category import Category
from omote.types import Expression


@dataclass(frozen=True, kw_only=True)
class Text(Kind):
    """Tokens of texts, dropped with the category.

    Attributes:
        token: token of a trained text conditioner (`omote.rgbd.conditions.text.conditioner`).
    """

    name: ClassVar[str] = "text"
    part_of: ClassVar[type[Kind] | None] = Category

    token: Float[Tensor, "b k"]

    @classmethod
    def read(cls, expressions: Sequence[Expression], encode: Callable[[Sequence[str]], Tensor]) -> Text | None:
        """Tokens of the expressions that have a text; None if none has.

        Args:
            expressions: one per item.
            encode: texts → tokens.
        """
        given = torch.tensor([e.text is not None for e in expressions])
        if not given.any():
            return None
        read = encode([e.text for e in expressions if e.text is not None])
        token = read.new_zeros(len(expressions), read.shape[1])
        token[given] = read
        return cls(token=token, given=given)

    def substituted(self, tokens: Float[Tensor, "b 1 w"]) -> Float[Tensor, "b 1 w"]:
        """The text's token where there is a text."""
        return torch.where(self.given[:, None, None], self.token[:, None].to(tokens.dtype), tokens)
