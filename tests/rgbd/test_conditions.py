"""Every kind of condition alone and together: it changes the answer, and dropped it is the unconditional to the bit."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from omote.engine.weights import load_extended
from omote.errors import CheckpointError, ConfigError
from omote.geometry.camera import orbit_camera
from omote.head.shipped import shipped_head
from omote.rgbd.autoencoder import RgbdAutoencoder
from omote.rgbd.codec import DEPTH_SCALE_MM, FRONT_FIELD_MM
from omote.rgbd.conditions.base import condition_of, drop_conditions
from omote.rgbd.conditions.geometry import geometry_image
from omote.rgbd.conditions.motion import READ_SIZE, mean_face
from omote.rgbd.editor import LatentEditor
from omote.rgbd.model import EditingModel, EditSettings
from omote.rgbd.networks import Networks
from omote.rgbd.weights import SHIPPED_WEIGHTS
from omote.types import Expression, Rgbd

SIZE = 64
KINDS = ("category", "arkit", "geometry", "identity")
NUM_IDENTITY = shipped_head().num_identity


def tiny_editor(**options):
    torch.manual_seed(0)
    editor = LatentEditor(
        sample_size=16, latent_channels=9, patch=2, channels=(16, 32), context_width=32, head_channels=16, **options
    )
    for parameter in editor.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return editor.eval()


def bump(height_mm=40.0, size=SIZE):
    camera = orbit_camera(size=size)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    radius = x**2 + y**2
    mask = radius < 0.7
    depth = np.where(mask, 700 - height_mm * (1 - radius), 0).astype(np.float32)
    return Rgbd(rgb=np.full((size, size, 3), 0.5, np.float32), depth_mm=depth, mask=mask, camera=camera)


def everything(batch=1):
    weights = np.zeros(52, np.float32)
    weights[17] = 0.8
    expression = Expression(category="happy", arkit=weights, geometry=bump())
    person = replace(mean_face(), identity=np.linspace(-1, 1, NUM_IDENTITY))
    return condition_of([expression] * batch, person)


def only(condition, *kinds):
    every = torch.ones_like(condition.has_category)
    return condition.without(**{kind: every for kind in KINDS if kind not in kinds})


@pytest.fixture(scope="module", params=[("depth", "concat"), ("normals", "tokens"), ("normals", "both")])
def editor(request):
    kind, by = request.param
    return tiny_editor(geometry=kind, geometry_by=by, num_identity=NUM_IDENTITY)


def answer(editor, condition):
    generator = torch.Generator().manual_seed(3)
    z, source = torch.randn(2, 1, 9, 16, 16, generator=generator)
    with torch.no_grad():
        return editor(z, torch.tensor([0.6]), source, condition)


def test_each_kind_alone_and_together_changes_the_answer(editor):
    condition = everything()
    every_way = [c for n in range(len(KINDS) + 1) for c in itertools.combinations(KINDS, n)]
    answers = [answer(editor, only(condition, *kinds)) for kinds in every_way]
    for (a, first), (b, second) in itertools.combinations(zip(every_way, answers, strict=True), 2):
        assert (first - second).abs().max() > 1e-5, f"{a} and {b} say the same"


def test_dropped_is_the_unconditional_whatever_was_given(editor):
    nothing = answer(editor, condition_of([Expression(category="sad")]).dropped())
    torch.testing.assert_close(answer(editor, everything().dropped()), nothing, rtol=0, atol=0)
    torch.testing.assert_close(answer(editor, only(everything())), nothing, rtol=0, atol=0)


def test_what_is_dropped_says_nothing_of_itself(editor):
    """Another geometry or person behind a dropped one changes no bit."""
    condition = only(everything(), "category")
    other = replace(condition, geometry=torch.randn_like(condition.geometry), identity=-condition.identity)
    torch.testing.assert_close(answer(editor, condition), answer(editor, other), rtol=0, atol=0)


def test_dropout_has_each_kinds_share_and_forgets_all_at_once_with_its_own():
    n = 4_000
    condition = everything()
    many = replace(condition, **{
        k: v.expand(n, *v.shape[1:]) for k, v in vars(condition).items() if v is not None and k != "motion"
    }, motion=torch.ones(n, 9, 2, 2))  # fmt: skip
    draws = torch.rand(n, 3, generator=torch.Generator().manual_seed(0))
    kept = drop_conditions(many, draws, category=0.2, arkit=0.1, both=0.05, geometry=0.3, identity=0.4)
    shares = {k: 1 - float(getattr(kept, f"has_{k}").float().mean()) for k in KINDS}
    expected = {"category": 0.25, "arkit": 0.15, "geometry": 1 - 0.95 * 0.7, "identity": 1 - 0.95 * 0.6}
    assert shares == pytest.approx(expected, abs=0.03)
    nothing = ~(kept.has_category | kept.has_arkit | kept.has_geometry | kept.has_identity)
    assert float(nothing.float().mean()) == pytest.approx(0.05, abs=0.015)


def test_normals_of_a_tilted_plane():
    """Z = a x: the normal is (-a, 0, 1) / √(1 + a²), everywhere."""
    slope, pitch = 0.5, FRONT_FIELD_MM / READ_SIZE
    depth = slope * pitch / DEPTH_SCALE_MM * torch.arange(READ_SIZE).float().expand(1, 1, READ_SIZE, -1)
    image = geometry_image(torch.cat([depth, torch.ones_like(depth)], dim=1), "normals")
    expected = torch.tensor([-slope, 0.0, 1.0]) / (1 + slope**2) ** 0.5
    inner = image[0, :3, :, :-1]
    torch.testing.assert_close(inner, expected[:, None, None].expand_as(inner), atol=1e-4, rtol=1e-4)
    hidden = geometry_image(torch.cat([depth, -torch.ones_like(depth)], dim=1), "normals")
    assert not hidden[:, :3].any()


def test_a_longer_token_sequence_is_still_softmax_qk_v():
    """Attention(Q, K, V) = softmax(Q Kᵀ / √d) V over expression, geometry and identity tokens, by hand."""
    editor = tiny_editor(geometry="depth", geometry_by="tokens", num_identity=NUM_IDENTITY)
    attention = editor.unet.down_blocks[1].attentions[0].transformer_blocks[0].attn2
    with torch.no_grad():
        tokens = editor.context(torch.randn(1, 9, 16, 16), everything()).tokens
        assert tokens.shape[1] == 1 + 8 + 64 + 1
        features = torch.randn(1, 16, 32)
        q, k, v = (
            f(x).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
            for f, x in ((attention.to_q, features), (attention.to_k, tokens), (attention.to_v, tokens))
        )
        weight = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, dim=-1)
        by_hand = attention.to_out[0]((weight @ v).transpose(1, 2).flatten(-2))
        torch.testing.assert_close(attention(features, encoder_hidden_states=tokens), by_hand, atol=1e-5, rtol=1e-4)


def test_a_network_that_learns_to_read_an_image_says_at_first_what_it_said(tmp_path):
    before = tiny_editor()
    before.save_pretrained(tmp_path)
    after = load_extended(LatentEditor, tmp_path, geometry="depth", geometry_by="concat").eval()
    condition = everything()
    torch.testing.assert_close(answer(after, condition), answer(before, condition), atol=1e-5, rtol=1e-4)
    with pytest.raises(CheckpointError, match="no place"):
        load_extended(LatentEditor, tmp_path, context_width=16)


def test_the_shipped_networks_have_no_parameter_more_or_less():
    editor = LatentEditor.from_pretrained(SHIPPED_WEIGHTS / "editor", low_cpu_mem_usage=False)
    stored = {k for path in (SHIPPED_WEIGHTS / "editor").glob("*.safetensors") for k in load_file(path)}
    assert stored == set(editor.state_dict())
    assert editor.config.geometry == "none"
    assert not editor.config.draws


def test_a_geometry_image_and_an_identity_reach_edits_and_drawings():
    torch.manual_seed(1)
    autoencoder = RgbdAutoencoder(sample_size=SIZE, channels=(16,), fine_channels=16)
    model = EditingModel(Networks(autoencoder, tiny_editor(geometry="depth", num_identity=NUM_IDENTITY, draws=True)))
    person = replace(mean_face(), identity=np.zeros(NUM_IDENTITY))
    settings = EditSettings(steps=2)
    flat, high = (Expression(category="happy", geometry=bump(h)) for h in (5.0, 60.0))
    edits = model.edit(bump(), [flat, high], replace(settings, seed=1), face=person)
    assert np.abs(edits[0].depth_mm - edits[1].depth_mm).max() > 1e-3
    drawn = model.draw([flat, high, flat], settings, seeds=[1, 1, 1], identities=np.eye(3, NUM_IDENTITY))
    for a, b in itertools.combinations(drawn, 2):
        assert np.abs(a.rgb - b.rgb).max() > 1e-5


def test_conditions_that_the_weights_do_not_read_are_refused():
    model = EditingModel(
        Networks(RgbdAutoencoder(sample_size=SIZE, channels=(16,), fine_channels=16), tiny_editor(draws=True))
    )
    with pytest.raises(ConfigError, match="geometry image was given"):
        model.edit(bump(), [Expression(category="happy", geometry=bump())])
    with pytest.raises(ConfigError, match="identities were given"):
        model.draw([Expression(category="happy")], identities=np.zeros((1, NUM_IDENTITY)))
    model = EditingModel(
        Networks(model.autoencoder, tiny_editor(draws=True, num_identity=NUM_IDENTITY, geometry="normals"))
    )
    with pytest.raises(ConfigError, match="expected identities of shape"):
        model.draw([Expression(category="happy")], identities=np.zeros((1, 3)))
    with pytest.raises(ConfigError, match="expected geometry images of 64 × 64"):
        model.draw([Expression(category="happy", geometry=bump(size=8))])
