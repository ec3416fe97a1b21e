"""The two stages: shapes, invariances, and cross-attention against the formula it stands for."""

import time

import numpy as np
import pytest
import torch

from omote.datasets.population import PopulationConfig, draw_person, render_person
from omote.errors import CheckpointError, ConfigError
from omote.geometry.camera import orbit_camera
from omote.head.shipped import shipped_head
from omote.rgbd.autoencoder import RgbdAutoencoder
from omote.rgbd.conditions.kinds import condition_of
from omote.rgbd.conditions.motion import mean_face
from omote.rgbd.latent_editor import LatentEditor
from omote.rgbd.load import load_model
from omote.rgbd.model import EditingModel, EditSettings
from omote.rgbd.networks import Networks, fastest_precision
from omote.rgbd.warp import NUM_CHANNELS
from omote.types import Expression, Rgbd

HEAD = shipped_head()


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    autoencoder = RgbdAutoencoder(sample_size=64, learned_channels=8, channels=(16, 24), fine_channels=16)
    editor = LatentEditor(
        sample_size=8,
        latent_channels=13,
        patch=1,
        channels=(16, 32),
        layers_per_block=1,
        context_width=32,
        head_channels=16,
    )
    for module in (autoencoder, editor):
        for parameter in module.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    autoencoder.gate_open.fill_(1.0)
    return EditingModel(Networks(autoencoder, editor), HEAD)


def source_image(size=64):
    rng = np.random.default_rng(0)
    camera = orbit_camera(size=size)
    mask = np.ones((size, size), bool)
    return Rgbd(
        rgb=rng.random((size, size, 3)).astype(np.float32),
        depth_mm=rng.uniform(650, 750, (size, size)).astype(np.float32),
        mask=mask,
        camera=camera,
    )


def test_autoencoder_keeps_the_pooled_image_in_its_latent(model):
    x = torch.randn(2, 5, 32, 32)
    z = model.autoencoder.encode(x).mode()
    assert z.shape == (2, 13, 4, 4)
    torch.testing.assert_close(z[:, :5], torch.nn.functional.avg_pool2d(x, 8))


def test_a_fresh_autoencoder_decodes_the_upsampled_pooled_image():
    autoencoder = RgbdAutoencoder(sample_size=32, learned_channels=8, channels=(16, 24), fine_channels=16)
    x = torch.randn(1, 5, 32, 32)
    z = autoencoder.encode(x).mode()
    base = torch.nn.functional.interpolate(z[:, :5], scale_factor=8, mode="bilinear")
    torch.testing.assert_close(autoencoder.decode(z, x), base)


def test_kl_of_a_standard_normal_is_zero(model):
    posterior = model.autoencoder.encode(torch.randn(1, 5, 32, 32))
    standard = type(posterior)(
        pooled=posterior.pooled,
        mean=torch.zeros_like(posterior.mean),
        log_variance=torch.zeros_like(posterior.mean),
    )
    assert float(standard.penalty()) == 0
    assert float(posterior.penalty()) > 0


@pytest.mark.parametrize("regularisation", ["kl", "vq"])
@pytest.mark.parametrize(
    ("factor", "patch", "channels"),
    [(2, 2, (16,)), (4, 4, (16,)), (8, 4, (16, 16)), (16, 4, (16, 16, 16)), (32, 4, (16, 16, 16, 16))],
)
def test_every_factor_compresses_and_comes_back(factor, patch, channels, regularisation):
    autoencoder = RgbdAutoencoder(
        sample_size=64,
        patch=patch,
        channels=channels,
        fine_channels=16,
        blocks=1,
        fine_blocks=1,
        regularisation=regularisation,
        num_codes=32,
    )
    x = torch.randn(2, 5, 64, 64)
    latent = autoencoder.encode(x)
    assert autoencoder.factor == factor
    assert latent.mode().shape == (2, 9, 64 // factor, 64 // factor)
    assert latent.sample(torch.randn(2, 4, 64 // factor, 64 // factor)).shape == latent.mode().shape
    assert float(latent.penalty().detach()) >= 0
    assert autoencoder.decode(latent.mode(), x, torch.zeros(2, NUM_CHANNELS, 128, 128)).shape == x.shape


def test_a_quantised_latent_survives_saving(tmp_path):
    autoencoder = RgbdAutoencoder(
        sample_size=32, regularisation="vq", num_codes=16, channels=(16,), fine_channels=16
    ).eval()
    autoencoder.save_pretrained(tmp_path)
    again = RgbdAutoencoder.from_pretrained(tmp_path, low_cpu_mem_usage=False).eval()
    x = torch.randn(1, 5, 32, 32)
    torch.testing.assert_close(again.encode(x).mode(), autoencoder.encode(x).mode())


def test_batching_never_changes_an_edit(model):
    expressions = [Expression(category=c) for c in ("happy", "sad", "angry")]
    together = model.edit(source_image(), expressions, EditSettings(steps=2, seed=3))
    alone = model.edit(source_image(), expressions[1:2], EditSettings(steps=2, seed=4))
    np.testing.assert_allclose(together[1].rgb, alone[0].rgb, atol=1e-4)
    np.testing.assert_allclose(together[1].depth_mm, alone[0].depth_mm, atol=1e-2)


def test_seeds_and_expressions_change_an_edit(model):
    happy, sad = (Expression(category=c) for c in ("happy", "sad"))
    settings = EditSettings(steps=2)
    base = model.edit(source_image(), [happy], settings)[0].rgb
    assert np.abs(model.edit(source_image(), [sad], settings)[0].rgb - base).max() > 1e-4
    assert np.abs(model.edit(source_image(), [happy], EditSettings(steps=2, seed=9))[0].rgb - base).max() > 1e-4


def test_openvino_agrees_with_torch(model):
    pytest.importorskip("openvino", reason="the openvino extra is not installed")
    from omote.rgbd.backends.openvino import OpenVinoNetworks

    smile = np.zeros(52, np.float32)
    smile[23:25] = 0.8
    expressions = [Expression(category="happy", arkit=smile), Expression(category="fearful")]
    face = mean_face(HEAD)
    here = model.edit(source_image(), expressions, face=face)
    there = EditingModel(OpenVinoNetworks(model.autoencoder, model.editor), HEAD).edit(
        source_image(), expressions, face=face
    )
    for a, b in zip(here, there, strict=True):
        np.testing.assert_allclose(a.rgb, b.rgb, atol=1e-4)
        np.testing.assert_allclose(a.depth_mm, b.depth_mm, atol=0.02)


def test_cross_attention_is_softmax_qk_v(model):
    """Attention(Q, K, V) = softmax(Q Kᵀ / √d) V with Q from the features and K, V from the tokens, by hand."""
    attention = model.editor.unet.down_blocks[1].attentions[0].transformer_blocks[0].attn2
    features, tokens = torch.randn(2, 9, 32), torch.randn(2, 5, 32)
    with torch.no_grad():
        ours = attention(features, encoder_hidden_states=tokens)
        q, k, v = attention.to_q(features), attention.to_k(tokens), attention.to_v(tokens)
        heads = attention.heads
        q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
        weight = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, dim=-1)
        by_hand = attention.to_out[0]((weight @ v).transpose(1, 2).flatten(-2))
    torch.testing.assert_close(ours, by_hand, atol=1e-5, rtol=1e-4)


def test_an_untrained_editor_moves_the_source_by_the_flow():
    """Before any training, one step gives most of the moved source: the part that need not be learned."""
    torch.manual_seed(0)
    editor = LatentEditor(sample_size=32, latent_channels=9, channels=(16, 32), context_width=32, head_channels=16)
    editor.delta_std.fill_(0.5)
    source = torch.randn(1, 9, 32, 32)
    weights = np.zeros(52, np.float32)
    weights[17] = 1.0
    context = editor.context(source, condition_of([Expression(category="surprised", arkit=weights)], mean_face(HEAD)))
    noise = torch.randn_like(source)
    one = torch.ones(1)
    torch.testing.assert_close(noise - editor.velocity(noise, one, source, context), 0.7 * context.moved)
    closed = editor.context(source, condition_of([Expression(category="surprised")]))
    assert float(closed.moved.abs().max()) < 1e-4


def test_unknown_category_is_one_line():
    with pytest.raises(ConfigError, match="expected one of neutral, happy"):
        condition_of([Expression(category="smug")])


def test_missing_and_cut_weights_are_one_line(tmp_path, model):
    with pytest.raises(CheckpointError, match="expected config.json"):
        load_model(HEAD, tmp_path, backend="torch")
    model.autoencoder.save_pretrained(tmp_path / "autoencoder")
    model.editor.save_pretrained(tmp_path / "editor")
    load_model(HEAD, tmp_path, backend="torch")
    weights = next((tmp_path / "editor").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="do not load") as error:
        load_model(HEAD, tmp_path, backend="torch")
    assert "\n" not in str(error.value)


def test_edits_in_bf16_are_those_in_float32():
    """Of the shipped weights: within .02 mm on average, and of colours within 60 dB."""
    person = draw_person(PopulationConfig(num_images=3), 0, [HEAD])
    source = next(iter(render_person(person, [HEAD])))[0]
    exact, half = (load_model(HEAD, backend=name).edit(source, person.expressions) for name in ("torch", "torch-bf16"))
    for a, b in zip(exact, half, strict=True):
        apart = np.abs(a.depth_mm - b.depth_mm)[a.mask & b.mask]
        assert 0 < apart.mean() < 0.02
        assert -10 * np.log10(np.square(a.rgb - b.rgb).mean()) > 60


@pytest.mark.parametrize("slow", ["fp32", "bf16"])
def test_the_fastest_precision_is_measured(model, monkeypatch, slow):
    def decode(z, source):
        time.sleep(0.02 * (slow == ("bf16" if torch.is_autocast_enabled("cpu") else "fp32")))

    monkeypatch.setattr(model.autoencoder, "decode", decode)
    assert fastest_precision(model.networks) == {"fp32": "bf16", "bf16": "fp32"}[slow]
