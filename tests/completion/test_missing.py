"""Kinds of missing surface: each loses what it says, more when it is strong, and the same every time."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree

from omote.completion.missing import KINDS, MILD, STRONG, Subject, missing_case
from omote.datasets.population import PopulationConfig, draw_person, render_person
from omote.head.region import head_region
from omote.head.shipped import shipped_head
from omote.rendering.sensor import sense, stereo, structured_light, time_of_flight

HEAD = shipped_head()


@pytest.fixture(scope="module")
def subject() -> Subject:
    person = draw_person(PopulationConfig(size=96, split="test"), 3, [HEAD])
    return Subject(
        image=lambda camera: next(iter(render_person(replace(person, camera=camera), [HEAD], person.expressions[:1])))[
            0
        ],
        vertices_mm=HEAD.vertices(person.identity),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_strong_loss_leaves_less(subject: Subject, kind: str) -> None:
    mild, strong = (missing_case(subject, kind, strength, HEAD, seed=5) for strength in (MILD, STRONG))
    again = missing_case(subject, kind, STRONG, HEAD, seed=5)
    assert np.array_equal(strong.partial.points_mm, again.partial.points_mm)
    face = head_region(HEAD).face
    seen = [(cKDTree(case.partial.points_mm).query(case.truth_mm[face])[0] < 4.0).mean() for case in (mild, strong)]
    assert seen[1] < 0.97 * seen[0]
    assert len(strong.partial.points_mm) > 100
    # The points lie on the true head, and the fit near it; what is left faces the camera.
    away = cKDTree(mild.truth_mm).query(mild.partial.points_mm)[0]
    assert np.median(away) < 2.5
    skin = HEAD.part_vertices("skin")
    assert np.median(np.linalg.norm(mild.partial.fitted_mm - mild.truth_mm, axis=1)[skin]) < 6.0
    front = mild.partial.normals @ mild.canonical_from_world[:3, :3] @ [0.0, 0.0, 1.0]
    assert np.median(front) > 0.5


def test_physical_cameras_err_as_their_sources_say(subject: Subject) -> None:
    from omote.geometry.camera import orbit_camera

    image = subject.image(orbit_camera(size=192, distance_mm=1000.0, field_mm=280.0))
    for sensor, deviation_mm in ((structured_light(), 1.6), (time_of_flight(), 1.5), (stereo(), 1.45)):
        seen = sense(image, sensor, np.random.default_rng(0))
        off = (seen.depth_mm - image.depth_mm)[seen.mask]
        assert np.median(np.abs(off)) / 0.6745 == pytest.approx(deviation_mm, rel=0.35)
    flying = sense(image, replace(time_of_flight(), color_noise=0.0), np.random.default_rng(0))
    far = flying.mask & (flying.depth_mm - image.depth_mm > 15.0)
    assert far.sum() > 20
    changed = np.abs(flying.rgb - image.rgb).mean(axis=2)
    assert changed[far].mean() > 10 * changed[flying.mask & ~far].mean(), "mixed pixels have mixed colours"
