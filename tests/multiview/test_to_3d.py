"""Views to the face's vertices: the geometry it is built on, and that it learns."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from omote.datasets.population import PopulationConfig
from omote.engine.weights import begin_from
from omote.errors import CheckpointError, ConfigError
from omote.geometry.rig import rig_of
from omote.head.shipped import shipped_head
from omote.multiview.basis import FaceBasis, FaceFamily, face_families, rotations, sample_faces
from omote.multiview.data import ViewSource, joined, sets_of, with_faults
from omote.multiview.face_map import MAP_SIZE, face_map
from omote.multiview.to_3d import ViewsToMesh, regressors, without_depth
from omote.multiview.train_to_3d import ViewsToMeshTask
from omote.multiview.volume import VolumeToMesh
from omote.recipes import RECIPES


@pytest.fixture(scope="module")
def families() -> list[FaceFamily]:
    return face_families([shipped_head()], face_map(shipped_head()))


@pytest.fixture(scope="module")
def basis(families: list[FaceFamily]) -> FaceBasis:
    made = FaceBasis(len(families[0].template_mm), 12)
    made.fit(sample_faces([shipped_head()], families, 60, 0))
    return made


def network(view_runs: Path, basis: FaceBasis, kind: type[ViewsToMesh] = ViewsToMesh, **more: object) -> ViewsToMesh:
    rig = ViewSource(view_runs / "views", [shipped_head()]).rig
    made = kind(
        num_vertices=len(basis.mean),
        num_components=12,
        pooled=4,
        yaw_deg=rig.yaw_deg,
        pitch_deg=rig.pitch_deg,
        sample_size=64,
        features=4,
        width=24,
        **more,
    )
    made.basis.load_state_dict(basis.state_dict())
    return made


def test_rotations_turn_by_their_length() -> None:
    turned = rotations(torch.tensor([[0.0, 0.0, torch.pi / 2]]))[0] @ torch.tensor([1.0, 0, 0])
    torch.testing.assert_close(turned, torch.tensor([0.0, 1, 0]), atol=1e-6, rtol=0)


def test_coefficients_give_back_a_face_and_its_pose(basis: FaceBasis) -> None:
    wanted = torch.zeros(2, 18)
    wanted[:, :3] = torch.tensor([[0.5, -1, 0.3], [1, 0, 0]])
    wanted[:, -6:] = torch.tensor([[0.4, -0.3, 0.2, 1, -2, 0.5], [0, 0, 0, 0, 0, 0]])
    shape = wanted.clone()
    shape[:, -6:] = 0
    pose = torch.eye(4).repeat(2, 1, 1)
    pose[:, :3, :3] = rotations(0.02 * wanted[:, -6:-3])
    pose[:, :3, 3] = basis.centre - (pose[:, :3, :3] @ basis.centre) + wanted[:, -3:]
    found = basis.coefficients(basis(shape), pose)
    torch.testing.assert_close(found, wanted, atol=2e-3, rtol=0)


def test_texels_lie_on_the_face_and_vertices_read_their_own(families: list[FaceFamily]) -> None:
    face = face_map(shipped_head()).tensors()
    vertices = torch.from_numpy(families[0].template_mm)[None]
    points, normals = face.surface(vertices)
    assert 0.4 < len(face.texels) / MAP_SIZE**2 < 0.9
    assert normals[0, :, 2].mean() > 0.5, "a face looks forward"
    back = face.read(face.drawn(points))[0]
    off = (back - vertices[0]).norm(dim=1)
    assert off.median() < 0.5, "a position map holds the positions"


def test_what_views_measured_pulls_the_face_onto_it(
    view_runs: Path, basis: FaceBasis, families: list[FaceFamily]
) -> None:
    source = ViewSource(view_runs / "views", [shipped_head()])
    sets = joined([sets_of(source.shards[0], [(row, 1)]) for row in range(3)])
    truth, face, net = sets.posed(families), face_map(shipped_head()).tensors(), network(view_runs, basis)
    given, features = torch.ones(3, dtype=torch.bool), torch.zeros(3, 3, 4, 16, 16)
    _, pull = net.gathered(sets.x, features, truth, face, given)
    _, normals = face.surface(truth)
    along = (pull.flatten(2)[:, :, face.texels].transpose(1, 2) * normals).sum(dim=2)
    assert along.abs().median() < 0.25, "the truth is where it was seen"
    _, vertex_normals = face.surface(truth)
    # Two millimetres in front of the truth, the pull is two millimetres back.
    head = shipped_head()
    outward = torch.from_numpy(np.stack([_normals(head, v.numpy()) for v in truth]))
    _, pull = net.gathered(sets.x, features, truth + 2 * outward, face, given)
    along = (pull.flatten(2)[:, :, face.texels].transpose(1, 2) * vertex_normals).sum(dim=2)
    assert -2.4 < along.median() < -1.5
    _, pull = net.gathered(without_depth(sets.x, ~given), features, truth + 2 * outward, face, ~given)
    assert not pull.any(), "without depth nothing pulls"


def _normals(head: object, face_vertices: np.ndarray) -> np.ndarray:
    from omote.geometry.mesh import vertex_normals

    return vertex_normals(face_vertices.astype(np.float64), face_map(head).faces).astype(np.float32)


@pytest.mark.parametrize("kind", [ViewsToMesh, VolumeToMesh])
def test_a_network_learns_what_the_regression_leaves(
    kind: type[ViewsToMesh], view_runs: Path, basis: FaceBasis, families: list[FaceFamily]
) -> None:
    source = ViewSource(view_runs / "views", [shipped_head()])
    sets = joined([sets_of(source.shards[0], [(row, 1)]) for row in range(2)])
    truth, face = sets.posed(families), face_map(shipped_head()).tensors()
    torch.manual_seed(0)
    small = {"map_widths": (16, 16, 16)} if kind is ViewsToMesh else {"volume_widths": (8, 8, 8)}
    net = network(view_runs, basis, kind, **small)
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    errors = []
    for _ in range(12):
        guesses = net(sets.x, face)
        assert torch.equal(guesses[0].vertices_mm, guesses[0].vertices_mm)
        error = sum((g.vertices_mm - truth).norm(dim=2).mean() for g in guesses)
        errors.append(float((guesses[-1].vertices_mm - truth).norm(dim=2).mean()))
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
    assert errors[-1] < 0.8 * errors[0]


def test_regressors_read_no_depth_where_none_is_given() -> None:
    x = torch.randn(2, 3, 5, 32, 32)
    read = regressors(without_depth(x, torch.tensor([True, False])), 4)
    assert read.shape == (2, 3 * 3 * 16 + 1)
    assert not read[1, 16:32].any()
    assert read[0, 16:32].any()


def test_faults_leave_depth_within_millimetres_and_differ_by_view(view_runs: Path) -> None:
    source = ViewSource(view_runs / "views", [shipped_head()])
    x = sets_of(source.shards[0], [(0, 0)]).x
    faulty = with_faults(x, np.random.default_rng(3), 1.0)
    inside = (x[:, :, 4] > 0) & (faulty[:, :, 4] > 0.9)
    off = (faulty[:, :, 3] - x[:, :, 3])[inside] * 100
    assert 0.05 < off.abs().median() < 2.0
    again = with_faults(x, np.random.default_rng(3), 1.0)
    torch.testing.assert_close(faulty, again)


def test_training_begins_from_weights_of_the_same_size_alone(view_runs: Path, basis: FaceBasis, tmp_path: Path) -> None:
    given = network(view_runs, basis)
    torch.nn.init.normal_(given.unet.last.weight)
    given.save_pretrained(tmp_path / "to_3d")
    again = network(view_runs, basis)
    begin_from(again, tmp_path / "to_3d")
    torch.testing.assert_close(again.state_dict(), given.state_dict(), rtol=0, atol=0)
    other = ViewsToMesh(**{**given.config, "width": 16})
    with pytest.raises(CheckpointError, match="expected .*; give weights of the same recipe as initial"):
        begin_from(other, tmp_path / "to_3d")


def test_the_regression_is_not_fitted_to_persons_that_come_one_by_one(tmp_path: Path) -> None:
    config = replace(RECIPES["to3d-tiny"](tmp_path), population=PopulationConfig(rig=rig_of(["3"]), size=64))
    with pytest.raises(ConfigError, match="expected a folder of shards.*omote population"):
        ViewsToMeshTask(config, [shipped_head()])
