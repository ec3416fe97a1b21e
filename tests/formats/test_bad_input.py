from __future__ import annotations

import io
import json
import os
import struct
import tracemalloc
import zipfile
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import omote.formats.kernels  # noqa: F401  # so that no test measures the memory of importing numba
from omote.errors import ScanError
from omote.formats import read, read_with_report
from scan_files import (
    glb_bytes,
    gltf_bytes,
    gltf_parts,
    grid_mesh,
    npz_bytes,
    png_bytes,
    samples,
    write_frame,
)

VERTICES, FACES, COLORS, NORMALS = grid_mesh()
SAMPLES = samples(VERTICES, FACES, COLORS, NORMALS)


def refused(path, content: bytes | None = None, *, min_points: int = 1, megabytes: float = 32.0) -> str:
    """Return the message after checking that it is one line and that memory stayed bounded."""
    if content is not None:
        path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ScanError) as caught:
            read_with_report(path, min_points=min_points)
        assert tracemalloc.get_traced_memory()[1] < megabytes * 1e6
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


def test_missing_empty_folder_device_and_unknown(tmp_path):
    assert "no such file" in refused(tmp_path / "no.ply")
    assert "empty" in refused(tmp_path / "e.ply", b"")
    assert "folder" in refused(tmp_path)
    assert "suffix" in refused(tmp_path / "x.max", b"1234")
    os.mkfifo(tmp_path / "pipe.ply")
    assert "pipe" in refused(tmp_path / "pipe.ply")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path):
    (tmp_path / "a.ply").write_bytes(SAMPLES["a.ply"])
    (tmp_path / "a.ply").chmod(0)
    assert "permission" in refused(tmp_path / "a.ply")


def test_no_permission_has_its_own_message(tmp_path, monkeypatch):
    (tmp_path / "a.ply").write_bytes(SAMPLES["a.ply"])
    monkeypatch.setattr("omote.formats.source.os.open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "no")))
    assert "permission" in refused(tmp_path / "a.ply")


@pytest.mark.parametrize(
    "suffix", [".ply", ".obj", ".stl", ".off", ".pcd", ".xyz", ".npz", ".glb", ".gltf", ".wrl", ".json"]
)
@pytest.mark.parametrize("source", ["le.ply", "m.glb", "b.pcd", "p.npz", "m.off", "m.wrl", "png", "garbage"])
def test_content_that_is_not_what_the_name_says(tmp_path, suffix, source):
    special = {"png": png_bytes(COLORS[:4].reshape(2, 2, 3)), "garbage": np.random.default_rng(0).bytes(5000)}
    if source.endswith(suffix):
        return
    refused(tmp_path / f"x{suffix}", special.get(source) or SAMPLES[source])


def test_fewer_than_500_usable_points(tmp_path):
    (tmp_path / "a.ply").write_bytes(SAMPLES["a.ply"])
    with pytest.raises(ScanError, match="at least 500 usable points, got 36"):
        read(tmp_path / "a.ply")


def test_nothing_but_a_million_nans(tmp_path):
    message = refused(tmp_path / "p.npz", npz_bytes(points=np.full((1_000_000, 3), np.nan, np.float32)), megabytes=200)
    assert "1,000,000 not finite" in message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.ply", b"ply\nformat ascii 1.0\nelement vertex 1000000000\nproperty float x\nend_header\n"),
        ("b.ply", b"ply\nformat binary_little_endian 1.0\nelement vertex 1000000000\nproperty float x\nend_header\n"),
        ("c.ply", b"ply\nformat ascii 1.0\nelement junk 999999999\nproperty float x\n"
         b"element vertex 1\nproperty float x\nend_header\n"),
        ("d.ply", b"ply\nformat ascii 1.0\nelement vertex -5\nproperty float x\nend_header\n"),
        ("s.stl", b"\0" * 80 + struct.pack("<I", 10**9)),
        ("o.off", b"OFF\n1000000000 1 0\n0 0 0\n"),
        ("p.pcd", b"VERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nWIDTH 1000000000\nHEIGHT 1\nDATA binary\n"),
        ("q.pcd", b"VERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nWIDTH 10000000\nHEIGHT 1\n"
         b"DATA binary_compressed\n"
         + struct.pack("<II", 10, 120000000) + b"\0" * 10),
        ("g.glb", b"glTF" + struct.pack("<IIII", 2, 10**9, 10**9, 0x4E4F534A)),
    ],
)  # fmt: skip
def test_a_tiny_file_that_claims_a_billion(tmp_path, name, content):
    message = refused(tmp_path / name, content, megabytes=16)
    assert "claims" in message or "count" in message or "at most" in message


def test_gltf_accessor_that_claims_a_billion(tmp_path):
    root, data = gltf_parts(VERTICES, FACES)
    root["accessors"][0]["count"] = 10**9
    assert "claims" in refused(tmp_path / "m.glb", glb_bytes(root, data))


@pytest.mark.parametrize(
    "name", ["le.ply", "be.ply", "ragged.ply", "a.ply", "m.stl", "m.off", "b.pcd", "c.pcd", "m.glb", "p.npz"]
)
def test_truncated(tmp_path, name):
    content = SAMPLES[name]
    for part in (0.5, 0.9, 0.97):
        if name.endswith("ply") and part > 0.95:  # that is the tail element, which is not read
            continue
        refused(tmp_path / name, content[: int(len(content) * part)])


@pytest.mark.parametrize(
    "face",
    [
        "f 1 2 99",
        "f 0 1 2",
        "f 1 2 -99",
        "f 1/9 2/9 3/9",
        "f 1 2 x",
        "f a",
        "f",
        "f /1 /2 /3",
        "f 1 2 99999999999999999999",
    ],
)
def test_obj_with_indices_out_of_range(tmp_path, face):
    refused(tmp_path / "m.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\n" + face.encode() + b"\n")


@pytest.mark.parametrize("name", ["m.off", "m.npz", "le.ply", "m.glb"])
def test_other_formats_with_indices_out_of_range(tmp_path, name):
    faces = FACES.copy()
    faces[3, 1] = 36
    if name == "m.npz":
        content = npz_bytes(vertices=VERTICES, faces=faces)
    else:
        content = samples(VERTICES, faces, COLORS, NORMALS)[name]
    assert "refers to vertex 36" in refused(tmp_path / name, content)


def huge_png(size: int) -> bytes:
    """Write a valid header of size² pixels and a short stream."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 10**6))
        + chunk(b"IEND", b"")
    )


def only_notes(path, content: bytes) -> str:
    """Return the notes of a scan that is read by its shape alone, after checking that memory stayed bounded."""
    path.write_bytes(content)
    tracemalloc.start()
    try:
        mesh, report = read_with_report(path, min_points=1)
        assert tracemalloc.get_traced_memory()[1] < 32e6
    finally:
        tracemalloc.stop()
    assert mesh.texture is None
    assert report.notes[0].startswith("no colour was read")
    return " ".join(report.notes[1:])


TEXTURED_OBJ = "mtllib m.mtl\nusemtl a\nvt 0 0\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1/1 2/1 3/1\n"


@pytest.mark.parametrize("size", [9000, 30000])
def test_decompression_bomb_texture(tmp_path, size):
    (tmp_path / "t.png").write_bytes(huge_png(size))
    (tmp_path / "m.mtl").write_text("newmtl a\nmap_Kd t.png\n")
    assert "pixels" in only_notes(tmp_path / "m.obj", TEXTURED_OBJ.encode())
    root, data = gltf_parts(VERTICES, FACES, uv=VERTICES[:, :2], texture=huge_png(size))
    assert "pixels" in only_notes(tmp_path / "m.glb", glb_bytes(root, data))


def test_truncated_texture(tmp_path):
    content = png_bytes(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8))
    root, data = gltf_parts(VERTICES, FACES, uv=VERTICES[:, :2], texture=content[: len(content) // 2])
    assert "truncated" in only_notes(tmp_path / "m.glb", glb_bytes(root, data))


def zip_of(name: str, body: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, body)
    return out.getvalue()


def npy(shape: tuple, dtype: str = "<f8", body: bytes = b"") -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": dtype, "fortran_order": False, "shape": shape})
    return out.getvalue() + body


def test_npz_bombs_and_pickles(tmp_path):
    bomb = zip_of("points.npy", npy((100_000_000, 3), body=b"\0" * 50_000_000))
    assert len(bomb) < 100_000
    assert "claims" in refused(tmp_path / "p.npz", bomb)
    assert "claims" in refused(tmp_path / "p.npz", zip_of("points.npy", npy((10**9, 3))))
    out = io.BytesIO()
    np.savez(out, points=np.array([{"a": 1}], object))
    assert "objects" in refused(tmp_path / "p.npz", out.getvalue())
    assert "'points' or 'vertices'" in refused(tmp_path / "p.npz", npz_bytes(stuff=VERTICES))
    assert "shape" in refused(tmp_path / "p.npz", npz_bytes(points=VERTICES[:, :2]))
    assert "shape" in refused(tmp_path / "p.npz", npz_bytes(points=VERTICES, colors=COLORS[:5]))


@pytest.mark.parametrize(
    "name",
    [
        "../secret.png",
        "/etc/secret.png",
        "C:\\Users\\me\\secret.png",
        "a/../../secret.png",
        "..\\secret.png",
        "file:///etc/secret.png",
    ],
)
def test_names_that_leave_the_folder_are_not_followed(tmp_path, name):
    folder = tmp_path / "scan"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(png_bytes(COLORS[:4].reshape(2, 2, 3)))
    (folder / "m.mtl").write_text(f"newmtl a\nmap_Kd {name}\n")
    assert "secret.png" in only_notes(folder / "m.obj", TEXTURED_OBJ.encode())
    (folder / "m.mtl").unlink()
    assert "secret.png" in only_notes(folder / "n.obj", TEXTURED_OBJ.replace("m.mtl", name).encode())
    root, data = gltf_parts(VERTICES, FACES, uv=VERTICES[:, :2], texture=b"")
    root["images"] = [{"uri": name}]
    assert "secret.png" in only_notes(folder / "m.glb", glb_bytes(root, data))
    root, data = gltf_parts(VERTICES, FACES)
    refused(folder / "m.gltf", json.dumps(root | {"buffers": [{"byteLength": 9, "uri": name}]}).encode())
    frame = write_frame(folder / "f", np.full((30, 40), 500, np.uint16), np.zeros((30, 40, 3), np.uint8), color=name)
    refused(frame)


def test_an_absolute_texture_name_is_looked_up_beside_the_scan(tmp_path):
    (tmp_path / "t.png").write_bytes(png_bytes(COLORS[:4].reshape(2, 2, 3)))
    (tmp_path / "m.mtl").write_text("newmtl a\nmap_Kd C:\\Users\\me\\t.png\n")
    (tmp_path / "m.obj").write_text(TEXTURED_OBJ)
    assert read_with_report(tmp_path / "m.obj", min_points=1)[0].texture.shape == (2, 2, 3)


def test_gltf_loops_and_broken_extensions(tmp_path):
    root, data = gltf_parts(VERTICES, FACES, nodes=[{"mesh": 0, "children": [0]}])
    assert "loop" in refused(tmp_path / "m.glb", glb_bytes(root, data))
    root, data = gltf_parts(VERTICES, FACES)
    root["meshes"][0]["primitives"][0]["extensions"] = {"KHR_draco_mesh_compression": {}}
    assert "bufferView" in refused(tmp_path / "m.glb", glb_bytes(root, data))
    assert "JSON" in refused(tmp_path / "m.gltf", b"[" * 100_000)


@pytest.mark.parametrize(
    ("layout", "expected"),
    [({"fx": None}, "'fx'"), ({"fx": -1.0}, "over 0"), ({"fx": "a"}, "number"), ({"depth": "no.png"}, "no.png"),
     ({"depth": "color.png"}, "8-bit"), ({"width": 90, "height": 30}, "register"), ({"depth_scale_mm": 0}, "over 0"),
     ({"intrinsics": "no.json"}, "no.json"), ({"intrinsics": 3}, "object"), ({"depth_unit": "foot"}, "depth_unit"),
     ({"color": 3}, "file name"), ({"intrinsic_matrix": [1, 2]}, "9 numbers")],
)  # fmt: skip
def test_rgbd_layouts(tmp_path, layout, expected):
    depth = np.full((30, 40), 500, np.uint16)
    folder = write_frame(tmp_path / "f", depth, np.zeros((30, 40, 3), np.uint8), **layout)
    assert expected in refused(folder)


def test_rgbd_depth_that_is_empty_float_without_unit_or_too_large(tmp_path):
    rgb = np.zeros((30, 40, 3), np.uint8)
    assert "pixels with depth" in refused(write_frame(tmp_path / "a", np.zeros((30, 40), np.uint16), rgb))
    folder = write_frame(tmp_path / "b", np.ones((30, 40), np.float32), rgb)
    assert "depth_unit" in refused(folder)
    (folder / "depth.npy").write_bytes(npy((10**5, 10**5)))
    assert "claims" in refused(folder)
    (folder / "intrinsics.json").write_text("{")
    assert "JSON" in refused(folder)


def test_a_line_without_end_is_not_held_in_memory(tmp_path):
    assert "bytes long" in refused(tmp_path / "p.obj", b"v 0 0 0" + b" 0" * 10_000_000, megabytes=100)


@pytest.mark.parametrize("name", list(SAMPLES))
@given(data=st.data())
def test_mutated_files_are_read_or_refused_and_nothing_else(tmp_path_factory, name, data):
    content = bytearray(SAMPLES[name])
    head = data.draw(st.booleans())  # headers are short and matter most
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, min(len(content), 400 if head else len(content)) - 1))
        content[place] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        cut = data.draw(st.integers(0, len(content) - 1))
        content = content[:cut] + content[cut + data.draw(st.integers(0, 40)) :]
    path = tmp_path_factory.mktemp("fuzz") / name
    path.write_bytes(bytes(content))
    try:
        scan, _ = read_with_report(path, min_points=1)
    except ScanError as error:
        assert "\n" not in str(error)  # noqa: PT017  # either outcome is right
        return
    points = scan.points if hasattr(scan, "points") else scan.vertices
    assert np.isfinite(points).all()


@given(content=st.binary(max_size=300), suffix=st.sampled_from([".obj", ".stl", ".xyz", ".gltf", ".json"]))
@example(content=b"f 1//\n", suffix=".obj")
@example(content=b"{}", suffix=".gltf")
def test_garbage_is_refused(tmp_path_factory, content, suffix):
    path = tmp_path_factory.mktemp("garbage") / f"x{suffix}"
    path.write_bytes(content)
    with pytest.raises(ScanError):
        read(path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**12) | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["index", "source", "extensions", "nodes"]), inner, max_size=2)
    ),
    max_leaves=4,
)


@given(data=st.data())
def test_gltf_with_any_value_anywhere(tmp_path_factory, data):
    """Replaces one value of a valid document by any JSON value."""
    root, blob = gltf_parts(VERTICES, FACES, COLORS / 255.0, VERTICES[:, :2], png_bytes(COLORS[:4].reshape(2, 2, 3)))
    root = json.loads(json.dumps(root))
    parent = root
    while True:
        key = data.draw(st.sampled_from(sorted(parent) if isinstance(parent, dict) else list(range(len(parent)))))
        if not isinstance(parent[key], dict | list) or not parent[key] or data.draw(st.integers(0, 4)) == 0:
            parent[key] = data.draw(json_values)
            break
        parent = parent[key]
    path = tmp_path_factory.mktemp("gltf") / "m.gltf"
    path.write_bytes(gltf_bytes(root, blob))
    with suppress(ScanError):
        read_with_report(path, min_points=1)


def test_samples_are_valid(tmp_path):
    """The mutations above start from files that do read."""
    for name, content in SAMPLES.items():
        (tmp_path / name).write_bytes(content)
        assert read_with_report(tmp_path / name, min_points=1)[1].num_points == 36
