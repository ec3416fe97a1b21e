"""Quantisation against clusters that are known: it finds them, uses every code, and lets gradients through."""

import pytest
import torch

from omote.nets.quantiser import VectorQuantiser, codebook_use

CENTRES = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 3.0], [0.0, -3.0]])


def draw(seed, size=16):
    """Latents (1, 2, size, size) near four centres."""
    generator = torch.Generator().manual_seed(seed)
    which = torch.randint(4, (1, size, size), generator=generator)
    z = CENTRES[which].permute(0, 3, 1, 2)
    return z + 0.1 * torch.randn(z.shape, generator=generator)


def followed(quantiser, steps=600):
    torch.manual_seed(0)
    quantiser.train()
    for seed in range(steps):
        quantiser(draw(seed))
    return quantiser.eval()


def test_codes_find_the_clusters_from_anywhere():
    quantiser = VectorQuantiser(16, 2)
    # All codes far on one side: but one of them would stay dead.
    quantiser.codes.copy_(9 + 0.1 * torch.randn(16, 2, generator=torch.Generator().manual_seed(0)))
    quantiser.sums.copy_(quantiser.codes)
    followed(quantiser)
    nearest = torch.cdist(CENTRES, quantiser.codes).min(dim=1).values
    assert float(nearest.max()) < 0.2
    use = codebook_use(quantiser(draw(10_000, size=64)).indices, 16)
    # One that died since the last revival may be left.
    assert use.share_used > 0.9
    assert use.perplexity > 8


def test_values_are_codes_and_gradients_pass_straight_through():
    quantiser = VectorQuantiser(8, 2).eval()
    z = draw(0).requires_grad_()
    quantised = quantiser(z)
    torch.testing.assert_close(quantised.values, quantiser.lookup(quantised.indices))
    weight = torch.randn_like(z)
    (quantised.values * weight).sum().backward()
    torch.testing.assert_close(z.grad, weight)


def test_the_commitment_pulls_latents_to_their_codes():
    quantiser = VectorQuantiser(8, 2).eval()
    z = draw(0).requires_grad_()
    quantised = quantiser(z)
    quantised.commitment.backward()
    torch.testing.assert_close(z.grad, 2 * (z - quantised.values).detach() / z.numel())


def test_nothing_follows_outside_training():
    quantiser = VectorQuantiser(8, 2).eval()
    before = quantiser.codes.clone()
    quantiser(draw(0))
    quantiser.train()
    with torch.no_grad():
        quantiser(draw(0))
    assert torch.equal(quantiser.codes, before)


def test_use_of_one_code_and_of_all():
    assert codebook_use(torch.zeros(10, dtype=torch.long), 5).perplexity == pytest.approx(1)
    even = codebook_use(torch.arange(5).repeat(3), 5)
    assert even.perplexity == pytest.approx(5)
    assert codebook_use(torch.tensor([0, 0, 1]), 4).share_used == 0.5
