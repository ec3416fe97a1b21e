"""What part of a picture a judge sees: a square that is a pure function of 68 landmarks.

The landmarks are those of the *true neutral* face, projected into the picture. Every picture of one person (source,
truth, model, baselines) is cut by this one square, so that no row of a table gains from a better crop.
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
    """A square relative to the face's own measure, the distance from the eyes' centre to the chin's tip.

    Attributes:
        side: the square's side, in eye-to-chin distances.
        down: the square's centre along the line from the eyes (0) to the chin (1).
    """

    side: float
    down: float


def eyes_and_chin(landmarks_px: Float[Tensor, "b 68 2"]) -> Float[Tensor, "b 2 2"]:
    """The eyes' centre (mean of the 12 lid points) and the chin's tip, in pixels."""
    return torch.stack([landmarks_px[:, _EYES].mean(dim=1), landmarks_px[:, _CHIN]], dim=1)


def square(landmarks_px: Float[Tensor, "b 68 2"], rule: CropRule) -> Float[Tensor, "b 3"]:
    """(centre u, centre v, side) in pixels; upright in the picture, as detectors cut faces."""
    return square_between(eyes_and_chin(landmarks_px), rule)


def square_between(eyes_and_chin_px: Float[Tensor, "b 2 2"], rule: CropRule) -> Float[Tensor, "b 3"]:
    """The same of the two points alone."""
    eyes, chin = eyes_and_chin_px.unbind(dim=1)
    span = (chin - eyes).norm(dim=1, keepdim=True)
    return torch.cat([eyes + rule.down * (chin - eyes), rule.side * span], dim=1)


def cut(rgb: Float[Tensor, "b 3 h w"], squares: Float[Tensor, "b 3"], size: int) -> Float[Tensor, "b 3 size size"]:
    """Resample squares of pictures to ``size`` × ``size``; outside the picture its border repeats.

    Bilinear at the output's pixel centres; each output pixel is the mean of n × n such samples where a square has
    more than ``size`` pixels, so that large pictures do not alias.
    """
    height, width = rgb.shape[2:]
    # Chosen per picture, so that a picture is cut the same whatever else is in the batch.
    samples = (squares[:, 2] / size - 0.25).ceil().clamp(min=1).int()
    out = rgb.new_empty(len(rgb), 3, size, size)
    for n in samples.unique().tolist():
        chosen = samples == n
        center_u, center_v, side = squares[chosen, :, None].unbind(dim=1)
        step = (torch.arange(size * n, device=rgb.device, dtype=rgb.dtype) + 0.5) / (size * n) - 0.5
        # grid_sample without corner alignment puts pixel centres at integer + 0.5, as our cameras do.
        u = 2 * (center_u + side * step) / width - 1
        v = 2 * (center_v + side * step) / height - 1
        grid = torch.stack(torch.broadcast_tensors(u[:, None, :], v[:, :, None]), dim=-1)
        fine = F.grid_sample(rgb[chosen], grid, mode="bilinear", padding_mode="border", align_corners=False)
        out[chosen] = F.avg_pool2d(fine, n)
    return out
