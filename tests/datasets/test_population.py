"""What goes with a population's images: a fit of each person, as a scan would get it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from omote.datasets.population import PopulationConfig, draw_person, fit_as_found, make_population, render_person
from omote.errors import ConfigError
from omote.head.rest_face import RestFace
from omote.head.shipped import population_heads, shipped_head
from omote.rgbd.codec import pack_images
from omote.rgbd.conditions.arkit import Arkit
from omote.rgbd.conditions.motion import Motion
from omote.rgbd.warp import moved

CONFIG = PopulationConfig(split="validation", num_images=5)


def test_a_fits_motion_is_nearly_the_persons_own_and_moves_their_image():
    heads = population_heads(CONFIG.ict)
    person = draw_person(CONFIG, 1, heads)
    weights = np.stack([e.arkit for e in person.expressions])
    # The resting weights are in the fit's shape already.
    extra = torch.from_numpy(weights - weights[:1]).clamp_min(0)[1:]
    rendered = list(render_person(person, heads))
    fit = fit_as_found(person, heads, rendered[0][0], rendered[0][2])
    moving = Arkit(weights=extra, given=torch.ones(4, dtype=torch.bool))
    fitted = Motion.drawn(moving, [fit.rest()] * 4).image
    own = RestFace(
        head=shipped_head(), vertices_mm=shipped_head().vertices(person.identity, weights[0]), camera=person.camera
    )
    truth = Motion.drawn(moving, [own] * 4).image
    assert float((fitted - truth)[:, :2].abs().mean()) < 0.35 * float(truth[:, :2].abs().mean())

    images = pack_images([image for image, _, _ in rendered])
    source, target = images[:1].expand(4, -1, -1, -1), images[1:]
    inside = (target[:, 4:] > 0).float()

    def off(x):
        return ((x - target)[:, 3:4].abs() * inside).sum(dim=(1, 2, 3)) / inside.sum(dim=(1, 2, 3))

    assert (off(moved(source, fitted)) < 0.75 * off(source)).all()


def test_persons_are_not_divided_anew_beside_existing_shards(tmp_path: Path) -> None:
    config, heads = PopulationConfig(num_images=1, size=16), [shipped_head()]
    assert list(make_population(config, heads, tmp_path, num_persons=3, persons_per_shard=2)) == [2, 3]
    assert list(make_population(config, heads, tmp_path, num_persons=3, persons_per_shard=2)) == [2, 3]
    with pytest.raises(
        ConfigError, match=r"shard_0000000: holds persons 0 to 1 .* divided otherwise; give another folder"
    ):
        list(make_population(config, heads, tmp_path, num_persons=3, persons_per_shard=1))
