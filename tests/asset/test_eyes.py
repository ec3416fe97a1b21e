"""The iris' colour is the scan's, whatever the exposure; closed lids have none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from omote.asset.eyes import EXPOSURE, eye_colors
from omote.asset.materials import materials_of
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
