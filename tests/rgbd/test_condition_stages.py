"""Trained on: an editor that learns to draw and to read every condition, a decoder that learns to do without a source."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from omote.cli.main import main
from omote.diffusion.settings import DRAW_SETTINGS
from omote.head.shipped import shipped_head
from omote.recipes import RECIPES
from omote.recipes.run import run_recipe, task_of
from omote.rgbd.autoencoder import RgbdAutoencoder
from omote.rgbd.conditions.arkit import Arkit
from omote.rgbd.conditions.motion import motion_of
from omote.rgbd.latent_editor import LatentEditor
from omote.rgbd.load import load_model
from omote.types import Expression


@pytest.fixture(scope="module")
def trained(runs, tmp_path_factory):
    """Runs that go on from the common ones."""
    folder = tmp_path_factory.mktemp("trained")
    for name in ("editor-tiny-conditions", "decoder-tiny-draw"):
        list(run_recipe(RECIPES[name](runs), folder / name))
    return folder


@pytest.fixture(scope="module")
def weights(trained, tmp_path_factory):
    """A folder as `omote sample` wants it."""
    folder = tmp_path_factory.mktemp("weights")
    (folder / "autoencoder").symlink_to(trained / "decoder-tiny-draw/export/autoencoder")
    (folder / "editor").symlink_to(trained / "editor-tiny-conditions/export/editor")
    return folder


def test_training_on_every_condition_lowers_the_loss(runs, trained):
    config = RECIPES["editor-tiny-conditions"](runs)
    task = task_of(replace(config, draw_share=0.5, dropout={"geometry": 0.1}))
    batches = [task.batch(step, 1, 8, 0, 1) for step in range(3)]
    after = LatentEditor.from_pretrained(trained / "editor-tiny-conditions/export/editor", low_cpu_mem_usage=False)
    losses = []
    for state in (task.module.editor.state_dict(), after.state_dict()):
        task.module.editor.load_state_dict(state)
        with torch.no_grad():
            terms = [task.module(batch)[1] for batch in batches]
        losses.append([float(np.mean([t[k] for t in terms])) for k in ("mse", "mse_drawn")])
    assert losses[1][0] < losses[0][0]
    assert losses[1][1] < losses[0][1]


def test_what_a_network_already_reads_is_not_added_twice(runs, trained):
    config = RECIPES["editor-tiny-conditions"](runs)
    editor = task_of(replace(config, start_from=trained / "editor-tiny-conditions/export/editor")).module.editor
    stored = LatentEditor.from_pretrained(trained / "editor-tiny-conditions/export/editor", low_cpu_mem_usage=False)
    for key, value in stored.state_dict().items():
        torch.testing.assert_close(editor.state_dict()[key], value, rtol=0, atol=0)


def test_drawn_items_have_no_source_and_whole_latents(runs):
    task = task_of(replace(RECIPES["editor-tiny-conditions"](runs), draw_share=1.0))
    batch = task.batch(0, 0, 8, 0, 1)
    assert not batch.source.any()
    assert not batch.condition[Arkit].given.any()
    assert not motion_of(batch.condition, batch.source).any()
    # Unit deviation about a mean face, not a difference of some per mille.
    assert 0.5 < float(batch.delta.std()) < 2
    edit = task_of(replace(RECIPES["editor-tiny-conditions"](runs), draw_share=0.0, drop_source=0.0)).batch(
        0, 0, 8, 0, 1
    )
    units = task.autoencoder.delta_std / task.autoencoder.latent_std
    torch.testing.assert_close(batch.delta, edit.source + edit.delta * units)


def test_a_decoder_trained_alone_decodes_better_alone(runs, tmp_path):
    recipe = replace(RECIPES["decoder-tiny-draw"](runs), alone_share=1.0, adversarial=0.0, matching=0.0)
    task = task_of(recipe)
    batch = task.batch(0, 5, 8, 0, 1)
    assert batch.alone
    before = float(task.module(batch)[0])
    list(run_recipe(recipe, tmp_path))
    after = RgbdAutoencoder.from_pretrained(tmp_path / "export/autoencoder", low_cpu_mem_usage=False)
    task.autoencoder.load_state_dict(after.state_dict())
    assert float(task.module(batch)[0]) < before


def test_a_preview_shows_people_drawn(runs):
    picture = task_of(RECIPES["editor-tiny-conditions"](runs)).preview()
    assert picture.shape == (3, 8 * 128, 8 * 128)


def test_the_command_draws_people_that_it_can_edit_and_read_back(weights, tmp_path, capsys):
    arguments = ["sample", "--count", "2", "--seed", "5", "--steps", "2", "--weights", str(weights)]
    assert main([*arguments, "--out", str(tmp_path / "a"), "--expressions", "neutral", "happy"]) == 0
    assert "2 people (neutral, happy)" in capsys.readouterr().out
    assert Image.open(tmp_path / "a/sheet.png").size == (4 * 128, 2 * 128)
    assert (tmp_path / "a/report.json").is_file()
    from omote.formats.read import read_with_report

    model = load_model(shipped_head(), weights)
    drawn = model.draw([Expression(category="neutral")] * 2, replace(DRAW_SETTINGS, steps=2), seeds=[5, 6])
    for number, person in enumerate(drawn):
        frame, _ = read_with_report(tmp_path / f"a/person_{number:03d}/neutral")
        assert frame.rgb.shape == (128, 128, 3)
        np.testing.assert_allclose(frame.rgb, person.rgb, atol=0.01)
        np.testing.assert_allclose(frame.depth_mm[person.mask], person.depth_mm[person.mask], atol=0.06)
        assert (tmp_path / f"a/person_{number:03d}/happy/intrinsics.json").is_file()
    # The same person whatever the rest of the batch.
    again = ["sample", "--count", "1", "--seed", "6", *arguments[5:], "--out", str(tmp_path / "b")]
    assert main(again) == 0
    same = [Image.open(tmp_path / p / "neutral/color.png").tobytes() for p in ("a/person_001", "b/person_000")]
    assert same[0] == same[1]


@pytest.mark.parametrize(
    ("option", "value", "line"),
    [
        ("--expressions", "smug", "expressions: unknown 'smug'"),
        ("--count", "0", "count: expected 1 to"),
        ("--steps", "0", "steps: expected 1 to 1000"),
        ("--guidance-scale", "50", "guidance_scale: expected 0 to 20"),
        ("--weights", "nowhere", "expected config.json"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(option, value, line, tmp_path, capsys):
    assert main(["sample", "--out", str(tmp_path / "out"), option, value]) == 2
    error = capsys.readouterr().err.strip()
    assert line in error
    assert "\n" not in error
    assert not (tmp_path / "out").exists()


def test_the_shipped_weights_refuse_to_sample(tmp_path, capsys):
    assert main(["sample", "--out", str(tmp_path / "out")]) == 2
    assert "was not trained to draw" in capsys.readouterr().err
