from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omote.formats import read_with_report
from omote.formats.clean import unique_points
from omote.types import Mesh, PointCloud, Rgbd
from scan_files import (
    glb_bytes,
    gltf_parts,
    grid_mesh,
    npz_bytes,
    obj_bytes,
    off_bytes,
    pcd_bytes,
    ply_bytes,
    png_bytes,
    samples,
    stl_bytes,
    write_frame,
    xyz_bytes,
)

VERTICES, FACES, COLORS, NORMALS = grid_mesh()


def load(path: Path, content: bytes | None = None):
    if content is not None:
        path.write_bytes(content)
    return read_with_report(path, min_points=1)


def corners(mesh: Mesh) -> np.ndarray:
    """Triangles by position: equal for equal surfaces, however the vertices are numbered."""
    return mesh.vertices[mesh.faces]


@pytest.mark.parametrize("name", list(samples(VERTICES, FACES, COLORS, NORMALS)))
def test_every_format_gives_the_same_points_back(tmp_path, name):
    scan, report = load(tmp_path / name, samples(VERTICES, FACES, COLORS, NORMALS)[name])
    points = scan.vertices if isinstance(scan, Mesh) else scan.points
    assert len(points) == report.num_points == len(VERTICES)
    order, expected = np.lexsort(points.T), VERTICES[np.lexsort(VERTICES.T)]
    np.testing.assert_array_equal(points[order], expected)
    if isinstance(scan, Mesh) and "ragged" not in name:
        np.testing.assert_array_equal(corners(scan), VERTICES[FACES])
    colors = scan.vertex_colors if isinstance(scan, Mesh) else scan.colors
    if colors is not None and name[-3:] not in ("glb", "ltf"):  # theirs are linear: see below
        np.testing.assert_allclose(colors[order] * 255, COLORS[np.lexsort(VERTICES.T)], atol=1e-3)
    assert (colors is None) == (name in ("m.stl", "t.stl", "ragged_a.ply"))
    if isinstance(scan, PointCloud) and name.endswith("pcd"):
        np.testing.assert_allclose(scan.normals, NORMALS, atol=1e-6)
    assert report.kind == ("mesh" if isinstance(scan, Mesh) else "points")


@pytest.mark.parametrize("form", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_ply_polygons_are_triangulated_and_points_need_no_faces(tmp_path, form):
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [2, 0, 1]], float)
    mesh, _ = load(tmp_path / "q.ply", ply_bytes(square, [[0, 1, 2, 3], [1, 4, 2]], form=form))
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [0, 2, 3], [1, 4, 2]])
    cloud, _ = load(tmp_path / "p.ply", ply_bytes(square, None, COLORS[:5] / 255.0, NORMALS[:5], form=form))
    assert isinstance(cloud, PointCloud)
    np.testing.assert_allclose(cloud.colors, COLORS[:5] / 255.0, atol=1e-6)
    np.testing.assert_allclose(cloud.normals, NORMALS[:5], atol=1e-9)


def test_ply_texture_coordinates_per_corner(tmp_path):
    head = b"ply\nformat ascii 1.0\ncomment TextureFile t.png\nelement vertex 3\nproperty float x\nproperty float y\n"
    head += b"property float z\nelement face 1\nproperty list uchar int vertex_indices\n"
    head += b"property list uchar float texcoord\n"
    (tmp_path / "t.png").write_bytes(png_bytes(COLORS[:4].reshape(2, 2, 3)))
    mesh, report = load(tmp_path / "m.ply", head + b"end_header\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2 6 0 0 .5 0 0 .25\n")
    np.testing.assert_allclose(mesh.uv[mesh.faces_uv[0]], [[0, 0], [0.5, 0], [0, 0.25]])
    np.testing.assert_allclose(mesh.texture.reshape(-1, 3) * 255, COLORS[:4], atol=1e-3)
    assert report.has_color


OBJ = """mtllib m.mtl\nv 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0 # a comment\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\nvn 0 0 1
usemtl skin\nf 1/1/1 2/2/1 \\\n 3/3/1 -1/-1/-1\n"""


def test_obj_with_texture_negative_indices_and_continued_lines(tmp_path):
    (tmp_path / "m.mtl").write_text("newmtl skin\nKd 1 1 1\nmap_Kd -s 1 1 1 my tex.png\n")
    (tmp_path / "my tex.png").write_bytes(png_bytes(COLORS[:4].reshape(2, 2, 3)))
    mesh, report = load(tmp_path / "m.obj", OBJ.replace("\n", "\r\n").encode())
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [0, 2, 3]])
    np.testing.assert_array_equal(mesh.uv[mesh.faces_uv], mesh.vertices[mesh.faces][:, :, :2])
    np.testing.assert_allclose(mesh.texture.reshape(-1, 3) * 255, COLORS[:4], atol=1e-3)
    assert report.notes == ()


def test_obj_without_its_texture_or_library_is_read_by_shape_with_a_note(tmp_path):
    mesh, report = load(tmp_path / "m.obj", OBJ.encode())
    assert mesh.texture is None
    assert len(mesh.faces) == 2
    assert "m.mtl" in report.notes[1]
    (tmp_path / "m.mtl").write_text("newmtl skin\nmap_Kd gone.png\n")
    mesh, report = load(tmp_path / "m.obj")
    assert mesh.texture is None
    assert "gone.png" in report.notes[1]


def test_obj_indices_without_texture_coordinates_but_with_normals(tmp_path):
    mesh, _ = load(tmp_path / "m.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nvn 0 0 1\nf 1//1 2//1 3//1\n")
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2]])
    assert mesh.faces_uv is None


def test_obj_materials_are_merged_into_one_texture_that_shows_the_same_colours(tmp_path):
    red, blue = np.full((8, 8, 3), [255, 0, 0], np.uint8), np.full((16, 4, 3), [0, 0, 255], np.uint8)
    (tmp_path / "r.png").write_bytes(png_bytes(red))
    (tmp_path / "b.png").write_bytes(png_bytes(blue))
    (tmp_path / "m.mtl").write_text("newmtl r\nmap_Kd r.png\nnewmtl b\nmap_Kd b.png\nnewmtl g\nKd 0 1 0\n")
    text = "mtllib m.mtl\n" + "".join(f"v {k} {k * k} 0\n" for k in range(9)) + "vt 0 0\nvt 1 0\nvt 1 1\n"
    text += "usemtl r\nf 1/1 2/2 3/3\nusemtl b\nf 4/1 5/2 6/3\nusemtl g\nf 7 8 9\n"
    mesh, _ = load(tmp_path / "m.obj", text.encode())
    height, width = mesh.texture.shape[:2]
    for face, color in zip(mesh.faces_uv, np.eye(3)[[0, 2, 1]], strict=True):
        for u, v in [*mesh.uv[face], mesh.uv[face].mean(axis=0)]:
            texel = mesh.texture[min(int((1 - v) * height), height - 1), min(int(u * width), width - 1)]
            np.testing.assert_allclose(texel, color)


def test_glb_applies_node_transforms_and_flips_v_and_encodes_colours(tmp_path):
    half = np.full((len(VERTICES), 3), 0.5)
    turn = [0, 0, np.sin(np.pi / 4), np.cos(np.pi / 4)]  # 90° about z
    nodes = [{"children": [1], "translation": [10, 0, 0]}, {"mesh": 0, "rotation": turn, "scale": [2, 2, 2]}]
    texture = png_bytes(COLORS[:4].reshape(2, 2, 3))
    root, data = gltf_parts(VERTICES, FACES, half, VERTICES[:, :2], texture, nodes)
    mesh, _ = load(tmp_path / "m.glb", glb_bytes(root, data))
    expected = 2 * VERTICES[:, [1, 0, 2]] * [-1, 1, 1] + [10, 0, 0]
    np.testing.assert_allclose(corners(mesh), expected[FACES], atol=1e-6)
    np.testing.assert_allclose(mesh.vertex_colors, 0.735357, atol=1e-5)  # sRGB of linear 0.5
    uv = VERTICES[FACES][:, :, :2] * [1, -1] + [0, 1]
    np.testing.assert_allclose(mesh.uv[mesh.faces_uv], uv, atol=1e-6)
    assert mesh.texture.shape == (2, 2, 3)


def test_a_mirrored_node_keeps_faces_outward_and_a_skinned_one_ignores_its_transform(tmp_path):
    root, data = gltf_parts(VERTICES, FACES, nodes=[{"mesh": 0, "scale": [-1, 1, 1]}])
    mesh, _ = load(tmp_path / "m.glb", glb_bytes(root, data))
    np.testing.assert_allclose(corners(mesh), (VERTICES * [-1, 1, 1])[FACES[:, [0, 2, 1]]], atol=1e-6)
    root["nodes"] = [{"mesh": 0, "skin": 0, "scale": [-1, 1, 1]}]
    mesh, _ = load(tmp_path / "m.glb", glb_bytes(root, data))
    np.testing.assert_allclose(corners(mesh), VERTICES[FACES], atol=1e-6)


def test_gltf_with_buffer_and_image_beside_it(tmp_path):
    root, data = gltf_parts(VERTICES, FACES, uv=VERTICES[:, :2], texture=png_bytes(COLORS[:4].reshape(2, 2, 3)))
    root["images"], root["buffers"][0]["uri"] = [{"uri": "my%20tex.png"}], "m.bin"
    (tmp_path / "m.bin").write_bytes(data)
    (tmp_path / "my tex.png").write_bytes(png_bytes(COLORS[:6].reshape(2, 3, 3)))
    mesh, report = load(tmp_path / "m.gltf", json.dumps(root).encode())
    assert mesh.texture.shape == (2, 3, 3)
    (tmp_path / "my tex.png").unlink()
    mesh, report = load(tmp_path / "m.gltf")
    assert mesh.texture is None
    assert report.notes


def test_primitives_of_several_nodes_are_merged(tmp_path):
    root, data = gltf_parts(VERTICES, FACES, nodes=[{"mesh": 0}, {"mesh": 0, "translation": [100, 0, 0]}])
    root["scenes"][0]["nodes"] = [0, 1]
    _, report = load(tmp_path / "m.glb", glb_bytes(root, data))
    assert (report.num_points, report.num_faces) == (2 * len(VERTICES), 2 * len(FACES))


@pytest.mark.parametrize(
    ("header", "has_colors", "has_normals"),
    [
        (b"", 1, 1),
        (b"\xef\xbb\xbf# a comment\n36\n", 1, 1),
        (b"//X,Y,Z,R,G,B,Nx,Ny,Nz\n", 1, 1),
        (b"x y z a b c d e f\n", 0, 0),
    ],
)
def test_xyz_headers_and_columns(tmp_path, header, has_colors, has_normals):
    for content in (xyz_bytes(VERTICES, COLORS, NORMALS), xyz_bytes(VERTICES, COLORS, NORMALS).replace(b" ", b", ")):
        cloud, _ = load(tmp_path / "p.xyz", header + content)
        np.testing.assert_array_equal(cloud.points, VERTICES)
        assert (cloud.colors is not None, cloud.normals is not None) == (bool(has_colors), bool(has_normals))
        if has_colors:
            np.testing.assert_allclose(cloud.colors * 255, COLORS, atol=1e-3)
            np.testing.assert_allclose(cloud.normals, NORMALS, atol=1e-9)


def test_six_columns_are_normals_where_they_have_length_one(tmp_path):
    cloud, _ = load(tmp_path / "p.txt", xyz_bytes(VERTICES, NORMALS))
    assert cloud.colors is None
    np.testing.assert_allclose(cloud.normals, NORMALS, atol=1e-9)
    cloud, _ = load(tmp_path / "p.txt", xyz_bytes(VERTICES, COLORS / 255.0))
    assert cloud.normals is None
    np.testing.assert_allclose(cloud.colors * 255, COLORS, atol=1e-3)


def test_cleaning_drops_nans_duplicates_unused_and_degenerate(tmp_path):
    points = np.array(
        [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 0, 0], [np.nan, 0, 0], [1e30, 0, 0], [9, 9, 9], [2, 0, 0]], float
    )
    faces = np.array([[0, 1, 2], [0, 3, 2], [1, 3, 2], [0, 1, 7], [0, 1, 4]])
    mesh, report = load(tmp_path / "m.npz", npz_bytes(vertices=points, faces=faces))
    np.testing.assert_array_equal(mesh.vertices, points[:3])
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [0, 1, 2]])
    assert (report.num_dropped_nan, report.num_duplicates) == (2, 1)
    assert (report.num_unused, report.num_degenerate_faces) == (2, 2)


def test_a_million_nans_are_dropped_and_counted(tmp_path):
    points = np.full((1_000_600, 3), np.nan, np.float32)
    points[::2][:600] = np.random.default_rng(0).normal(size=(600, 3))
    cloud, report = load(tmp_path / "p.npz", npz_bytes(points=points))
    assert (report.num_points, report.num_dropped_nan) == (600, 1_000_000)
    assert np.isfinite(cloud.points).all()


def test_seams_keep_their_texture_coordinates_when_vertices_merge(tmp_path):
    points = VERTICES[FACES].reshape(-1, 3)
    uv = np.random.default_rng(1).uniform(size=(len(points), 2))
    root, data = gltf_parts(
        points, np.arange(len(points)).reshape(-1, 3), uv=uv, texture=png_bytes(COLORS[:4].reshape(2, 2, 3))
    )
    mesh, report = load(tmp_path / "m.glb", glb_bytes(root, data))
    assert report.num_points == len(VERTICES)
    np.testing.assert_allclose(mesh.uv[mesh.faces_uv].reshape(-1, 2), uv * [1, -1] + [0, 1], atol=1e-6)


def test_rgbd_frame_of_16_bit_and_of_float_depth(tmp_path):
    rng = np.random.default_rng(2)
    depth = rng.integers(400, 900, (30, 40)).astype(np.uint16)
    depth[:3] = 0
    rgb = rng.integers(0, 256, (30, 40, 3)).astype(np.uint8)
    frame, report = load(write_frame(tmp_path / "a", depth, rgb, depth_scale_mm=0.5))
    assert isinstance(frame, Rgbd)
    np.testing.assert_array_equal(frame.depth_mm, depth * 0.5)
    np.testing.assert_array_equal(frame.mask, depth > 0)
    np.testing.assert_allclose(frame.rgb * 255, rgb, atol=1e-3)
    np.testing.assert_array_equal(frame.camera.intrinsics, [[100, 0, 20], [0, 110, 15], [0, 0, 1]])
    np.testing.assert_array_equal(frame.camera.cam_from_world, np.eye(4))
    assert (report.kind, report.num_points, report.num_dropped_nan) == ("rgbd", 27 * 40, 120)

    metres = np.where(depth > 0, depth / 1000.0, np.nan).astype(np.float32)
    folder = write_frame(tmp_path / "b", metres, rgb, depth_unit="m", pixel_center=0)
    frame, _ = load(folder / "intrinsics.json")
    np.testing.assert_allclose(frame.depth_mm, depth, rtol=1e-6)
    assert frame.camera.intrinsics[0, 2] == 20.5


def test_rgbd_colour_and_intrinsics_of_another_size_follow_the_depth(tmp_path):
    depth = np.full((30, 40), 500, np.uint16)
    folder = write_frame(tmp_path / "a", depth, np.full((60, 80, 3), 51, np.uint8), width=80, height=60)
    frame, report = load(folder)
    assert frame.rgb.shape == (30, 40, 3)
    np.testing.assert_allclose(frame.rgb, 0.2, atol=1e-6)
    np.testing.assert_allclose(frame.camera.intrinsics, [[50, 0, 10], [0, 55, 7.5], [0, 0, 1]])
    assert "80 × 60" in report.notes[0]


def test_open3d_intrinsics(tmp_path):
    folder = write_frame(tmp_path / "a", np.full((30, 40), 500, np.uint16), np.zeros((30, 40, 3), np.uint8))
    (folder / "intrinsics.json").write_text(
        json.dumps({"width": 40, "height": 30, "intrinsic_matrix": [100, 0, 0, 0, 110, 0, 21, 16, 1]})
    )
    np.testing.assert_array_equal(load(folder)[0].camera.intrinsics, [[100, 0, 21], [0, 110, 16], [0, 0, 1]])


coordinate = st.floats(-1e6, 1e6, width=32)


@given(
    data=st.lists(st.tuples(coordinate, coordinate, coordinate), min_size=3, max_size=20, unique=True),
    picks=st.lists(st.tuples(*[st.integers(0, 10**6)] * 3), max_size=20),
)
def test_random_meshes_read_alike_from_every_format(tmp_path_factory, data, picks):
    folder = tmp_path_factory.mktemp("meshes")
    vertices = np.array(data) + 0.0
    faces = np.array([[0, 1, 2], *picks]) % len(vertices)
    whole = [f for f in faces if np.cross(*(vertices[f[1:]] - vertices[f[0]])).any() and len(set(f.tolist())) == 3]
    if not whole:
        return
    root, blob = gltf_parts(vertices, faces)
    contents = {
        "l.ply": ply_bytes(vertices, faces),
        "b.ply": ply_bytes(vertices, faces, form="binary_big_endian"),
        "a.ply": ply_bytes(vertices, faces, form="ascii"),
        "m.obj": obj_bytes(vertices, faces),
        "m.stl": stl_bytes(vertices, faces),
        "t.stl": stl_bytes(vertices, faces, text=True),
        "m.off": off_bytes(vertices, faces),
        "m.npz": npz_bytes(vertices=vertices, faces=faces),
        "m.glb": glb_bytes(root, blob),
    }
    for name, content in contents.items():
        np.testing.assert_array_equal(corners(load(folder / name, content)[0]), vertices[np.array(whole)])


@given(data=st.lists(st.tuples(*[st.sampled_from([-1.0, -0.0, 0.0, 1.0, 2.5])] * 3), max_size=60))
def test_unique_points_are_numpy_s_in_file_order(data):
    points = np.array(data, float).reshape(-1, 3) + 0.0
    first, inverse = unique_points(points)
    np.testing.assert_array_equal(points[first][inverse], points)
    assert len(first) == len(np.unique(points, axis=0))
    assert (np.diff(first) > 0).all()


@pytest.mark.parametrize("data", ["ascii", "binary", "binary_compressed"])
def test_pcd_points_alone(tmp_path, data):
    points = np.repeat(VERTICES, 30, axis=0) * np.linspace(1, 2, 30 * len(VERTICES), dtype=np.float32)[:, None]
    cloud, _ = load(tmp_path / "p.pcd", pcd_bytes(points, data=data))
    np.testing.assert_array_equal(cloud.points, points.astype(np.float32))


@pytest.mark.parametrize(
    ("name", "num_points", "textured"), [("lee_perry_smith", 8842, True), ("demoface_10k", 10000, False)]
)
def test_real_scans(shared_dir, name, num_points, textured):
    mesh, report = read_with_report(shared_dir / "data" / "scans" / f"{name}.obj")
    assert report.num_points == num_points
    assert report.notes == (() if textured else ("no colour was read: the skin will be drawn",))
    assert (mesh.texture is not None) == textured
    edges = np.sort(np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]]), axis=1)
    _, uses = np.unique(edges, axis=0, return_counts=True)
    assert (uses == 2).mean() > 0.9  # one welded surface, not a soup
