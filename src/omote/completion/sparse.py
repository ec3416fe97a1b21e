"""Completion by sparse convolution: a U-Net on the voxels that hold points or the fitted surface, and no others.

Where nothing was seen, the fitted head's surface gives the sites on which the network can answer. A head fills some 1 % of the
grid, which can therefore be finer than the dense network's at equal cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float, Int
from torch import Tensor, nn

from omote.completion.grid import cells_of, placed
from omote.completion.network import CompletionNetwork
from omote.completion.scan_batch import ScanBatch
from omote.completion.sparse_conv import HALVES, Sites, SparseConv, sites_of

NUM_SITE = 20


class SparseCompletion(CompletionNetwork):
    """The sparse network.

    Args:
        side: voxels per side of the grid, a multiple of 8.
        widths: channels at the grid's resolution and at a half, a quarter and an eighth of it.
    """

    @register_to_config
    def __init__(self, *, side: int = 96, widths: Sequence[int] = (16, 32, 48, 64)) -> None:
        super().__init__()
        self.stem = SparseConv(NUM_SITE, widths[0])
        self.inner = nn.ModuleList([SparseResidual(width) for width in widths])
        steps = list(pairwise(widths))
        self.down = nn.ModuleList([SparseConv(fine, coarse, HALVES) for fine, coarse in steps])
        self.up = nn.ModuleList([SparseConv(coarse, fine, HALVES) for fine, coarse in steps])
        self.outer = nn.ModuleList([SparseResidual(width) for width in widths[:-1]])
        self.add_readout(widths[0] + widths[1])

    def features(self, scans: ScanBatch) -> Float[Tensor, "b n f"]:
        """See `CompletionNetwork.features`."""
        sites, x, places = sites_of_scans(scans, self.config.side)
        levels = [(sites, self.inner[0](self.stem(x, sites.neighbours), sites))]
        for down, inner in zip(self.down, self.inner[1:], strict=True):
            above, x = levels[-1]
            coarse, pairs = above.halved
            levels.append((coarse, inner(down(x, pairs), coarse)))
        found = [levels.pop()[1]]
        for up, outer in zip(reversed(self.up), reversed(self.outer), strict=True):
            own, x = levels.pop()
            found.append(outer(x + up(found[-1], own.halved[1].reversed), own))
        parent = torch.empty_like(sites.keys)
        for into, out in sites.halved[1]:
            parent[into] = out
        felt = torch.cat([found[-1][places], found[-2][parent[places]]], dim=1)
        return felt.view(scans.count, -1, felt.shape[1])


class SparseResidual(nn.Module):
    """Two normalised convolutions, added to their input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first_norm, self.first = nn.LayerNorm(width), SparseConv(width, width)
        self.second_norm, self.second = nn.LayerNorm(width), SparseConv(width, width)

    def forward(self, x: Float[Tensor, "n c"], sites: Sites) -> Float[Tensor, "n c"]:
        """The sum."""
        h = self.first(nn.functional.silu(self.first_norm(x)), sites.neighbours)
        out: Tensor = x + self.second(nn.functional.silu(self.second_norm(h)), sites.neighbours)
        return out


@torch.no_grad()
def sites_of_scans(scans: ScanBatch, side: int) -> tuple[Sites, Float[Tensor, "n 20"], Int[Tensor, " v"]]:
    """Occupied voxels, their features, and the voxel of each coarse vertex of each scan.

    Features: for points and for the fitted surface, whether there are any, log number, mean offset from the voxel's centre and
    mean normal; and the points' mean colour in [-1, 1] with whether they have one.
    """
    item = torch.arange(scans.count, device=scans.item.device)
    surface = item.repeat_interleave(scans.surface_mm.shape[1])
    vertex = item.repeat_interleave(scans.fitted_mm.shape[1])
    points = placed(torch.cat([scans.points_mm, scans.surface_mm.flatten(0, 1), scans.fitted_mm.flatten(0, 1)]), side)
    owner = torch.cat([scans.item, surface, vertex])
    cell, inside = cells_of(points, side)
    # A vertex outside the cube still needs a voxel to read.
    cell = cell.clamp(0, side - 1)
    num_seen, num_surface = len(scans.item), len(surface)
    inside[num_seen:] = True
    sites, inverse = sites_of(cell[inside], owner[inside], side=side, count=scans.count)
    num_seen = int(inside[:num_seen].sum())
    place, cell = points[inside], cell[inside]
    offset = (place - cell - 0.5).clamp(-1, 1)
    known = scans.colors[inside[: len(scans.item)]]
    colored = (known[:, :1] >= 0).to(known.dtype)
    seen = torch.cat(
        [offset[:num_seen], scans.normals[inside[: len(scans.item)]], colored * (known * 2 - 1), colored], 1
    )
    expected = torch.cat([offset[num_seen : num_seen + num_surface], scans.surface_normals.flatten(0, 1)], dim=1)
    rows = [
        _mean(seen, inverse[:num_seen], len(sites)),
        _mean(expected, inverse[num_seen : num_seen + num_surface], len(sites)),
    ]
    return sites, torch.cat(rows, dim=1), inverse[num_seen + num_surface :]


def _mean(values: Float[Tensor, "m c"], index: Int[Tensor, " m"], count: int) -> Float[Tensor, "n d"]:
    """Whether there are values, log number, and their mean, at each index."""
    sums = values.new_zeros(count, values.shape[1] + 1)
    sums.index_add_(0, index, torch.cat([torch.ones_like(values[:, :1]), values], dim=1))
    number = sums[:, :1]
    return torch.cat([(number > 0).to(sums.dtype), torch.log1p(number) / 3, sums[:, 1:] / number.clamp_min(1)], dim=1)
