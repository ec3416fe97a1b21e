"""Identity coefficients of the head model fitted to a person: one token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from omote.datasets.pairs import PairBatch
from omote.head.rest_face import RestFace
from omote.rgbd.conditions.base import Kind
from omote.types import Expression


@dataclass(frozen=True, kw_only=True)
class Identity(Kind):
    """Identity coefficients.

    Attributes:
        coefficients: identity coefficients in standard deviations (σ).
    """

    name: ClassVar[str] = "identity"
    dropout: ClassVar[float] = 0.4

    coefficients: Float[Tensor, "b i"]

    @classmethod
    def of(cls, expressions: Sequence[Expression], face: RestFace | None) -> Identity | None:
        """The coefficients of the face, for every expression; None if they are not known."""
        return None if face is None else cls.of_faces([face] * len(expressions))

    @classmethod
    def of_pairs(cls, pairs: PairBatch, target: Tensor) -> Identity | None:
        """The coefficients of the sources' persons."""
        return cls.of_faces(pairs.faces)

    @classmethod
    def of_faces(cls, faces: Sequence[RestFace]) -> Identity | None:
        """The coefficients of each item's face; None if no face has any."""
        known = [face.identity for face in faces if face.identity is not None]
        if not known:
            return None
        rows = [np.zeros_like(known[0]) if face.identity is None else face.identity for face in faces]
        return cls(
            coefficients=torch.from_numpy(np.stack(rows).astype(np.float32)),
            given=torch.tensor([face.identity is not None for face in faces]),
        )
