"""The Gaussian model of a fit's errors: what it learns, what it extends, and how sure it is."""

import numpy as np
import pytest

from omote.completion.displacement_prior import KNOWN_SIGMA_MM, DisplacementPrior, displacement_prior

NUM_VERTICES = 300


def smooth_errors(number: int, seed: int) -> np.ndarray:
    """Errors of heads that three smooth components explain but for .1 mm."""
    rng = np.random.default_rng(seed)
    place = np.linspace(0, 1, NUM_VERTICES)
    modes = np.stack([np.full(NUM_VERTICES, 2.0), 3 * np.sin(3 * place), 2 * np.cos(5 * place)])
    return 1.0 + rng.normal(size=(number, 3)) @ modes + rng.normal(0, 0.1, (number, NUM_VERTICES))


def test_errors_at_some_vertices_tell_those_at_the_others() -> None:
    prior = displacement_prior(smooth_errors(200, 0), num_modes=3)
    unseen = smooth_errors(40, 1)
    known = np.arange(NUM_VERTICES) < 150
    found, _ = prior.given(unseen, known)
    left = np.abs(found - unseen)[:, ~known].mean()
    assert left < 0.35 * np.abs(unseen - prior.mean_mm)[:, ~known].mean()


def test_without_known_vertices_it_says_the_mean_and_the_whole_deviation() -> None:
    errors = smooth_errors(400, 2)
    mean, sigma = displacement_prior(errors, num_modes=3).given(
        np.zeros((1, NUM_VERTICES)), np.zeros(NUM_VERTICES, bool)
    )
    np.testing.assert_allclose(mean[0], errors.mean(axis=0))
    np.testing.assert_allclose(sigma, errors.std(axis=0), rtol=0.01)


def test_the_posterior_is_that_of_the_joint_gaussian() -> None:
    """By the textbook's conditional of a multivariate normal, with the whole covariance matrix."""
    rng = np.random.default_rng(3)
    prior = DisplacementPrior(
        mean_mm=rng.normal(size=12), modes_mm=rng.normal(size=(4, 12)), rest_mm=rng.uniform(0.1, 1, 12)
    )
    known = np.arange(12) < 7
    displaced = rng.normal(size=(1, 12))
    shape = prior.modes_mm.T @ prior.modes_mm
    gain = shape[:, known] @ np.linalg.inv(shape[np.ix_(known, known)] + KNOWN_SIGMA_MM**2 * np.eye(7))
    mean, sigma = prior.given(displaced, known)
    np.testing.assert_allclose(mean[0], prior.mean_mm + gain @ (displaced[0] - prior.mean_mm)[known])
    variance = np.diag(shape - gain @ shape[known]) + prior.rest_mm**2
    np.testing.assert_allclose(sigma, np.sqrt(variance))


@pytest.mark.parametrize("number", [2, 3, 9])
def test_few_heads_give_at_most_half_as_many_components(number: int) -> None:
    prior = displacement_prior(smooth_errors(number, 4))
    assert len(prior.modes_mm) == max(number // 2, 1)
    assert np.isfinite(prior.given(smooth_errors(1, 5), np.arange(NUM_VERTICES) % 2 == 0)[1]).all()
