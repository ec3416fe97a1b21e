"""Where there is no first stage nothing is lost, an editor of images edits as one of latents, and a folder says what it holds."""

import json

import numpy as np
import pytest
import torch

from omote.datasets.population import PopulationConfig, draw_person, render_person
from omote.errors import CheckpointError
from omote.head.shipped import population_heads, shipped_head
from omote.rgbd.autoencoder import RgbdAutoencoder
from omote.rgbd.codec import pack_images, unpack_images
from omote.rgbd.conditions.kinds import condition_of
from omote.rgbd.identity_stage import IdentityStage, load_first_stage
from omote.rgbd.latent_editor import LatentEditor
from omote.rgbd.load import load_model
from omote.rgbd.model import EditingModel, EditSettings
from omote.rgbd.networks import Networks
from omote.types import Expression

SIZE = 128
WANTED = [
    Expression(category="happy"),
    Expression(category="surprised", arkit=np.linspace(0, 0.3, 52, dtype=np.float32)),
]


@pytest.fixture(scope="module")
def source():
    config = PopulationConfig(num_images=1)
    return next(
        iter(render_person(draw_person(config, 0, population_heads(config.ict)), population_heads(config.ict)))
    )[0]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    stage = IdentityStage(sample_size=SIZE)
    stage.latent_mean.copy_(torch.linspace(-0.5, 0.5, 5)[:, None, None])
    stage.latent_std.copy_(torch.linspace(0.2, 1, 5)[:, None, None])
    stage.delta_std.copy_(torch.linspace(0.05, 0.1, 5)[:, None, None])
    editor = LatentEditor(
        sample_size=SIZE, latent_channels=5, patch=4, channels=(16, 32), context_width=32, head_channels=16
    )
    editor.use_units_of(stage)
    editor.locator.start_from(shipped_head())
    torch.nn.init.normal_(editor.unet.conv_out.weight, std=0.01)
    return EditingModel(Networks(stage, editor), shipped_head())


def saved(model, folder):
    model.autoencoder.save_pretrained(folder / "autoencoder")
    model.editor.save_pretrained(folder / "editor")
    return folder


def test_an_image_is_its_latent_to_the_bit(source, model):
    x = pack_images([source])
    z = model.autoencoder.encode(x).mode()
    assert z.shape[1:] == (model.autoencoder.latent_channels, SIZE // model.autoencoder.factor, SIZE)
    assert torch.equal(model.autoencoder.decode(z, torch.zeros_like(x), torch.zeros(1, 9, SIZE, SIZE)), x)
    scaled = model.autoencoder.scale(z)
    torch.testing.assert_close(scaled * model.autoencoder.latent_std + model.autoencoder.latent_mean, x)
    (image,), (expected,) = model.reconstruct([source]), unpack_images(x, [source.camera])
    assert np.array_equal(image.rgb, expected.rgb)
    assert np.array_equal(image.depth_mm, expected.depth_mm)
    assert np.array_equal(image.mask, expected.mask)


@pytest.mark.parametrize("settings", [
    EditSettings(), EditSettings(steps=3, guidance_scale=1.5), EditSettings(steps=2, strength=0.5),
    EditSettings(steps=4, sampler="dpmsolver++"),
])  # fmt: skip
def test_an_edit_arrives_at_a_clean_image(source, model, settings):
    """An editor that is certain of one target is a flow with a known end: that image, whatever the noise and the steps."""
    z = pack_images([source])
    target = z.roll(3, dims=-1)
    delta = (target - z) / model.autoencoder.delta_std
    networks = Networks(model.autoencoder, model.editor)
    # ε - z_0 = (z_t - z_0) / t
    networks.velocity = lambda z_t, t, *_: (z_t - delta) / t.view(-1, 1, 1, 1)
    out, motion = EditingModel(networks, shipped_head()).edit_latents(
        z, condition_of([Expression(category="sad")], None), settings
    )
    edited = networks.decode(out, z, motion)
    torch.testing.assert_close(edited, target, atol=1e-4, rtol=0)


def test_one_model_edits_several_expressions_in_any_number_of_steps(source, model):
    once = model.edit(source, WANTED, EditSettings(seed=3))
    for settings in (EditSettings(seed=3), EditSettings(steps=4), EditSettings(steps=2, inversion_steps=2)):
        images = model.edit(source, WANTED, settings)
        assert [image.mask.shape for image in images] == [(SIZE, SIZE)] * 2
        assert all(np.isfinite(image.rgb).all() and np.isfinite(image.depth_mm).all() for image in images)
        same = np.array_equal(images[0].rgb, once[0].rgb)
        assert same == (settings == EditSettings(seed=3))


def test_a_folder_loads_as_its_own_stage(tmp_path, model):
    again = load_model(shipped_head(), saved(model, tmp_path)).autoencoder
    assert isinstance(again, IdentityStage)
    assert again.config.sample_size == SIZE
    for name in ("latent_mean", "latent_std", "delta_std"):
        assert torch.equal(getattr(again, name), getattr(model.autoencoder, name))
    RgbdAutoencoder(sample_size=32, channels=(16,), fine_channels=16).save_pretrained(tmp_path / "learned")
    assert isinstance(load_first_stage(tmp_path / "learned"), RgbdAutoencoder)


def test_what_is_no_first_stage_is_one_line(tmp_path, model):
    saved(model, tmp_path)
    with pytest.raises(CheckpointError, match="train that stage first"):
        load_first_stage(tmp_path)
    with pytest.raises(CheckpointError, match="RgbdAutoencoder or IdentityStage, got .LatentEditor"):
        load_first_stage(tmp_path / "editor")
    config = tmp_path / "autoencoder/config.json"
    whole = config.read_text()
    for damaged in (whole[:20], "[]", json.dumps({"sample_size": SIZE})):
        config.write_text(damaged)
        with pytest.raises(CheckpointError, match="do not load") as error:
            load_first_stage(tmp_path / "autoencoder")
        assert "\n" not in str(error.value)
    config.write_text(whole)
    weights = next((tmp_path / "autoencoder").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="do not load"):
        load_model(shipped_head(), tmp_path)


def test_openvino_agrees_with_torch_on_the_identity_stage(source, model, tmp_path):
    pytest.importorskip("openvino")
    fast = load_model(shipped_head(), saved(model, tmp_path), backend="openvino")
    settings = EditSettings(steps=2)
    for a, b in zip(fast.edit(source, WANTED, settings), model.edit(source, WANTED, settings), strict=True):
        np.testing.assert_allclose(a.rgb, b.rgb, atol=1e-4)
        both = a.mask & b.mask
        assert both.sum() > 0.99 * max(a.mask.sum(), b.mask.sum())
        np.testing.assert_allclose(a.depth_mm[both], b.depth_mm[both], atol=0.05)
