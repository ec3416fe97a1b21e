from __future__ import annotations

import numpy as np
import pytest

from omote.errors import OutputError
from omote.formats import read_with_report
from omote.formats.write import save_obj, save_ply
from omote.types import Mesh, PointCloud
from scan_files import grid_mesh

VERTICES, FACES, COLORS, NORMALS = grid_mesh()


@pytest.mark.parametrize("save", [save_ply, save_obj])
def test_a_mesh_with_vertex_colours_comes_back_equal(tmp_path, save):
    path = tmp_path / f"m.{save.__name__[-3:]}"
    save(Mesh(vertices=VERTICES, faces=FACES, vertex_colors=COLORS / 255.0), path)
    mesh, _ = read_with_report(path, min_points=1)
    np.testing.assert_allclose(mesh.vertices, VERTICES, rtol=1e-8)
    np.testing.assert_array_equal(mesh.faces, FACES)
    np.testing.assert_allclose(mesh.vertex_colors * 255, COLORS, atol=1e-3)


def test_points_with_normals_come_back_equal(tmp_path):
    cloud = PointCloud(points=VERTICES, colors=COLORS / 255.0, normals=NORMALS)
    save_ply(cloud, tmp_path / "p.ply")
    back, report = read_with_report(tmp_path / "p.ply", min_points=1)
    assert report.kind == "points"
    np.testing.assert_array_equal(back.points, VERTICES)
    np.testing.assert_allclose(back.normals, NORMALS, atol=1e-6)
    save_obj(cloud, tmp_path / "p.obj")
    np.testing.assert_allclose(read_with_report(tmp_path / "p.obj", min_points=1)[0].points, VERTICES, rtol=1e-8)


def test_a_textured_mesh_comes_back_equal(tmp_path):
    texture = COLORS[:20].reshape(4, 5, 3) / 255.0
    uv = np.random.default_rng(0).uniform(size=(FACES.size, 2))
    mesh = Mesh(vertices=VERTICES, faces=FACES, uv=uv, faces_uv=np.arange(FACES.size).reshape(-1, 3), texture=texture)
    save_obj(mesh, tmp_path / "a head.obj")
    back, report = read_with_report(tmp_path / "a head.obj", min_points=1)
    assert report.notes == ()
    np.testing.assert_allclose(back.texture, texture, atol=1e-6)
    np.testing.assert_allclose(back.uv[back.faces_uv], uv[mesh.faces_uv], atol=1e-8)


def test_writing_where_no_folder_is(tmp_path):
    with pytest.raises(OutputError, match="folder does not exist"):
        save_ply(PointCloud(points=VERTICES), tmp_path / "no" / "p.ply")
    with pytest.raises(OutputError, match=r"ends in \.obj"):
        save_obj(PointCloud(points=VERTICES), tmp_path / "p.ply")
