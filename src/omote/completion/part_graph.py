"""Completion by graph convolution on the head's mesh: a network for each part of the face, then one across the parts.

    measured at vertices → each part: convolutions among its vertices → all: a U-Net over ever coarser vertices → displacement, σ

Eyes, nose, mouth, cheeks, forehead, jaw and ears have weights of their own, since a graph convolution cannot tell from a vertex's
neighbours where on the face it lies. The coarser graphs carry what was seen across a hole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from torch import Tensor, nn

from omote.completion.coarse_head import FACE_PARTS, CoarseHead, farthest
from omote.completion.network import CompletionNetwork
from omote.completion.scan_batch import NUM_MEASURED, ScanBatch

LEVELS = (512, 128, 32)
NEIGHBOURS = 8
# The six directions of the canonical frame's axes, among which an edge divides its weight.
DIRECTIONS = 6


@dataclass(frozen=True, kw_only=True)
class Edges:
    """Weighted edges of a graph, divided among directions.

    Attributes:
        into: vertex and direction that each edge leads to, as vertex · 6 + direction.
        out: vertex that it comes from.
        weight: its weight; those of a vertex and direction sum to 1.
    """

    into: Int[Tensor, " e"]
    out: Int[Tensor, " e"]
    weight: Float[Tensor, " e"]


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A graph of the head.

    Attributes:
        bounds: where each part's vertices begin, which are ordered by part, and their number.
        edges: edges from the nearest vertices.
        own: those of them within a part.
        parent: vertex of the next coarser graph that each belongs to; none for the coarsest.
    """

    bounds: tuple[int, ...]
    edges: Edges
    own: Edges
    parent: Int[Tensor, " n"]

    @property
    def size(self) -> int:
        """Number of vertices."""
        return self.bounds[-1]


def graphs_of(coarse: CoarseHead) -> list[Graph]:
    """The graph of all coarse vertices and those of 512, 128 and 32 of them. The first parents are of their vertices' parts."""
    place, part = coarse.place, coarse.part
    out = []
    for count in (*LEVELS, 0):
        parent = np.zeros(0, np.int64)
        chosen = np.zeros(0, np.int64)
        if count:
            chosen = np.sort(farthest(place, count, np.full(len(place), np.inf), np.ones(len(place), bool)))
            # At the level of the parts, a distance between parts that no vertex crosses.
            apart = 1e4 * part[:, None] * (len(place) == len(coarse.ids))
            told = np.hstack([place, apart])
            parent = cKDTree(told[chosen]).query(told)[1].astype(np.int64)
        bounds = np.searchsorted(part, np.arange(len(FACE_PARTS) + 1))
        out.append(
            Graph(
                bounds=tuple(int(b) for b in bounds),
                edges=_edges(place, part, within=False),
                own=_edges(place, part, within=True),
                parent=torch.from_numpy(parent),
            )
        )
        place, part = place[chosen], part[chosen]
    return out


def _edges(place: Float[np.ndarray, "n 6"], part: Int[np.ndarray, " n"], *, within: bool) -> Edges:
    """Edges from the nearest vertices, of the same part alone if they stay ``within``."""
    _, near = cKDTree(place).query(place, k=min(NEIGHBOURS + 1, len(place)))
    own, other = np.repeat(np.arange(len(place)), near.shape[1] - 1), near[:, 1:].ravel()
    kept = part[own] == part[other] if within else np.ones(len(own), bool)
    own, other = own[kept], other[kept]
    ray = place[other, :3] - place[own, :3]
    ray = ray / np.maximum(np.linalg.norm(ray, axis=1, keepdims=True), 1e-9)
    # The squares of a unit vector's coordinates sum to 1: they divide the edge among the axes that it leans to.
    share = np.concatenate([np.maximum(ray, 0), np.maximum(-ray, 0)], axis=1) ** 2
    edge, direction = np.nonzero(share > 0.05)
    into = own[edge] * DIRECTIONS + direction
    weight = share[edge, direction]
    total = np.bincount(into, weight, minlength=len(place) * DIRECTIONS)
    return Edges(
        into=torch.from_numpy(into),
        out=torch.from_numpy(other[edge].astype(np.int64)),
        weight=torch.from_numpy((weight / total[into]).astype(np.float32)),
    )


class PartGraphCompletion(CompletionNetwork):
    """The network on graphs.

    Args:
        part_widths: channels of the parts' networks at all coarse vertices and at 512 of them.
        widths: channels of the merging network at 128 and 32 vertices.
    """

    @register_to_config
    def __init__(self, *, part_widths: Sequence[int] = (32, 48), widths: Sequence[int] = (64, 64)) -> None:
        super().__init__()
        parts, (fine, half), (quarter, eighth) = len(FACE_PARTS), part_widths, widths
        self.stem = nn.Linear(NUM_MEASURED + 3, fine)
        self.part_fine = nn.ModuleList([GraphResidual(fine, parts), GraphResidual(fine, parts)])
        self.part_half = GraphResidual(half, parts)
        self.down = nn.ModuleList([Pool(fine, half), Pool(half, quarter), Pool(quarter, eighth)])
        self.inner = nn.ModuleList([GraphResidual(half), GraphResidual(quarter), GraphResidual(eighth)])
        self.up = nn.ModuleList([nn.Linear(eighth, quarter), nn.Linear(quarter, half), nn.Linear(half, fine)])
        self.outer = nn.ModuleList([GraphResidual(quarter), GraphResidual(half), GraphResidual(fine)])
        self.add_readout(2 * fine)
        self.graphs: list[Graph] = []

    def on(self, coarse: CoarseHead) -> None:
        """See `CompletionNetwork.on`."""
        self.graphs = graphs_of(coarse)
        super().on(coarse)

    def features(self, scans: ScanBatch) -> Float[Tensor, "b n f"]:
        """See `CompletionNetwork.features`."""
        graphs = [_moved(graph, scans.measured.device) for graph in self.graphs]
        begun = self.stem(torch.cat([scans.measured, scans.normals_fitted], dim=2)).transpose(0, 1)
        x = begun
        for layer in self.part_fine:
            x = layer(x, graphs[0], within=True)
        levels = [x]
        x = self.part_half(self.down[0](x, graphs[0], graphs[1].size), graphs[1], within=True)
        levels.append(self.inner[0](x, graphs[1]))
        for down, inner, graph, coarser in zip(self.down[1:], self.inner[1:], graphs[1:], graphs[2:], strict=False):
            levels.append(inner(down(levels[-1], graph, coarser.size), coarser))
        x = levels.pop()
        for up, outer, graph in zip(self.up, self.outer, reversed(graphs[:-1]), strict=True):
            x = outer(levels.pop() + up(x)[graph.parent], graph)
        return torch.cat([x, begun], dim=2).transpose(0, 1)


def _moved(graph: Graph, device: torch.device) -> Graph:
    def there(edges: Edges) -> Edges:
        return Edges(into=edges.into.to(device), out=edges.out.to(device), weight=edges.weight.to(device))

    if graph.parent.device == device:
        return graph
    return replace(graph, edges=there(graph.edges), own=there(graph.own), parent=graph.parent.to(device))


class GraphConv(nn.Module):
    """Graph convolution: a vertex's own features and the means of its neighbours' in six directions, times a matrix.

    Args:
        width: channels.
        parts: number of matrices: one, or one for each part of the face.
    """

    def __init__(self, width: int, parts: int) -> None:
        super().__init__()
        bound = (3 / ((1 + DIRECTIONS) * width)) ** 0.5
        self.weight = nn.Parameter(torch.empty(parts, (1 + DIRECTIONS) * width, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(parts, width))

    def forward(self, x: Float[Tensor, "n b c"], edges: Edges, bounds: Sequence[int]) -> Float[Tensor, "n b c"]:
        """The convolution; ``bounds`` are those of the parts."""
        size, count, width = x.shape
        carried = edges.weight[:, None] * x.reshape(size, -1).index_select(0, edges.out)
        mean = x.new_zeros(size * DIRECTIONS, count * width).index_add(0, edges.into, carried)
        around = mean.view(size, DIRECTIONS, count, width).transpose(1, 2).flatten(2)
        felt = torch.cat([x, around], dim=2)
        if len(self.weight) == 1:
            return felt @ self.weight[0] + self.bias[0]
        pieces = [
            felt[begin:end] @ weight + bias
            for begin, end, weight, bias in zip(bounds, bounds[1:], self.weight, self.bias, strict=False)
        ]
        return torch.cat(pieces)


class GraphResidual(nn.Module):
    """Two normalised graph convolutions, added to their input.

    Args:
        width: channels.
        parts: as in `GraphConv`.
    """

    def __init__(self, width: int, parts: int = 1) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.convs = nn.ModuleList([GraphConv(width, parts), GraphConv(width, parts)])

    def forward(self, x: Float[Tensor, "n b c"], graph: Graph, *, within: bool = False) -> Float[Tensor, "n b c"]:
        """The sum, from edges ``within`` parts or from all."""
        h = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            h = conv(nn.functional.silu(norm(h)), graph.own if within else graph.edges, graph.bounds)
        out: Tensor = x + h
        return out


class Pool(nn.Module):
    """Features of a coarser graph: the mean over each vertex's children, and a mean weighted by learned gates.

    The gates let the few vertices that were seen speak for the others.
    """

    def __init__(self, fine: int, coarse: int) -> None:
        super().__init__()
        self.gate = nn.Linear(fine, 1)
        self.join = nn.Linear(2 * fine, coarse)

    def forward(self, x: Float[Tensor, "n b c"], graph: Graph, size: int) -> Float[Tensor, "m b d"]:
        """The coarser features, of ``size`` vertices."""
        gate = torch.sigmoid(self.gate(x))
        rows = torch.cat([x, torch.ones_like(gate), gate * x, gate], dim=2)
        sums = x.new_zeros(size, *rows.shape[1:]).index_add(0, graph.parent, rows)
        width = x.shape[2]
        plain, gated = sums[..., : width + 1], sums[..., width + 1 :]
        means = [part[..., :-1] / part[..., -1:].clamp_min(1e-4) for part in (plain, gated)]
        out: Tensor = self.join(torch.cat(means, dim=2))
        return out
