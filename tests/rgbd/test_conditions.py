"""Kinds of condition alone and together: each changes the answer, and without any it is the unconditional to the bit."""

import inspect
import itertools
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from omote.engine.weights import load_extended
from omote.errors import CheckpointError, ConfigError
from omote.geometry.camera import orbit_camera
from omote.head.shipped import shipped_head
from omote.recipes import RECIPES
from omote.recipes.run import run_recipe, task_of
from omote.rgbd.autoencoder import RgbdAutoencoder
from omote.rgbd.codec import DEPTH_SCALE_MM, FRONT_FIELD_MM
from omote.rgbd.conditions.arkit import Arkit
from omote.rgbd.conditions.base import READ_SIZE, Condition, Kind, drop
from omote.rgbd.conditions.category import Category
from omote.rgbd.conditions.conditioner import Conditioner
from omote.rgbd.conditions.geometry import Geometry, geometry_image
from omote.rgbd.conditions.identity import Identity
from omote.rgbd.conditions.kinds import condition_of
from omote.rgbd.conditions.motion import Motion, mean_face, motion_of
from omote.rgbd.latent_editor import LatentEditor
from omote.rgbd.model import EditingModel, EditSettings
from omote.rgbd.networks import Networks
from omote.rgbd.weights import SHIPPED_WEIGHTS
from omote.types import Expression, Rgbd

SIZE = 64
KINDS = (Category, Arkit, Geometry, Identity)
HEAD = shipped_head()
NUM_IDENTITY = HEAD.num_identity


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
    person = replace(mean_face(HEAD), identity=np.linspace(-1, 1, NUM_IDENTITY))
    return condition_of([expression] * batch, person)


def only(condition, *kinds):
    every = torch.ones(condition.size, dtype=torch.bool)
    return condition.masked({kind: every for kind in KINDS if kind not in kinds})


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


def test_without_every_kind_it_is_the_unconditional_whatever_was_given(editor):
    nothing = answer(editor, Condition((), 1))
    for condition in (everything().unconditional(), only(everything()), everything().without(KINDS)):
        torch.testing.assert_close(answer(editor, condition), nothing, rtol=0, atol=0)


def test_an_absent_kind_is_one_given_to_no_item(editor):
    for kinds in itertools.combinations(KINDS, 2):
        others = [kind for kind in KINDS if kind not in kinds]
        torch.testing.assert_close(
            answer(editor, only(everything(), *kinds)), answer(editor, everything().without(others)), rtol=0, atol=0
        )


def test_values_that_are_not_given_are_not_read(editor):
    """Another geometry or person behind a dropped one changes no bit."""
    condition = only(everything(), Category)
    other = condition.including(
        replace(condition[Geometry], image=torch.randn_like(condition[Geometry].image)),
        replace(condition[Identity], coefficients=-condition[Identity].coefficients),
    )
    torch.testing.assert_close(answer(editor, condition), answer(editor, other), rtol=0, atol=0)


def test_a_motion_image_is_dropped_with_its_weights():
    """It carries the same information."""
    condition = everything(2).masked({Arkit: torch.tensor([True, False])})
    moved = motion_of(condition, torch.zeros(1)).flatten(1).any(dim=1)
    assert moved.tolist() == condition[Arkit].given.tolist() == [False, True]
    assert Motion not in condition.without([Arkit])


def test_dropout_has_each_kinds_share_and_one_for_everything():
    n = 4_000
    every = torch.ones(n, dtype=torch.bool)
    known = Condition(
        (
            Category(category=torch.zeros(n, dtype=torch.long), intensity=torch.ones(n), given=every),
            Arkit(weights=torch.zeros(n, 52), given=every),
            Geometry(image=torch.zeros(n, 2, 1, 1), given=every),
            Identity(coefficients=torch.zeros(n, 1), given=every),
        ),
        n,
    )
    shares = dict(zip(KINDS, (0.2, 0.1, 0.3, 0.4), strict=True))
    draws = torch.rand(n, 3, generator=torch.Generator().manual_seed(0))
    kept = drop(known, draws, shares, everything=0.05)
    found = {kind: 1 - float(kept[kind].given.float().mean()) for kind in KINDS}
    expected = {Category: 0.25, Arkit: 0.15, Geometry: 1 - 0.95 * 0.7, Identity: 1 - 0.95 * 0.6}
    assert found == pytest.approx(expected, abs=0.03)
    # Category and ARKit weights describe one expression: at most one is dropped, except with everything else.
    neither = ~(kept[Category].given | kept[Arkit].given)
    nothing = neither & ~kept[Geometry].given & ~kept[Identity].given
    assert torch.equal(neither, nothing)
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


def test_a_network_extended_by_an_image_starts_with_its_old_output(tmp_path):
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
    model = EditingModel(
        Networks(autoencoder, tiny_editor(geometry="depth", num_identity=NUM_IDENTITY, draws=True)), HEAD
    )
    person = replace(mean_face(HEAD), identity=np.zeros(NUM_IDENTITY))
    settings = EditSettings(steps=2)
    flat, high = (Expression(category="happy", geometry=bump(h)) for h in (5.0, 60.0))
    edits = model.edit(bump(), [flat, high], replace(settings, seed=1), face=person)
    assert np.abs(edits[0].depth_mm - edits[1].depth_mm).max() > 1e-3
    drawn = model.draw([flat, high, flat], settings, seeds=[1, 1, 1], identities=np.eye(3, NUM_IDENTITY))
    for a, b in itertools.combinations(drawn, 2):
        assert np.abs(a.rgb - b.rgb).max() > 1e-5


def test_conditions_that_the_weights_do_not_read_are_refused():
    model = EditingModel(
        Networks(RgbdAutoencoder(sample_size=SIZE, channels=(16,), fine_channels=16), tiny_editor(draws=True)), HEAD
    )
    with pytest.raises(ConfigError, match="do not read geometry"):
        model.edit(bump(), [Expression(category="happy")], EditSettings(kind_scales=(("category+geometry", 2.0),)))
    with pytest.raises(ConfigError, match="geometry image was given"):
        model.edit(bump(), [Expression(category="happy", geometry=bump())])
    with pytest.raises(ConfigError, match="identities were given"):
        model.draw([Expression(category="happy")], identities=np.zeros((1, NUM_IDENTITY)))
    model = EditingModel(
        Networks(model.autoencoder, tiny_editor(draws=True, num_identity=NUM_IDENTITY, geometry="normals")), HEAD
    )
    with pytest.raises(ConfigError, match="expected identities of shape"):
        model.draw([Expression(category="happy")], identities=np.zeros((1, 3)))
    with pytest.raises(ConfigError, match="expected geometry images of 64 × 64"):
        model.draw([Expression(category="happy", geometry=bump(size=8))])


def test_guidance_acts_by_any_subset_of_kinds():
    """One step with a scale for geometry and identity: v + (s - 1) (v - v without both), on top of the common scale."""
    torch.manual_seed(1)
    editor = tiny_editor(geometry="depth", num_identity=NUM_IDENTITY)
    autoencoder = RgbdAutoencoder(sample_size=SIZE, channels=(16,), fine_channels=16)
    model, condition, z = EditingModel(Networks(autoencoder, editor), HEAD), everything(), torch.randn(1, 9, 16, 16)
    settings = EditSettings(guidance_scale=1.5, kind_scales=(("geometry+identity", 3.0),), seed=4)
    edited, _ = model.edit_latents(z, condition, settings)

    noise = torch.randn(9, 16, 16, generator=torch.Generator().manual_seed(4))[None]
    with torch.no_grad():
        wanted, free, partly = (
            editor(noise, torch.ones(1), z, c)
            for c in (condition, condition.unconditional(), condition.without([Geometry, Identity]))
        )
    velocity = free + 1.5 * (wanted - free) + 2.0 * (wanted - partly)
    torch.testing.assert_close(edited, z + noise - velocity, atol=1e-4, rtol=1e-4)


# All that a kind of condition of one's own takes.
@dataclass(frozen=True, kw_only=True)
class Brightness(Kind):
    name: ClassVar[str] = "brightness"
    dropout: ClassVar[float] = 0.25
    num_numbers: ClassVar[int] = 1
    level: Float[Tensor, "b"]

    @classmethod
    def of_pairs(cls, pairs, target):
        return cls(level=target[:, :3].mean(dim=(1, 2, 3)), given=torch.ones(len(target), dtype=torch.bool))


def test_a_kind_of_ones_own_takes_fifteen_lines_at_most():
    assert len(inspect.getsource(Brightness).splitlines()) <= 15


def test_a_kind_of_ones_own_trains_is_dropped_and_is_loaded_again(runs, tmp_path):
    recipe = replace(RECIPES["editor-tiny"](runs), kinds=("brightness",), start_from=runs / "editor/export/editor")
    task = task_of(recipe)
    batches = [task.batch(step, 0, 8, 0, 1).condition for step in range(20)]
    share = float(torch.cat([b[Brightness].given for b in batches]).float().mean())
    assert share == pytest.approx(0.95 * 0.75, abs=0.1)
    before = task.module.editor.conditioner.reader(Brightness).mlp[0].weight.detach().clone()

    *_, last = run_recipe(recipe, tmp_path / "run")
    assert np.isfinite(last.metrics["mse"])
    editor = LatentEditor.from_pretrained(tmp_path / "run/export/editor", low_cpu_mem_usage=False).eval()
    assert (editor.conditioner.reader(Brightness).mlp[0].weight - before).abs().max() > 0
    z, source, condition = torch.randn(8, 9, 32, 32), torch.randn(8, 9, 32, 32), batches[0]
    with torch.no_grad():
        dark = condition.including(replace(condition[Brightness], level=condition[Brightness].level - 1))
        bright, dark, none = (
            editor(z, torch.ones(8), source, c) for c in (condition, dark, condition.without([Brightness]))
        )
    given = condition[Brightness].given
    assert (bright - dark)[given].abs().max() > 0
    torch.testing.assert_close(bright[~given], none[~given])


def test_unknown_kinds_are_refused(runs):
    with pytest.raises(ConfigError, match="unknown kind of condition 'geometri'.*geometry"):
        replace(RECIPES["editor-tiny"](runs), dropout={"geometri": 0.1})


def test_files_keep_the_first_releases_names_of_parameters():
    """What is saved under them loads again, and every parameter is found."""
    torch.manual_seed(0)
    conditioner = Conditioner(8)
    state = conditioner.state_dict()
    assert {name.partition(".")[0] for name in state} == {
        "no_category",
        "category",
        "intensity",
        "no_arkit",
        "arkit",
        "pool",
    }
    other = Conditioner(8)
    other.load_state_dict(state)
    for ours, theirs in zip(conditioner.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)
