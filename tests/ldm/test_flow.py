"""The flow against analytic truths: a Gaussian's exact velocity must carry noise to that Gaussian."""

import pytest
import torch

from omote.ldm.flow import draw_times, euler, guided, initial_noise, noised

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


def test_a_sample_does_not_depend_on_its_batch():
    torch.testing.assert_close(initial_noise((2, 3, 3), [5, 6, 7])[1], initial_noise((2, 3, 3), [6])[0])


def test_noised_is_the_straight_path():
    z_0, noise = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    torch.testing.assert_close(noised(z_0, noise, torch.zeros(3)), z_0)
    torch.testing.assert_close(noised(z_0, noise, torch.ones(3)), noise)


def test_times_reach_the_first_step():
    t = draw_times(4000, torch.Generator().manual_seed(0))
    assert t.min() > 0
    assert t.max() == 1
    assert (t == 1).float().mean() == pytest.approx(0.15, abs=0.02)
