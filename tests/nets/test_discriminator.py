"""The patch discriminator: who pays for what, and that it learns to tell soft from sharp."""

import torch
import torch.nn.functional as F

from omote.nets.discriminator import PatchDiscriminator


def images(seed: int, count: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, 32, 32, generator=generator) * 2 - 1


def test_each_side_pays_for_its_own():
    torch.manual_seed(0)
    net = PatchDiscriminator(2)
    image = images(0).requires_grad_()
    own, adversarial, matching = net.judge(image, images(1), torch.zeros(4, 2, 32, 32), torch.ones(4, 1, 32, 32))
    own.backward(retain_graph=True)
    assert image.grad is None
    assert all(p.grad is not None and bool(p.grad.any()) for p in net.parameters())
    net.zero_grad()
    (adversarial + matching).backward()
    assert image.grad is not None
    assert bool(image.grad.any())
    assert all(p.grad is None or not p.grad.any() for p in net.parameters())


def test_the_same_image_matches_itself():
    net = PatchDiscriminator(2)
    x = images(0)
    _, _, matching = net.judge(x, x, torch.zeros(4, 2, 32, 32), torch.ones(4, 1, 32, 32))
    assert float(matching) == 0


def test_pixels_without_weight_do_not_count():
    net = PatchDiscriminator(2)
    image = images(0).requires_grad_()
    weight = torch.zeros(4, 1, 32, 32)
    weight[..., :8, :8] = 1
    _, adversarial, _ = net.judge(image, images(1), torch.zeros(4, 2, 32, 32), weight)
    # The logit of the first patch sees beyond it, through norms a little everywhere; mostly there.
    adversarial.backward()
    size = image.grad.abs().mean(dim=(0, 1))
    assert float(size[:12, :12].mean()) > 5 * float(size[24:, 24:].mean())


def test_it_learns_to_tell_soft_from_sharp():
    torch.manual_seed(0)
    net = PatchDiscriminator(2)
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3)
    condition, weight = torch.zeros(4, 2, 32, 32), torch.ones(4, 1, 32, 32)
    for step in range(40):
        truth = images(step)
        own, _, _ = net.judge(F.avg_pool2d(truth, 3, 1, 1), truth, condition, weight)
        optimiser.zero_grad()
        own.backward()
        optimiser.step()
    sharp = images(99)
    soft = F.avg_pool2d(sharp, 3, 1, 1)
    with torch.no_grad():
        assert net(sharp, condition)[-1].mean() > net(soft, condition)[-1].mean() + 1
