"""Depth as a picture in colours."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from omote.types import Rgbd

# Depth of a frontal face: from before the nose to the ears.
DEPTH_RANGE_MM = (-70.0, 80.0)


# Anchors of the "turbo" colour map (Mikhailov, Google AI 2019), near to far.
TURBO = ((0.48, 0.02, 0.01), (0.89, 0.27, 0.04), (0.99, 0.65, 0.19), (0.74, 0.94, 0.22), (0.28, 0.98, 0.50),
         (0.11, 0.74, 0.92), (0.27, 0.40, 0.89), (0.19, 0.07, 0.23))  # fmt: skip


def depth_colors(rgbd: Rgbd) -> Float[np.ndarray, "height width 3"]:
    """Depth in fixed colours, relative to the eyes' plane: the same colour is the same millimetre in every cell."""
    eyes_mm = float(rgbd.camera.cam_from_world[2, 3])
    low, high = DEPTH_RANGE_MM
    t = np.clip((rgbd.depth_mm - eyes_mm - low) / (high - low), 0, 1)
    return np.where(rgbd.mask[..., None], turbo(t), 0.12)


def turbo(t: Float[np.ndarray, "..."]) -> Float[np.ndarray, "... 3"]:
    """The colour of ``t`` in [0, 1], near to far."""
    at = np.linspace(0, 1, len(TURBO))
    return np.stack([np.interp(t, at, np.array(TURBO)[:, k]) for k in range(3)], axis=-1)
