"""Views encoded once: training on them is training on the views."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import omote
from omote.errors import ConfigError
from omote.head.shipped import shipped_head
from omote.multiview.train_denoiser import ViewDenoiserTask
from omote.recipes.multiview import candidate1_tiny, candidate2_tiny

DEVICE = torch.device("cpu")


@pytest.mark.parametrize("recipe", [candidate1_tiny, candidate2_tiny])
def test_batches_of_encoded_views_are_those_of_the_views(candidate_runs: Path, tmp_path: Path, recipe) -> None:
    config = recipe(candidate_runs)
    count = omote.encode(
        config.population, out=tmp_path / "latents", autoencoder=config.first_stage, encoder=config.encoder
    )
    plain = ViewDenoiserTask(config, [shipped_head()])
    encoded = ViewDenoiserTask(replace(config, latents=tmp_path / "latents"), [shipped_head()])
    assert count == sum(shard.num_persons * (shard.num_images - 1) for shard in plain.source.shards)
    for step in range(2):
        one, other = plain.batch(step, 5, 4, 0, 1), encoded.batch(step, 5, 4, 0, 1)
        assert torch.equal(one.noise, other.noise)
        assert all(torch.equal(one.words[name], other.words[name]) for name in one.words)
        views, latents = plain.module.latents(one, DEVICE), encoded.module.latents(other, DEVICE)
        for name in ("source", "target", "depth"):
            torch.testing.assert_close(getattr(latents, name), getattr(views, name), atol=4e-3, rtol=4e-3)


def test_latents_of_other_networks_and_missing_persons_are_refused(candidate_runs: Path, tmp_path: Path) -> None:
    config, out = candidate1_tiny(candidate_runs), tmp_path / "latents"
    with pytest.raises(ConfigError, match="omote encode POPULATION"):
        ViewDenoiserTask(replace(config, latents=out), [shipped_head()])
    with pytest.raises(ConfigError, match="--autoencoder"):
        omote.encode(config.population, out=out)
    omote.encode(config.population, out=out, autoencoder=config.first_stage)
    omote.encode(config.population, out=out, autoencoder=config.first_stage)  # nothing left to do
    other = candidate2_tiny(candidate_runs)
    with pytest.raises(ConfigError, match="other networks"):
        omote.encode(config.population, out=out, autoencoder=other.first_stage)
    with pytest.raises(ConfigError, match="other networks"):
        ViewDenoiserTask(replace(other, latents=out), [shipped_head()])
    for path in out.glob("shard_*/person.npy"):
        shutil.copy(path, path.with_name("head.npy"))
    with pytest.raises(ConfigError, match="run the same"):
        ViewDenoiserTask(replace(config, latents=out), [shipped_head()]).batch(0, 1, 16, 0, 1)
