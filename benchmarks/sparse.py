"""A layer of sparse convolution against torch's dense ``Conv3d`` on the same voxels in the same run: processor time, one thread.

The voxels are a sphere's shell that fills 3 % of 96³, as a head's surface would; both layers have 16 channels, the same weights
and the same input. ``map`` is the search for neighbours, which all layers of a resolution share. ``difference`` is the largest
between the two outputs.

Run: ``make bench BENCH=sparse OUT=dir``.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from omote.completion.sparse_conv import Sites, SparseConv, sites_of

SIDE, SHARE, CHANNELS, ROUNDS = 96, 0.03, 16, 9


def shell(side: int, share: float) -> Sites:
    """The voxels nearest to a sphere's surface."""
    step = torch.arange(side) + 0.5 - side / 2
    z, y, x = torch.meshgrid(step, step, step, indexing="ij")
    away = ((x**2 + y**2 + z**2).sqrt() - 0.35 * side).abs()
    z, y, x = torch.nonzero(away <= away.flatten().kthvalue(round(share * side**3)).values).unbind(dim=1)
    return sites_of(torch.stack([x, y, z], dim=1), torch.zeros_like(x), side=side, count=1)[0]


def _ms(make: Callable[[], object]) -> float:
    begun = time.process_time()
    make()
    return 1000 * (time.process_time() - begun)


def run() -> dict[str, float | int | str]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sites = shell(SIDE, SHARE)
    dense = nn.Conv3d(CHANNELS, CHANNELS, 3, padding=1)
    sparse = SparseConv.from_dense(dense)
    features = torch.randn(len(sites), CHANNELS)
    grid = sites.dense(features)
    pairs = sites.neighbours

    def backward(layer: nn.Module, x: torch.Tensor, *others: object) -> None:
        layer(x.detach().requires_grad_(), *others).sum().backward()

    with torch.no_grad():
        x, y, z = sites.cells.unbind(dim=1)
        difference = float((sparse(features, pairs) - dense(grid)[0, :, z, y, x].T).abs().max())
    taken: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        # In turns, so that whatever else the machine does falls on all.
        with torch.no_grad():
            for name, one in (
                ("map", lambda: Sites(keys=sites.keys, side=SIDE, count=1).neighbours),
                ("sparse", lambda: sparse(features, pairs)),
                ("dense", lambda: dense(grid)),
            ):
                taken.setdefault(name, []).append(_ms(one))
        taken.setdefault("sparse_backward", []).append(_ms(lambda: backward(sparse, features, pairs)))
        taken.setdefault("dense_backward", []).append(_ms(lambda: backward(dense, grid)))
    torch.set_num_threads(threads)
    ms = {name: float(np.median(values)) for name, values in taken.items()}
    return {
        "side": SIDE,
        "channels": CHANNELS,
        "occupied": len(sites) / SIDE**3,
        **{f"ms/{name}": value for name, value in ms.items()},
        "ratio/dense_over_sparse": ms["dense"] / ms["sparse"],
        "ratio/dense_over_sparse_with_map": ms["dense"] / (ms["sparse"] + ms["map"]),
        "ratio/dense_over_sparse_backward": ms["dense_backward"] / ms["sparse_backward"],
        "difference": difference,
    }
