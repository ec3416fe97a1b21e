"""Distance of a set of generated RGB-D faces from a set of real ones: in features of colour, features of shape, and depth.

* ``fd/<features>``, ``precision/<features>``, ``recall/<features>``: measures of the colours (`omote.evaluation.distribution`).
* ``fd/<features>_shaded_depth``: Fréchet distance of the shapes alone, rendered as grey clay under one light. An impossible
surface
  is far from all real ones, however good its colours are.
* ``depth/nearest_mm``: a generated face has no true depth of its own, so its depth is compared with that of every real face, and
  the nearest counts: the mean of |d - g| over the pixels inside the real face's mask. The mean face scores well here, so the
  measure stands beside recall; its floor is that of real faces of other persons (row ``real``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from omote.evaluation.distribution import feature_statistics, frechet_distance, nearest_depth_mm, precision_recall
from omote.evaluation.features import FeatureExtractor
from omote.geometry.camera import FRONT_DISTANCE_MM, orbit_camera
from omote.geometry.depth import depth_normals
from omote.rgbd.codec import unpack

# Key light of the clay pictures: from the upper left towards the face, in camera axes.
LIGHT = np.array([-0.35, -0.5, -0.79])
DEPTH_SIDE = 32


@dataclass(frozen=True, kw_only=True)
class FaceSet:
    """Features and depth of a set of faces.

    Attributes:
        color: features of the colours.
        shape: features of the clay pictures.
        depth_mm: relative depth at a small size.
        mask: mask of the head at the same size.
    """

    color: Float[np.ndarray, "n d"]
    shape: Float[np.ndarray, "n d"]
    depth_mm: Float[np.ndarray, "n t t"]
    mask: Bool[np.ndarray, "n t t"]


def face_set(images: Float[Tensor, "n 5 s s"], extractor: FeatureExtractor) -> FaceSet:
    """Measure packed images, real or generated."""
    rgb, depth_mm, mask = unpack(images.float().cpu())
    side = min(DEPTH_SIDE, depth_mm.shape[-1])
    return FaceSet(
        color=extractor(rgb.contiguous()).numpy(),
        shape=extractor(clay(depth_mm[:, 0].numpy(), mask[:, 0].numpy())).numpy(),
        depth_mm=F.adaptive_avg_pool2d(depth_mm, side)[:, 0].numpy(),
        mask=F.adaptive_avg_pool2d(mask.float(), side)[:, 0].numpy() > 0.5,
    )


def clay(depth_mm: Float[np.ndarray, "n h w"], mask: Bool[np.ndarray, "n h w"]) -> Float[Tensor, "n 3 h w"]:
    """Relative depth → grey pictures in [0, 1], lit from one side, as seen by the standard camera."""
    camera = orbit_camera(size=depth_mm.shape[-1])
    intrinsics = np.broadcast_to(camera.intrinsics, (len(depth_mm), 3, 3))
    normals, seen = depth_normals(depth_mm + FRONT_DISTANCE_MM, mask, intrinsics)
    shade = 0.15 + 0.85 * np.clip(normals @ LIGHT, 0, 1)
    grey = torch.from_numpy(np.where(seen, shade, 0.5).astype(np.float32))
    return grey[:, None].expand(-1, 3, -1, -1).contiguous()


def compare(drawn: FaceSet, real: FaceSet, name: str, *, alone: Int[np.ndarray, "p"]) -> dict[str, float]:
    """The measures of this module, with the extractor's name in their keys.

    Args:
        drawn: generated faces.
        real: real faces.
        name: name of the extractor.
        alone: indices of real faces of different persons, for precision and recall: a manifold's width is the distance to a
            neighbour, which another picture of the same person is not.
    """
    near = precision_recall(real.color[alone], drawn.color)
    return {
        f"fd/{name}": frechet_distance(feature_statistics(drawn.color), feature_statistics(real.color)),
        f"fd/{name}_shaded_depth": frechet_distance(feature_statistics(drawn.shape), feature_statistics(real.shape)),
        f"precision/{name}": near.precision,
        f"recall/{name}": near.recall,
        "depth/nearest_mm": float(nearest_depth_mm(drawn.depth_mm, real.depth_mm, real.mask).mean()),
    }
