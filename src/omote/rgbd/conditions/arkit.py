"""ARKit-52 weights of an expression: eight tokens. The image motion that they cause is a separate kind (`motion`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from omote.datasets.pairs import PairBatch
from omote.head.expressions import ARKIT_NAMES
from omote.head.rest_face import RestFace
from omote.rgbd.conditions.base import Kind
from omote.types import Expression

NUM_TOKENS = 8


@dataclass(frozen=True, kw_only=True)
class Arkit(Kind):
    """ARKit weights.

    Attributes:
        weights: ARKit weights in [0, 1], in the order of `ARKIT_NAMES`.
    """

    name: ClassVar[str] = "arkit"
    dropout: ClassVar[float] = 0.3
    group: ClassVar[str | None] = "expression"

    weights: Float[Tensor, "b 52"]

    @classmethod
    def of(cls, expressions: Sequence[Expression], face: RestFace | None) -> Arkit:
        """Weights of the expressions that have ARKit weights."""
        none = np.zeros(len(ARKIT_NAMES), np.float32)
        weights = np.stack([none if e.arkit is None else e.arkit for e in expressions])
        return cls(
            weights=torch.from_numpy(weights.astype(np.float32)),
            given=torch.tensor([e.arkit is not None for e in expressions]),
        )

    @classmethod
    def of_pairs(cls, pairs: PairBatch, target: Tensor) -> Arkit:
        """Weights of every target."""
        return cls(weights=pairs.arkit, given=torch.ones(len(pairs.arkit), dtype=torch.bool))
