"""The iris is as wide as people's and of the scan's colour, whatever the exposure; closed lids have none; lids shade the eye."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from batch_makers import made
from omote.asset.eyes import EXPOSURE, IRIS_MM, eye_colors
from omote.asset.glb_read import read_avatar
from omote.asset.materials import materials_of
from omote.asset.primitives import split_primitives
from omote.geometry.camera import orbit_camera, rgbd_points
from omote.head.expressions import ARKIT_INDEX
from omote.head.shipped import shipped_head
from omote.rendering.appearance import IRIS, default_appearance
from omote.rendering.rgbd import render_head
from omote.types import PointCloud, Rgbd

MODEL = shipped_head()
BLUE, GREY, GREEN, BROWN = (0.32, 0.45, 0.62), (0.48, 0.53, 0.58), (0.35, 0.42, 0.30), IRIS[0]
COLORS = {"blue": BLUE, "grey": GREY, "green": GREEN, "brown": BROWN, "dark brown": IRIS[1]}


def cloud(image: Rgbd, tint: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> PointCloud:
    points, colors = rgbd_points(image)
    return PointCloud(points=points, colors=np.clip(colors * np.array(tint), 0, 1))


def person(color: tuple[float, float, float], tone: float, vertices: np.ndarray | None = None) -> Rgbd:
    appearance = replace(default_appearance(), iris=color, tone=tone)
    vertices = MODEL.template_mm if vertices is None else vertices
    return render_head(MODEL, vertices, orbit_camera(size=512), appearance=appearance)


@pytest.mark.parametrize("name", COLORS)
@pytest.mark.parametrize("tint", [(1.0, 1.0, 1.0), (0.5, 0.5, 0.5), (1.0, 0.85, 0.7)], ids=["lit", "dark", "warm"])
def test_an_iris_keeps_its_colour_in_any_light(name: str, tint: tuple[float, float, float]) -> None:
    found = eye_colors(MODEL, MODEL.template_mm, cloud(person(COLORS[name], 0.3), tint))
    assert found is not None
    lit = {known: eye_colors(MODEL, MODEL.template_mm, cloud(person(c, 0.3))) for known, c in COLORS.items()}
    nearest = min(lit, key=lambda known: float(np.linalg.norm(np.array(lit[known].iris) - np.array(found.iris))))
    assert nearest == name
    true = np.array(COLORS[name])
    assert np.argmax(found.iris) == np.argmax(true) or np.ptp(true) < 0.12
    # The white of the eyes falls with the light as the skin does.
    ratio = np.array(found.exposure) / np.array(lit[name].exposure)
    np.testing.assert_allclose(ratio, np.maximum(np.array(tint), EXPOSURE[0] / np.array(lit[name].exposure)), atol=0.03)
    white = materials_of(replace(default_appearance(), exposure=found.exposure))
    plain = materials_of()
    for a, b in ((white.teeth, plain.teeth), (white.eye_texture[2, 2], plain.eye_texture[2, 2])):
        np.testing.assert_allclose(np.array(a) / np.array(b), np.minimum(found.exposure, 1 / np.array(b)), atol=0.03)


@pytest.mark.parametrize("tone", [0.0, 0.5, 1.0])
def test_skin_and_closed_lids_have_no_iris(tone: float) -> None:
    image = person(BLUE, tone)
    flat = replace(image, rgb=np.broadcast_to(np.array([0.8, 0.6, 0.5], np.float32), image.rgb.shape).copy())
    assert eye_colors(MODEL, MODEL.template_mm, cloud(flat)) is None
    blink = MODEL.expression_mm[[ARKIT_INDEX["eyeBlinkLeft"], ARKIT_INDEX["eyeBlinkRight"]]].sum(axis=0)
    closed = MODEL.template_mm + blink
    assert eye_colors(MODEL, closed, cloud(person(BLUE, tone, closed))) is None


@pytest.mark.parametrize("scale", [0.8, 1.0, 1.1])
def test_irises_are_as_wide_as_peoples_on_eyeballs_of_any_size(tmp_path: Path, scale: float) -> None:
    """Measured in the file: half way from the dark ring to the white in the texture, on the mesh of the eyeball."""
    result = made(0)
    rest = replace(result.avatar.neutral, vertices_mm=np.float32(scale) * result.avatar.neutral.vertices_mm)
    result = replace(result, avatar=replace(result.avatar, neutral=rest))
    result.save(tmp_path / "avatar.glb")
    eyes = next(p for p in read_avatar(tmp_path / "avatar.glb").primitives if p.name == "eyes")
    left = eyes.positions[:, 0] > 0
    assert eyes.uv is not None
    assert eyes.texture is not None
    angle = np.pi * np.linalg.norm(eyes.uv[left] - 0.5, axis=1)
    place = 1000 * eyes.positions[left]
    across = np.linalg.norm(place[:, :2] - place[angle < 0.01, :2].mean(axis=0), axis=1)
    order = np.argsort(angle)

    size = eyes.texture.shape[0]
    y, x = (np.mgrid[:size, :size] + 0.5) / size - 0.5
    ring = np.floor(np.hypot(x, y) * size).astype(int).ravel()
    light = np.bincount(ring, eyes.texture.mean(axis=2).ravel()) / np.bincount(ring)
    outside = light[: size // 4]
    limbus = int(np.argmin(np.where(np.arange(len(outside)) > size // 16, outside, 1.0)))
    half = np.interp((outside[limbus] + outside.max()) / 2, outside[limbus:], np.arange(limbus, len(outside)) + 0.5)
    edge = np.pi * half / size
    assert 2 * np.interp(edge, angle[order], across[order]) == pytest.approx(IRIS_MM, abs=0.5)


def test_lids_shade_the_white_towards_its_edges_and_corners() -> None:
    _, primitives = split_primitives(MODEL, MODEL.template_mm, {})
    eyes = next(p for p in primitives if p.name == "eyes")
    place = 1000 * eyes.positions
    for contour in (slice(36, 42), slice(42, 48)):
        mark = MODEL.landmarks(MODEL.template_mm)[contour]
        front = place[:, 2] > mark[:, 2].min() - 6

        def at(x: float, y: float, place: np.ndarray = place, front: np.ndarray = front) -> float:
            return float(eyes.shade[front][np.linalg.norm(place[front, :2] - [x, y], axis=1).argsort()[:2]].mean())

        middle, upper, lower = (float(mark[k, 1].mean()) for k in (slice(None), slice(1, 3), slice(4, 6)))
        x = float(mark[:, 0].mean())
        corners = [at(mark[k, 0], mark[k, 1]) for k in (0, 3)]
        assert at(x, middle) > 0.8
        assert at(x, upper) < at(x, lower) < 0.85
        assert max(corners) < 0.7
