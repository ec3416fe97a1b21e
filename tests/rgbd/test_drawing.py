"""People drawn by the network that edits: the population's Gaussian first, and editing as it was."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from omote.diffusion.flow import heun
from omote.engine.weights import load_extended
from omote.errors import CheckpointError, ConfigError
from omote.geometry.camera import orbit_camera
from omote.head.shipped import shipped_head
from omote.rgbd.autoencoder import RgbdAutoencoder
from omote.rgbd.conditions.kinds import condition_of
from omote.rgbd.latent_editor import LatentEditor
from omote.rgbd.model import EditingModel, EditSettings
from omote.rgbd.networks import Networks
from omote.rgbd.population_prior import PopulationPrior
from omote.types import Expression

HAPPY, SAD = Expression(category="happy"), Expression(category="sad")
QUICK = EditSettings(steps=3)


def tiny_editor(**options):
    torch.manual_seed(0)
    editor = LatentEditor(
        sample_size=8, latent_channels=9, patch=1, channels=(16, 32), context_width=32, head_channels=16, **options
    )
    for parameter in editor.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    if editor.people is not None:
        editor.people.fit(torch.randn(24, 9, 8, 8) + torch.randn(9, 8, 8))
    return editor.eval()


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    autoencoder = RgbdAutoencoder(sample_size=32, channels=(16,), fine_channels=16)
    autoencoder.latent_mean.fill_(0.5)
    return EditingModel(Networks(autoencoder, tiny_editor(draws=True)), shipped_head())


def test_drawn_people_have_the_standard_camera_and_their_seeds(model):
    people = model.draw([HAPPY, SAD, HAPPY], QUICK)
    assert [p.rgb.shape for p in people] == [(32, 32, 3)] * 3
    assert all(p.depth_mm.shape == p.mask.shape == (32, 32) for p in people)
    np.testing.assert_array_equal(people[0].camera.intrinsics, orbit_camera(size=32).intrinsics)
    assert np.abs(people[0].rgb - people[2].rgb).max() > 1e-3
    alone = model.draw([HAPPY], QUICK, seeds=[2])[0]
    np.testing.assert_allclose(alone.rgb, people[2].rgb, atol=1e-4)
    np.testing.assert_allclose(alone.depth_mm, people[2].depth_mm, atol=1e-2)
    assert np.abs(model.draw([SAD], QUICK, seeds=[2])[0].rgb - alone.rgb).max() > 1e-4


def test_every_sampler_and_guidance_draws(model):
    plain = model.draw([HAPPY], replace(QUICK, steps=4))[0]
    for settings in (EditSettings(steps=4, sampler="dpmsolver++"), EditSettings(steps=4, guidance_scale=3.0)):
        other = model.draw([HAPPY], settings)[0]
        assert np.isfinite(other.depth_mm).all()
        assert np.abs(other.rgb - plain.rgb).max() > 1e-5


def test_what_draws_ignores_the_source_and_what_edits_has_one(model):
    editor, condition = model.editor, condition_of([HAPPY, SAD])
    drawn = torch.tensor([True, False])
    z, t, source = torch.randn(2, 9, 8, 8), torch.tensor([0.7, 0.4]), torch.randn(2, 9, 8, 8)
    with torch.no_grad():
        first = editor(z, t, source, condition, drawn)
        other = editor(z, t, torch.randn_like(source), condition, drawn)
        edit = editor(z, t, source, condition)
        torch.testing.assert_close(first[0], other[0])
        assert (first[1] - other[1]).abs().max() > 1e-3
        torch.testing.assert_close(first[1], edit[1])
        unseen = editor(z, t, torch.zeros_like(source), condition)
        assert (first[0] - unseen[0]).abs().max() > 1e-3


def test_a_network_that_learns_to_draw_edits_as_before(tmp_path):
    before = tiny_editor()
    before.save_pretrained(tmp_path)
    after = load_extended(LatentEditor, tmp_path, draws=True).eval()
    assert after.config.draws
    assert not before.config.draws
    args = torch.randn(1, 9, 8, 8), torch.tensor([0.5]), torch.randn(1, 9, 8, 8), condition_of([HAPPY])
    with torch.no_grad():
        torch.testing.assert_close(after(*args), before(*args), rtol=0, atol=0)


def test_what_cannot_be_drawn_is_one_line(model):
    with pytest.raises(ConfigError, match="got ARKit weights"):
        model.draw([Expression(category="happy", arkit=np.zeros(52, np.float32))])
    with pytest.raises(ConfigError, match="need a source"):
        model.draw([HAPPY], EditSettings(source_scale=2.0))
    with pytest.raises(ConfigError, match="a seed for each of 2"):
        model.draw([HAPPY, SAD], QUICK, seeds=[1])
    with pytest.raises(CheckpointError, match="was not trained to draw"):
        EditingModel(Networks(model.autoencoder, tiny_editor()), shipped_head()).draw([HAPPY])


def test_openvino_draws_and_edits_as_torch_does(model):
    pytest.importorskip("openvino", reason="the openvino extra is not installed")
    from omote.rgbd.backends.openvino import OpenVinoNetworks

    there = EditingModel(OpenVinoNetworks(model.autoencoder, model.editor), shipped_head())
    person = model.draw([HAPPY], QUICK)[0]
    for a, b in (
        (person, there.draw([HAPPY], QUICK)[0]),
        (model.edit(person, [SAD])[0], there.edit(person, [SAD])[0]),
    ):
        np.testing.assert_allclose(a.rgb, b.rgb, atol=1e-4)
        np.testing.assert_allclose(a.depth_mm, b.depth_mm, atol=0.02)


def test_an_untrained_network_draws_the_populations_gaussian():
    """Mean and covariance of many drawn latents are those that the prior was fitted to; nothing is left of the noise."""
    torch.manual_seed(2)
    editor = LatentEditor(sample_size=8, latent_channels=9, patch=1, channels=(16, 32), context_width=32, draws=True)
    basis = torch.randn(2, 9, 8, 8)
    offset = torch.randn(9, 8, 8)
    editor.people.fit(offset + torch.einsum("nk,kdhw->ndhw", torch.randn(400, 2) * torch.tensor([1.5, 0.4]), basis))
    n = 200
    condition, drawn = condition_of([HAPPY] * n), torch.ones(n, dtype=torch.bool)
    noise = torch.randn(n, 9, 8, 8)
    mean = editor.source_or_mean(torch.zeros_like(noise), drawn)
    with torch.no_grad():
        context = editor.context(mean, condition, drawn)
        *_, last = heun(lambda z, t: editor.velocity(z, t, mean, context), noise, 20, shift=4.0)
    z = last.z
    torch.testing.assert_close(z.mean(dim=0), offset, atol=0.35, rtol=0)
    directions = editor.people.components[:2].flatten(1)
    along = (z - z.mean(dim=0)).flatten(1) @ directions.T
    torch.testing.assert_close(along.var(dim=0), editor.people.variances[:2], rtol=0.25, atol=0)
    left = (z - offset).flatten(1) - ((z - offset).flatten(1) @ directions.T) @ directions
    assert float(left.square().mean()) < 1e-3


def test_the_guess_behind_noise_is_bayes():
    """Against the conditional mean of the joint Gaussian of z_0 and z_t, written out with the full covariance."""
    torch.manual_seed(3)
    prior = PopulationPrior(1, 4)
    prior.fit(torch.randn(200, 1, 4, 4) @ torch.randn(4, 4))
    prior.variances[3:] = 0
    prior.components[3:] = 0
    prior.rest.fill_(0.3)
    u = prior.components[:3].flatten(1).double()
    outside = torch.eye(16, dtype=torch.float64) - u.T @ u
    covariance = u.T @ torch.diag(prior.variances[:3].double()) @ u + 0.3 * outside
    mean, z = prior.mean.flatten().double(), torch.randn(5, 1, 4, 4)
    for t in (0.1, 0.5, 0.9, 1.0):
        a = 1 - t
        gain = a * covariance @ torch.linalg.inv(a**2 * covariance + t**2 * torch.eye(16, dtype=torch.float64))
        by_hand = mean + (z.flatten(1).double() - a * mean) @ gain.T
        ours = prior.expected(z, torch.full((5,), t)).flatten(1)
        torch.testing.assert_close(ours.double(), by_hand, atol=1e-4, rtol=1e-4)
