"""Every prediction is the same velocity in other words, and every weighting the error it is named for."""

from typing import get_args

import pytest
import torch
from diffusers import DDIMScheduler

from omote.config import from_json
from omote.diffusion.flow import noised
from omote.diffusion.objective import LAST_RATIO, Objective, Prediction, Times, velocity_of
from omote.errors import ConfigError

PREDICTIONS = get_args(Prediction)


def target_of(prediction, z_0, noise, t):
    """The exact output of a network: `velocity_of` undoes it."""
    t = t.view(-1, *[1] * (z_0.ndim - 1))
    return {
        "flow": noise - z_0,
        "epsilon": noise,
        "v": (t * z_0 - (1 - t) * noise) / torch.sqrt((1 - t) ** 2 + t**2),
    }[prediction]


def draw():
    generator = torch.Generator().manual_seed(0)
    z_0, noise, error = (torch.randn(6, 2, 4, 4, generator=generator) for _ in range(3))
    return z_0, noise, error, torch.tensor([0.02, 0.2, 0.4, 0.6, 0.8, 0.93])


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_perfect_answer_is_the_true_velocity(prediction):
    z_0, noise, _, t = draw()
    z_t = noised(z_0, noise, t)
    velocity = velocity_of(prediction, target_of(prediction, z_0, noise, t), z_t, t)
    torch.testing.assert_close(velocity, noise - z_0, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_an_error_of_the_prediction_is_the_velocitys_times_the_weight(prediction):
    z_0, noise, error, t = draw()
    z_t, right = noised(z_0, noise, t), target_of(prediction, z_0, noise, t)
    wrong = velocity_of(prediction, right + error, z_t, t) - (noise - z_0)
    objective = Objective(prediction=prediction, zero_terminal_snr=prediction != "epsilon")
    torch.testing.assert_close(objective.weight(t).view(-1, 1, 1, 1) * wrong**2, error**2, atol=1e-5, rtol=1e-4)


def test_min_snr_is_its_formula_in_z_0():
    t = torch.tensor([0.1, 0.3, 0.5, 0.9])
    snr = ((1 - t) / t) ** 2
    torch.testing.assert_close(Objective(weighting="min_snr").weight(t), t**2 * snr.clamp(max=5.0))
    torch.testing.assert_close(Objective(weighting="z_0").weight(t), t**2)


def test_v_and_epsilon_are_diffusers_own():
    """`DDIMScheduler` turns both into the same clean sample at its timesteps as the velocity does."""
    z_0, noise, _, _ = draw()
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    alpha, sigma = scheduler.alphas_cumprod[500].sqrt(), (1 - scheduler.alphas_cumprod[500]).sqrt()
    x = alpha * z_0 + sigma * noise
    v = scheduler.get_velocity(z_0, noise, torch.full((6,), 500))
    t = (sigma / (alpha + sigma)).expand(6)
    straight = x / (alpha + sigma)
    for prediction, output in (("epsilon", noise), ("v", -v)):
        velocity = velocity_of(prediction, output, straight, t)
        torch.testing.assert_close(straight - t.view(-1, 1, 1, 1) * velocity, z_0, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("times", get_args(Times))
def test_times_are_drawn_alike_and_reach_the_end_they_should(times):
    objective = Objective(times=times, at_noise=0.2)
    t = objective.draw(4000, torch.Generator().manual_seed(1))
    torch.testing.assert_close(t, objective.draw(4000, torch.Generator().manual_seed(1)))
    assert float(t.min()) >= 0
    assert float((t == 1).float().mean()) == pytest.approx(0.2, abs=0.03)
    short = Objective(times=times, at_noise=0.2, zero_terminal_snr=False).draw(4000, torch.Generator().manual_seed(1))
    assert float(short.max()) == pytest.approx(LAST_RATIO / (1 + LAST_RATIO), abs=1e-6)


def test_the_linear_schedule_ends_where_stable_diffusions_does():
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    last = scheduler.alphas_cumprod[-1]
    assert float(torch.sqrt((1 - last) / last)) == pytest.approx(LAST_RATIO, rel=0.01)


def test_epsilon_with_pure_noise_is_refused():
    with pytest.raises(ConfigError, match="zero SNR"):
        from_json(Objective, {"prediction": "epsilon"})
