"""Drawing: every sampler, guidance, image to image, and depth of a given image."""

from dataclasses import replace
from typing import get_args

import pytest
import torch

from omote.diffusion.settings import SamplerName
from omote.errors import ConfigError
from omote.images.stable_diffusion.extend import extended
from omote.images.stable_diffusion.model import DrawSettings, StableDiffusion, Views

TEXT = ["a happy face"]


@pytest.mark.parametrize("sampler", get_args(SamplerName))
def test_every_sampler_draws_and_edits(model: StableDiffusion, sampler: SamplerName) -> None:
    settings = DrawSettings(steps=4, sampler=sampler, guidance_scale=2.0)
    z = model.draw(TEXT, [0], settings)
    assert torch.isfinite(z).all()
    source = 0.5 * torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    near = model.draw(TEXT, [0], replace(settings, steps=12, strength=0.1), source=source)
    far = model.draw(TEXT, [0], replace(settings, steps=12, strength=0.7), source=source)
    moved = [float((z - source).abs().mean()) for z in (near, far)]
    assert moved[0] < 0.5 * moved[1], moved


def test_text_and_guidance_and_the_negative_text_are_read(model: StableDiffusion) -> None:
    settings = DrawSettings(steps=2, guidance_scale=1.0)
    plain = model.draw(TEXT, [0], settings)
    for other in (
        model.draw(["a sad face"], [0], settings),
        model.draw(TEXT, [0], replace(settings, guidance_scale=4.0)),
    ):
        assert not torch.allclose(other, plain, atol=1e-5)
    led = model.draw(TEXT, [0], replace(settings, guidance_scale=4.0, negative="blurred"))
    assert not torch.allclose(led, model.draw(TEXT, [0], replace(settings, guidance_scale=4.0)), atol=1e-5)
    both = model.draw([*TEXT, "a sad face"], [0, 1], settings)
    torch.testing.assert_close(both[:1], plain, atol=1e-3, rtol=0)


class KnowsTheImage(torch.nn.Module):
    """A network that predicts ε, or v, exactly: every step points at one image."""

    def __init__(self, image: torch.Tensor, like: StableDiffusion) -> None:
        super().__init__()
        self.image, self.kind, self.config = image, like.prediction, like.unet.config
        self.signal = torch.cumprod(1 - torch.tensor(like.betas, dtype=torch.float64), 0)

    def forward(self, x: torch.Tensor, step: torch.Tensor, **_: object) -> tuple[torch.Tensor]:
        signal = self.signal[step.round().long()].view(-1, 1, 1, 1)
        alpha, sigma = signal.sqrt().float(), (1 - signal).sqrt().float()
        noise = (x - alpha * self.image) / sigma
        return (noise if self.kind == "epsilon" else alpha * noise - sigma * self.image,)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_a_perfect_network_ends_on_the_image(model: StableDiffusion, kind: str) -> None:
    image = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    own = replace(model, scheduler={**model.scheduler, "prediction_type": kind})
    perfect = replace(own, unet=KnowsTheImage(image, own))
    z = perfect.draw(TEXT, [0], DrawSettings(steps=5, sampler="ddim", guidance_scale=1.0, size=64))
    torch.testing.assert_close(z, image, atol=1e-3, rtol=0)


def test_depth_of_a_given_image_does_not_change_the_image(model: StableDiffusion) -> None:
    unet = extended(model.unet, depth=True, init="halved")
    joint = replace(model, unet=unet, views=Views(depth=True))
    rgb = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    settings = DrawSettings(steps=3, sampler="flow_euler", guidance_scale=1.0)
    found = joint.depth_latents(rgb, [""] * 2, [0, 1], settings)
    assert found.shape == rgb.shape
    other = joint.depth_latents(rgb + 0.5, [""] * 2, [0, 1], settings)
    assert (found - other).abs().max() > 1e-4, "depth follows the image"


def test_impossible_settings_are_refused(model: StableDiffusion) -> None:
    with pytest.raises(ConfigError, match="strength"):
        model.draw(TEXT, [0], DrawSettings(strength=0.5))
    with pytest.raises(ConfigError, match="multiple of 64"):
        model.draw(TEXT, [0], DrawSettings(size=100))
