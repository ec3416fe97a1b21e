"""Generators of equal size whatever their latent's; an untrained network draws the mean."""

import pytest
import torch

from omote.recipes.first_stage import FACTORS, LEARNED_CHANNELS
from omote.studies.effect_of_f.gan import FaceGenerator, width_for
from omote.studies.effect_of_f.generator import LatentGenerator, num_levels, widths_for

PARAMETERS = 1_000_000


def count(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("size", [64, 128])
def test_networks_of_every_f_and_the_gan_are_within_five_percent_of_the_asked_size(size):
    for factor in (1, 4, 32) if size == 128 else (1, *FACTORS):
        channels = 5 + (LEARNED_CHANNELS["kl"][factor] if factor > 1 else 0)
        side = size // factor
        widths = widths_for(PARAMETERS, sample_size=side, latent_channels=channels)
        net = LatentGenerator(sample_size=side, latent_channels=channels, channels=widths)
        assert len(widths) == num_levels(side)
        assert count(net) == pytest.approx(PARAMETERS, rel=0.05)
    assert count(FaceGenerator(sample_size=size, width=width_for(PARAMETERS, size))) == pytest.approx(
        PARAMETERS, rel=0.05
    )


@pytest.mark.parametrize("side", [2, 8])
def test_an_untrained_network_draws_the_mean_and_ends_without_noise(side):
    """Its last layer is zero: the clean prediction is c_skip z_t, which is 0, the latents' mean, at t = 1."""
    net = LatentGenerator(sample_size=side, latent_channels=3, channels=(8,)).eval()
    category = torch.tensor([0, 6])
    for sampler in ("flow_euler", "dpmsolver++"):
        z = net.draw(category, [0, 1], steps=1, sampler=sampler)
        assert z.shape == (2, 3, side, side)
        assert float(z.abs().max()) < 0.05


def test_a_sample_does_not_depend_on_its_batch_and_guidance_of_one_is_none():
    torch.manual_seed(0)
    net = LatentGenerator(sample_size=4, latent_channels=3, channels=(8,)).eval()
    torch.nn.init.normal_(net.unet.conv_out.weight, std=0.1)
    category = torch.tensor([2, 5])
    both = net.draw(category, [7, 8], steps=3)
    torch.testing.assert_close(net.draw(category[1:], [8], steps=3), both[1:], atol=1e-5, rtol=1e-5)
    guided = net.draw(category, [7, 8], steps=3, guidance_scale=3.0)
    assert float((guided - both).abs().max()) > 0
