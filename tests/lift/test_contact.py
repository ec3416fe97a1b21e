"""The mouth's lining stays behind the skin that covers it, and is left alone where nothing does."""

import numpy as np
import pytest

from omote.head.region import head_region
from omote.head.shipped import shipped_head
from omote.lift.contact import LINING_CLEARANCE_MM, LIPS, behind_skin, clearance, rest_lining


@pytest.fixture(scope="module")
def head():
    return shipped_head()


def gaps(head, vertices, ids):
    triangles = head.faces[head_region(head).face[head.faces].all(axis=1)]
    return clearance(vertices.astype(float), ids, triangles, head.landmarks(vertices)[LIPS])


def test_a_plane_covers_what_lies_behind_it():
    vertices = np.array([[-9, -9, 0], [9, -9, 2], [-9, 9, 0], [0, 0, -3.0], [8, 8, -3.0]], float)
    lips = np.array([[-9.0, -9.0, 0.0], [9.0, 9.0, 0.0]])
    # At the origin the plane's height is 1; the other point lies outside the triangle.
    np.testing.assert_allclose(clearance(vertices, np.array([3, 4]), np.array([[0, 1, 2]]), lips), [4.0, np.inf])
    # A triangle that looks away covers nothing.
    assert np.isinf(clearance(vertices, np.array([3]), np.array([[0, 2, 1]]), lips))[0]


def test_a_face_at_rest_stays_as_it_is(head):
    np.testing.assert_array_equal(behind_skin(rest_lining(head, head.template_mm), head.template_mm), head.template_mm)


def test_lining_that_came_out_goes_back(head):
    lining, out = head.part_vertices("mouth"), head.template_mm.copy()
    out[lining, 2] += 12.0
    came_out = gaps(head, out, lining)
    assert (came_out < -1).sum() > 20
    repaired = behind_skin(rest_lining(head, head.template_mm), out)
    rest = np.minimum(gaps(head, head.template_mm, lining), LINING_CLEARANCE_MM)
    assert (gaps(head, repaired, lining) >= rest - 1e-3).all()
    moved = np.flatnonzero((repaired != out).any(axis=1))
    assert set(moved) <= set(lining)
