"""The flow against analytic truths: a Gaussian's exact velocity must carry noise to that Gaussian."""

import pytest
import torch

from omote.diffusion.flow import euler, guided, initial_noise, noised

MEAN, STD = 1.5, 0.4


def gaussian_velocity(z, t):
    """E[ε - z_0 | z_t] for z_0 ~ N(MEAN, STD²): both are linear in z_t."""
    t = t.view(-1, *[1] * (z.ndim - 1))
    variance = (1 - t) ** 2 * STD**2 + t**2
    residual = z - (1 - t) * MEAN
    clean = MEAN + (1 - t) * STD**2 / variance * residual
    noise = t / variance * residual
    return noise - clean


def test_sampler_recovers_a_gaussian():
    noise = initial_noise((4, 8, 8), list(range(64)))
    last = list(euler(gaussian_velocity, noise, 200))[-1]
    assert last.t == 0
    assert last.z.mean() == pytest.approx(MEAN, abs=0.02)
    assert last.z.std() == pytest.approx(STD, abs=0.02)


@pytest.mark.parametrize("num_steps", [1, 2, 3, 7, 20])
def test_no_noise_remains_at_any_step_count(num_steps):
    """With a point as data the exact flow ends on it at any number of steps."""

    def velocity(z, t):
        t = t.view(-1, 1, 1, 1)
        return (z - MEAN) / t

    last = list(euler(velocity, initial_noise((2, 4, 4), [1, 2]), num_steps))[-1]
    torch.testing.assert_close(last.z, torch.full_like(last.z, MEAN), atol=1e-5, rtol=0)


def test_guidance_extrapolates_and_scale_one_is_the_conditional():
    def one(z, t):
        return torch.ones_like(z)

    def zero(z, t):
        return torch.zeros_like(z)

    z, t = torch.zeros(1, 1, 2, 2), torch.ones(1)
    assert guided(one, zero, 1.0) is one
    torch.testing.assert_close(guided(one, zero, 3.0)(z, t), torch.full_like(z, 3.0))


def constant(value):
    return lambda z, t: torch.full_like(z, value)


def test_source_and_wish_are_guided_apart():
    """InstructPix2Pix, equation 3, by hand: 1 + 2 (3 - 1) + 5 (4 - 3)."""
    z, t = torch.zeros(1, 1, 2, 2), torch.ones(1)
    both = guided(constant(4.0), constant(3.0), 5.0, source_free=constant(1.0), source_scale=2.0)
    torch.testing.assert_close(both(z, t), torch.full_like(z, 10.0))
    with pytest.raises(ValueError, match="source_free"):
        guided(constant(4.0), constant(3.0), 1.0, source_scale=2.0)


def test_guidance_acts_in_its_interval_alone():
    z = torch.zeros(1, 1, 2, 2)
    velocity = guided(constant(1.0), constant(0.0), 3.0, interval=(0.2, 0.8))
    for t, value in ((0.1, 1.0), (0.5, 3.0), (0.9, 1.0)):
        torch.testing.assert_close(velocity(z, torch.tensor([t])), torch.full_like(z, value))


def test_a_sample_does_not_depend_on_its_batch():
    torch.testing.assert_close(initial_noise((2, 3, 3), [5, 6, 7])[1], initial_noise((2, 3, 3), [6])[0])


def test_noised_is_the_straight_path():
    z_0, noise = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    torch.testing.assert_close(noised(z_0, noise, torch.zeros(3)), z_0)
    torch.testing.assert_close(noised(z_0, noise, torch.ones(3)), noise)


def test_an_image_carried_to_its_noise_comes_back():
    """Inversion and sampling are one flow in two directions."""
    z_0 = MEAN + STD * torch.randn(8, 2, 4, 4, generator=torch.Generator().manual_seed(2))
    there = list(euler(gaussian_velocity, z_0, 400, start=0.0, end=1.0))[-1]
    assert there.t == 1.0
    assert float(there.z.std()) == pytest.approx(1.0, abs=0.15)
    torch.testing.assert_close(list(euler(gaussian_velocity, there.z, 400))[-1].z, z_0, atol=0.02, rtol=0)


def test_a_half_noised_image_keeps_half_of_itself():
    z_0 = torch.full((64, 1, 8, 8), MEAN + STD)
    noise = initial_noise((1, 8, 8), list(range(64)))
    halfway = noised(z_0, noise, torch.full((64,), 0.3))
    near = list(euler(gaussian_velocity, halfway, 50, start=0.3))[-1].z
    far = list(euler(gaussian_velocity, noise, 50))[-1].z
    assert abs(float(near.mean()) - MEAN - STD) < abs(float(far.mean()) - MEAN - STD)
    assert float(near.mean()) > MEAN + 0.1
