"""Encoded edits are the edits: what a run reads from them is what it would have made, and damage is reported."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from omote.datasets.cache import read_shard, shard_folders
from omote.datasets.pairs import Pick, draw_source, pairs_of
from omote.datasets.population import PopulationConfig, make_population
from omote.errors import ConfigError, OmoteError
from omote.head.shipped import population_heads, shipped_head
from omote.recipes import RECIPES
from omote.recipes.run import run_recipe
from omote.rgbd.autoencoder import RgbdAutoencoder
from omote.rgbd.conditions.arkit import Arkit
from omote.rgbd.conditions.base import Condition
from omote.rgbd.conditions.identity import Identity
from omote.rgbd.latent_editor import LatentEditor
from omote.rgbd.train.latent_cache import CachedLatentPairs, encode_population
from omote.rgbd.train.latent_pairs import encode_batch


@pytest.fixture(scope="module")
def population(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache") / "population"
    list(
        make_population(PopulationConfig(num_images=4), population_heads(), folder, num_persons=2, persons_per_shard=1)
    )
    return folder


@pytest.fixture(scope="module")
def autoencoder():
    torch.manual_seed(0)
    net = RgbdAutoencoder(sample_size=128).eval().requires_grad_(False)
    net.delta_std.fill_(0.5)
    return net


@pytest.fixture
def edits(population, autoencoder, tmp_path):
    list(encode_population(population, autoencoder, shipped_head(), tmp_path / "edits", variants=2))
    return tmp_path / "edits"


def pick_of(shard, rng):
    return Pick(shard=shard, person=0, source=draw_source(shard, rng), targets=np.arange(4), rng=rng)


def test_what_is_read_is_what_would_be_made(population, autoencoder, edits):
    cached = CachedLatentPairs(edits, autoencoder)
    assert [s["delta"].shape[:2] for s in cached.shards] == [(2, 4), (2, 4)]
    shard = read_shard(shard_folders(population)[1])
    rng = np.random.default_rng([0, int(shard.head[0]), int(shard.person[0]), 1])
    made = encode_batch(autoencoder, pairs_of([pick_of(shard, rng)], shipped_head()))
    kept = cached.shards[1]
    torch.testing.assert_close(torch.from_numpy(kept["delta"][1]).float(), made.delta, atol=2e-3, rtol=1e-2)
    torch.testing.assert_close(torch.from_numpy(kept["source"][1]).float(), made.source[0], atol=2e-3, rtol=1e-2)


def test_an_editor_gives_the_same_loss_on_made_and_on_read_pairs(population, autoencoder, edits):
    cached = CachedLatentPairs(edits, autoencoder)
    read = cached.batch(3, 0, 8, 0, 4)
    torch.manual_seed(1)
    editor = LatentEditor(
        channels=(16, 16),
        context_width=16,
        geometry="depth",
        num_identity=read.condition[Identity].coefficients.shape[1],
    )
    torch.nn.init.normal_(editor.unet.conv_out.weight, std=0.1)
    # The same captures, made: which they are is found by their sources.
    shards = [read_shard(path) for path in shard_folders(population)]
    for row in (0, 4):
        number, capture = next(
            (n, c)
            for n, s in enumerate(cached.shards)
            for c in range(2)
            if np.array_equal(s["source"][c].astype(np.float32), read.source[row].numpy())
        )
        rng = np.random.default_rng([0, int(shards[number].head[0]), int(shards[number].person[0]), capture])
        source = 0 if rng.random() < 0.75 else int(rng.integers(4))
        made = encode_batch(
            autoencoder,
            pairs_of(
                [Pick(shard=shards[number], person=0, source=source, targets=np.arange(4), rng=rng)], shipped_head()
            ),
        )
        order = [
            int((made.condition[Arkit].weights - a).abs().sum(1).argmin())
            for a in read.condition[Arkit].weights[row : row + 4]
        ]
        z, t = torch.randn(4, 9, 32, 32), torch.full((4,), 0.7)
        with torch.no_grad():
            a = editor(z, t, read.source[row : row + 4], selected(read.condition, list(range(row, row + 4))))
            b = editor(z, t, made.source[order], selected(made.with_motion().condition, order))
        torch.testing.assert_close(a, b, atol=2e-2, rtol=2e-2)


def selected(condition, items):
    entries = (replace(v, **{name: rows[items] for name, rows in v.rows().items()}) for v in condition.values())
    return Condition(tuple(entries), len(items))


def test_a_batch_is_the_same_in_parts(autoencoder, edits):
    cached = CachedLatentPairs(edits, autoencoder)
    whole, parts = cached.batch(5, 1, 8, 0, 4), [cached.batch(5, 1, 4, part, 4) for part in (0, 1)]
    assert torch.equal(whole.delta, torch.cat([p.delta for p in parts]))
    assert not torch.equal(whole.delta, cached.batch(6, 1, 8, 0, 4).delta)
    with pytest.raises(ConfigError, match="targets_per_source"):
        cached.batch(5, 1, 6, 0, 4)


def test_an_editor_trains_on_them(population, tmp_path):
    list(run_recipe(RECIPES["autoencoder-tiny"](population.parent), population.parent / "autoencoder"))
    config = RECIPES["editor-tiny"](population.parent)
    first_stage = RgbdAutoencoder.from_pretrained(config.autoencoder, low_cpu_mem_usage=False)
    list(encode_population(population, first_stage, shipped_head(), tmp_path / "edits"))
    reports = list(run_recipe(replace(config, latents=tmp_path / "edits"), tmp_path / "editor"))
    assert np.isfinite(reports[-1].metrics["mse"])
    assert (tmp_path / "editor/export/editor/config.json").exists()


def test_what_is_there_is_kept_and_others_are_refused(population, autoencoder, edits):
    before = {path: path.stat().st_mtime_ns for path in edits.rglob("*.npy")}
    list(encode_population(population, autoencoder, shipped_head(), edits, variants=2))
    assert {path: path.stat().st_mtime_ns for path in edits.rglob("*.npy")} == before
    with pytest.raises(ConfigError, match="edits of another variants"):
        list(encode_population(population, autoencoder, shipped_head(), edits, variants=1))
    other = RgbdAutoencoder(sample_size=128).eval()
    with pytest.raises(ConfigError, match="another encoder"):
        CachedLatentPairs(edits, other)


def test_a_cut_shard_is_one_line(autoencoder, edits):
    path = next(edits.rglob("motion.image.npy"))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(OmoteError, match="not a whole shard"):
        CachedLatentPairs(edits, autoencoder)
    with pytest.raises(ConfigError, match="omote encode"):
        CachedLatentPairs(edits / "nothing", autoencoder)
