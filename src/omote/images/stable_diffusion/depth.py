"""Depth as an image for Stable Diffusion's frozen VAE (Ke et al., "Marigold", CVPR 2024, §3.2).

Depth stays float and is not clipped: a linear map takes the 2 % and 98 % quantiles of a sample's depth to -1 and 1, and the two
quantiles are kept, so that `depth_of` gives millimetres back.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

QUANTILES = (0.02, 0.98)
# A flat surface has no range to normalise.
SMALLEST_RANGE = 1e-3


def depth_range(depth: Float[Tensor, "b 1 h w"], mask: Bool[Tensor, "b 1 h w"] | None = None) -> Float[Tensor, "b 2"]:
    """Lower and upper quantile of each sample's depth, over its valid pixels; (0, 1) for a sample without any."""
    rows = []
    for i, values in enumerate(depth):
        valid = values.flatten() if mask is None else values[mask[i]]
        if not len(valid):
            rows.append(torch.tensor([0.0, 1.0]).to(depth))
            continue
        low, high = torch.quantile(valid.float(), torch.tensor(QUANTILES, device=depth.device))
        rows.append(torch.stack([low, torch.maximum(high, low + SMALLEST_RANGE)]).to(depth))
    return torch.stack(rows)


def depth_image(depth: Float[Tensor, "b 1 h w"], between: Float[Tensor, "b 2"]) -> Float[Tensor, "b 3 h w"]:
    """Depth as a grey image: the range ``between`` becomes [-1, 1]."""
    low, high = between[:, 0].view(-1, 1, 1, 1), between[:, 1].view(-1, 1, 1, 1)
    return (2 * (depth - low) / (high - low) - 1).expand(-1, 3, -1, -1)


def depth_of(image: Float[Tensor, "b 3 h w"], between: Float[Tensor, "b 2"]) -> Float[Tensor, "b 1 h w"]:
    """Depth from its image, in the unit of the range: the inverse of `depth_image`, of the mean over the three channels."""
    low, high = between[:, 0].view(-1, 1, 1, 1), between[:, 1].view(-1, 1, 1, 1)
    return (image.mean(dim=1, keepdim=True) + 1) / 2 * (high - low) + low
