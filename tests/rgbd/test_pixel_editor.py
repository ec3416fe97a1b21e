"""The editor of images: it trains without a first stage, leaves one that is none, and goes on and loads as any other."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from omote import api
from omote.datasets.cache import read_shard, shard_folders
from omote.datasets.pairs import Pick, draw_source, pairs_of
from omote.datasets.population import PopulationConfig, draw_person, make_population, render_person
from omote.engine.loop import tensors_of
from omote.errors import ConfigError, OutputError
from omote.head.shipped import population_heads, shipped_head
from omote.recipes import RECIPES
from omote.recipes.run import estimate_recipe, run_recipe, task_of
from omote.recipes.tiny import ENGINE
from omote.rgbd.conditions.arkit import Arkit
from omote.rgbd.identity_stage import IdentityStage, load_first_stage
from omote.rgbd.model import EditSettings
from omote.rgbd.train.autoencoder import packed
from omote.rgbd.train.latent_cache import CachedLatentPairs, encode_population, fingerprint_of
from omote.rgbd.train.latent_pairs import encode_batch
from omote.rgbd.weights import SHIPPED_WEIGHTS
from omote.studies.editors import load_editor
from omote.types import Expression


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pixels")
    list(
        make_population(
            PopulationConfig(num_images=4),
            population_heads(),
            folder / "population",
            num_persons=2,
            persons_per_shard=1,
        )
    )
    return folder


def tiny(runs, **engine):
    """The recipe at a fraction of its size, of the same patches."""
    config = RECIPES["editor-cpu-pixel"](runs)
    return replace(
        config,
        channels=(16, 32),
        context_width=32,
        head_channels=16,
        engine=replace(ENGINE, **{"total_images": 32, **engine}),
    )


@pytest.fixture(scope="module")
def trained(folder):
    """Stopped after one step and gone on with."""
    list(run_recipe(tiny(folder, max_seconds=1e-9), folder / "pixel"))
    config = tiny(folder)
    reports = list(run_recipe(config, folder / "pixel"))
    assert [report.images for report in reports] == [16, 24, 32]
    return config


def test_the_first_stage_is_measured_on_the_population(trained, folder):
    stage = load_first_stage(trained.autoencoder)
    assert isinstance(stage, IdentityStage)
    assert stage.config.sample_size == 128
    shards = [read_shard(path) for path in shard_folders(folder / "population")]
    rng = np.random.default_rng(0)
    pairs = [pairs_of([pick_of(shard, rng)], shipped_head()) for shard in shards for _ in range(4)]
    z = torch.cat([packed(pair.target) for pair in pairs])
    # Two persons in other captures: near, not equal.
    torch.testing.assert_close(stage.latent_std.flatten(), z.std(dim=(0, 2, 3)), rtol=0.3, atol=0.02)
    delta = z - torch.cat([packed(pair.source).expand(4, -1, -1, -1) for pair in pairs])
    torch.testing.assert_close(stage.delta_std.flatten(), delta.std(dim=(0, 2, 3)), rtol=0.5, atol=0.02)


def pick_of(shard, rng):
    return Pick(shard=shard, person=0, source=draw_source(shard, rng), targets=np.arange(4), rng=rng)


def test_it_loads_and_edits(trained, folder):
    model = load_editor(folder / "pixel")
    assert isinstance(model.autoencoder, IdentityStage)
    torch.testing.assert_close(model.editor.delta_std, model.autoencoder.delta_std)
    assert model.editor.config.prediction == trained.objective.prediction
    config = PopulationConfig(num_images=2)
    person = draw_person(config, 0, population_heads(config.ict))
    source = next(iter(render_person(person, population_heads(config.ict))))[0]
    wanted = [Expression(category="happy"), person.expressions[1]]
    for steps in (1, 3):
        images = model.edit(source, wanted, EditSettings(steps=steps))
        assert all(image.mask.any() and np.isfinite(image.depth_mm).all() for image in images)


def test_a_step_is_the_same_in_parts(trained):
    task = task_of(trained)
    whole, halves = task.batch(1, 0, 8, 0, 1), [task.batch(1, 0, 4, part, 2) for part in range(2)]
    joined = [tensors_of(half) for half in halves]
    for key, value in tensors_of(whole).items():
        torch.testing.assert_close(torch.cat([half[key] for half in joined]), value, msg=key)
    losses = [float(task.module(batch)[0]) for batch in (whole, *halves)]
    assert (losses[1] + losses[2]) / 2 == pytest.approx(losses[0], rel=1e-4)
    assert task.preview().shape == (3, 6 * 128, 8 * 128)


def test_a_look_ahead_writes_nothing(folder, tmp_path):
    config = replace(tiny(folder), autoencoder=tmp_path / "stage")
    assert estimate_recipe(config).frozen_parameters == 0
    assert not list(tmp_path.iterdir())


def test_the_stage_alone_can_be_asked_for(trained, folder, tmp_path):
    """As `omote encode` before a first run needs it; measured again it is the same."""
    config = replace(tiny(folder, total_images=0), autoencoder=tmp_path / "stage")
    assert list(run_recipe(config, tmp_path / "run")) == []
    again, before = load_first_stage(tmp_path / "stage"), load_first_stage(trained.autoencoder)
    assert fingerprint_of(again) == fingerprint_of(before)


def test_another_first_stage_in_its_place_is_refused(trained, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        run_recipe(replace(trained, autoencoder=tmp_path / "file/stage"), tmp_path / "run")
    with pytest.raises(ConfigError, match="expected the folder of an IdentityStage"):
        task_of(replace(trained, autoencoder=SHIPPED_WEIGHTS / "autoencoder"))


def test_encoded_edits_are_the_edits(trained, folder, tmp_path):
    stage = load_first_stage(trained.autoencoder)
    count = api.encode(folder / "population", out=tmp_path / "edits", autoencoder=trained.autoencoder)
    assert count == 8
    cached = CachedLatentPairs(tmp_path / "edits", stage)
    shard = read_shard(shard_folders(folder / "population")[1])
    rng = np.random.default_rng([0, int(shard.head[0]), int(shard.person[0]), 0])
    made, kept = encode_batch(stage, pairs_of([pick_of(shard, rng)], shipped_head())), cached.shards[1]
    torch.testing.assert_close(torch.from_numpy(kept["delta"][0]).float(), made.delta, atol=2e-3, rtol=1e-2)
    # Images are moved at full size: a smaller motion image would move them otherwise than an edit does.
    editor = task_of(trained).module.editor.eval()
    batches = (cached.batch(step, 0, 4, 0, 4) for step in range(20))
    read = next(batch for batch in batches if np.array_equal(batch.source[0].half().numpy(), kept["source"][0]))
    order = [
        int((made.condition[Arkit].weights - weights).abs().sum(1).argmin())
        for weights in read.condition[Arkit].weights
    ]
    moved = editor.context(read.source, read.condition).moved
    known = made.with_motion().condition
    expected = editor.context(made.source, known).moved[order]
    torch.testing.assert_close(moved, expected, atol=5e-2, rtol=1e-2)


def test_it_trains_on_encoded_edits_and_not_on_others(trained, folder, tmp_path):
    stage = load_first_stage(trained.autoencoder)
    list(encode_population(folder / "population", stage, shipped_head(), tmp_path / "edits"))
    config = replace(trained, latents=tmp_path / "edits")
    assert list(run_recipe(config, tmp_path / "run"))[-1].images == 32
    stage.delta_std.mul_(2)
    assert fingerprint_of(stage) != fingerprint_of(load_first_stage(trained.autoencoder))
    stage.save_pretrained(tmp_path / "other")
    with pytest.raises(ConfigError, match="edits of another encoder"):
        task_of(replace(config, autoencoder=tmp_path / "other"))
