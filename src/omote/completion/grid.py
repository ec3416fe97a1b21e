"""The cube around the head that voxels divide, shared by the dense and the sparse network."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

# A cube around heads of both families, skull and neck included.
SIDE_MM = 288.0
CENTER_MM = (0.0, -38.0, -50.0)


def placed(points_mm: Float[Tensor, "*n 3"], side: int) -> Float[Tensor, "*n 3"]:
    """Positions in units of voxels, [0, side) inside the cube."""
    center = torch.tensor(CENTER_MM, device=points_mm.device, dtype=points_mm.dtype)
    return ((points_mm - center) / SIDE_MM + 0.5) * side


def cells_of(place: Float[Tensor, "n 3"], side: int) -> tuple[Int[Tensor, "n 3"], Bool[Tensor, " n"]]:
    """Voxels (x, y, z) of positions, and which lie inside the cube."""
    cell = place.floor().long()
    return cell, ((cell >= 0) & (cell < side)).all(dim=1)
