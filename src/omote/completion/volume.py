"""Completion by 3D convolution: truncated signed distances on a grid, a 3D U-Net, and its features at the fitted vertices.

    points → signed distance, weight, colour ┐
                                             ├ 48³ → 3D U-Net → features at vertices → displacement, σ
    fitted surface → signed distance, weight ┘

The distance of a voxel is the mean of those to the tangent planes of the points in the 27 voxels around it (Curless and Levoy, "A
Volumetric Method for Building Complex Models from Range Images", SIGGRAPH 1996, for points instead of rays). The fitted
surface says where a surface is to be expected.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float, Int
from torch import Tensor, nn

from omote.completion.grid import cells_of, placed
from omote.completion.network import CompletionNetwork
from omote.completion.scan_batch import ScanBatch

TRUNCATED = 1.5  # voxels
NUM_GRID = 8


class VolumeCompletion(CompletionNetwork):
    """The dense network.

    Args:
        side: voxels per side of the grid, a multiple of 8.
        widths: channels at a half, a quarter and an eighth of the grid's resolution.
    """

    @register_to_config
    def __init__(self, *, side: int = 48, widths: Sequence[int] = (24, 48, 80)) -> None:
        super().__init__()
        b, c, d = widths
        self.down = nn.ModuleList([nn.Conv3d(into, out, 2, stride=2) for into, out in ((NUM_GRID, b), (b, c), (c, d))])
        self.inner = nn.ModuleList([Residual(width) for width in (b, c, d)])
        self.up = nn.ModuleList([nn.Conv3d(into, out, 1) for into, out in ((d, c), (c, b))])
        self.outer = nn.ModuleList([Residual(width) for width in (c, b)])
        self.add_readout(b + c)

    def features(self, scans: ScanBatch) -> Float[Tensor, "b n f"]:
        """See `CompletionNetwork.features`."""
        half = self.inner[0](self.down[0](grid_of(scans, self.config.side)))
        quarter = self.inner[1](self.down[1](half))
        eighth = self.inner[2](self.down[2](quarter))
        quarter = self.outer[0](quarter + F.interpolate(self.up[0](eighth), scale_factor=2.0, mode="trilinear"))
        half = self.outer[1](half + F.interpolate(self.up[1](quarter), scale_factor=2.0, mode="trilinear"))
        place = (placed(scans.fitted_mm, 2) - 1)[:, None, None]
        felt = [F.grid_sample(level, place.to(level.dtype), align_corners=False) for level in (half, quarter)]
        return torch.cat([level[:, :, 0, 0] for level in felt], dim=1).transpose(1, 2)


class Residual(nn.Module):
    """Two normalised convolutions, added to their input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(min(8, width // 2), width),
            nn.SiLU(),
            nn.Conv3d(width, width, 3, padding=1),
            nn.GroupNorm(min(8, width // 2), width),
            nn.SiLU(),
            nn.Conv3d(width, width, 3, padding=1),
        )

    def forward(self, x: Float[Tensor, "b c z y x"]) -> Float[Tensor, "b c z y x"]:
        """The sum."""
        out: Tensor = x + self.body(x)
        return out


@torch.no_grad()
def grid_of(scans: ScanBatch, side: int) -> Float[Tensor, "b 8 z y x"]:
    """Signed distance (in `TRUNCATED`), weight and colour of the points; signed distance, weight and seen share of the surface.

    A distance is positive outside the head. Weights are in [0, 1]; colours are in [-1, 1], 0 where unknown.
    """
    colors = torch.where(scans.colors < 0, 0.0, scans.colors * 2 - 1)
    seen = _splatted(scans.points_mm, scans.normals, colors, scans.item, scans.count, side)
    item = torch.arange(scans.count, device=scans.item.device).repeat_interleave(scans.surface_mm.shape[1])
    surface, normals = scans.surface_mm.flatten(0, 1), scans.surface_normals.flatten(0, 1)
    expected = _splatted(surface, normals, surface.new_zeros(len(surface), 1), item, scans.count, side)
    both = torch.cat([seen, expected[:, :2], (seen[:, 1:2] > 0) * expected[:, 1:2]], dim=1)
    return both.view(scans.count, side, side, side, NUM_GRID).permute(0, 4, 1, 2, 3).contiguous()


def _splatted(
    points_mm: Float[Tensor, "n 3"],
    normals: Float[Tensor, "n 3"],
    values: Float[Tensor, "n c"],
    item: Int[Tensor, " n"],
    count: int,
    side: int,
) -> Float[Tensor, "voxels k"]:
    """Mean signed distance to the points' tangent planes, weight, and mean values, in the 27 voxels around each point."""
    place = placed(points_mm, side)
    cell, _ = cells_of(place, side)
    inside = ((cell > 0) & (cell < side - 1)).all(dim=1)
    place, cell, normals, values, item = place[inside], cell[inside], normals[inside], values[inside], item[inside]
    step = torch.arange(-1, 2, device=cell.device)
    around = torch.stack(torch.meshgrid(step, step, step, indexing="ij"), dim=-1).view(-1, 3)
    away = cell[:, None] + around + 0.5 - place[:, None]
    along = torch.einsum("nkc,nc->nk", away, normals)
    # The nearer the plane's point, the more it says.
    weight = torch.exp(-(away**2).sum(dim=2))
    near = cell[:, None] + around
    key = ((item[:, None] * side + near[..., 2]) * side + near[..., 1]) * side + near[..., 0]
    rows = torch.cat([along[..., None], torch.ones_like(along)[..., None], values[:, None].expand(-1, 27, -1)], dim=2)
    sums = values.new_zeros(count * side**3, 2 + values.shape[1])
    sums.index_add_(0, key.flatten(), (weight[..., None] * rows).flatten(0, 1))
    total = sums[:, 1:2]
    mean = sums / total.clamp_min(1e-6)
    distance = (mean[:, :1] / TRUNCATED).clamp(-1, 1)
    return torch.cat([distance, total / (total + 1), mean[:, 2:]], dim=1)
