"""Files that a scan names: found however they are spelled, and never outside its folder."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from omote.errors import ScanError
from omote.formats import read_with_report
from scan_files import glb_bytes, gltf_parts, grid_mesh, ply_bytes, png_bytes, write_frame, wrl_bytes

VERTICES, FACES, COLORS, _ = grid_mesh()
UV = (VERTICES[:, :2] - VERTICES[:, :2].min(0)) / np.ptp(VERTICES[:, :2], axis=0)
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 4, 3)).astype(np.uint8)
TRIANGLE = b"v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\n"


def obj(folder: Path, name: bytes, library: bytes = b"m.mtl", keyword: bytes = b"map_Kd"):
    """Read a triangle whose material has an image of this name."""
    (folder / "m.mtl").write_bytes(b"newmtl a\n" + keyword + b" " + name + b"\n")
    (folder / "m.obj").write_bytes(b"mtllib " + library + b"\n" + TRIANGLE + b"usemtl a\nf 1/1 2/2 3/3\n")
    return read_with_report(folder / "m.obj", min_points=1)


def assert_found(found) -> None:
    mesh, report = found
    assert report.notes == ()
    np.testing.assert_allclose(mesh.texture * 255, PIXELS, atol=1e-3)


@given(
    name=st.sampled_from([
        "face.png", "Face 1.PNG", "顔テクスチャ.png", "größe.png", "лицо.png", "表面.png", "a+b%20c.png", "x#1.png",
    ]),
    encoding=st.sampled_from(["utf-8", "cp932", "gb18030", "cp1252", "cp1251"]),
    where=st.sampled_from(["", "./", "C:\\Users\\me\\", "/home/me/", "../", "textures/", "textures\\", "file:///C:/a/"]),
    case=st.sampled_from([str, str.upper, str.lower]),
    form=st.sampled_from(["NFC", "NFD"]),
)  # fmt: skip
def test_images_are_found_in_any_case_form_code_page_and_place(tmp_path_factory, name, encoding, where, case, form):
    try:
        spelled = (where + case(name)).encode(encoding)
    except UnicodeEncodeError:
        return
    folder = tmp_path_factory.mktemp("names")
    (folder / unicodedata.normalize(form, name)).write_bytes(png_bytes(PIXELS))
    if name != "a+b%20c.png" or not where.startswith("file"):
        assert_found(obj(folder, spelled))


def test_percent_signs_are_undone_where_that_finds_the_file(tmp_path):
    (tmp_path / "my tex.png").write_bytes(png_bytes(PIXELS))
    assert_found(obj(tmp_path, b"my%20tex.png"))


@pytest.mark.parametrize(
    "keyword", [b"map_Kd", b"map_kd", b"MAP_KD", b"map_Ka", b"map_Ke", b"map_Kd -s 1 1 1 -clamp on"]
)
def test_keywords_of_images(tmp_path, keyword):
    (tmp_path / "t.png").write_bytes(png_bytes(PIXELS))
    assert_found(obj(tmp_path, b"t.png", keyword=keyword))


def test_several_libraries_on_a_line_and_names_with_spaces(tmp_path):
    (tmp_path / "t.png").write_bytes(png_bytes(PIXELS))
    for library in (b"m.mtl other.mtl", b"other.mtl m.mtl", b"my lib.mtl M.MTL"):
        mesh, report = obj(tmp_path, b"t.png", library)
        assert mesh.texture is not None
        assert len(report.notes) == 1
        assert "other.mtl" in report.notes[0] or "my lib.mtl" in report.notes[0]
    os.rename(tmp_path / "m.mtl", tmp_path / "my lib.mtl")
    mesh, report = read_with_report(tmp_path / "m.obj", min_points=1)
    assert mesh.texture is not None


def test_a_library_of_the_scans_own_name_stands_in_for_one_that_is_absent(tmp_path):
    (tmp_path / "t.png").write_bytes(png_bytes(PIXELS))
    mesh, report = obj(tmp_path, b"t.png", b"lost.mtl")
    assert mesh.texture is not None
    assert any("'m.mtl' is taken" in note for note in report.notes)


def test_materials_without_usemtl_or_of_another_case(tmp_path):
    (tmp_path / "t.png").write_bytes(png_bytes(PIXELS))
    obj(tmp_path, b"t.png")
    text = (tmp_path / "m.obj").read_bytes()
    for changed in (
        text.replace(b"usemtl a\n", b""),
        text.replace(b"usemtl a", b"usemtl A"),
        text.replace(b"usemtl a", b"usemtl b"),
    ):
        (tmp_path / "m.obj").write_bytes(changed)
        assert read_with_report(tmp_path / "m.obj", min_points=1)[0].texture is not None
    (tmp_path / "m.mtl").write_bytes(b"newmtl c\nmap_Kd t.png\nnewmtl d\nmap_Kd t.png\n")
    for changed, says in ((text.replace(b"usemtl a\n", b""), "no 'usemtl'"), (text, "material 'a' is in no library")):
        (tmp_path / "m.obj").write_bytes(changed)
        mesh, report = read_with_report(tmp_path / "m.obj", min_points=1)
        assert mesh.texture is None
        assert report.notes[0].startswith("no colour was read")
        assert any(says in note for note in report.notes)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        b"\xabKTX 20\xbb\r\n\x1a\n",
        b"DDS " + b"\0" * 200,
        b"GIF89a",
        png_bytes(PIXELS)[:40],
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_an_image_that_cannot_be_read_is_a_note(tmp_path, content):
    (tmp_path / "t.png").write_bytes(content)
    mesh, report = obj(tmp_path, b"t.png")
    assert mesh.texture is None
    assert report.notes[0].startswith("no colour was read")
    assert "t.png" in report.notes[1]
    root, data = gltf_parts(VERTICES, FACES, uv=UV, texture=content or b"\0")
    (tmp_path / "m.glb").write_bytes(glb_bytes(root, data))
    mesh, report = read_with_report(tmp_path / "m.glb", min_points=1)
    assert mesh.texture is None
    assert len(report.notes) == 2


def texel(mesh, face: int) -> np.ndarray:
    """Colour in the middle of a face, 0 to 255."""
    u, v = mesh.uv[mesh.faces_uv[face]].mean(axis=0)
    height, width = mesh.texture.shape[:2]
    return 255 * mesh.texture[min(int((1 - v) * height), height - 1), min(int(u * width), width - 1)]


def test_several_textures_of_a_mesh_in_every_format(tmp_path):
    palette = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    for k, color in enumerate(palette):
        (tmp_path / f"t{k}.png").write_bytes(png_bytes(np.full((4 + k, 8, 3), color, np.uint8)))
    owner = np.arange(len(FACES)) % 4  # the fourth has no image
    head = ply_bytes(VERTICES, FACES, form="ascii").decode()
    head = head.replace("comment made by a test", "".join(f"comment TextureFile t{k}.png\n" for k in range(3)).strip())
    head = head.replace(
        "vertex_indices\n", "vertex_indices\nproperty list uchar float texcoord\nproperty int texnumber\n"
    )
    start, _, rows = head.partition("end_header\n")
    lines = rows.splitlines()
    painted = [f"{line} 6 .2 .2 .8 .2 .2 .8 {k if k < 3 else -1}" for line, k in zip(lines[36:], owner, strict=True)]
    ply = "\n".join([start + "end_header", *lines[:36], *painted, ""])
    library = "".join(f"newmtl m{k}\nmap_Kd t{k}.png\n" for k in range(3)) + "newmtl m3\nKd 0 0 1\n"
    text = "mtllib m.mtl\nvt .2 .2\nvt .8 .2\nvt .2 .8\n" + "".join(f"v {x} {y} {z}\n" for x, y, z in VERTICES)
    for (a, b, c), k in zip(FACES + 1, owner, strict=True):
        text += f"usemtl m{k}\nf {a}/1 {b}/2 {c}/3\n"
    (tmp_path / "m.mtl").write_text(library)
    root, data = gltf_parts(VERTICES, FACES, uv=UV)
    root["images"] = [{"uri": f"t{k}.png"} for k in range(3)]
    root["textures"] = [{"source": k} for k in range(3)]
    root["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": k}}} for k in range(3)]
    root["materials"].append({"pbrMetallicRoughness": {"baseColorFactor": [0, 0, 1, 1]}})
    faces = b"".join(FACES[owner == k].astype("<u4").tobytes() for k in range(4))
    primitive, start_byte = root["meshes"][0]["primitives"][0], len(data)
    root["meshes"][0]["primitives"] = []
    for k in range(4):
        size = 12 * int((owner == k).sum())
        root["bufferViews"].append({"buffer": 0, "byteOffset": start_byte, "byteLength": size})
        root["accessors"].append(
            {"bufferView": len(root["bufferViews"]) - 1, "componentType": 5125, "count": size // 4, "type": "SCALAR"}
        )
        root["meshes"][0]["primitives"].append({**primitive, "indices": len(root["accessors"]) - 1, "material": k})
        start_byte += size
    root["buffers"] = [{"byteLength": start_byte}]
    for name, content, owners in (
        ("a.ply", ply.encode(), owner), ("a.obj", text.encode(), owner), ("a.glb", glb_bytes(root, data + faces), np.sort(owner))
    ):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        mesh, report = read_with_report(tmp_path / name, min_points=1)
        assert report.notes == (), name
        for k, own in enumerate(owners):
            expected = palette[own] if own < 3 else (255, 255, 255) if name == "a.ply" else palette[2]
            np.testing.assert_allclose(texel(mesh, k), expected, atol=1, err_msg=f"{name} {k} {own}")


def test_colours_of_vertices_show_where_other_faces_have_an_image(tmp_path):
    root, data = gltf_parts(
        VERTICES, FACES, np.tile([1.0, 0, 0], (36, 1)), UV, png_bytes(np.full((4, 4, 3), [0, 255, 0], np.uint8))
    )
    first = root["meshes"][0]["primitives"][0]
    second = {**first, "attributes": {k: v for k, v in first["attributes"].items() if k != "TEXCOORD_0"}}
    del second["material"]
    root["meshes"][0]["primitives"] = [first, second]
    root["nodes"] = [{"mesh": 0}]
    (tmp_path / "a.glb").write_bytes(glb_bytes(root, data))
    mesh, _ = read_with_report(tmp_path / "a.glb", min_points=1)
    np.testing.assert_allclose(texel(mesh, 0), [0, 255, 0], atol=1)
    np.testing.assert_allclose(texel(mesh, len(mesh.faces) - 1), [255, 0, 0], atol=1)


@pytest.mark.parametrize("kind", ["fifo", "link out", "link to a device", "loop", "folder"])
def test_what_is_no_file_of_the_folder_is_never_opened(tmp_path, kind):
    folder = tmp_path / "scan"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(png_bytes(PIXELS))
    path = folder / "t.png"
    {
        "fifo": lambda: os.mkfifo(path),
        "link out": lambda: path.symlink_to(tmp_path / "secret.png"),
        "link to a device": lambda: path.symlink_to("/dev/zero"),
        "loop": lambda: path.symlink_to("t.png"),
        "folder": path.mkdir,
    }[kind]()
    mesh, report = obj(folder, b"t.png")
    assert mesh.texture is None
    assert "t.png" in report.notes[1]
    wrl = wrl_bytes(VERTICES, FACES, None, UV, "t.png")
    (folder / "a.wrl").write_bytes(wrl)
    assert read_with_report(folder / "a.wrl", min_points=1)[0].texture is None
    root, data = gltf_parts(VERTICES, FACES)
    (folder / "a.gltf").write_text(json.dumps(root | {"buffers": [{"byteLength": len(data), "uri": "t.png"}]}))
    frame = write_frame(folder / "f", np.full((30, 40), 500, np.uint16), np.zeros((30, 40, 3), np.uint8), color="c.png")
    (frame / "c.png").symlink_to(path)
    for name in ("a.gltf", "f"):
        with pytest.raises(ScanError, match=r"t\.png|c\.png"):
            read_with_report(folder / name, min_points=1)
    if kind in ("fifo", "link to a device"):
        os.rename(path, folder / "t.ply")
        with pytest.raises(ScanError, match="device or pipe"):
            read_with_report(folder / "t.ply")


def test_a_link_within_the_folder_is_followed(tmp_path):
    (tmp_path / "textures").mkdir()
    Image.fromarray(PIXELS).save(tmp_path / "textures/real.png")
    (tmp_path / "t.png").symlink_to("textures/real.png")
    assert_found(obj(tmp_path, b"t.png"))


def test_of_several_addresses_of_a_vrml_image_the_one_that_is_here_is_read(tmp_path):
    (tmp_path / "t.png").write_bytes(png_bytes(PIXELS))
    wrl = wrl_bytes(VERTICES, FACES, None, UV, "x.png").replace(
        b'"x.png"', b'[ "http://a.b/x.png" "file:///C:/y.png" "T.PNG" ]'
    )
    (tmp_path / "a.wrl").write_bytes(wrl)
    assert_found(read_with_report(tmp_path / "a.wrl", min_points=1))


def test_an_image_of_the_scans_own_name_is_its_texture_where_none_is_named(tmp_path: Path) -> None:
    vertices, faces, _, _ = grid_mesh(24)
    lines = [f"v {x} {y} {z}\nvt {x / 30} {y / 30}" for x, y, z in vertices]
    lines += ["f " + " ".join(f"{k + 1}/{k + 1}" for k in face) for face in faces]
    (tmp_path / "a.obj").write_text("mtllib gone.mtl\n" + "\n".join(lines))
    (tmp_path / "other.png").write_bytes(png_bytes(np.full((8, 8, 3), 100, np.uint8)))
    assert not read_with_report(tmp_path / "a.obj")[1].has_color
    (tmp_path / "A.PNG").write_bytes(png_bytes(np.full((8, 8, 3), [194, 143, 128], np.uint8)))
    scan, report = read_with_report(tmp_path / "a.obj")
    np.testing.assert_allclose(scan.texture[0, 0] * 255, [194, 143, 128], atol=0.01)
    assert report.notes[-1] == "a.png is taken as the texture: the scan names none"


def test_a_material_library_may_be_utf16(tmp_path: Path) -> None:
    vertices, faces, _, _ = grid_mesh(24)
    lines = [f"v {x} {y} {z}\nvt {x / 30} {y / 30}" for x, y, z in vertices]
    lines += ["f " + " ".join(f"{k + 1}/{k + 1}" for k in face) for face in faces]
    (tmp_path / "a.obj").write_text("mtllib m.mtl\nusemtl skin\n" + "\n".join(lines))
    (tmp_path / "m.mtl").write_text("newmtl skin\nmap_Kd t.png\n", encoding="utf-16")
    (tmp_path / "t.png").write_bytes(png_bytes(np.full((8, 8, 3), [194, 143, 128], np.uint8)))
    assert read_with_report(tmp_path / "a.obj")[1].has_color
