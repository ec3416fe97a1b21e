"""The three stages end to end at a fraction of their size: each trains from the one before and exports what loads."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from omote.datasets.cache import read_shard, shard_folders
from omote.datasets.pairs import draw_pairs
from omote.datasets.population import PopulationConfig
from omote.engine.loop import tensors_of
from omote.errors import ConfigError
from omote.head.shipped import population_heads, shipped_head
from omote.nets.quantiser import codebook_use
from omote.recipes import RECIPES
from omote.recipes.run import run_recipe, task_of
from omote.rgbd.autoencoder import RgbdAutoencoder
from omote.rgbd.latent_editor import LatentEditor
from omote.rgbd.model import EditingModel, EditSettings
from omote.rgbd.networks import Networks
from omote.types import Expression

pytestmark = pytest.mark.early


def test_exports_load_and_edit(runs):
    autoencoder = RgbdAutoencoder.from_pretrained(runs / "decoder/export/autoencoder", low_cpu_mem_usage=False)
    editor = LatentEditor.from_pretrained(runs / "editor/export/editor", low_cpu_mem_usage=False)
    assert float(editor.delta_std.min()) > 0
    torch.testing.assert_close(editor.delta_std, autoencoder.delta_std)
    from omote.datasets.population import PopulationConfig, draw_person, render_person

    config = PopulationConfig(num_images=2)
    person = draw_person(config, 0, population_heads(config.ict))
    source = next(iter(render_person(person, population_heads(config.ict))))[0]
    model, wanted = (
        EditingModel(Networks(autoencoder, editor), shipped_head()),
        [Expression(category="happy"), person.expressions[1]],
    )
    ways = (EditSettings(), EditSettings(steps=2, strength=0.5), EditSettings(steps=2, inversion_steps=2),
            EditSettings(steps=2, guidance_scale=2.0, source_scale=1.5, guidance_interval=(0.4, 1.0)))  # fmt: skip
    for settings in ways:
        assert all(np.isfinite(image.depth_mm).all() for image in model.edit(source, wanted, settings))
    with pytest.raises(ConfigError, match="strength"):
        model.edit(source, wanted, EditSettings(strength=0.5, sampler="ddim"))


def test_a_codebook_trains_and_is_used(runs, tmp_path):
    recipe = replace(RECIPES["autoencoder-tiny"](runs), regularisation="vq", num_codes=64, learned_channels=4)
    reports = list(run_recipe(recipe, tmp_path))
    assert all(math.isfinite(report.metrics["commitment"]) for report in reports)
    autoencoder = RgbdAutoencoder.from_pretrained(tmp_path / "export/autoencoder", low_cpu_mem_usage=False).eval()
    indices = autoencoder.encode(torch.randn(2, 5, 128, 128)).quantised.indices
    assert codebook_use(indices, 64).share_used > 1 / 64


def test_the_decoder_stage_leaves_the_latents_alone(runs):
    """The editor was trained on the first stage's latents: its encoder must be the same after the decoder's training."""
    before = RgbdAutoencoder.from_pretrained(runs / "autoencoder/export/autoencoder", low_cpu_mem_usage=False)
    after = RgbdAutoencoder.from_pretrained(runs / "decoder/export/autoencoder", low_cpu_mem_usage=False)
    x = torch.randn(1, 5, 128, 128)
    torch.testing.assert_close(after.encode(x).mode(), before.encode(x).mode(), rtol=0, atol=0)
    z = before.encode(x).mode()
    assert float((after.decode(z, x) - before.decode(z, x)).abs().max()) > 0


RECIPES_IN_PARTS = ["autoencoder-tiny", "editor-tiny", "editor-tiny-conditions", "decoder-tiny", "decoder-tiny-draw"]


@pytest.mark.parametrize("name", RECIPES_IN_PARTS)
def test_a_step_is_the_same_in_parts(runs, name):
    """Over two processes: the halves are the whole's, and so is the mean of their losses."""
    task = task_of(RECIPES[name](runs))
    for step in range(3):
        whole = task.batch(step, 0, 8, 0, 1)
        halves = [task.batch(step, 0, 4, part, 2) for part in range(2)]
        own = tensors_of(whole)
        joined = [tensors_of(half) for half in halves]
        for key, value in own.items():
            torch.testing.assert_close(torch.cat([half[key] for half in joined]), value, atol=1e-3, rtol=1e-3, msg=key)
        losses, means = zip(*(task.module(batch) for batch in (whole, *halves)), strict=True)
        assert float(losses[1] + losses[2]) / 2 == pytest.approx(float(losses[0]), rel=1e-3)
        assert means[0].keys() == means[1].keys() == means[2].keys()


@pytest.mark.parametrize("name", ["editor-tiny", "editor-tiny-conditions"])
def test_what_a_part_has_none_of_averages_to_the_wholes_mean(runs, name):
    """Halves without a first step, or without anybody drawn, say the same means as others: processes add these up."""
    config = RECIPES[name](runs)
    task = task_of(replace(config, objective=replace(config.objective, at_noise=0.1)))
    for step in range(8):
        batch = task.batch(step, 0, 8, 0, 1)
        means = [task.module(task.batch(step, 0, 4, part, 2))[1] for part in range(2)]
        for key, value in task.module(batch)[1].items():
            assert float(means[0][key] + means[1][key]) / 2 == pytest.approx(float(value), rel=1e-3, abs=1e-6), key


@pytest.mark.parametrize("name", [*RECIPES_IN_PARTS, "few-tiny", "autoencoder-tiny from an export"])
def test_networks_begin_as_their_seed_says(runs, name):
    """Or a run that is killed before its first checkpoint would not be the one that was begun."""
    config = RECIPES[name.split()[0]](runs)
    if "export" in name:
        config = replace(config, start_from=runs / "autoencoder/export/autoencoder", adversarial=0.5)
    begun = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        begun.append(task_of(config).module.state_dict())
    assert all(torch.equal(value, begun[1][key]) for key, value in begun[0].items())


@pytest.mark.parametrize("stage", ["autoencoder", "editor", "decoder"])
def test_a_preview_has_a_row_of_colour_and_one_of_depth_per_kind(runs, stage):
    picture = task_of(RECIPES[f"{stage}-tiny"](runs)).preview()
    assert picture.shape == (3, 6 * 128, 8 * 128)
    assert 0 <= float(picture.min()) < float(picture.max()) <= 1
    assert (runs / stage / "pictures/000000064.png").exists()


def test_a_part_of_less_than_a_source_is_refused(runs):
    with pytest.raises(ConfigError, match="expected a multiple of targets_per_source"):
        task_of(RECIPES["autoencoder-tiny"](runs)).batch(0, 0, 2, 0, 4)


def test_a_crop_ends_source_and_target_alike(runs):
    shards = [read_shard(p) for p in shard_folders(runs / "population")]
    cropped = 0
    for seed in range(8):
        pairs = draw_pairs(
            shards, [np.random.default_rng([seed, i]) for i in range(2)], shipped_head(), targets_per_source=2
        )
        # Where a whole border row of the source is gone, the target has nothing either.
        rows = pairs.source.mask.amax(dim=(1, 3))
        beyond = pairs.target.mask.amax(dim=(1, 3)) * (1 - rows.repeat_interleave(2, 0))
        cropped += int((rows[:, -4:] == 0).any())
        assert float(beyond[:, -4:].sum()) == 0
    assert cropped


def test_an_infinite_population_trains_without_shards(tmp_path):
    config = replace(RECIPES["autoencoder-tiny"](tmp_path), population=PopulationConfig(num_images=2, size=32))
    engine = replace(config.engine, batch_size=2, total_images=4)
    config = replace(config, sample_size=32, targets_per_source=2, engine=engine)
    assert list(run_recipe(config, tmp_path / "run"))[-1].images == 4
    task = task_of(config)
    whole = tensors_of(task.batch(1, 0, 4, 0, 1))
    parts = [tensors_of(task.batch(1, 0, 2, i, 2)) for i in range(2)]
    for key in ("batch.pairs.source.rgb", "batch.pairs.target.depth_mm"):
        torch.testing.assert_close(torch.cat([p[key] for p in parts]), whole[key], rtol=0, atol=0)
