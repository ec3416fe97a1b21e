"""Sparse convolution on occupied voxels, in plain torch, with gradients.

Submanifold convolution has outputs only where it has inputs, so that a surface stays a surface from layer to layer (Graham et
al., "3D Semantic Segmentation with Submanifold Sparse Convolutional Networks", CVPR 2018, §3). At the occupied voxels it equals
``Conv3d`` on the grid that is zero elsewhere.

    sorted keys of the voxels → pairs of neighbours for each weight of the kernel → gather, multiply, add
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

KERNEL, HALVES = 27, 8
CENTER = KERNEL // 2


@dataclass(frozen=True, kw_only=True)
class Sites:
    """Occupied voxels of a batch of cubic grids.

    Attributes:
        keys: sorted keys of the voxels, ((item · p + z) · p + y) · p + x with p = side + 2 and coordinates from 1. The empty
            border keeps the neighbours of a voxel from being those of the next row, and a neighbour is a constant away.
        side: voxels per side.
        count: number of grids.
    """

    keys: Int[Tensor, " n"]
    side: int
    count: int

    def __len__(self) -> int:
        """Number of occupied voxels."""
        return len(self.keys)

    @cached_property
    def cells(self) -> Int[Tensor, "n 3"]:
        """Coordinates (x, y, z) of the voxels, from 0."""
        padded = self.side + 2
        rows, planes = self.keys // padded, self.keys // padded**2
        return torch.stack([self.keys % padded, rows % padded, planes % padded], dim=1) - 1

    @cached_property
    def item(self) -> Int[Tensor, " n"]:
        """Index of the grid that each voxel belongs to."""
        return self.keys // (self.side + 2) ** 3

    @cached_property
    def neighbours(self) -> Pairs:
        """Pairs of voxels at most one apart along each axis, for each weight of a 3 × 3 × 3 kernel in ``Conv3d``'s order."""
        found: list[tuple[Tensor, Tensor] | None] = [None] * KERNEL
        own = torch.arange(len(self), device=self.keys.device)
        found[CENTER] = own, own
        padded = self.side + 2
        # A pair is a pair from both of its ends, so that half of the kernel gives the other half.
        for z, y in ((0, 0), (0, 1), (1, -1), (1, 0), (1, 1)):
            # The three neighbours in a row have consecutive keys: one search finds the first, the others follow it.
            wanted = self.keys + (z * padded + y) * padded - 1
            place = torch.searchsorted(self.keys, wanted)
            for x in (-1, 0, 1):
                there = self._are(wanted, place)
                if (z, y) != (0, 0) or x == 1:
                    offset = (z * 3 + y) * 3 + x
                    here, other = own[there], place[there]
                    found[CENTER + offset], found[CENTER - offset] = (other, here), (here, other)
                wanted, place = wanted + 1, place + there
        return Pairs(ends=tuple(pair for pair in found if pair is not None), num_in=len(self), num_out=len(self))

    def _are(self, wanted: Int[Tensor, " n"], place: Int[Tensor, " n"]) -> Bool[Tensor, " n"]:
        return (place < len(self)) & (self.keys[place.clamp(max=len(self) - 1)] == wanted)

    @cached_property
    def halved(self) -> tuple[Sites, Pairs]:
        """The grids at half the resolution, and the pairs of a voxel and the coarse voxel that holds it, by its corner."""
        parents, inverse = sites_of(self.cells // 2, self.item, side=(self.side + 1) // 2, count=self.count)
        x, y, z = (self.cells % 2).unbind(dim=1)
        corner = (z * 2 + y) * 2 + x
        ends = tuple((own, inverse[own]) for own in (torch.nonzero(corner == k)[:, 0] for k in range(HALVES)))
        return parents, Pairs(ends=ends, num_in=len(self), num_out=len(parents))

    def dense(self, features: Float[Tensor, "n c"]) -> Float[Tensor, "b c z y x"]:
        """Features of the voxels as a dense grid, zero where no voxel is occupied."""
        x, y, z = self.cells.unbind(dim=1)
        out = features.new_zeros(self.count, self.side, self.side, self.side, features.shape[1])
        return out.index_put((self.item, z, y, x), features).permute(0, 4, 1, 2, 3)


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Which inputs each weight of a kernel carries to which outputs.

    Attributes:
        ends: for each weight, indices of inputs and of outputs; an output occurs at most once.
        num_in, num_out: number of inputs and outputs.
    """

    ends: tuple[tuple[Int[Tensor, " _"], Int[Tensor, " _"]], ...]
    num_in: int
    num_out: int

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The (inputs, outputs) of each weight."""
        return iter(self.ends)

    @cached_property
    def reversed(self) -> Pairs:
        """The pairs of the transposed convolution."""
        return Pairs(ends=tuple((out, into) for into, out in self.ends), num_in=self.num_out, num_out=self.num_in)


def sites_of(
    cells: Int[Tensor, "m 3"], item: Int[Tensor, " m"], *, side: int, count: int
) -> tuple[Sites, Int[Tensor, " m"]]:
    """Occupied voxels, and for each given cell the index of its voxel.

    Args:
        cells: coordinates (x, y, z) in [0, side), repeated ones included.
        item: index of the grid that each cell belongs to, in [0, count).
        side: voxels per side.
        count: number of grids.
    """
    padded = side + 2
    x, y, z = (cells + 1).unbind(dim=1)
    keys, inverse = torch.unique(((item * padded + z) * padded + y) * padded + x, return_inverse=True)
    return Sites(keys=keys, side=side, count=count), inverse


class _Convolved(torch.autograd.Function):
    """Σ_k weight_k · inputs over the pairs of each k. Gathered inputs are gathered again in the backward pass, not kept."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, weight: Tensor, pairs: Pairs) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.pairs = pairs  # type: ignore[attr-defined]
        out = x.new_zeros(pairs.num_out, weight.shape[2])
        for one, (into, to) in zip(weight, pairs, strict=True):
            out.index_add_(0, to, x.index_select(0, into) @ one)
        return out

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors  # type: ignore[attr-defined]
        grad_x, grad_weight = torch.zeros_like(x), torch.empty_like(weight)
        for k, (into, to) in enumerate(ctx.pairs):  # type: ignore[attr-defined]
            own = grads[0].index_select(0, to)
            grad_weight[k] = x.index_select(0, into).T @ own
            grad_x.index_add_(0, into, own @ weight[k].T)
        return grad_x, grad_weight, None


class SparseConv(nn.Module):
    """Convolution over pairs of voxels.

    Its weights are those of ``Conv3d`` (`from_dense`) for `Sites.neighbours`; with the pairs of `Sites.halved` it is a
    convolution of 2 × 2 × 2 with stride 2, and with their reverse the transposed one.

    Args:
        channels_in, channels_out: numbers of channels.
        size: weights of the kernel: 27 for neighbours, 8 for halves.
    """

    def __init__(self, channels_in: int, channels_out: int, size: int = KERNEL) -> None:
        super().__init__()
        bound = (3 / (size * channels_in)) ** 0.5
        self.weight = nn.Parameter(torch.empty(size, channels_in, channels_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(channels_out))

    def forward(self, x: Float[Tensor, "n i"], pairs: Pairs) -> Float[Tensor, "m o"]:
        """Features of the outputs."""
        out: Tensor = _Convolved.apply(x, self.weight, pairs)
        return out + self.bias

    @classmethod
    def from_dense(cls, dense: nn.Conv3d) -> SparseConv:
        """The sparse convolution with the weights of a dense one."""
        size = dense.kernel_size[0] ** 3
        out = cls(dense.in_channels, dense.out_channels, size)
        with torch.no_grad():
            out.weight.copy_(dense.weight.flatten(2).permute(2, 1, 0))
            if dense.bias is not None:
                out.bias.copy_(dense.bias)
        return out
