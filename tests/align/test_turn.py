"""A turn of a synthetic head before a noisy depth camera: poses are found, kept or refused, and the surface has its ears."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from omote.align.align import align
from omote.align.turn import Turn, fuse_turn, posed_turn
from omote.datasets.population import PopulationConfig, draw_person
from omote.datasets.turns import RenderedTurn, rendered_turn
from omote.errors import AlignmentError, ScanError
from omote.geometry.camera import project, transform
from omote.head.expressions import arkit_weights, typical_expression
from omote.head.model import HeadModel
from omote.head.region import head_region
from omote.head.shipped import shipped_head
from omote.progress import finish
from omote.rendering.sensor import structured_light
from omote.types import Expression, Rgbd

YAWS = (-60.0, 0.0, 60.0)


def turned(*yaws: float, smiles: int | None = None, shown: Expression | None = None, size: int = 200) -> RenderedTurn:
    head = shipped_head()
    person = draw_person(PopulationConfig(split="test", num_images=1), 3, [head])
    every = [person.expressions[0] if shown is None else shown] * len(yaws)
    if smiles is not None:
        every[smiles] = typical_expression("surprised")
    rng = np.random.default_rng(0)
    return rendered_turn(person, [head], yaws, sensor=structured_light(), rng=rng, size=size, expressions=every)


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return shipped_head()


@pytest.fixture(scope="module")
def three() -> RenderedTurn:
    return turned(*YAWS)


@pytest.fixture(scope="module")
def found(three: RenderedTurn, head: HeadModel) -> Turn:
    return finish(posed_turn(three.frames, head))


def errors(turn: Turn, truth: RenderedTurn) -> tuple[float, float]:
    """Largest error of the poses among themselves: degrees, and mm in the middle of the head."""
    motions = [pose @ truth.cam_from_world[name] for name, pose in turn.canonical_from_camera.items()]
    mean = Rotation.from_matrix([motion[:3, :3] for motion in motions]).mean()
    center = np.array([0.0, -30.0, -60.0])
    places = np.array([motion[:3, :3] @ center + motion[:3, 3] for motion in motions])
    angles = [(mean.inv() * Rotation.from_matrix(motion[:3, :3])).magnitude() for motion in motions]
    return float(np.degrees(max(angles))), float(np.linalg.norm(places - places.mean(axis=0), axis=1).max())


def test_poses_are_found(three: RenderedTurn, found: Turn) -> None:
    assert found.source == "found"
    assert found.left_out == {}
    degrees, mm = errors(found, three)
    assert degrees < 1.0
    assert mm < 1.0
    assert found.still
    assert found.notes() == []


def test_the_fused_surface_is_the_heads_with_its_ears(three: RenderedTurn, found: Turn, head: HeadModel) -> None:
    whole = fuse_turn(three.frames, found, voxel_mm=2.5)
    name = "frame_01"
    one = replace(found, canonical_from_camera={name: found.canonical_from_camera[name]})
    front = fuse_turn(three.frames, one, voxel_mm=2.5)
    motion = found.canonical_from_camera[name] @ three.cam_from_world[name]
    true = three.vertices_mm @ motion[:3, :3].T + motion[:3, 3]
    region = head_region(head)
    for mesh in (whole, front):
        away, _ = cKDTree(mesh.vertices).query(true[region.face & ~region.lid])
        assert np.median(away) < 1.6  # half a voxel's diagonal is 2.2
    ears = true[region.ear & region.exterior]
    seen = [float((cKDTree(mesh.vertices).query(ears)[0] < 3.0).mean()) for mesh in (whole, front)]
    assert seen[0] > 0.6
    assert seen[0] > seen[1] + 0.2
    assert whole.vertex_colors is not None


def test_given_poses_are_kept(three: RenderedTurn, head: HeadModel) -> None:
    shift = np.eye(4)
    shift[:3, :3], shift[:3, 3] = Rotation.from_rotvec([0.3, 1.0, -0.2]).as_matrix(), (100.0, -50.0, 900.0)
    given = {name: pose @ shift for name, pose in three.cam_from_world.items()}
    kept = finish(posed_turn(three.frames, head, given=given))
    assert kept.source == "given"
    assert max(errors(kept, three)) < 1e-6


def test_given_poses_that_are_a_little_off_are_refined(three: RenderedTurn, head: HeadModel) -> None:
    given = {}
    for n, (name, pose) in enumerate(three.cam_from_world.items()):
        drift = np.eye(4)
        drift[:3, :3], drift[:3, 3] = Rotation.from_rotvec([0, 0.02 * n, 0]).as_matrix(), (2.0 * n, 0.0, 0.0)
        given[name] = drift @ pose
    refined = finish(posed_turn(three.frames, head, given=given))
    assert refined.source == "refined"
    assert max(errors(refined, three)) < 1.0


def test_given_poses_that_contradict_the_surfaces_are_not_used(three: RenderedTurn, head: HeadModel) -> None:
    found = finish(posed_turn(three.frames, head, given=dict.fromkeys(three.frames, np.eye(4))))
    assert found.source == "found"
    assert max(errors(found, three)) < 1.0


def test_frames_without_a_face_are_posed_by_their_neighbours(head: HeadModel, monkeypatch: pytest.MonkeyPatch) -> None:
    import omote.align.search

    truth, calls = turned(0.0, 30.0, 60.0, 90.0), []
    really = omote.align.search.located

    def only_the_first(*arguments: object, **options: object) -> object:
        calls.append(1)
        if len(calls) > 1:
            raise AlignmentError("no face")
        return really(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(omote.align.search, "located", only_the_first)
    turn = finish(posed_turn(truth.frames, head))
    assert turn.left_out == {}
    degrees, mm = errors(turn, truth)
    assert degrees < 2.0
    assert mm < 2.0


def test_a_frame_of_something_else_is_left_out(three: RenderedTurn, head: HeadModel) -> None:
    wall = next(iter(three.frames.values()))
    rows = np.arange(wall.mask.shape[0])[:, None]
    wall = replace(wall, depth_mm=np.broadcast_to(600.0 + 0.2 * rows, wall.mask.shape), mask=np.ones_like(wall.mask))
    frames: dict[str, Rgbd] = {**three.frames, "wall": wall}
    turn = finish(posed_turn(frames, head))
    assert list(turn.left_out) == ["wall"]
    assert set(turn.canonical_from_camera) == set(three.frames)
    assert "wall is left out: no face" in turn.notes()[0]
    with pytest.raises(AlignmentError, match="no two of 2 frames fit"):
        finish(posed_turn({"face": three.frames["frame_01"], "wall": wall}, head))
    with pytest.raises(AlignmentError, match="no face in any of 2 frames"):
        finish(posed_turn({"a": wall, "b": wall}, head))


def test_an_expression_that_comes_and_goes_is_noted(head: HeadModel) -> None:
    truth = turned(-30.0, 0.0, 30.0, smiles=1)
    turn = finish(posed_turn(truth.frames, head))
    assert not turn.still
    assert "the face moves between the frames" in turn.notes()[0]
    assert max(errors(turn, truth)) < 2.0


@pytest.mark.parametrize(("jaw", "closed"), [(0.0, True), (0.25, False)])
def test_lips_meet_in_a_turn_as_they_do_in_the_frames(head: HeadModel, jaw: float, closed: bool) -> None:
    truth = turned(*YAWS, shown=Expression(category="neutral", arkit=arkit_weights({"jawOpen": jaw})), size=320)
    # A camera loses the shadow between lips, and more.
    front = truth.frames["frame_01"]
    lips = project(front.camera, transform(truth.cam_from_world["frame_01"], head.landmarks(truth.vertices_mm)[60:68]))
    column, row = np.rint(lips[:, :2].mean(axis=0)).astype(int)
    hole = np.zeros_like(front.mask)
    hole[row - 1 : row + 2, column - 8 : column + 9] = True
    frames = {**truth.frames, "frame_01": replace(front, mask=front.mask & ~hole)}
    given = Turn(
        canonical_from_camera={name: np.linalg.inv(pose) for name, pose in truth.cam_from_world.items()},
        left_out={},
        source="given",
        mouth_mm=0.0,
        rest_mm=0.0,
    )
    found = align(fuse_turn(frames, given), head=head, refinement=False)
    assert found.mouth == ("closed" if closed else "open")


def test_one_frame_is_no_turn(three: RenderedTurn, head: HeadModel) -> None:
    with pytest.raises(ScanError, match="at least 2 frames"):
        finish(posed_turn(dict([next(iter(three.frames.items()))]), head))
