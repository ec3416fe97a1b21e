"""Surface normals of depth maps, and how they face the camera."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float


def depth_normals(
    depth_mm: Float[np.ndarray, "n h w"], mask: Bool[np.ndarray, "n h w"], intrinsics: Float[np.ndarray, "n 3 3"]
) -> tuple[Float[np.ndarray, "n h w 3"], Bool[np.ndarray, "n h w"]]:
    """Unit normals in camera axes, facing the camera, and a mask of the pixels that have one.

    Each is the cross product of the unprojected points' central differences, so all four neighbours must be valid.

    Args:
        depth_mm: z-depth of each image.
        mask: True at valid pixels.
        intrinsics: camera matrix of each image, pixels.
    """
    height, width = depth_mm.shape[1:]
    u, v = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
    k = intrinsics.astype(np.float64)[:, :, :, None, None]
    z = depth_mm.astype(np.float64)
    points = np.stack([z * (u - k[:, 0, 2]) / k[:, 0, 0], z * (v - k[:, 1, 2]) / k[:, 1, 1], z], axis=-1)
    along, down = np.zeros_like(points), np.zeros_like(points)
    along[:, :, 1:-1] = points[:, :, 2:] - points[:, :, :-2]
    down[:, 1:-1] = points[:, 2:] - points[:, :-2]
    normals = np.cross(down, along)
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    seen = np.zeros_like(mask)
    seen[:, 1:-1, 1:-1] = (
        mask[:, 1:-1, 1:-1] & mask[:, 2:, 1:-1] & mask[:, :-2, 1:-1] & mask[:, 1:-1, 2:] & mask[:, 1:-1, :-2]
    )
    return normals / np.maximum(length, 1e-12), seen


def facing(normals: Float[np.ndarray, "h w 3"], intrinsics: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "h w"]:
    """Cosine between each pixel's normal (`depth_normals`) and its line of sight; 1 for a surface that faces the camera."""
    height, width = normals.shape[:2]
    x = (np.arange(width) + 0.5 - intrinsics[0, 2]) / intrinsics[0, 0]
    y = ((np.arange(height) + 0.5 - intrinsics[1, 2]) / intrinsics[1, 1])[:, None]
    along = normals[..., 0] * x + normals[..., 1] * y + normals[..., 2]
    cosine: Float[np.ndarray, "h w"] = -along / np.sqrt(x * x + y * y + 1.0)
    return cosine
