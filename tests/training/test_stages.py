"""The three stages end to end at a fraction of their size: each trains from the one before and exports what loads."""

import numpy as np
import pytest
import torch

from omote.data.cache import read_shard, shard_folders
from omote.data.pairs import draw_pairs
from omote.data.population import PopulationConfig, make_population
from omote.ldm.autoencoder import RgbdAutoencoder
from omote.ldm.denoiser import LatentEditor
from omote.ldm.editing import EditingModel
from omote.recipes import RECIPES
from omote.training.run import run_recipe
from omote.types import Expression


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    list(make_population(PopulationConfig(num_images=5), folder / "population", num_persons=3))
    for stage in ("autoencoder", "editor", "decoder"):
        config = RECIPES[f"{stage}-tiny"](folder)
        list(run_recipe(config, folder / stage))
    return folder


def test_exports_load_and_edit(runs):
    autoencoder = RgbdAutoencoder.from_pretrained(runs / "decoder/export/autoencoder", low_cpu_mem_usage=False)
    editor = LatentEditor.from_pretrained(runs / "editor/export/editor", low_cpu_mem_usage=False)
    assert float(editor.delta_std.min()) > 0
    torch.testing.assert_close(editor.delta_std, autoencoder.delta_std)
    from omote.data.population import draw_person, render_person

    config = PopulationConfig(num_images=2)
    person = draw_person(config, 0, config.heads())
    source = next(iter(render_person(person, config.heads())))[0]
    edited = EditingModel(autoencoder, editor).edit(source, [Expression(category="happy"), person.expressions[1]])
    assert all(np.isfinite(image.depth_mm).all() for image in edited)


def test_the_decoder_stage_leaves_the_latents_alone(runs):
    """The editor was trained on the first stage's latents: its encoder must be the same after the decoder's training."""
    before = RgbdAutoencoder.from_pretrained(runs / "autoencoder/export/autoencoder", low_cpu_mem_usage=False)
    after = RgbdAutoencoder.from_pretrained(runs / "decoder/export/autoencoder", low_cpu_mem_usage=False)
    x = torch.randn(1, 5, 128, 128)
    torch.testing.assert_close(after.encode(x).mode(), before.encode(x).mode(), rtol=0, atol=0)
    z = before.encode(x).mode()
    assert float((after.decode(z, x) - before.decode(z, x)).abs().max()) > 0


def test_a_crop_ends_source_and_target_alike(runs):
    shards = [read_shard(p) for p in shard_folders(runs / "population")]
    cropped = 0
    for seed in range(8):
        pairs = draw_pairs(shards, np.random.default_rng(seed), num_sources=2, targets_per_source=2)
        # Where a whole border row of the source is gone, the target has nothing either.
        rows = pairs.source.mask.amax(dim=(1, 3))
        beyond = pairs.target.mask.amax(dim=(1, 3)) * (1 - rows.repeat_interleave(2, 0))
        cropped += int((rows[:, -4:] == 0).any())
        assert float(beyond[:, -4:].sum()) == 0
    assert cropped
