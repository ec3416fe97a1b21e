"""Baking and personalising, against colours and shapes that are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from omote.asset.atlas import skin_atlas
from omote.asset.personalise import _natural, blink_pairs, limited_units, personal_units
from omote.asset.scan_color import scan_color
from omote.asset.texture import AROUND_EYE_MM, _eyeball_gap, bake_texture, drawn_appearance, locate_texels
from omote.evaluation.anatomy import find_lips
from omote.geometry.camera import orbit_camera, rgbd_points
from omote.geometry.mesh import vertex_normals
from omote.head.expressions import ARKIT_INDEX, ARKIT_NAMES
from omote.head.region import head_region
from omote.head.shipped import shipped_head
from omote.lift.contact import eye_sphere
from omote.lift.travel import saturated
from omote.lift.untangle import rest_skin
from omote.rendering.appearance import default_appearance
from omote.rendering.rgbd import interpolate, render_head
from omote.rendering.source import has_color
from omote.studies.avatar_methods import drawn_face
from omote.types import Mesh, PointCloud, Rgbd

MODEL = shipped_head()
SKIN = MODEL.faces[skin_atlas(MODEL).face_ids]
SIZE = 256


def _position_colors(points: np.ndarray) -> np.ndarray:
    """A colour that tells where it is: smooth, so that it survives sampling."""
    return np.clip(0.5 + points / np.array([300.0, 400.0, 500.0]), 0, 1)


def _mesh() -> Mesh:
    return Mesh(
        vertices=MODEL.template_mm.astype(np.float64),
        faces=SKIN.astype(np.int64),
        vertex_colors=_position_colors(MODEL.template_mm.astype(np.float64)),
    )


def _cloud() -> PointCloud:
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(3), (len(SKIN), 8))
    corners = MODEL.template_mm[SKIN].astype(np.float64)
    points = np.einsum("fsk,fkc->fsc", weights, corners).reshape(-1, 3)
    return PointCloud(points=points, colors=_position_colors(points))


def _seen(image: Rgbd) -> PointCloud:
    points, colors = rgbd_points(image)
    return PointCloud(points=points, colors=colors)


def _frame() -> PointCloud:
    points = _seen(render_head(MODEL, MODEL.template_mm, orbit_camera(size=256))).points
    return PointCloud(points=points, colors=_position_colors(points))


@pytest.mark.parametrize("make", [_mesh, _cloud, _frame])
def test_texels_take_the_scans_colour_at_their_place(make) -> None:
    baked = bake_texture(MODEL, MODEL.template_mm, make(), size=SIZE)
    texels = locate_texels(skin_atlas(MODEL), SIZE)
    where = interpolate(texels.face, texels.weights, np.ascontiguousarray(SKIN, np.int32), MODEL.template_mm)
    seen = ~baked.inferred
    assert seen.sum() > 0.05 * texels.covered.sum()
    error = np.abs(baked.texture[seen] - _position_colors(where[seen].astype(np.float64)))
    assert np.percentile(error, 95) < 0.03
    assert not seen[~texels.covered].any()


def test_fill_meets_the_seen_colours_and_spreads_no_foreign_colour() -> None:
    frame = _frame()
    tone = np.array([0.7, 0.5, 0.4], np.float32)
    frame = replace(frame, colors=np.broadcast_to(tone, frame.points.shape))
    baked = bake_texture(MODEL, MODEL.template_mm, frame, size=SIZE)
    back = baked.texture[baked.inferred & locate_texels(skin_atlas(MODEL), SIZE).covered]
    assert np.abs(np.median(back, axis=0) - tone).max() < 0.12


def test_scan_without_colour_gets_painted_skin() -> None:
    bare = Mesh(vertices=MODEL.template_mm.astype(np.float64), faces=SKIN.astype(np.int64))
    assert not has_color(bare)
    baked = bake_texture(MODEL, MODEL.template_mm, bare, size=SIZE)
    assert baked.inferred.all()
    red, green, blue = np.median(baked.texture.reshape(-1, 3), axis=0)
    assert red > green > blue


def test_far_or_turned_surfaces_are_not_believed() -> None:
    mesh = _mesh()
    normals = vertex_normals(mesh.vertices, MODEL.faces)
    ids = np.flatnonzero(head_region(MODEL).face)[::50]
    points = mesh.vertices[ids]
    assert scan_color(mesh, points, normals[ids])[1].mean() > 0.9
    assert scan_color(mesh, points + 8.0 * normals[ids], normals[ids])[1].mean() < 0.1
    assert scan_color(mesh, points, -normals[ids])[1].max() == 0.0


def test_units_of_the_template_are_the_models_own() -> None:
    template = MODEL.template_mm
    units = limited_units(MODEL, template, personal_units(MODEL, template), rest_skin(MODEL, template))
    calm = [i for i, n in enumerate(ARKIT_NAMES) if n.startswith(("brow", "nose"))]
    np.testing.assert_allclose(units[calm], MODEL.expression_mm[calm], atol=0.15)  # strain limits take the rest


def test_units_scale_with_the_head() -> None:
    big = (1.2 * MODEL.template_mm).astype(np.float32)
    units = personal_units(MODEL, big)
    i = ARKIT_INDEX["browInnerUp"]
    np.testing.assert_allclose(units[i], 1.2 * MODEL.expression_mm[i], atol=0.15)


@pytest.mark.parametrize("name", ["mouthShrugLower", "mouthRollUpper"])
def test_lips_do_not_cross_in_units_that_press_them_together(name: str) -> None:
    template = MODEL.template_mm
    unit = MODEL.units_mm(1.0)[[ARKIT_INDEX[name]]]
    skin = rest_skin(MODEL, template)
    (limited,) = (_natural(skin, name, saturated(MODEL, template, offset)) for offset in unit)
    assert np.abs(limited).max() > 1
    assert not find_lips(drawn_face(MODEL, template, {})).crossing(template + limited).any()


def test_units_take_on_the_style_of_a_person() -> None:
    template, jaw = MODEL.template_mm, ARKIT_INDEX["jawOpen"]
    plain, styled = (personal_units(MODEL, template, style_share=share) for share in (0.0, 0.5))
    difference = MODEL.units_mm(0.5)[jaw] - MODEL.expression_mm[jaw]
    assert np.abs(difference).max() > 1
    np.testing.assert_allclose(styled[jaw] - plain[jaw], difference, atol=0.02)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_blink_closes_this_persons_lids_over_its_eyeballs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    person = MODEL.vertices(np.clip(rng.normal(size=MODEL.num_identity), -2, 2) * 0.5)
    units = limited_units(MODEL, person, personal_units(MODEL, person), rest_skin(MODEL, person))
    for side, part in (("Left", "eye_left"), ("Right", "eye_right")):
        unit = ARKIT_INDEX[f"eyeBlink{side}"]
        closed = person + units[unit]
        upper, lower = blink_pairs(MODEL, unit)
        assert len(upper) > 10
        template = MODEL.template_mm + MODEL.expression_mm[unit]
        gap = (closed[upper] - closed[lower])[:, 1] - (template[upper] - template[lower])[:, 1]
        assert np.abs(gap).mean() < 0.5
        center, radius = eye_sphere(MODEL, person, part)
        outside = np.linalg.norm(person[upper] - center, axis=1) > radius
        edge = upper[outside & (closed[upper, 2] - center[2] > 0.5 * radius)]
        assert len(edge) > 10
        assert np.linalg.norm(closed[edge] - center, axis=1).min() > radius - 0.05


def test_baking_detects_open_eyes() -> None:
    image = render_head(
        MODEL, MODEL.template_mm, orbit_camera(size=480, field_mm=300.0), appearance=default_appearance()
    )
    assert bake_texture(MODEL, MODEL.template_mm, _seen(image), size=128).eyes_open
    blind = replace(image, rgb=np.full_like(image.rgb, 0.6))
    assert not bake_texture(MODEL, MODEL.template_mm, _seen(blind), size=128).eyes_open
    assert not bake_texture(MODEL, MODEL.template_mm, None, size=128).eyes_open


def test_persons_without_colour_do_not_share_a_face_by_default() -> None:
    rng = np.random.default_rng(0)
    persons = [drawn_appearance(None, rng.normal(size=40)) for _ in range(12)]
    assert len({p.tone for p in persons}) == 12
    baked = [bake_texture(MODEL, MODEL.template_mm, None, size=64, unseen=p) for p in persons[:2]]
    assert np.abs(baked[0].texture - baked[1].texture).mean() > 0.02
    assert baked[0].appearance == persons[0]
    # The same person's next scan, a little off, and a seed of one's own.
    identity = np.round(rng.normal(size=40) * 2) / 2
    assert drawn_appearance(None, identity) == drawn_appearance(None, identity + 0.1)
    assert drawn_appearance(3, identity) == drawn_appearance(3, -identity) != drawn_appearance(4, identity)


def test_an_eye_is_not_painted_on_the_lids_that_were_fitted_over_it(monkeypatch: pytest.MonkeyPatch) -> None:
    blink = MODEL.expression_mm[[ARKIT_INDEX["eyeBlinkLeft"], ARKIT_INDEX["eyeBlinkRight"]]].sum(axis=0)
    half_closed = MODEL.template_mm + 0.5 * blink
    image = render_head(MODEL, MODEL.template_mm, orbit_camera(size=512), appearance=default_appearance())
    atlas = skin_atlas(MODEL)
    texels = locate_texels(atlas, 256)
    lid = head_region(MODEL).lid[MODEL.faces[atlas.face_ids]].all(axis=1)
    shown = texels.covered & lid[texels.face]

    def dark() -> float:
        texture = bake_texture(MODEL, half_closed, _seen(image), size=256).texture
        light = texture[shown].mean(axis=1)
        return float((light < 0.45 * np.median(light)).mean())

    clean = dark()
    monkeypatch.setattr("omote.asset.texture._of_eyes", lambda color, *_: np.zeros(len(color), bool))
    assert dark() > 0.05 > 4 * clean


def test_the_white_of_whole_eyeballs_is_not_painted_below_the_lids(monkeypatch: pytest.MonkeyPatch) -> None:
    region, rest = head_region(MODEL), MODEL.template_mm.astype(np.float64)
    below = (_eyeball_gap(MODEL, rest) < AROUND_EYE_MM) & region.exterior & ~region.lid
    assert below.sum() > 100
    colors = np.where(below[:, None], 1.0, np.array([0.8, 0.62, 0.55]))
    scan = Mesh(vertices=rest, faces=MODEL.faces.astype(np.int64), vertex_colors=colors)
    atlas = skin_atlas(MODEL)
    texels = locate_texels(atlas, 256)
    shown = texels.covered & below[MODEL.faces[atlas.face_ids]].all(axis=1)[texels.face]

    def blue() -> float:
        return float(np.median(bake_texture(MODEL, rest, scan, size=256).texture[shown][:, 2]))

    assert blue() < 0.65
    monkeypatch.setattr("omote.asset.texture._of_eyes", lambda color, *_: np.zeros(len(color), bool))
    assert blue() > 0.9


def test_brow_hairs_are_drawn_on_drawn_skin_alone() -> None:
    dense, bare = (replace(drawn_appearance(2, np.zeros(40)), brow_density=density) for density in (0.9, 0.0))
    image = render_head(MODEL, MODEL.template_mm, orbit_camera(size=256), appearance=default_appearance())

    def changed(scan: Mesh | PointCloud | None) -> float:
        one, other = (bake_texture(MODEL, MODEL.template_mm, scan, size=256, unseen=p).texture for p in (dense, bare))
        return float((np.abs(one - other).max(axis=-1) > 0.1).mean())

    assert 0.0005 < changed(None) < 0.02
    assert changed(_seen(image)) == 0


def test_teeth_of_a_grey_scan_are_not_blue() -> None:
    grey = Mesh(
        vertices=MODEL.template_mm.astype(np.float64),
        faces=MODEL.faces.astype(np.int64),
        vertex_colors=np.full((MODEL.num_vertices, 3), (0.46, 0.45, 0.44)),
    )
    tinted = replace(grey, vertex_colors=np.full((MODEL.num_vertices, 3), (0.5, 0.44, 0.5)))
    found = {
        name: np.array(bake_texture(MODEL, MODEL.template_mm, scan, size=64).appearance.exposure)
        for name, scan in (("grey", grey), ("tinted", tinted))
    }
    np.testing.assert_array_equal(found["grey"], np.ones(3))
    assert found["tinted"][2] > found["tinted"][0], "the light's cast is still found"
