"""Losses of the first stage on packed RGB-D images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from omote.nets.precision import in_float32
from omote.rgbd.codec import DEPTH, MASK, RGB, normals


@dataclass(frozen=True, kw_only=True)
class ReconstructionLoss:
    """Weights of the terms; a pixel's value is in packed units (a depth of 1 is 100 mm).

    Attributes:
        rgb: L1 on colour.
        rgb_gradient: L1 on the difference of neighbouring pixels, which penalises blur.
        depth: L1 on depth, over the target's mask.
        depth_gradient: L1 on depth differences: the surface's slope, so its normals.
        mask: L1 on the mask.
        normal: 1 - cos of the angle between the surfaces' normals (`normals`), over the target's mask.
        feature_weight: additional weight of eye, lip and brow pixels over skin.
        moved_weight: additional weight of pixels that the expression moved.
    """

    rgb: float = 1.0
    rgb_gradient: float = 1.0
    depth: float = 8.0
    depth_gradient: float = 8.0
    mask: float = 0.2
    feature_weight: float = 2.5
    moved_weight: float = 1.5
    normal: float = 0.0

    @in_float32
    def __call__(
        self, image: Float[Tensor, "b 5 s s"], target: Float[Tensor, "b 5 s s"], weight: Float[Tensor, "b 1 s s"]
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Total loss and its terms; ``weight`` has mean about 1 over the mask."""
        valid = (target[:, MASK] > 0).to(image.dtype)
        inside = weight * valid
        error = (image - target).abs()
        gx, gy = (image - target).diff(dim=-1).abs(), (image - target).diff(dim=-2).abs()
        wx, wy = weight[..., 1:], weight[..., 1:, :]
        vx, vy = valid[..., 1:] * valid[..., :-1], valid[..., 1:, :] * valid[..., :-1, :]
        # Images have equal weight, whatever part of a batch they are in.
        total = inside.sum(dim=(1, 2, 3)).clamp_min(1)
        rgb = (weight * error[:, RGB]).mean() * 2
        rgb_gradient = ((wx * gx[:, RGB]).mean() + (wy * gy[:, RGB]).mean()) * 2
        depth = ((inside * error[:, DEPTH]).sum(dim=(1, 2, 3)) / total).mean()
        slopes = (wx * vx * gx[:, DEPTH]).sum(dim=(1, 2, 3)) + (wy * vy * gy[:, DEPTH]).sum(dim=(1, 2, 3))
        depth_gradient = (slopes / total).mean()
        mask = error[:, MASK].mean()
        loss = (
            self.rgb * rgb
            + self.rgb_gradient * rgb_gradient
            + self.depth * depth
            + self.depth_gradient * depth_gradient
            + self.mask * mask
        )
        terms = {"rgb": rgb, "rgb_gradient": rgb_gradient, "depth": depth, "depth_gradient": depth_gradient}
        if self.normal:
            angles = 1 - (normals(image[:, DEPTH]) * normals(target[:, DEPTH])).sum(dim=1, keepdim=True)
            # A normal depends on three pixels, and all of them must be valid.
            seen = (weight[..., :-1, :-1] * vx[..., :-1, :] * vy[..., :-1]) * angles
            terms["normal"] = (seen.sum(dim=(1, 2, 3)) / total).mean()
            loss = loss + self.normal * terms["normal"]
        return loss, {k: v.detach() for k, v in terms.items()}

    @in_float32
    def weights(
        self,
        landmarks: Float[Tensor, "b 68 2"],
        source: Float[Tensor, "b 5 s s"],
        target: Float[Tensor, "b 5 s s"],
    ) -> Float[Tensor, "b 1 s s"]:
        """Weight per pixel: 1 on plain skin, more on features and on moved pixels, half outside the head."""
        size = target.shape[-1]
        coarse = size // 4
        scale = coarse / size
        centers = (torch.arange(coarse, device=target.device) + 0.5) / scale
        points = landmarks[:, 17:]  # brows, nose, eyes, mouth
        sigma = 3.0 * size / 128
        fx = torch.exp(-0.5 * ((points[..., :1] - centers) / sigma) ** 2)
        fy = torch.exp(-0.5 * ((points[..., 1:] - centers) / sigma) ** 2)
        # The nose bridge and wings (27-35) are smooth: half weight.
        share = torch.ones(points.shape[1], device=target.device)
        share[10:19] = 0.5
        feature = torch.einsum("bly,blx,l->byx", fy, fx, share).clamp(0, 1)[:, None]
        feature = F.interpolate(feature, size=(size, size), mode="bilinear", align_corners=False)
        change = (target - source).abs()
        moved = (change[:, DEPTH] * 30 + change[:, RGB].mean(dim=1, keepdim=True) * 3).clamp(0, 1)
        moved = F.avg_pool2d(moved, 5, 1, 2)
        weight = 1 + self.feature_weight * feature + self.moved_weight * moved
        return weight * (0.5 + 0.25 * (target[:, MASK] + 1))
