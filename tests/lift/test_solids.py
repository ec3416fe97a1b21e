"""A face that passes through itself: pierced where it was made to be, and nowhere at rest."""

import numpy as np

from omote.evaluation.anatomy import DrawnFace
from omote.lift.solids import Solids, find_solids


def plate(z: float, size: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """A square of triangles with edges of 1 mm, facing +z."""
    x, y = np.meshgrid(np.arange(size + 1.0), np.arange(size + 1.0))
    vertices = np.stack([x.ravel(), y.ravel(), np.full(x.size, z)], axis=1)
    a = (np.arange(size)[:, None] * (size + 1) + np.arange(size)).ravel()
    triangles = np.concatenate([np.stack([a, a + 1, a + size + 2], 1), np.stack([a, a + size + 2, a + size + 1], 1)])
    return vertices, triangles


def two_plates(skin: float = 2.0) -> DrawnFace:
    """Skin in front of teeth at 0."""
    front, triangles = plate(skin)
    behind, _ = plate(0.0)
    return DrawnFace(
        vertices_mm=np.concatenate([front, behind]),
        targets_mm={},
        triangles={"skin": triangles, "teeth": triangles + len(front)},
    )


def solids_of(face: DrawnFace) -> Solids:
    return find_solids(face.vertices_mm, face.triangles)


def test_plates_apart_do_not_pierce() -> None:
    face = two_plates()
    assert solids_of(face).piercing(face.vertices_mm) == 0


def test_a_tooth_through_the_skin_is_counted() -> None:
    face = two_plates()
    posed = face.vertices_mm.copy()
    tooth = len(posed) // 2 + 10 * 21 + 10
    posed[tooth, 2] = 4.0
    # Six edges meet at the vertex that came through.
    assert solids_of(face).piercing(posed) == 6
    posed[tooth, 2] = 1.9
    assert solids_of(face).piercing(posed) == 0


def test_what_pierces_at_rest_does_not_count() -> None:
    face = two_plates()
    face.vertices_mm[len(face.vertices_mm) // 2 + 10 * 21 + 10, 2] = 4.0
    assert solids_of(face).piercing(face.vertices_mm) == 0


def test_a_lid_inside_the_eyeball_is_counted() -> None:
    front, triangles = plate(12.5)
    angle, height = np.meshgrid(np.linspace(0, 2 * np.pi, 24, endpoint=False), np.linspace(-0.99, 0.99, 13))
    flat = np.sqrt(1 - height**2)
    ball = 12.0 * np.stack([flat * np.cos(angle), flat * np.sin(angle), height], axis=-1).reshape(-1, 3)
    ball += [12.5, 10.0, 0.0]
    eyes = np.array([[i, i + 1, i + 2] for i in range(len(ball) - 2)]) + len(front)
    # Another eye on the other side, whose half is of negative x.
    face = DrawnFace(
        vertices_mm=np.concatenate([front, ball]),
        targets_mm={},
        triangles={"skin": triangles, "eyes": eyes},
    )
    solids = solids_of(face)
    assert solids.piercing(face.vertices_mm) == 0
    posed = face.vertices_mm.copy()
    posed[: len(front), 2] -= 2.0
    assert solids.piercing(posed) > 5


def test_an_expression_stops_short_of_what_it_would_pierce() -> None:
    face = two_plates()
    solids, posed = solids_of(face), face.vertices_mm.copy()
    tooth = len(posed) // 2 + 10 * 21 + 10
    posed[tooth, 2] = 3.0
    posed[0, 0] -= 1.0
    apart = solids.apart(posed)
    assert solids.piercing(posed) == 6
    assert solids.piercing(apart) == 0
    assert 1.5 < apart[tooth, 2] < 2.5, "nearly as far as it may"
    np.testing.assert_allclose(apart[0], posed[0], atol=0.1, err_msg="what is far away keeps its motion")
    assert solids.apart(apart) is apart


def test_skin_that_pierces_skin_keeps_going_where_its_surroundings_go() -> None:
    """The corner of a mouth once stood still in every expression, with which nothing pierced any more."""
    front, triangles = plate(2.0)
    behind, _ = plate(0.0)
    rest = np.concatenate([front, behind])
    solids = find_solids(rest, {"skin": np.concatenate([triangles, triangles + len(front)])})
    posed = rest + np.array([8.0, 0.0, 0.0])
    bump = np.exp(-0.5 * (np.linalg.norm(rest[:, :2] - 10.0, axis=1) / 2.0) ** 2) * (rest[:, 2] == 0.0)
    posed[:, 2] += 4.0 * bump
    apart = solids.apart(posed)
    assert solids.piercing(posed) > 20
    assert solids.piercing(apart) < 0.2 * solids.piercing(posed)
    np.testing.assert_allclose(apart[:, 0] - rest[:, 0], 8.0, atol=1e-6)


def test_lips_that_pass_each_other_go_on_together() -> None:
    """Each lip's own motion is even already; only what the two do differently has to go."""
    front, triangles = plate(1.0)
    behind, _ = plate(0.0)
    rest = np.concatenate([front, behind])
    solids = find_solids(rest, {"skin": np.concatenate([triangles, triangles + len(front)])})
    # One slides over the other and tilts through it.
    posed = rest + np.where(rest[:, 2:] > 0.5, [0.4, 5.0, 0.0], [-0.4, 5.0, 0.0])
    posed[:, 2] += np.where(rest[:, 2] > 0.5, -1.0, 1.0) * (rest[:, 0] - 10.0)
    assert solids.piercing(posed) > 20
    apart = solids.apart(posed)
    assert solids.piercing(apart) == 0
    np.testing.assert_allclose(apart[:, 1] - rest[:, 1], 5.0, atol=1e-6)


def test_of_poses_that_all_pierce_the_one_that_pierces_least_is_kept() -> None:
    face = two_plates()
    solids, posed = solids_of(face), face.vertices_mm.copy()
    through = np.arange(5, 15) + 21 * np.arange(5, 15)[:, None]
    # Skin in front of teeth goes back by at most a third of its way.
    posed[through.ravel(), 2] -= np.linspace(2.2, 6.0, through.size)
    made = solids.apart(posed)
    assert 0 < solids.piercing(made) < solids.piercing(posed)
    assert solids.piercing(solids.apart(made)) <= solids.piercing(made)


def test_a_pose_that_cannot_be_bettered_is_returned_itself() -> None:
    face = two_plates()
    solids, posed = solids_of(face), face.vertices_mm.copy()
    skin = len(posed) // 2
    posed[:skin, 2] = np.where((np.arange(skin) % 2 == 0), -30.0, 2.0)
    assert solids.apart(posed) is posed
