"""What is measured of a drawn face: on plates whose truth is known, and on the head model."""

from __future__ import annotations

import numpy as np
import pytest

from omote.evaluation.anatomy import DrawnFace, find_lips, folded, front_triangles, measure_anatomy, visible_mm2, welded
from omote.head.expressions import ARKIT_NAMES
from omote.head.model import PARTS
from omote.head.shipped import shipped_head

HEAD = shipped_head()
PARTS_OF = {
    "skin": ("skin",),
    "eyes": ("eye_left", "eye_right"),
    "teeth": ("teeth_upper", "teeth_lower"),
    "mouth": ("mouth",),
}


def drawn(targets: dict[str, np.ndarray], vertices: np.ndarray = HEAD.template_mm) -> DrawnFace:
    triangles = {
        n: HEAD.faces[np.isin(HEAD.face_part, [PARTS.index(p) for p in parts])] for n, parts in PARTS_OF.items()
    }
    return DrawnFace(vertices_mm=vertices.astype(np.float64), targets_mm=targets, triangles=triangles)


def unit(name: str) -> np.ndarray:
    return HEAD.expression_mm[ARKIT_NAMES.index(name)].astype(np.float64)


def plate(z: float, half: float) -> tuple[np.ndarray, np.ndarray]:
    corners = np.array([[-half, -30 - half, z], [half, -30 - half, z], [half, -30 + half, z], [-half, -30 + half, z]])
    return corners, np.array([[0, 1, 2], [0, 2, 3]])


def test_a_plate_behind_another_shows_its_rim() -> None:
    near, far = plate(10.0, 10.0), plate(0.0, 15.0)
    parts = {"skin": (*near, np.zeros((0, 4, 3))), "teeth": (*far, np.zeros((0, 4, 3)))}
    face = welded(parts, [])
    assert visible_mm2(face, "teeth") == pytest.approx(30**2 - 20**2, rel=0.06)
    assert visible_mm2(face, "skin") == pytest.approx(20**2, rel=0.06)
    assert visible_mm2(face, "tongue") == 0


def test_doubled_vertices_become_one() -> None:
    corners, faces = plate(0.0, 10.0)
    doubled = np.concatenate([corners, corners])
    offsets = np.arange(24.0).reshape(1, 8, 3)
    face = welded({"skin": (doubled, np.concatenate([faces, faces + 4]), offsets)}, ["lift"])
    assert len(face.vertices_mm) == 4
    np.testing.assert_array_equal(face.triangles["skin"][:2], face.triangles["skin"][2:])


def test_a_triangle_that_turns_over_is_folded() -> None:
    face = drawn({})
    front = front_triangles(face)
    assert 5_000 < front.sum() < 20_000
    assert folded(face, front, face.vertices_mm).sum() == 0
    # One vertex carried over the opposite edge.
    chosen = int(np.flatnonzero(front)[1000])
    first, second, third = face.triangles["skin"][chosen]
    posed = face.vertices_mm.copy()
    edge = posed[second] - posed[first]
    edge /= np.linalg.norm(edge)
    arm = posed[third] - posed[first]
    posed[third] = posed[first] + 2 * (arm @ edge) * edge - arm
    assert folded(face, front, posed)[chosen]
    assert folded(face, front, posed).sum() < 10


def test_lips_are_found_and_their_crossing_is_counted() -> None:
    lips = find_lips(drawn({}))
    assert len(lips.upper) > 100
    assert len(lips.lower) > 50
    rest = HEAD.template_mm.astype(np.float64)
    assert lips.crossing(rest).sum() == 0
    assert lips.crossing(rest + unit("jawOpen")).sum() == 0
    raised = rest.copy()
    raised[np.unique(lips.lower_patch), 1] += 4.0
    assert lips.crossing(raised).sum() > 20
    left, right = lips.corners
    assert rest[left, 0].mean() > 20 > -20 > rest[right, 0].mean()
    smile = unit("mouthSmileLeft")
    travel = np.linalg.norm(HEAD.landmarks(smile)[54])
    assert lips.corner_travel(smile) == pytest.approx(travel, rel=0.15)
    assert lips.corner_difference(smile) > 0.9 * travel, "one corner alone"


def test_everything_is_measured_of_every_pose() -> None:
    targets = {"neutral": np.zeros_like(unit("jawOpen")), "happy": unit("mouthSmileLeft"), "sad": unit("jawOpen")}
    found = measure_anatomy(drawn({**targets, "jawOpen": unit("jawOpen")}))
    assert found["rest/teeth_mm2"] < 1
    poses = {"expression/folded/happy", "expression/folded/sad", "pair/folded/happy+sad", "unit/folded/jawOpen"}
    assert poses <= set(found)
    assert "expression/folded/neutral" not in found
    assert found["pair/corner_mm/happy+sad"] > 5
