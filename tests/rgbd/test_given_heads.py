"""Motion images come from the head model of the face: by its own units, or by a fitted head's where it has none."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from omote.head.expressions import ARKIT_INDEX
from omote.head.shipped import shipped_head
from omote.rgbd.autoencoder import RgbdAutoencoder
from omote.rgbd.conditions.motion import MotionPainter, mean_face
from omote.rgbd.latent_editor import LatentEditor
from omote.rgbd.model import EditingModel
from omote.rgbd.networks import Networks

HEAD = shipped_head()
JAW = np.zeros(52, np.float32)
JAW[ARKIT_INDEX["jawOpen"]] = 0.6


def model(**options):
    editor = LatentEditor(sample_size=16, channels=(16, 32), context_width=32, head_channels=16, **options)
    return EditingModel(Networks(RgbdAutoencoder(sample_size=64, channels=(16,), fine_channels=16), editor), HEAD)


@pytest.fixture(scope="module")
def person():
    identity = np.zeros(HEAD.num_identity, np.float32)
    identity[:3] = (1.0, -1.0, 0.5)
    return replace(mean_face(HEAD), vertices_mm=HEAD.vertices(identity), identity=identity)


def test_a_head_without_units_moves_as_the_head_that_is_fitted_to_it(person):
    bare = replace(HEAD, name="bare", expression_mm=np.zeros_like(HEAD.expression_mm), unit_style=None)
    face = replace(person, head=bare)
    assert not np.abs(MotionPainter(face)(JAW)[:3]).max() > 1e-3
    seen = model()._as_trained(face)
    assert seen is not None
    assert seen.head is HEAD
    found, own = MotionPainter(seen)(JAW), MotionPainter(person)(JAW)
    assert np.abs(found - own)[:2].mean() < 0.15 * np.abs(own[:2]).mean()


def test_a_head_with_units_moves_by_its_own(person):
    strong = replace(HEAD, name="strong", expression_mm=2 * HEAD.expression_mm, unit_style=None)
    seen = model()._as_trained(replace(person, head=strong))
    assert seen is not None
    assert seen.head is strong
    chin = MotionPainter(seen)(JAW / 2) - MotionPainter(replace(person, style=0.0))(JAW)
    assert np.abs(chin[:3]).max() < 1e-3


def test_identity_coefficients_are_read_in_the_head_of_the_weights(person):
    other = replace(HEAD, name="other", identity_mm=HEAD.identity_mm[:5])
    face = replace(person, head=other, identity=np.ones(5, np.float32))
    assert model()._as_trained(face).identity.shape == (5,)
    seen = model(num_identity=HEAD.num_identity)._as_trained(face)
    assert seen.head is other
    assert seen.identity.shape == (HEAD.num_identity,)
    assert torch.isfinite(torch.from_numpy(seen.identity)).all()
