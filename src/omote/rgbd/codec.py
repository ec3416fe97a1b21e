"""Packed RGB-D images, the networks' input: red, green, blue, depth and mask channels, each in about [-1, 1].

Depth is measured from a reference plane through the head (the z-depth of the canonical head's centre in that camera), so
that the same face has the same values at any distance, and is scaled by one fixed length: nothing is normalised per image.
Missing depth is interpolated smoothly from its surroundings, so that the networks need not model a step at the face's edge;
the mask channel says which pixels are valid.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from omote.errors import ConfigError
from omote.geometry.camera import FRONT_FIELD_MM, FRONT_TARGET_MM, transform
from omote.types import Camera, Rgbd

NUM_CHANNELS = 5
DEPTH_SCALE_MM = 100.0
RGB, DEPTH, MASK = slice(0, 3), slice(3, 4), slice(4, 5)


def reference_depth_mm(camera: Camera) -> float:
    """The z-depth of the head's centre in mm, the zero of the depth channel."""
    return float(transform(camera.cam_from_world, FRONT_TARGET_MM[None])[0, 2])


def fill(values: Float[Tensor, "b c h w"], valid: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b c h w"]:
    """Pull-push interpolation of missing pixels (Gortler et al., "The Lumigraph", SIGGRAPH 1996, §3.4.2)."""
    if min(values.shape[-2:]) == 1:
        return values
    weight = F.avg_pool2d(valid, 2)
    pulled = F.avg_pool2d(values * valid, 2) / weight.clamp_min(1e-6)
    coarse = fill(pulled, (weight > 0).to(values.dtype))
    smooth = F.interpolate(coarse, scale_factor=2.0, mode="bilinear", align_corners=False)
    return torch.where(valid > 0, values, smooth)


def pack(
    rgb: Float[Tensor, "b 3 h w"],
    relative_depth_mm: Float[Tensor, "b 1 h w"],
    mask: Float[Tensor, "b 1 h w"],
) -> Float[Tensor, "b 5 h w"]:
    """Images → network input. Colour is grey (0) outside the mask.

    Args:
        rgb: colours in [0, 1].
        relative_depth_mm: depth minus the reference depth in mm; any value where ``mask`` is 0.
        mask: 1 for valid pixels, else 0.
    """
    depth = fill(relative_depth_mm / DEPTH_SCALE_MM, mask)
    return torch.cat([(rgb * 2 - 1) * mask, depth, mask * 2 - 1], dim=1)


def shrunk(x: Float[Tensor, "b 5 h w"], size: int) -> Float[Tensor, "b 5 s s"]:
    """Packed images averaged down to sides of ``size`` pixels; the mask has pixels of which at least half is valid.

    Raises:
        ConfigError: ``size`` does not divide the side.
    """
    factor, left = divmod(x.shape[-1], size)
    if left or not factor:
        raise ConfigError(f"images of {x.shape[-1]} pixels: expected a whole fraction of them, got {size}")
    if factor == 1:
        return x
    small = F.avg_pool2d(x, factor)
    return torch.cat([small[:, :4], (small[:, MASK] >= 0) * 2.0 - 1.0], dim=1)


def normals(depth: Float[Tensor, "b 1 s s"]) -> Float[Tensor, "b 3 t t"]:
    """Unit normals of packed depth z, t = s - 1: (-dz/dx, -dz/dy, 1), normalised.

    Slopes assume the standard camera's pixel pitch at the head's centre. The pixel pitch of a population's cameras differs from
    it by a few percent, but equally in image and target.
    """
    z = depth * (DEPTH_SCALE_MM / (FRONT_FIELD_MM / depth.shape[-1]))
    dx, dy = z.diff(dim=-1)[..., :-1, :], z.diff(dim=-2)[..., :-1]
    return F.normalize(torch.cat([-dx, -dy, torch.ones_like(dx)], dim=1), dim=1)


def unpack(
    x: Float[Tensor, "b 5 h w"],
) -> tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b 1 h w"], Bool[Tensor, "b 1 h w"]]:
    """Network output → (rgb in [0, 1], relative depth in mm, mask)."""
    mask = x[:, MASK] > 0
    rgb = ((x[:, RGB] + 1) / 2).clamp(0, 1)
    return torch.where(mask, rgb, torch.full_like(rgb, 0.5)), x[:, DEPTH] * DEPTH_SCALE_MM, mask


def pack_images(images: Sequence[Rgbd]) -> Float[Tensor, "b 5 h w"]:
    """`pack` for `Rgbd` images of equal size."""
    rgb = np.stack([i.rgb for i in images]).transpose(0, 3, 1, 2)
    depth = np.stack([i.depth_mm - reference_depth_mm(i.camera) for i in images])[:, None]
    mask = np.stack([i.mask for i in images])[:, None]
    return pack(*(torch.from_numpy(np.ascontiguousarray(a, dtype=np.float32)) for a in (rgb, depth, mask)))


def unpack_images(x: Float[Tensor, "b 5 h w"], cameras: Sequence[Camera]) -> list[Rgbd]:
    """`unpack` to `Rgbd` images with metric depth in the given cameras."""
    rgb, depth, mask = unpack(x.float().cpu())
    out = []
    for r, d, m, camera in zip(rgb.numpy(), depth[:, 0].numpy(), mask[:, 0].numpy(), cameras, strict=True):
        metric = np.where(m, d + reference_depth_mm(camera), 0.0).astype(np.float32)
        out.append(Rgbd(rgb=np.ascontiguousarray(r.transpose(1, 2, 0)), depth_mm=metric, mask=m, camera=camera))
    return out
