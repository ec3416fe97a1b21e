"""The head fitted to one RGB-D image, against the person it was rendered from."""

from dataclasses import replace

import numpy as np
import pytest

from omote.datasets.population import PopulationConfig, draw_person, fit_as_found, render_person
from omote.errors import AlignmentError
from omote.geometry.camera import project
from omote.head.rest_face import FIRST_INNER_LANDMARK, fit_face, landmarks_in
from omote.head.shipped import population_heads, shipped_head


@pytest.fixture(scope="module")
def seen():
    config = PopulationConfig(split="validation", num_images=1)
    person = draw_person(config, 3, population_heads(config.ict))
    image, landmarks, vertices = next(iter(render_person(person, population_heads(config.ict))))
    return person, image, landmarks, vertices


def test_the_fit_lies_where_the_person_does(seen):
    person, image, landmarks, vertices = seen
    fit = fit_as_found(person, [shipped_head()], image, vertices)
    face = fit.rest()
    fitted = project(face.camera, shipped_head().landmarks(face.vertices_mm))[:, :2]
    off = np.linalg.norm(fitted - landmarks, axis=1)[FIRST_INNER_LANDMARK:]
    assert np.median(off) < 1.0  # pixels of 128, 1.8 mm each
    again = fit_as_found(person, [shipped_head()], image, vertices)
    np.testing.assert_array_equal(again.identity, fit.identity)


def test_landmarks_are_lifted_by_the_images_depth(seen):
    _, image, landmarks, vertices = seen
    lifted = landmarks_in(image, landmarks)
    assert np.isnan(lifted[:FIRST_INNER_LANDMARK]).all()
    off = np.linalg.norm(lifted - shipped_head().landmarks(vertices), axis=1)[FIRST_INNER_LANDMARK:]
    assert np.nanmedian(off) < 2.0
    hole = replace(image, mask=np.zeros_like(image.mask))
    assert np.isnan(landmarks_in(hole, landmarks)).all()


def test_no_landmarks_is_one_clear_line(seen):
    _, image, _, _ = seen
    with pytest.raises(AlignmentError, match="at least 6 landmarks"):
        fit_face(shipped_head(), image, np.full((68, 3), np.nan))
