"""Unit style: a second set of expression units for the shipped head, blended in by identity.

The shipped head's units are sculpted and do not match every person's motion. A population has persons of several head
models; `omote.tools.unit_style` learns the surface motion of the other models' persons at the shipped head's vertices, and a
classifier of these persons from the fitted identity. The difference of two linear sets of blendshapes is linear too, so the
style is a second set of offsets weighted by a logistic share.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from safetensors.numpy import save_file


@dataclass(frozen=True, kw_only=True)
class UnitStyle:
    """A second set of units for the shipped head.

    Attributes:
        vertices: indices of the vertices that the style moves.
        offset_mm: offsets added to the head model's units at those vertices, in ARKit order.
        identity_weight: weights of the logistic share per identity coefficient (σ).
        bias: bias of the logistic share.
    """

    vertices: Int[np.ndarray, "n"]
    offset_mm: Float[np.ndarray, "52 n 3"]
    identity_weight: Float[np.ndarray, "i"]
    bias: float

    def share(self, identity: Float[np.ndarray, "i"]) -> float:
        """Share of this style in a fitted identity's motion, in (0, 1); missing coefficients count as 0."""
        return float(1 / (1 + np.exp(-(self.identity_weight[: len(identity)] @ identity + self.bias))))

    def moved(
        self, vertices_mm: Float[np.ndarray, "v 3"], arkit: Float[np.ndarray, "52"], share: float
    ) -> Float[np.ndarray, "v 3"]:
        """Convert vertices under ARKit weights from the shipped units to the face's own unit style."""
        used = np.flatnonzero(arkit)
        out = vertices_mm.copy()
        out[self.vertices] += share * np.tensordot(arkit[used], self.offset_mm[used], 1)
        return out

    def save(self, path: Path) -> None:
        """Write the half-precision offsets and the weights of the logistic share."""
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {
            "vertices": self.vertices.astype(np.int32),
            "offset_mm": self.offset_mm.astype(np.float16),
            "identity_weight": self.identity_weight.astype(np.float32),
            "bias": np.array([self.bias], np.float32),
        }
        # safetensors writes an array's memory as is, whatever its strides.
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
