"""Trilinear samples of volumes at places that differ in number."""

import torch
import torch.nn.functional as F

from omote.multiview.voxels import sampled


def test_samples_are_those_of_grid_sample_with_their_gradients() -> None:
    torch.manual_seed(0)
    volume = torch.randn(2, 3, 5, 4, 6, requires_grad=True)
    place = torch.rand(2, 7, 3) * 2.4 - 1.2
    wanted = F.grid_sample(volume, place.view(2, 7, 1, 1, 3), align_corners=False)[..., 0, 0].permute(0, 2, 1)
    keep = torch.tensor([[1, 1, 0, 1, 0, 1, 1], [0, 1, 1, 1, 1, 0, 0]], dtype=torch.bool)
    item = torch.arange(2)[:, None].expand_as(keep)[keep]
    found = sampled(volume, place[keep], item)
    torch.testing.assert_close(found, wanted[keep], atol=1e-5, rtol=1e-5)
    (gradient,) = torch.autograd.grad(found.square().sum(), volume, retain_graph=True)
    (other,) = torch.autograd.grad(wanted[keep].square().sum(), volume)
    torch.testing.assert_close(gradient, other, atol=1e-5, rtol=1e-5)
