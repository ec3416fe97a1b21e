"""Stable Diffusion trained for seconds: from nothing, to depth, to views, and as candidate 1."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")

from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

from narrow_sd import narrow_folder
from omote.errors import CheckpointError, ConfigError
from omote.head.shipped import shipped_head
from omote.images.stable_diffusion.checkpoint import load_stable_diffusion
from omote.images.stable_diffusion.model import DrawSettings
from omote.multiview.data import ViewSource
from omote.multiview.denoiser import MultiviewDenoiser
from omote.multiview.first_stage import ViewFirstStage
from omote.multiview.model import ViewEditSettings, load_view_editor
from omote.multiview.train_stable_diffusion import StableDiffusionConfig, StableDiffusionTask, place_of
from omote.recipes import RECIPES
from omote.recipes.run import run_recipe, task_of
from omote.types import Expression

SHORT = DrawSettings(steps=2, guidance_scale=1.0)


@pytest.fixture(scope="module")
def runs(view_runs: Path) -> Path:
    for recipe in ("sd-tiny-vae", "sd-tiny"):
        list(run_recipe(RECIPES[recipe](view_runs), view_runs / recipe))
    return view_runs


def small(runs: Path, recipe: str, images: int = 16, **changes: object) -> StableDiffusionConfig:
    config = RECIPES[recipe](runs)
    assert isinstance(config, StableDiffusionConfig)
    return replace(config, engine=replace(config.engine, total_images=images, grid_images=0), **changes)


def test_a_new_one_is_a_checkpoint_like_any_other(runs: Path) -> None:
    model = load_stable_diffusion(runs / "sd-tiny/export")
    assert model.views is None
    assert model.prediction == "v"
    assert model.times[-1] > 0.98, "its schedule ends in pure noise"
    assert model.draw(["a happy face"], [0], SHORT).shape == (1, 4, 8, 8)
    rows = [
        float(line.split('"loss": ')[1].split(",")[0])
        for line in (runs / "sd-tiny/stats.jsonl").read_text().splitlines()
    ]
    assert rows[-1] < rows[0]


def test_low_rank_training_to_depth_leaves_the_checkpoint_alone(runs: Path) -> None:
    config = small(runs, "sd-rgbd-tiny", gradient_checkpointing=True)
    list(run_recipe(config, runs / "lora"))
    export = runs / "lora/export"
    base, tuned = load_stable_diffusion(runs / "sd-tiny/export"), load_stable_diffusion(export)
    assert tuned.views is not None
    assert tuned.views.depth
    low, high = tuned.views.depth_range_mm
    assert -150 < low < high < 150
    before, after = base.unet.state_dict(), tuned.unet.state_dict()
    changed = {
        name
        for name, value in before.items()
        if value.shape == after[name].shape and not torch.equal(value, after[name])
    }
    allowed = ("to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight", "conv_in.bias")
    assert changed
    assert all(name.endswith(allowed) for name in changed), changed
    lora = load_file(export / "pytorch_lora_weights.safetensors")
    assert any(value.abs().max() > 0 for name, value in lora.items() if name.endswith("lora_B.weight"))
    # The run's checkpoints hold the changes alone.
    held = sum(path.stat().st_size for path in (runs / "lora/checkpoint").rglob("*.safetensors"))
    assert held < sum(v.numel() * 4 for v in after.values())
    UNet2DConditionModel.from_pretrained(export / "unet", local_files_only=True)
    rgb, depth = tuned.shown(tuned.draw(["a face"], [0], SHORT))
    assert rgb.shape == (1, 3, 64, 64)
    assert depth is not None


def test_views_with_depth_train_whole_and_resume(runs: Path) -> None:
    config = small(runs, "sd-multiview-tiny", images=8)
    list(run_recipe(config, runs / "both"))
    tuned = load_stable_diffusion(runs / "both/export")
    assert tuned.views is not None
    assert tuned.views.num_views == 3
    assert tuned.unet.class_embedding.linear_2.weight.abs().max() > 0, "cameras are learned"
    assert tuned.draw(["a face", "a sad face"], [0, 1], SHORT).shape == (6, 8, 8, 8)
    longer = replace(config, engine=replace(config.engine, total_images=16))
    assert [report.images for report in run_recipe(longer, runs / "both")] == [16]
    with pytest.raises(ConfigError, match="fine-tuned before"):
        task_of(replace(config, checkpoint=runs / "both/export"))


def test_a_rival_from_nothing_keeps_only_what_is_frozen(runs: Path) -> None:
    config = small(runs, "sd-rgbd-tiny", lora_rank=0, from_nothing=True)
    task = task_of(config)
    assert isinstance(task, StableDiffusionTask)
    base, rival = load_stable_diffusion(runs / "sd-tiny/export"), task.module.model[0]
    same = {k for k, v in base.unet.state_dict().items() if v.std() > 0 and torch.equal(v, rival.unet.state_dict()[k])}
    assert not {k for k in same if "norm" not in k}
    assert torch.equal(base.vae.encoder.conv_in.weight, rival.vae.encoder.conv_in.weight)
    with pytest.raises(ValueError, match="random"):
        replace(config, lora_rank=4)


def test_captions_say_where_a_single_camera_is(runs: Path) -> None:
    task = task_of(small(runs, "sd-rgbd-tiny", drop_text=0.0))
    assert isinstance(task, StableDiffusionTask)
    _, captions = task._drawn(0, 0, 32, 0, 1)
    places = {place_of(task.source.rig, i) for i in range(3)}
    assert places == {"front view", "view from the left", "view from the right"}
    assert all(any(place in caption for caption in captions) for place in places)
    one, parts = task.batch(3, 0, 4, 0, 1), [task.batch(3, 0, 2, part, 2) for part in (0, 1)]
    for name in ("x", "ids", "noise", "t"):
        assert torch.equal(getattr(one, name), torch.cat([getattr(part, name) for part in parts])), name


@pytest.fixture(scope="module")
def candidate(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Candidate 1 on a structurally exact checkpoint, by one line of its config."""
    checkpoint = narrow_folder(tmp_path_factory.mktemp("checkpoint") / "sd")
    config = RECIPES["candidate1-tiny"](runs)
    config = replace(
        config,
        stable_diffusion=checkpoint,
        num_captions=14,
        engine=replace(config.engine, total_images=4, batch_size=2, grid_images=0),
    )
    list(run_recipe(config, runs / "candidate1-sd"))
    to_3d = RECIPES["to3d-tiny"](runs)
    list(run_recipe(replace(to_3d, engine=replace(to_3d.engine, total_images=8)), runs / "to3d-sd"))
    export = runs / "candidate1-sd/export"
    (runs / "to3d-sd/export/to_3d").rename(export / "to_3d")
    return export


def test_candidate_1_runs_on_a_checkpoint(candidate: Path, runs: Path) -> None:
    editor = load_view_editor(candidate, shipped_head())
    assert isinstance(editor.denoiser, MultiviewDenoiser)
    assert isinstance(editor.first_stage, ViewFirstStage)
    shard = ViewSource(runs / "views", ()).shards[0]
    from omote.multiview.data import sets_of

    x = sets_of(shard, [(0, 0)]).x[0]
    wanted = [
        Expression(category="happy", intensity=1.0),
        Expression(category="happy", intensity=1.0, text="a sad old man"),
    ]
    made = editor.edit(x, wanted, ViewEditSettings(steps=2, guidance_scale=2.0))
    assert made.views.shape == (3, 3, 5, 64, 64)
    assert np.isfinite(made.vertices_mm).all()
    assert not torch.allclose(made.views[1], made.views[2]), "text reaches the edit"


def test_candidate_1_on_a_checkpoint_reads_what_it_is_given_and_nothing_else(candidate: Path) -> None:
    editor = load_view_editor(candidate, shipped_head())
    net = editor.denoiser
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(3, 5, 64, 64, generator=generator)
    with torch.no_grad():
        source = editor.source_latents(x)
        given = editor.conditions(x, source, [Expression(category="happy", intensity=1.0, text="a happy face")])
        z, t = torch.randn(1, *source.shape, generator=generator), torch.tensor([0.5])
        out = net.velocity(z, t, given)
        for change in ({"source": given.source + 1}, {"depth": given.depth + 1}):
            assert (net.velocity(z, t, replace(given, **change)) - out).abs().max() > 0, change
            kind = next(iter(change))
            one, other = (net.velocity(z, t, c.without(kind)) for c in (given, replace(given, **change)))
            torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_a_checkpoint_that_is_none_is_one_line(runs: Path) -> None:
    config = replace(RECIPES["candidate1-tiny"](runs), stable_diffusion=runs / "views")
    with pytest.raises(CheckpointError, match="unet/config.json is missing"):
        task_of(config)
    with pytest.raises(ValueError, match="no rays"):
        replace(config, rays=True)
