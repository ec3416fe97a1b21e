"""Registration against known vertices: the metric is the distance per vertex."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from omote.geometry.camera import orbit_camera
from omote.head.expressions import ARKIT_INDEX, CATEGORIES, arkit_weights, draw_expression, typical_expression
from omote.head.region import head_region
from omote.head.shipped import shipped_head
from omote.lift.contact import contact_of, eye_sphere
from omote.lift.motion_limits import motion_limits, rigid_vertices
from omote.lift.points import clean_mask, sample_image
from omote.lift.register import DRAWN_SHARE, FIXED_UNITS, register_expression, settled
from omote.lift.solids import Solids
from omote.lift.untangle import rest_skin
from omote.rendering.rgbd import render_head
from omote.types import Rgbd

MODEL = shipped_head()
CAMERA = orbit_camera(size=128)


def _person(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return MODEL.vertices(np.clip(rng.normal(size=MODEL.num_identity), -2, 2) * 0.4)


def _as_generated(image: Rgbd, seed: int, bias: np.ndarray) -> Rgbd:
    """Blur, colour noise, .5 mm of depth noise and a smooth depth bias: what a decoder does."""
    rng = np.random.default_rng(seed)
    rgb = gaussian_filter(image.rgb, (0.6, 0.6, 0)) + rng.normal(0, 0.015, image.rgb.shape)
    depth = image.depth_mm + rng.normal(0, 0.5, image.depth_mm.shape) + bias
    return replace(
        image,
        rgb=np.clip(rgb, 0, 1).astype(np.float32),
        depth_mm=np.where(image.mask, depth, 0).astype(np.float32),
    )


def _bias(seed: int) -> np.ndarray:
    field = gaussian_filter(np.random.default_rng(seed).normal(size=(128, 128)), 6)
    return 0.7 * field / field.std()


def test_copy_of_the_neutral_registers_to_the_neutral() -> None:
    neutral = _person(1)
    image = render_head(MODEL, neutral, CAMERA)
    found = register_expression(MODEL, neutral, image, image)
    assert np.abs(found.vertices_mm - neutral).max() < 0.05
    assert found.weights.max() < 0.02


@pytest.mark.parametrize("category", CATEGORIES[1:])
def test_drawn_expressions_are_recovered(category: str) -> None:
    rng = np.random.default_rng(CATEGORIES.index(category))
    neutral, bias = _person(2), _bias(3)
    wanted = draw_expression(category, rng)
    truth = neutral + np.tensordot(wanted.arkit, MODEL.expression_mm, 1).astype(np.float32)
    generated = _as_generated(render_head(MODEL, truth, CAMERA), 4, bias)
    reference = _as_generated(render_head(MODEL, neutral, CAMERA), 5, bias)
    prior = typical_expression(category, 0.75).arkit
    # Drawn expressions are linear, and go farther than real faces do.
    found = register_expression(MODEL, neutral, generated, reference, prior=prior, within_reach=False)
    face = head_region(MODEL).face
    moved = face & (np.linalg.norm(truth - neutral, axis=1) > 2.0)
    error = np.linalg.norm(found.vertices_mm - truth, axis=1)
    assert error[face].mean() < 0.8
    assert error[moved].mean() < 0.35 * np.linalg.norm(truth - neutral, axis=1)[moved].mean()
    skull = rigid_vertices(MODEL)
    assert np.linalg.norm(found.vertices_mm - neutral, axis=1)[skull].max() <= 1.0


def test_drawn_motion_and_pixels_are_averaged() -> None:
    neutral, smile = _person(2), typical_expression("happy", 0.5).arkit
    drawn = np.tensordot(smile, MODEL.expression_mm, 1).astype(np.float32)
    image = render_head(MODEL, neutral, CAMERA)
    # Pixels and expected weights say that nothing moves.
    rest = np.zeros(52, np.float32)
    found = register_expression(MODEL, neutral, image, image, prior=rest, drawn_mm=drawn, within_reach=False)
    motion, corners = found.vertices_mm - neutral, MODEL.landmark_vertices[[48, 54]].ravel()
    np.testing.assert_allclose(motion[corners], DRAWN_SHARE * drawn[corners], atol=0.1)
    teeth = MODEL.part_vertices("teeth_upper", "teeth_lower", "eye_left", "eye_right")
    assert np.abs(motion[teeth]).max() < 0.05


def test_lids_and_brows_are_left_to_the_prior() -> None:
    neutral = _person(2)
    rest, blink = np.zeros(52, np.float32), np.zeros(52, np.float32)
    blink[[ARKIT_INDEX["eyeBlinkLeft"], ARKIT_INDEX["eyeBlinkRight"], ARKIT_INDEX["jawOpen"]]] = (0.9, 0.9, 0.4)
    posed = (neutral + np.tensordot(blink, MODEL.expression_mm, 1)).astype(np.float32)
    before, after = (render_head(MODEL, v, CAMERA) for v in (neutral, posed))
    found = register_expression(MODEL, neutral, after, before, prior=rest)
    assert found.weights[[ARKIT_INDEX[n] for n in FIXED_UNITS]].max() == 0
    assert found.weights[ARKIT_INDEX["jawOpen"]] > 0.25


def test_skull_stays_still_against_the_image() -> None:
    neutral = _person(6)
    image = render_head(MODEL, neutral, CAMERA)
    nearer = replace(image, depth_mm=np.where(image.mask, image.depth_mm - 4.0, 0).astype(np.float32))
    found = register_expression(MODEL, neutral, nearer, image)
    move = np.linalg.norm(found.vertices_mm - neutral, axis=1)
    assert move[rigid_vertices(MODEL)].max() <= 1.0


def test_rigid_set_holds_crown_ears_and_back_but_no_lips() -> None:
    skull = rigid_vertices(MODEL)
    skin = MODEL.part_vertices("skin")
    top = skin[MODEL.template_mm[skin, 1] > MODEL.template_mm[skin, 1].max() - 20]
    assert skull[top].all()
    assert not skull[MODEL.landmark_vertices[48:68].ravel()].any()
    assert motion_limits(MODEL).mirror.max() < MODEL.num_vertices


def test_contact_pushes_a_sunken_lid_out_of_the_eyeball() -> None:
    neutral = MODEL.template_mm.astype(np.float64)
    center, radius = eye_sphere(MODEL, neutral, "eye_left")
    lid = np.flatnonzero(head_region(MODEL).lid & head_region(MODEL).exterior)
    far = np.linalg.norm(neutral[lid] - center, axis=1)
    lid = lid[(far > radius) & (far < 1.4 * radius) & (neutral[lid, 2] > center[2] + 0.6 * radius)]
    sunk = neutral.copy()
    sunk[lid] = center + 0.8 * radius * (neutral[lid] - center) / np.linalg.norm(
        neutral[lid] - center, axis=1, keepdims=True
    )
    out = contact_of(MODEL, neutral).apart(sunk)
    assert np.linalg.norm(out[lid] - center, axis=1).min() > radius


def test_sampling_a_plane_gives_the_plane_and_beyond_it_the_border() -> None:
    row, column = np.mgrid[:6, :8] + 0.5
    image = np.stack([row, column], axis=-1).astype(np.float32)
    inside = np.array([[3.2, 4.9], [0.5, 0.5], [7.5, 5.5]])
    np.testing.assert_allclose(sample_image(image, inside), inside[:, ::-1], atol=1e-5)
    outside = np.array([[-40.0, 2.5], [100.0, 2.5], [np.nan, 2.5]])
    np.testing.assert_allclose(sample_image(image, outside), [[2.5, 0.5], [2.5, 7.5], [2.5, 0.5]], atol=1e-5)


def test_clean_points_lie_on_a_tilted_plane_and_face_the_camera() -> None:
    from omote.geometry.camera import pixel_grid

    camera = orbit_camera(size=64)
    grid = pixel_grid(camera)
    fx, cx = camera.intrinsics[0, 0], camera.intrinsics[0, 2]
    # The plane z = 700 + x/2 in the camera's frame: z (1 − (u − cx)/2f) = 700.
    depth = (700.0 / (1 - 0.5 * (grid[:, 0] - cx) / fx)).reshape(64, 64)
    depth[:, 40:] += 60.0  # a step
    image = Rgbd(rgb=np.ones((64, 64, 3)), depth_mm=depth, mask=np.ones((64, 64), bool), camera=camera)
    keep = clean_mask(image)
    assert not keep[:, 39:41].any()
    assert keep[5:-5, 5:38].all()


def test_an_expression_keeps_the_opening_of_the_lips(monkeypatch: pytest.MonkeyPatch) -> None:
    neutral = _person(0)
    skin, weights = rest_skin(MODEL, neutral), arkit_weights({"jawOpen": 0.5})
    open_mm = neutral + np.tensordot(weights, MODEL.expression_mm, 1)
    whole = settled(MODEL, neutral, open_mm, weights, skin=skin)
    # Evening the motion until nothing pierces may glue the lips.
    monkeypatch.setattr(Solids, "apart", lambda self, posed_mm: self.rest_mm.copy())
    made = settled(MODEL, neutral, open_mm, weights, skin=skin)
    assert skin.lips.gap_mm(made).max() == pytest.approx(skin.lips.gap_mm(whole).max(), rel=0.2)
