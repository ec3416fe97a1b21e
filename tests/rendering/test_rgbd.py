"""Rendered heads: geometry, mask and colour agree, and the same numbers give the same picture."""

from __future__ import annotations

import numpy as np
import pytest

from omote.geometry.camera import orbit_camera, project
from omote.geometry.mesh import vertex_normals
from omote.head.expressions import ARKIT_INDEX
from omote.head.model import HeadModel
from omote.head.shipped import shipped_head
from omote.rendering.appearance import paint, random_appearance
from omote.rendering.regions import head_shading
from omote.rendering.rgbd import render_head
from omote.rendering.shade import (
    DECODE,
    Light,
    fast_normals,
    random_light,
    shade_vertices,
    studio_light,
    to_linear,
    to_srgb,
)


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return shipped_head()


def test_landmarks_lie_on_the_depth_image(head: HeadModel) -> None:
    camera = orbit_camera(size=256)
    image = render_head(head, head.template_mm, camera)
    marks = project(camera, head.landmarks(head.template_mm))
    # Brows, nose bridge and tip, outer lips: in front and not at an edge.
    for u, v, z in marks[[*range(18, 26), *range(27, 31), 51, 57]]:
        assert image.mask[int(v), int(u)]
        np.testing.assert_allclose(image.depth_mm[int(v), int(u)], z, atol=2.0)


def test_mask_depth_and_background_agree(head: HeadModel) -> None:
    green = np.array([0.0, 1.0, 0.0])
    image = render_head(head, head.template_mm, orbit_camera(size=96), background=green)
    np.testing.assert_array_equal(image.mask, image.depth_mm > 0)
    assert 0.3 < image.mask.mean() < 0.8
    assert (image.rgb >= 0).all()
    assert (image.rgb <= 1).all()
    np.testing.assert_allclose(image.rgb[0, 0], green, atol=1e-6)
    # Within the outline nothing of the background is left.
    assert (image.rgb[48, 40:56, 1] < 0.9).all()
    picture = np.random.default_rng(0).uniform(size=(96, 96, 3))
    behind = render_head(head, head.template_mm, orbit_camera(size=96), background=picture)
    np.testing.assert_allclose(behind.rgb[:3, :3], picture[:3, :3], atol=1e-6)
    np.testing.assert_array_equal(behind.depth_mm, image.depth_mm)


def test_the_same_person_gives_the_same_picture(head: HeadModel) -> None:
    def picture(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        appearance, light = random_appearance(rng), random_light(rng)
        return render_head(head, head.template_mm, orbit_camera(size=64), appearance=appearance, light=light).rgb

    np.testing.assert_array_equal(picture(4), picture(4))
    assert np.abs(picture(4) - picture(5)).mean() > 0.01


def test_given_albedo_is_the_painted_one(head: HeadModel) -> None:
    appearance = random_appearance(np.random.default_rng(2))
    camera = orbit_camera(size=64)
    given = render_head(
        head, head.template_mm, camera, appearance=appearance, albedo=paint(head, appearance)
    )  # fmt: skip
    np.testing.assert_array_equal(given.rgb, render_head(head, head.template_mm, camera, appearance=appearance).rgb)


def test_fast_normals_are_the_plain_ones(head: HeadModel) -> None:
    plain = vertex_normals(head.template_mm.astype(np.float64), head.faces)
    fast = fast_normals(head.template_mm.astype(np.float32), head_shading(head).faces)
    used = np.unique(head.faces)
    assert np.percentile(np.linalg.norm(plain - fast, axis=1)[used], 99.9) < 1e-3


def test_a_mouth_opens_into_the_dark(head: HeadModel) -> None:
    weights = np.zeros(52)
    weights[ARKIT_INDEX["jawOpen"]] = 0.8
    vertices = head.vertices(expression=weights)
    camera = orbit_camera(size=128)
    image = render_head(head, vertices, camera)
    lips = project(camera, head.landmarks(vertices)[[62, 66]])
    u, v = int(lips[:, 0].mean()), int(lips[:, 1].mean())
    cheek = project(camera, head.landmarks(vertices)[[31]])[0]
    assert (
        image.rgb[v - 2 : v + 3, u - 2 : u + 3].mean() < 0.6 * image.rgb[int(cheek[1]) + 4, int(cheek[0]) - 12].mean()
    )
    assert image.depth_mm[v, u] > image.depth_mm[int(lips[1, 1]) + 4, u]


def lit(light: Light, normals: np.ndarray, occlusion: float = 1.0, gloss: float = 0.0) -> np.ndarray:
    n = len(normals)
    return shade_vertices(
        np.zeros((n, 3), np.float32), normals.astype(np.float32), np.full((n, 3), 0.7), np.full(n, occlusion),
        np.full(n, gloss), light, np.array([0.0, 0.0, 700.0]),
    )  # fmt: skip


def test_ambient_light_gives_albedo_back() -> None:
    none, flat = np.zeros((0, 3)), np.ones(3)
    ambient = Light(directions=none, colors=none, sky=flat, ground=flat, gloss=0.0, cavity=0.0)
    normals = np.array([[0.0, 1, 0], [0, -1, 0], [1, 0, 0]])
    np.testing.assert_allclose(lit(ambient, normals), to_linear(np.full((3, 3), 0.7)), atol=1e-3)


def test_light_wraps_farthest_in_red_and_adds_up() -> None:
    along = np.array([[0.0, 0, 1.0]])
    one = Light(directions=along, colors=np.ones((1, 3)), sky=np.zeros(3), ground=np.zeros(3), gloss=0.0)
    angles = np.deg2rad(np.array([0.0, 60, 90, 100, 160]))
    normals = np.stack([np.sin(angles), np.zeros(5), np.cos(angles)], axis=1)
    out = lit(one, normals)
    assert (np.diff(out, axis=0) <= 0).all()
    assert out[3, 0] > out[3, 1] > out[3, 2] > 0  # past the terminator
    assert (out[4] == 0).all()
    two = Light(directions=along.repeat(2, 0), colors=np.ones((2, 3)), sky=np.zeros(3), ground=np.zeros(3), gloss=0.0)
    np.testing.assert_allclose(lit(two, normals), 2 * out, rtol=1e-4, atol=1e-6)
    assert (lit(one, normals[:1], occlusion=0.3) < out[:1]).all()
    shiny = Light(directions=along, colors=np.ones((1, 3)), sky=np.zeros(3), ground=np.zeros(3), gloss=0.5)
    assert (lit(shiny, normals[:1], gloss=1.0) > out[:1]).all()


def test_unwanted_vertices_are_left_out() -> None:
    normals = np.tile([0.0, 0.0, 1.0], (4, 1)).astype(np.float32)
    arguments = (np.zeros((4, 3), np.float32), normals, np.full((4, 3), 0.5), np.ones(4), np.ones(4), studio_light())
    all_of_them = shade_vertices(*arguments, np.array([0.0, 0, 700]))
    some = shade_vertices(*arguments, np.array([0.0, 0, 700]), np.array([True, False, True, False]))
    np.testing.assert_array_equal(some, all_of_them * np.array([[1], [0], [1], [0]]))


def test_srgb_is_its_own_inverse() -> None:
    x = np.linspace(0, 1, 300).reshape(-1, 3)
    np.testing.assert_allclose(to_srgb(to_linear(x)), x, atol=1e-12)
    np.testing.assert_allclose(to_linear(np.full((1, 3), 0.5)), 0.21404, atol=1e-5)
    assert DECODE[0] == 0
    assert DECODE[-1] == 1


def test_random_lights_neither_blind_nor_black_out(head: HeadModel) -> None:
    means = []
    for seed in range(24):
        light = random_light(np.random.default_rng(seed))
        np.testing.assert_allclose(np.linalg.norm(light.directions, axis=1), 1, atol=1e-9)
        image = render_head(head, head.template_mm, orbit_camera(size=48), light=light)
        means.append(image.rgb[image.mask].mean())
        assert (image.rgb[image.mask] >= 0.999).all(axis=-1).mean() < 0.02
    assert min(means) > 0.2
    assert max(means) < 0.8
    assert np.std(means) > 0.02
