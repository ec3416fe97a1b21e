"""Where nothing moves, an edited image is its source.

A latent cannot hold a forehead's pores, and a decoder that draws them anew moves a forehead that rests. The motion image says
where nothing moves; what is there is known already.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from omote.geometry.camera import FRONT_FIELD_MM
from omote.ldm.motion import DEPTH_UNIT_MM, FLOW, FLOW_UNIT_PX, IMAGE_SIZE, MOVED_DEPTH, NEARER, REST_DEPTH, resized
from omote.ldm.representation import DEPTH_SCALE_MM, MASK

# Motion of the fitted head, mm, up to which a pixel is the source's, and from which on it is the decoder's. On unseen persons the
# source is nearer to the truth than what is decoded below .05 mm, and no longer from .2 mm on.
STILL_MM, MOVING_MM = 0.03, 0.1
# Pixels of a motion image: so near to what moves, nothing is still; over so many, the two are blended.
REACH, BLEND = 3, 2


def still_share(motion: Float[Tensor, "b 9 m m"]) -> Float[Tensor, "b 1 m m"]:
    """How much of each pixel is the source's: 1 where nothing moves around it, 0 where something does."""
    pitch_mm = FRONT_FIELD_MM / IMAGE_SIZE
    along = motion[:, FLOW].norm(dim=1, keepdim=True) * FLOW_UNIT_PX * pitch_mm
    nearer = motion[:, NEARER] * DEPTH_UNIT_MM
    # Where an outline passes, the surface behind appears.
    uncovered = (motion[:, MOVED_DEPTH] - motion[:, REST_DEPTH]).abs() * DEPTH_SCALE_MM
    moved_mm = torch.maximum(torch.hypot(along, nearer), uncovered)
    around = F.max_pool2d(moved_mm, 2 * REACH + 1, stride=1, padding=REACH)
    share = ((MOVING_MM - around) / (MOVING_MM - STILL_MM)).clamp(0, 1)
    return F.avg_pool2d(share, 2 * BLEND + 1, stride=1, padding=BLEND, count_include_pad=False)


def with_still_source(
    decoded: Float[Tensor, "b 5 s s"],
    source: Float[Tensor, "b 5 s s"],
    motion: Float[Tensor, "b 9 m m"],
    known: Bool[Tensor, "b"],
) -> Float[Tensor, "b 5 s s"]:
    """Decoded images with the source's pixels where nothing moves.

    Args:
        decoded: packed.
        source: packed, of the same persons.
        motion: that led the decoder.
        known: whose motion is known; the others stay as they are.
    """
    share = resized(still_share(motion), int(decoded.shape[-1])) * known[:, None, None, None]
    # A mask is one or the other.
    share = torch.cat([share.expand(-1, MASK.start, -1, -1), (share > 0.5).to(share.dtype)], dim=1)
    return decoded + share * (source - decoded)
