"""How a face moves: a second set of expression units, mixed in by identity.

The shipped head's units are sculpted, and not everybody moves that way. A population holds persons of several head models;
`omote.tools.unit_style` learns from it how the surface of the other persons moves at the shipped head's vertices, and how a
fitted identity tells them apart. The difference of two linear sets of blendshapes is linear too: a second set of offsets,
let through by a logistic share.
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
        vertices: ids of the vertices that it moves.
        offset_mm: offsets added to the head model's units at those vertices, in ARKit order.
        identity_weight: weights of the logistic share per identity coefficient (σ).
        bias: bias of the logistic share.
    """

    vertices: Int[np.ndarray, "n"]
    offset_mm: Float[np.ndarray, "52 n 3"]
    identity_weight: Float[np.ndarray, "i"]
    bias: float

    def share(self, identity: Float[np.ndarray, "i"]) -> float:
        """How far a fitted identity moves in this style, in (0, 1); coefficients that a fit left out count as 0."""
        return float(1 / (1 + np.exp(-(self.identity_weight[: len(identity)] @ identity + self.bias))))

    def moved(
        self, vertices_mm: Float[np.ndarray, "v 3"], arkit: Float[np.ndarray, "52"], share: float
    ) -> Float[np.ndarray, "v 3"]:
        """Vertices under ARKit weights in the shipped units → in a face's own."""
        used = np.flatnonzero(arkit)
        out = vertices_mm.copy()
        out[self.vertices] += share * np.tensordot(arkit[used], self.offset_mm[used], 1)
        return out

    def save(self, path: Path) -> None:
        """Write half-precision offsets and the share's weights."""
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {
            "vertices": self.vertices.astype(np.int32),
            "offset_mm": self.offset_mm.astype(np.float16),
            "identity_weight": self.identity_weight.astype(np.float32),
            "bias": np.array([self.bias], np.float32),
        }
        # safetensors writes memory as it lies.
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
