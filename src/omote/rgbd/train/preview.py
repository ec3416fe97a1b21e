"""Picture grids of training batches: inputs, targets and outputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from omote.rgbd.codec import unpack

# Depth relative to the head's centre that a grid shows, white to black.
NEAREST_MM, FARTHEST_MM = -130.0, 70.0


def grid(rows: Sequence[Float[Tensor, "b 5 s s"]]) -> Float[Tensor, "3 h w"]:
    """Packed images → one picture: a row of colours and a row of depths for each of ``rows``."""
    out = []
    for row in rows:
        rgb, depth_mm, mask = unpack(row.detach().float().cpu())
        shown = ((FARTHEST_MM - depth_mm) / (FARTHEST_MM - NEAREST_MM)).clamp(0, 1) * mask
        out += [torch.cat(list(rgb), dim=-1), torch.cat(list(shown.expand(-1, 3, -1, -1)), dim=-1)]
    return torch.cat(out, dim=-2)
