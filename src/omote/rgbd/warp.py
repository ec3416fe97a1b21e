"""Images moved by motion images: backward flow, change of depth, and what the fitted head shows.

`omote.rgbd.conditions.motion` draws motion images; here is what their channels mean and what the networks do with them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from omote.rgbd.codec import DEPTH, DEPTH_SCALE_MM, MASK, fill

# Channels of a motion image. Networks read the first seven: backward flow x and y (pixels of a 128² image / 8), depth change
# (mm / 10, positive away from the camera), shares of eyeball, teeth, tongue and the rest of the mouth's inside. Beside them
# lies the fitted head's own depth, moved and at rest (in `DEPTH_SCALE_MM`; `FRONT_DEPTH` before the head's centre is 0, and so
# is every pixel that does not show the head).
NUM_CHANNELS = 9
NUM_READ = 7
FLOW, RECEDING, READ = slice(0, 2), slice(2, 3), slice(0, NUM_READ)
MOVED_DEPTH, REST_DEPTH = slice(7, 8), slice(8, 9)
FRONT_DEPTH = 10.0
# Farther than this from the source's depth, the fitted head shows another surface.
SAME_SURFACE_MM = 25.0
FLOW_UNIT_PX = 8.0
DEPTH_UNIT_MM = 10.0
IMAGE_SIZE = 128


def resized(motion: Float[Tensor, "b c m m"], size: int) -> Float[Tensor, "b c s s"]:
    """Motion channels at another size: averaged down, interpolated up."""
    if size == motion.shape[-1]:
        return motion
    if size < motion.shape[-1]:
        return F.avg_pool2d(motion, motion.shape[-1] // size)
    return F.interpolate(motion, size=(size, size), mode="bilinear", align_corners=False)


def warped(image: Float[Tensor, "b c h w"], motion: Float[Tensor, "b n m m"]) -> Float[Tensor, "b c h w"]:
    """An image (or latent) of any size with its pixels moved by a backward flow: the first channels of a motion image."""
    height, width = int(image.shape[-2]), int(image.shape[-1])
    flow = resized(motion[:, FLOW], height)
    ys = (torch.arange(height, device=image.device, dtype=image.dtype) + 0.5) / height
    xs = (torch.arange(width, device=image.device, dtype=image.dtype) + 0.5) / width
    grid = torch.stack(torch.broadcast_tensors(xs[None, :], ys[:, None]), dim=-1)
    grid = grid + flow.permute(0, 2, 3, 1) * (FLOW_UNIT_PX / IMAGE_SIZE)
    return F.grid_sample(image, 2 * grid - 1, align_corners=False, padding_mode="border")


def shifted(motion: Float[Tensor, "b n m m"], shift: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b n m m"]:
    """A motion image that reads everything from ``shift`` (flow units, at any size) farther: the two flows composed."""
    size = int(motion.shape[-1])
    shift = F.interpolate(shift, size=(size, size), mode="bilinear", align_corners=False)
    there = warped(motion, shift)
    return torch.cat([there[:, FLOW] + shift, there[:, 2:]], dim=1)


def moved(image: Float[Tensor, "b c s s"], motion: Float[Tensor, "b n m m"]) -> Float[Tensor, "b c s s"]:
    """A packed RGB-D image, or the pooled channels of a latent, moved: `warped`, and depth changed as the motion says."""
    out = warped(image, motion)
    receding = resized(motion[:, RECEDING], int(image.shape[-1]))
    return torch.cat([out[:, :3], out[:, 3:4] + receding * (DEPTH_UNIT_MM / DEPTH_SCALE_MM), out[:, 4:]], dim=1)


def surfaced(image: Float[Tensor, "b 5 s s"], motion: Float[Tensor, "b 9 m m"]) -> Float[Tensor, "b 1 s s"]:
    """The moved depth as the fitted head's surface has it.

    `moved` takes depth from the source's pixels, so its outlines (jaw, ears, lips) are the source's, blurred by as much as
    they were shifted; a pixel of jaw against neck is wrong by centimetres. Here the outlines are the moved head's, and what
    the source adds is how far the person lies before or behind the fitted head at rest, which is smooth.

    Args:
        image: packed source.
        motion: motion image of the same face; pixels that show no head get the depth of `moved`.
    """
    size = int(image.shape[-1])
    rest, now = (F.interpolate(motion[:, c], size=(size, size), mode="nearest") for c in (REST_DEPTH, MOVED_DEPTH))
    departure = image[:, DEPTH] - (rest - FRONT_DEPTH)
    same = (image[:, MASK] > 0) & (rest > 0) & (departure.abs() < SAME_SURFACE_MM / DEPTH_SCALE_MM)
    departure = warped(fill(departure, same.to(image.dtype)), motion)
    return torch.where(now > 0, now - FRONT_DEPTH + departure, moved(image, motion)[:, DEPTH])
