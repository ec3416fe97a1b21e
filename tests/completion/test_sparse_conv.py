"""Sparse convolution against torch's dense one."""

import pytest
import torch
from torch import nn

from omote.completion.sparse_conv import HALVES, Sites, SparseConv, sites_of


def occupied(side: int, count: int, share: float, seed: int = 0) -> Sites:
    generator = torch.Generator().manual_seed(seed)
    full = torch.rand(count, side, side, side, generator=generator) < share
    full[0, 0, 0, 0] = full[-1, -1, -1, -1] = True  # corners, whose neighbours lie outside
    item, z, y, x = torch.nonzero(full).unbind(dim=1)
    order = torch.randperm(len(item), generator=generator)
    return sites_of(torch.stack([x, y, z], dim=1)[order], item[order], side=side, count=count)[0]


def at_sites(grid: torch.Tensor, sites: Sites) -> torch.Tensor:
    x, y, z = sites.cells.unbind(dim=1)
    return grid[sites.item, :, z, y, x]


@pytest.mark.parametrize("share", [0.03, 0.3, 1.0])
def test_it_equals_a_dense_convolution_with_its_gradients(share: float) -> None:
    torch.manual_seed(1)
    sites = occupied(12, 2, share)
    dense = nn.Conv3d(5, 7, 3, padding=1)
    sparse = SparseConv.from_dense(dense)
    mine = torch.randn(len(sites), 5, requires_grad=True)
    theirs = mine.detach().clone().requires_grad_()
    towards = torch.randn(len(sites), 7)

    found = sparse(mine, sites.neighbours)
    wanted = at_sites(dense(sites.dense(theirs)), sites)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)

    (found * towards).sum().backward()
    (wanted * towards).sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-4, rtol=0)
    assert dense.weight.grad is not None
    assert sparse.weight.grad is not None
    own = dense.weight.grad.flatten(2).permute(2, 1, 0)
    torch.testing.assert_close(sparse.weight.grad, own, atol=1e-4 * float(own.abs().max()), rtol=0)
    torch.testing.assert_close(sparse.bias.grad, dense.bias.grad, atol=1e-3, rtol=0)


def test_halving_equals_a_strided_convolution_and_its_reverse_the_transposed_one() -> None:
    torch.manual_seed(2)
    sites = occupied(10, 2, 0.1)
    coarse, pairs = sites.halved
    assert (coarse.side, coarse.count) == (5, 2)
    dense = nn.Conv3d(4, 6, 2, stride=2)
    x = torch.randn(len(sites), 4)
    wanted = at_sites(dense(sites.dense(x)), coarse)
    torch.testing.assert_close(SparseConv.from_dense(dense)(x, pairs), wanted, atol=1e-5, rtol=0)

    up, back = nn.ConvTranspose3d(6, 4, 2, stride=2, bias=False), SparseConv(6, 4, HALVES)
    with torch.no_grad():
        back.weight.copy_(up.weight.flatten(2).permute(2, 0, 1))
    y = torch.randn(len(coarse), 6)
    torch.testing.assert_close(back(y, pairs.reversed), at_sites(up(coarse.dense(y)), sites), atol=1e-5, rtol=0)


def test_gradients_of_halving_are_those_of_finite_differences() -> None:
    sites = occupied(4, 1, 0.2)
    layer = SparseConv(2, 3, HALVES).double()
    x = torch.randn(len(sites), 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: layer(v, sites.halved[1]), (x,))


def test_cells_survive_their_keys_and_repeated_ones_are_one_voxel() -> None:
    cells = torch.tensor([[3, 0, 5], [0, 0, 0], [3, 0, 5], [5, 5, 5]])
    item = torch.tensor([1, 0, 1, 0])
    sites, inverse = sites_of(cells, item, side=6, count=2)
    assert len(sites) == 3
    torch.testing.assert_close(sites.cells[inverse], cells)
    torch.testing.assert_close(sites.item[inverse], item)


def test_an_only_voxel_has_itself_as_its_neighbour() -> None:
    sites, _ = sites_of(torch.tensor([[2, 2, 2]]), torch.tensor([0]), side=4, count=1)
    assert [len(into) for into, _ in sites.neighbours] == [0] * 13 + [1] + [0] * 13
