"""The crop of a picture that a judge receives: a square that is a pure function of 68 landmarks.

The landmarks are those of the *true neutral* face, projected into the picture. Every picture of a person (source, truth, model,
baselines) gets the same crop, so that no row of a table gains from a better one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

# Multi-PIE / iBUG 68 order.
_EYES = slice(36, 48)
_CHIN = 8


@dataclass(frozen=True, kw_only=True)
class CropRule:
    """A square in units of the face's own size, the distance from the eyes' centre to the chin's tip.

    Attributes:
        side: side of the square, in eye-to-chin distances.
        down: centre of the square on the line from the eyes (0) to the chin (1).
    """

    side: float
    down: float


def eyes_and_chin(landmarks_px: Float[Tensor, "b 68 2"]) -> Float[Tensor, "b 2 2"]:
    """The eyes' centre (mean of the 12 lid points) and the chin's tip, in pixels."""
    return torch.stack([landmarks_px[:, _EYES].mean(dim=1), landmarks_px[:, _CHIN]], dim=1)


def square(landmarks_px: Float[Tensor, "b 68 2"], rule: CropRule) -> Float[Tensor, "b 3"]:
    """Centre u, centre v and side in pixels; upright in the picture, like the crops of face detectors."""
    return square_between(eyes_and_chin(landmarks_px), rule)


def square_between(eyes_and_chin_px: Float[Tensor, "b 2 2"], rule: CropRule) -> Float[Tensor, "b 3"]:
    """`square` from the two points alone."""
    eyes, chin = eyes_and_chin_px.unbind(dim=1)
    span = (chin - eyes).norm(dim=1, keepdim=True)
    return torch.cat([eyes + rule.down * (chin - eyes), rule.side * span], dim=1)


def cut(rgb: Float[Tensor, "b 3 h w"], squares: Float[Tensor, "b 3"], size: int) -> Float[Tensor, "b 3 size size"]:
    """Resample squares of pictures to ``size`` × ``size``; outside the picture, its border is repeated.

    Sampling is bilinear at the output's pixel centres. If a square has more than ``size`` pixels, each output pixel is the mean
    of n × n such samples, so that large pictures do not alias.
    """
    height, width = rgb.shape[2:]
    # n is chosen per picture, so that a picture's crop does not depend on the rest of the batch.
    samples = (squares[:, 2] / size - 0.25).ceil().clamp(min=1).int()
    out = rgb.new_empty(len(rgb), 3, size, size)
    for n in samples.unique().tolist():
        chosen = samples == n
        center_u, center_v, side = squares[chosen, :, None].unbind(dim=1)
        step = (torch.arange(size * n, device=rgb.device, dtype=rgb.dtype) + 0.5) / (size * n) - 0.5
        # grid_sample without corner alignment has pixel centres at integer + 0.5, like our cameras.
        u = 2 * (center_u + side * step) / width - 1
        v = 2 * (center_v + side * step) / height - 1
        grid = torch.stack(torch.broadcast_tensors(u[:, None, :], v[:, :, None]), dim=-1)
        fine = F.grid_sample(rgb[chosen], grid, mode="bilinear", padding_mode="border", align_corners=False)
        out[chosen] = F.avg_pool2d(fine, n)
    return out
