"""Plain first stages, by name: every f trains at a fraction of its size, with all of the losses, and never sees a source."""

import math
from dataclasses import replace

import pytest
import torch

from omote.config import override
from omote.engine.loop import EngineConfig
from omote.errors import ConfigError
from omote.head.shipped import population_heads
from omote.nets import perceptual
from omote.nets.perceptual import CONVOLUTIONS, HedVgg16
from omote.recipes import RECIPES
from omote.recipes.run import run_recipe
from omote.rgbd.autoencoder import RgbdAutoencoder
from omote.rgbd.train.autoencoder import AutoencoderTask

ENGINE = EngineConfig(
    total_images=24, batch_size=8, precision="fp32", warmup_images=8, log_images=8, checkpoint_s=1e9, threads=1
)


def small(name, discs, **changes):
    recipe = RECIPES[name](discs.parent)
    channels = (16,) * len(recipe.channels)
    own = {"population": discs, "engine": ENGINE, "sample_size": 64, "channels": channels, "fine_channels": 16}
    return replace(recipe, **{**own, "num_codes": 32, "adversarial_start": 8, **changes})


@pytest.mark.parametrize("factor", [2, 4, 8, 16, 32])
@pytest.mark.parametrize("kind", ["kl", "vq"])
def test_a_recipe_of_every_f_compresses_by_it(kind, factor, discs):
    task = AutoencoderTask(small(f"autoencoder-{kind}-f{factor}", discs), population_heads())
    batch = task.batch(0, 0, 8, 0, 1)
    assert batch.alone
    task.schedule(8)
    task.module.train()
    loss, terms = task.module(batch)
    assert math.isfinite(float(loss.detach()))
    expected = {"normal", "discriminator", "balance", *({"kl"} if kind == "kl" else {"commitment", "code_perplexity"})}
    assert expected <= set(terms)
    autoencoder = task.module.autoencoder
    assert autoencoder.factor == factor
    assert autoencoder.encode(torch.zeros(1, 5, 64, 64)).mode().shape[-1] == 64 // factor


def test_the_source_changes_nothing(discs):
    task = AutoencoderTask(small("autoencoder-kl-f4", discs, adversarial=0.0), population_heads())
    batch = task.batch(0, 0, 8, 0, 1)
    other = replace(batch.pairs.source, rgb=1 - batch.pairs.source.rgb)
    # Weights of pixels that moved need a source; what is decoded does not.
    loss = replace(task.config.loss, moved_weight=0.0)
    task.module.config = replace(task.config, loss=loss)
    losses = [
        float(task.module(replace(batch, pairs=replace(batch.pairs, source=source)))[0].detach())
        for source in (batch.pairs.source, other)
    ]
    assert losses[0] == losses[1]


def test_its_export_contains_no_discriminator(discs, tmp_path):
    reports = list(run_recipe(small("autoencoder-vq-f8", discs), tmp_path))
    assert reports[-1].metrics["balance"] > 0
    assert 0 < reports[-1].metrics["codes_used"] <= 1
    RgbdAutoencoder.from_pretrained(tmp_path / "export/autoencoder", low_cpu_mem_usage=False)


def test_a_perceptual_network_is_paid_under_its_name_and_needs_its_file(discs, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="needs perceptual_weights"):
        override(small("autoencoder-kl-f4", discs), ["perceptual=0.5"])
    weights, before = {}, 3
    for stage, count in enumerate(CONVOLUTIONS):
        for i in range(count):
            weights[f"{stage}/{i}/weight"] = torch.randn(4, before, 3, 3) / (9 * before) ** 0.5
            weights[f"{stage}/{i}/bias"] = torch.zeros(4)
            before = 4
    monkeypatch.setattr("omote.nets.adversarial.load_hed_vgg16", lambda path: HedVgg16(weights, stages=2))
    config = small("autoencoder-kl-f4", discs, adversarial=0.0, perceptual=0.5, perceptual_weights=tmp_path)
    task = AutoencoderTask(config, population_heads())
    batch = task.batch(0, 0, 8, 0, 1)
    loss, terms = task.module(batch)
    task.module.perceptual = ()
    without, _ = task.module(batch)
    assert float((loss - without).detach()) == pytest.approx(0.5 * float(terms[perceptual.HedVgg16.KEY]), rel=1e-3)
    assert not any("perceptual" in key for key in task.module.state_dict())
