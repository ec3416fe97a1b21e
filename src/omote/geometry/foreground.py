"""Foreground of a depth frame: connected parts without a step in depth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Int
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from omote.errors import ScanError
from omote.types import Rgbd

# Largest difference of neighbouring pixels on one surface: a slope of 83 degrees, plus a time-of-flight camera's noise.
MOST_SLOPE = 8.0
NOISE_MM, NOISE_SHARE = 6.0, 0.004


def connected_parts(frame: Rgbd) -> Int[np.ndarray, "h w"]:
    """Label (from 0) of the connected part that each pixel belongs to; -1 for pixels without depth.

    Args:
        frame: a depth frame.
    """
    depth, mask = frame.depth_mm.astype(np.float64), frame.mask
    ids = np.arange(depth.size).reshape(depth.shape)
    pitch = depth / float(frame.camera.intrinsics[0, 0])
    allowed = MOST_SLOPE * pitch + NOISE_MM + NOISE_SHARE * depth
    first, second = [], []
    for a, b in (
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
    ):
        joined = mask[a] & mask[b] & (np.abs(depth[a] - depth[b]) < allowed[a])
        first.append(ids[a][joined])
        second.append(ids[b][joined])
    pairs = (np.concatenate(first), np.concatenate(second))
    graph = sparse.coo_matrix((np.ones(len(pairs[0]), bool), pairs), shape=(depth.size, depth.size))
    labels = connected_components(graph, directed=False)[1].reshape(depth.shape)
    return np.where(mask, labels, -1)


def nearer_than(frame: Rgbd, max_depth_mm: float) -> Rgbd:
    """A frame without depths beyond a limit.

    Args:
        frame: a depth frame.
        max_depth_mm: greatest z-depth that is kept.

    Raises:
        ScanError: no pixel is within the limit.
    """
    mask = frame.mask & (frame.depth_mm <= max_depth_mm)
    if not mask.any():
        nearest = float(frame.depth_mm[frame.mask].min()) if frame.mask.any() else float("nan")
        raise ScanError(f"max depth: expected more than the nearest depth, {nearest:.0f} mm, got {max_depth_mm:.0f}")
    return without(frame, ~mask)


def without(frame: Rgbd, unwanted: Bool[np.ndarray, "h w"]) -> Rgbd:
    """A frame without the depth of some pixels."""
    mask = frame.mask & ~unwanted
    return replace(frame, depth_mm=np.where(mask, frame.depth_mm, 0).astype(np.float32), mask=mask)
