"""The prior of expressions: it draws what a population shows, in its shares, and the same for the same seed."""

import numpy as np
import pytest
import torch

from omote.diffusion.flow import noised
from omote.errors import CheckpointError
from omote.head.expressions import ARKIT_INDEX, CATEGORIES, draw_expression
from omote.rgbd.expression_prior import FOLDER, ExpressionPrior, load_expression_prior
from omote.rgbd.weights import SHIPPED_WEIGHTS
from omote.types import Expression


@pytest.fixture(scope="module")
def two_ways():
    """Trained on a category that is shown by jaw or by brows, three to one, and never by half of each."""
    torch.manual_seed(0)
    weights = torch.zeros(400, 52)
    weights[:300, ARKIT_INDEX["jawOpen"]] = 0.8
    weights[300:, ARKIT_INDEX["browInnerUp"]] = 0.8
    prior = ExpressionPrior(width=64, depth=2)
    prior.use_units_of(weights)
    scaled, category, intensity = prior.scale(weights), torch.full((400,), 4), torch.ones(400)
    optimiser = torch.optim.Adam(prior.parameters(), 1e-2)
    cooldown = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.01, total_iters=600)
    for _ in range(600):
        t, noise = torch.rand(400), torch.randn(400, 52)
        v = prior(noised(scaled, noise, t), t, category, intensity)
        loss = (v - (noise - scaled)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        cooldown.step()
    return prior.eval()


def test_what_is_shown_in_two_ways_is_drawn_in_both_and_in_their_shares(two_ways):
    drawn = two_ways.draw(torch.full((300,), 4), torch.ones(300), range(300))
    jaw, brows = drawn[:, ARKIT_INDEX["jawOpen"]], drawn[:, ARKIT_INDEX["browInnerUp"]]
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    # A regression would answer .6 and .2 every time.
    assert jaw.mean() == pytest.approx(0.6, abs=0.08)
    assert jaw.std() == pytest.approx(0.35, abs=0.08)
    assert ((jaw > 0.6) & (brows < 0.2)).float().mean() > 0.5
    assert ((jaw < 0.2) & (brows > 0.6)).float().mean() > 0.1


def test_a_seed_is_an_expression_whatever_is_drawn_beside(two_ways):
    every = two_ways.draw(torch.full((4,), 4), torch.ones(4), [3, 5, 7, 9])
    alone = two_ways.draw(torch.full((1,), 4), torch.ones(1), [7])
    torch.testing.assert_close(every[2:3], alone, atol=1e-5, rtol=0)
    assert (every[0] - every[1]).abs().max() > 1e-3


def test_the_shipped_prior_shows_what_the_population_shows():
    prior, rng = load_expression_prior(SHIPPED_WEIGHTS), np.random.default_rng(1)
    for category in CATEGORIES:
        truth = [draw_expression(category, rng) for _ in range(120)]
        true = np.stack([e.arkit for e in truth])
        other = np.stack([draw_expression(category, rng).arkit for _ in range(300)])
        drawn = prior.drawn(truth, seed=0)
        shown = np.stack([e.arkit for e in drawn])
        assert [(e.category, e.intensity) for e in drawn] == [(e.category, e.intensity) for e in truth]
        np.testing.assert_allclose(shown.mean(axis=0), true.mean(axis=0), atol=0.08, err_msg=category)

        def nearest(points, others=other):
            return np.linalg.norm(points[:, None] - others[None], axis=2).min(axis=1).mean()

        assert nearest(shown) < 1.5 * nearest(true), category


def test_a_neutral_face_is_drawn_at_rest():
    prior = load_expression_prior(SHIPPED_WEIGHTS)
    (drawn,) = prior.drawn([Expression(category="neutral", intensity=0.0)], seed=0)
    assert drawn.arkit[ARKIT_INDEX["jawOpen"]] < 0.1
    assert drawn.arkit[ARKIT_INDEX["mouthSmileLeft"]] < 0.1


def test_what_is_no_prior_is_one_line(tmp_path):
    with pytest.raises(CheckpointError, match="omote train expressions-cpu"):
        load_expression_prior(tmp_path)
    ExpressionPrior(width=16, depth=1).save_pretrained(tmp_path / FOLDER)
    path = next((tmp_path / FOLDER).glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="do not load") as error:
        load_expression_prior(tmp_path)
    assert "\n" not in str(error.value)
