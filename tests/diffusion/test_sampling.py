"""Samplers over an exact network: they recover a Gaussian, end clean at any step count, and follow diffusers' own loops."""

from typing import get_args

import pytest
import torch
from diffusers import DDIMScheduler

from omote.diffusion.flow import initial_noise
from omote.diffusion.sampling import NUM_TIMESTEPS, cosine_betas, make_scheduler, sampled
from omote.diffusion.settings import SamplerName

SAMPLERS = get_args(SamplerName)
MEAN, STD = 0.7, 0.4


def gaussian_velocity(z, t):
    """E[ε - z_0 | z_t] on the straight path for z_0 ~ N(MEAN, STD²)."""
    t = t.view(-1, 1, 1, 1)
    variance = (1 - t) ** 2 * STD**2 + t**2
    residual = z - (1 - t) * MEAN
    return t / variance * residual - (MEAN + (1 - t) * STD**2 / variance * residual)


def point_velocity(image):
    """The exact velocity where the data is one image."""
    return lambda z, t: (z - image) / t.view(-1, 1, 1, 1)


def last(velocity, noise, steps, sampler):
    return list(sampled(velocity, noise, steps, sampler))[-1].z


def correlated_velocity(mean, covariance):
    """E[ε - z_0 | z_t] where the channels of each pixel are a draw from N(mean, covariance)."""

    def velocity(z, t):
        now = float(t[0])
        residual = z.movedim(1, -1) - (1 - now) * mean
        spread = (1 - now) ** 2 * covariance + now**2 * torch.eye(len(mean))
        whitened = residual @ torch.linalg.inv(spread)
        return (now * whitened - mean - (1 - now) * whitened @ covariance).movedim(-1, 1)

    return velocity


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_gaussians_mean_and_covariance_are_recovered(sampler):
    mean = torch.tensor([0.7, -1.2, 0.1])
    root = torch.tensor([[0.5, 0.0, 0.0], [0.4, 0.2, 0.0], [-0.3, 0.1, 0.8]])
    noise = initial_noise((3, 32, 32), list(range(32)))
    z = last(correlated_velocity(mean, root @ root.T), noise, 200, sampler).movedim(1, -1).flatten(0, -2)
    torch.testing.assert_close(z.mean(dim=0), mean, atol=0.02, rtol=0)
    torch.testing.assert_close(z.T.cov(), root @ root.T, atol=0.03, rtol=0)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 10, 50, 200])
def test_no_noise_remains_at_any_step_count(sampler, steps):
    """The known fault of DDIM as often configured: an image with the first timestep's noise still on it."""
    image = torch.linspace(-1, 1, 64).view(1, 1, 8, 8)
    z = last(point_velocity(image), initial_noise((1, 8, 8), [3]), steps, sampler)
    # High frequencies, where noise would show, against the truth's.
    left = (z - image).diff(dim=-1).square().mean() / image.diff(dim=-1).square().mean()
    assert float(left) < 1e-3
    torch.testing.assert_close(z, image, atol=2e-3, rtol=0)


def test_the_fault_is_seen_where_it_is_made():
    """Diffusers' defaults for DDIM (leading spacing, the last alpha not one) leave noise that the test above would catch."""
    image = torch.linspace(-1, 1, 64).view(1, 1, 8, 8)
    scheduler = DDIMScheduler(
        trained_betas=list(cosine_betas()),
        prediction_type="sample",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=0,
    )
    scheduler.set_timesteps(10)
    z = initial_noise((1, 8, 8), [3])
    for timestep in scheduler.timesteps:
        z = scheduler.step(image, timestep, z).prev_sample
    assert float((z - image).diff(dim=-1).square().mean() / image.diff(dim=-1).square().mean()) > 1e-3


@pytest.mark.parametrize("sampler", [s for s in SAMPLERS if not s.startswith("flow")])
@pytest.mark.parametrize("steps", [1, 2, 10, 50])
def test_sampling_begins_where_all_is_noise(sampler, steps):
    """With a leading spacing it would begin at an earlier time, and take noise for an image."""
    scheduler = make_scheduler(sampler)
    scheduler.set_timesteps(steps)
    assert round(float(scheduler.timesteps[0])) == NUM_TIMESTEPS - 1


@pytest.mark.parametrize("sampler", [s for s in SAMPLERS if not s.startswith("flow")])
def test_the_trajectory_is_diffusers_own(sampler):
    """A loop over diffusers' scheduler as its pipelines write it, with the network's velocity worked out for its path."""
    noise = initial_noise((2, 4, 4), [1, 2])
    ours = [step.z for step in sampled(gaussian_velocity, noise, 7, sampler, seeds=[5, 6])]
    scheduler = make_scheduler(sampler)
    scheduler.set_timesteps(7)
    generators = [torch.Generator().manual_seed(s) for s in (5, 6)]
    z = noise * scheduler.init_noise_sigma
    for timestep, mine in zip(scheduler.timesteps, ours, strict=True):
        x = scheduler.scale_model_input(z, timestep)
        signal = scheduler.alphas_cumprod[int(timestep)]
        alpha, sigma = signal.sqrt(), (1 - signal).sqrt()
        # E[z_0 | x] of the Gaussian on this path, in closed form.
        clean = MEAN + alpha * STD**2 / (alpha**2 * STD**2 + sigma**2) * (x - alpha * MEAN)
        v = alpha * (x - alpha * clean) / sigma - sigma * clean
        extra = {"generator": generators} if sampler == "ddpm" else {}
        z = scheduler.step(v, timestep, z, **extra).prev_sample
        if sampler == "pndm" and timestep == scheduler.timesteps[-1]:
            break
        torch.testing.assert_close(mine, z, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sample_does_not_depend_on_its_batch(sampler):
    whole = list(sampled(gaussian_velocity, initial_noise((2, 4, 4), [7, 8]), 5, sampler, seeds=[7, 8]))[-1].z
    alone = list(sampled(gaussian_velocity, initial_noise((2, 4, 4), [8]), 5, sampler, seeds=[8]))[-1].z
    torch.testing.assert_close(whole[1:], alone)


def test_second_order_is_nearer_at_equal_evaluations():
    noise = initial_noise((2, 8, 8), [1])
    exact = last(gaussian_velocity, noise, 400, "flow_heun")
    first = last(gaussian_velocity, noise, 39, "flow_euler")
    second = last(gaussian_velocity, noise, 20, "flow_heun")
    assert float((second - exact).abs().mean()) < 0.5 * float((first - exact).abs().mean())
