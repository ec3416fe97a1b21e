"""Paint lands where the landmarks say, on every head model, and is a function of its numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from omote.head.eyes import IRIS_ANGLE_RAD
from omote.head.ict import ict_head
from omote.head.model import HeadModel
from omote.head.shipped import shipped_head
from omote.rendering.appearance import (
    Appearance,
    default_appearance,
    drawn_person,
    eye_texture,
    paint,
    random_appearance,
    skin_color,
)
from omote.rendering.regions import head_shading, template_occlusion
from omote.rendering.shade import lid_shadow, lip_shadow


@pytest.fixture(scope="module", params=["shipped", "ict"])
def head(request: pytest.FixtureRequest) -> HeadModel:
    if request.param == "shipped":
        return shipped_head()
    return ict_head(request.getfixturevalue("shared_dir") / Path("data/ict_facekit.npz"))


def near(head: HeadModel, albedo: np.ndarray, point_mm: np.ndarray, radius_mm: float = 4.0) -> np.ndarray:
    """Mean albedo of the skin around a point."""
    skin = head.part_vertices("skin")
    return albedo[skin][np.linalg.norm(head.template_mm[skin] - point_mm, axis=1) < radius_mm].mean(axis=0)


def plain(**changes: object) -> Appearance:
    flat = replace(default_appearance(), mottling=(0.0, 0.0, 0.0), blush=0.0, shadows=0.0)
    return replace(flat, **changes)  # type: ignore[arg-type]


def cheek(head: HeadModel) -> np.ndarray:
    marks = head.landmarks(head.template_mm)
    return (marks[40] + marks[48]) / 2 - np.array([8.0, 0, 0])


def test_lips_are_redder_and_brows_darker_than_cheeks(head: HeadModel) -> None:
    albedo = paint(head, plain(brow_density=0.9, lip_strength=1.0))
    marks = head.landmarks(head.template_mm)
    skin = near(head, albedo, cheek(head))
    for lip in ((marks[51] + marks[62]) / 2, (marks[57] + marks[66]) / 2):
        color = near(head, albedo, lip, 2.5)
        assert color[0] / color[1] > 1.1 * skin[0] / skin[1]
    brow = min(near(head, albedo, marks[19] - np.array([0, dy, 0]), 2.5).mean() for dy in (0.0, 2.0, 4.0))
    assert brow < 0.75 * skin.mean()


def test_nostrils_are_dark_and_the_lip_below_them_is_not(head: HeadModel) -> None:
    marks, skin = head.landmarks(head.template_mm), head.part_vertices("skin")
    place, albedo = head.template_mm[skin], paint(head, plain())[skin].mean(axis=1)
    for wing in marks[[32, 34]]:
        beside = np.abs(place[:, 0] - wing[0]) < 3
        above, lip = (
            beside & (np.abs(place[:, 1] - wing[1] - 3.8) < 2),
            beside & (np.abs(place[:, 1] - wing[1] + 1) < 1.5),
        )
        forward = place[:, 2] > wing[2] - 4
        assert albedo[above & forward].min() < 0.5 * albedo.max()
        assert albedo[lip & forward].min() > 0.9 * albedo[lip & forward].max()


def test_beard_and_hair_stay_where_they_grow(head: HeadModel) -> None:
    marks = head.landmarks(head.template_mm)
    chin, forehead = marks[8] + np.array([0, 6.0, 4.0]), marks[27] + np.array([0, 30.0, 2.0])
    top = head.template_mm[np.argmax(head.template_mm[:, 1])]
    shaved, bearded = paint(head, plain()), paint(head, plain(beard=0.9))
    assert near(head, bearded, chin, 8).mean() < 0.8 * near(head, shaved, chin, 8).mean()
    np.testing.assert_allclose(near(head, bearded, forehead), near(head, shaved, forehead), atol=1e-6)
    capped = paint(head, plain(cap=1.0))
    assert near(head, capped, top, 15).mean() < 0.6 * near(head, shaved, top, 15).mean()
    np.testing.assert_allclose(near(head, capped, marks[30]), near(head, shaved, marks[30]), atol=1e-6)


def test_melanin_darkens(head: HeadModel) -> None:
    tones = [near(head, paint(head, plain(tone=t)), cheek(head)).mean() for t in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert (np.diff(tones) < -0.05).all()


def test_clay_is_one_color_on_all_skin(head: HeadModel) -> None:
    albedo = paint(head, plain(clay=(0.6, 0.6, 0.6)))
    np.testing.assert_allclose(albedo[head.part_vertices("skin")], 0.6, atol=1e-6)


def test_random_people_are_reproducible_distinct_and_in_range(head: HeadModel) -> None:
    skins = []
    for seed in range(12):
        person = random_appearance(np.random.default_rng(seed))
        assert person == random_appearance(np.random.default_rng(seed))
        albedo = paint(head, person)
        np.testing.assert_array_equal(albedo, paint(head, person))
        assert albedo.shape == (head.num_vertices, 3)
        assert albedo.min() >= 0
        assert albedo.max() <= 1
        skins.append(near(head, albedo, cheek(head)))
    assert np.std(skins, axis=0).min() > 0.05


def test_eyes_have_a_dark_pupil_a_colored_iris_and_a_bright_sclera() -> None:
    person = plain(iris=(0.38, 0.48, 0.56), pupil=0.17)
    size = 192
    texture = eye_texture(person, size)
    y, x = np.mgrid[:size, :size]
    theta = np.pi * np.hypot((x + 0.5) / size - 0.5, (y + 0.5) / size - 0.5)
    pupil = texture[theta < 0.12].mean(axis=0)
    iris = texture[(theta > 0.25) & (theta < IRIS_ANGLE_RAD - 0.12)].mean(axis=0)
    sclera = texture[(theta > IRIS_ANGLE_RAD + 0.1) & (theta < 1.0)].mean(axis=0)
    assert pupil.max() < 0.05
    assert iris[2] > iris[0]
    assert pupil.mean() < 0.5 * iris.mean() < 0.5 * sclera.mean()
    assert texture.min() >= 0
    assert texture.max() <= 1


def test_hollows_see_less_of_the_sky(head: HeadModel) -> None:
    visible = template_occlusion(head)
    assert visible.min() >= 0
    assert visible.max() <= 1
    marks = head.landmarks(head.template_mm)

    def at(point_mm: np.ndarray) -> float:
        return float(visible[np.argmin(np.linalg.norm(head.template_mm - point_mm, axis=1))])

    assert at(marks[30]) > at(marks[39])  # tip of the nose, inner corner of an eye
    # A mouth's inside is darker the deeper it lies.
    inner = head_shading(head).inner
    dimmed = head_shading(head).dim(head.template_mm, marks)[inner]
    deep = head.template_mm[inner, 2] < np.percentile(head.template_mm[inner, 2], 20)
    assert dimmed[deep].mean() < 0.5 * dimmed[~deep].mean()


def test_lips_shade_the_teeth_least_in_the_middle_of_a_wide_opening(head: HeadModel) -> None:
    marks = head.landmarks(head.template_mm)
    marks[62, 1], marks[66, 1] = marks[62, 1] + 8, marks[66, 1] - 8
    upper, middle = marks[62], (marks[62] + marks[66]) / 2
    corner = np.array([marks[64, 0], middle[1], middle[2]])
    under_lip, center, aside = lip_shadow(np.stack([upper, middle, corner]), marks)
    assert (under_lip < 0.7 * center).all()
    assert (aside < 0.7 * center).all()
    assert (np.diff(center) < 0).all()  # reddened
    step = np.array([0.0, 1.0, 0.0])
    marks[62], marks[66] = middle + step, middle - step
    assert (lip_shadow(middle[None], marks)[0] < center).all()


def test_the_upper_lid_shades_the_eyeball_below_it(head: HeadModel) -> None:
    marks = head.landmarks(head.template_mm)
    for top, bottom in ((37, 41), (44, 46)):
        line = np.linspace(marks[top], marks[bottom], 5)
        light = lid_shadow(line, marks)
        assert light[0] < 0.65 * light.max()
        assert light.argmax() >= 2
        assert (light > 0.3).all()
        assert (light <= 1).all()


def test_lips_are_pinker_than_the_skin_and_beards_no_yellower(head: HeadModel) -> None:
    for seed in range(20):
        a = random_appearance(np.random.default_rng(seed))
        assert min(a.lip[0], a.lip[2]) > a.lip[1]
    marks = head.landmarks(head.template_mm)
    chin = marks[8] + np.array([0, 6.0, 4.0])
    skin = near(head, paint(head, plain()), chin, 8)
    for strength in (0.3, 0.9):
        fair = near(head, paint(head, plain(beard=strength, hair=(0.65, 0.52, 0.34))), chin, 8)
        assert fair.mean() < skin.mean()
        assert fair[1] / fair[0] < 1.12 * skin[1] / skin[0]


def test_persons_without_colour_are_plausible_and_differ() -> None:
    drawn = [drawn_person(seed) for seed in range(24)]
    assert all(a.clay is None and a.beard == 0 and a.cap == 0 for a in drawn)
    # Skin, then brows, lips and irises beside it.
    skin = np.array([skin_color(a) for a in drawn])
    assert (skin > 0.12).all()
    assert (skin[:, 0] > skin[:, 2]).all()
    looks = np.array([[*skin_color(a), *a.hair, *a.iris, *(skin_color(a) * np.array(a.lip))] for a in drawn])
    apart = np.linalg.norm(looks[:, None] - looks[None], axis=2)[~np.eye(24, dtype=bool)]
    assert apart.min() > 0.04
    assert np.median(apart) > 0.3
    # Neighbouring seeds are far apart, which users try first.
    assert np.linalg.norm(np.diff(skin, axis=0), axis=1).min() > 0.15
    assert drawn_person(5) == drawn[5]
