"""Colours of every type, range and place, in every format that has them."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from omote.formats import read_with_report
from omote.formats.colors import unit_colors
from scan_files import (
    glb_bytes,
    gltf_parts,
    grid_mesh,
    npz_bytes,
    obj_bytes,
    off_bytes,
    ply_bytes,
    png_bytes,
    stl_bytes,
    wrl_bytes,
)

VERTICES, FACES, COLORS, _ = grid_mesh()
UV = (VERTICES[:, :2] - VERTICES[:, :2].min(0)) / np.ptp(VERTICES[:, :2], axis=0)
TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4", "double": "f8",
}  # fmt: skip


def load(folder: Path, name: str, content: bytes):
    (folder / name).write_bytes(content)
    return read_with_report(folder / name, min_points=1)


def ply_with_colors(colors: np.ndarray, kind: str, names: str, order: str) -> bytes:
    form = {"<": "binary_little_endian", ">": "binary_big_endian", "a": "ascii"}[order]
    head = f"ply\nformat {form} 1.0\nelement vertex {len(VERTICES)}\n"
    head += "".join(f"property double {c}\n" for c in "xyz") + "".join(f"property {kind} {n}\n" for n in names.split())
    if order == "a":
        rows = [" ".join(map(repr, [*v.tolist(), *c.tolist()])) + "\n" for v, c in zip(VERTICES, colors, strict=True)]
        return (head + "end_header\n" + "".join(rows)).encode()
    dtype = np.dtype([("p", order + "f8", 3), ("c", order + TYPES[kind], colors.shape[1])])
    rows = np.empty(len(VERTICES), dtype)
    rows["p"], rows["c"] = VERTICES, colors
    return (head + "end_header\n").encode() + rows.tobytes()


@given(
    kind=st.sampled_from(list(TYPES)),
    largest=st.sampled_from([1.0, 255, 65535]),
    order=st.sampled_from("<>a"),
    names=st.sampled_from(["red green blue", "Red Green Blue", "r g b", "diffuse_red diffuse_green diffuse_blue"]),
    alpha=st.booleans(),
)
def test_ply_colours_of_any_type_range_and_name(tmp_path_factory, kind, largest, order, names, alpha):
    dtype = np.dtype(TYPES[kind])
    if dtype.kind != "f" and not 255 <= largest <= (65535 if dtype.itemsize > 1 else 255):
        return
    colors = COLORS / 255.0
    colors[0] = 1.0  # a highlight: the range is seen
    stored = colors * largest
    if dtype.kind != "f":
        stored = np.round(stored).astype(np.int64).astype(dtype)  # signed bytes and shorts wrap
    if alpha:
        stored = np.column_stack([stored, np.full(len(stored), stored.max(initial=0), dtype)])
        names += " alpha"
    folder = tmp_path_factory.mktemp("ply")
    cloud, report = load(folder, "a.ply", ply_with_colors(stored.astype(dtype), kind, names, order))
    np.testing.assert_allclose(cloud.colors, colors, atol=0.003)
    assert not any("look wrong" in note for note in report.notes)


@given(
    values=st.lists(st.tuples(*[st.floats(width=32) | st.integers(-(2**31), 2**31 - 1)] * 3), min_size=1, max_size=8),
    dtype=st.sampled_from(["f4", "f8", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "?"]),
)
def test_colours_are_in_range_whatever_the_file_holds(values, dtype):
    with np.errstate(all="ignore"):
        stored = np.nan_to_num(np.array(values, np.float64), nan=1.0)
        stored = (
            np.array(values, dtype)
            if dtype.startswith("f")
            else np.clip(stored, -(2**31), 2**31 - 1).astype("i8").astype(dtype)
        )
        out = unit_colors(stored)
    assert out.dtype == np.float32
    assert ((out >= 0) & (out <= 1)).all()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0.0, 0.5, 1.2]]), [0, 0.5, 1]),  # brighter than white
        (np.array([[0.0, 127.5, 255.0]]), [0, 0.5, 1]),
        (np.array([[0, 511, 1023]], np.uint16), [0, 511 / 1023, 1]),
        (np.array([[0, 2000, 4095]], np.int32), [0, 2000 / 4095, 1]),
        (np.array([[0, -1, 127]], np.int8), [0, 1, 127 / 255]),
        (np.array([[0, 0, -1]], np.int16), [0, 0, 1]),
        (np.array([[200], [100]], np.uint8), [200 / 255] * 3),  # grey
        (np.array([[0, 1, 2, 255]], np.uint8), [0, 1 / 255, 2 / 255]),  # alpha is left out
    ],
)
def test_scales(values, expected):
    np.testing.assert_allclose(unit_colors(values)[0], expected, atol=1e-6)


def test_black_and_white_throughout_look_wrong(tmp_path):
    for value, word in ((0, "black"), (255, "white")):
        _, report = load(tmp_path, "a.ply", ply_bytes(VERTICES, FACES, np.full((36, 3), value, np.uint8)))
        assert any("look wrong" in note and word in note for note in report.notes)


def face_mean(colors: np.ndarray) -> np.ndarray:
    """Colours of vertices that follow from those of faces."""
    total, count = np.zeros((len(VERTICES), 3)), np.zeros(len(VERTICES))
    for face, color in zip(FACES, colors, strict=True):
        total[face] += color
        count[face] += 1
    return total / count[:, None]


def test_colours_of_faces(tmp_path):
    colors = np.random.default_rng(0).integers(0, 256, (len(FACES), 3))
    head = ply_bytes(VERTICES, FACES, form="ascii").decode()
    head = head.replace("vertex_indices\n", "vertex_indices\nproperty int red\nproperty int green\nproperty int blue\n")
    start, _, rows = head.partition("end_header\n")
    lines = rows.splitlines()
    painted = [f"{line} {r} {g} {b}" for line, (r, g, b) in zip(lines[36:], colors, strict=True)]
    ply = "\n".join([start + "end_header", *lines[:36], *painted, ""]).encode()
    text = off_bytes(VERTICES, FACES).decode().splitlines()
    off = "\n".join(
        [*text[:39], *(f"{t} {r} {g} {b} 255" for t, (r, g, b) in zip(text[39:], colors, strict=True)), ""]
    ).encode()
    array = ", ".join(f"{r / 255} {g / 255} {b / 255}" for r, g, b in colors)
    wrl = wrl_bytes(VERTICES, FACES).replace(
        b"coordIndex", f"colorPerVertex FALSE\ncolor Color {{ color [ {array} ] }}\ncoordIndex".encode()
    )
    for name, content in (("a.ply", ply), ("a.off", off), ("a.wrl", wrl)):
        mesh, report = load(tmp_path, name, content)
        np.testing.assert_allclose(mesh.vertex_colors * 255, face_mean(colors), atol=0.02, err_msg=name)
        assert report.notes == (), name


def test_vrml_colours_by_an_index_of_their_own(tmp_path):
    palette = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], float)
    index = np.arange(FACES.size).reshape(-1, 3) % 3
    rows = " ".join(f"{a} {b} {c} -1" for a, b, c in index)
    color = f"color Color {{ color [ 1 0 0, 0 1 0, 0 0 1 ] }}\ncolorIndex [ {rows} ]\ncoordIndex"
    mesh, _ = load(tmp_path, "a.wrl", wrl_bytes(VERTICES, FACES).replace(b"coordIndex", color.encode(), 1))
    total, count = np.zeros((36, 3)), np.zeros(36)
    np.add.at(total, FACES.ravel(), palette[index.ravel()])
    np.add.at(count, FACES.ravel(), 1)
    np.testing.assert_allclose(mesh.vertex_colors, total / count[:, None], atol=1e-6)
    _, report = load(
        tmp_path, "b.wrl", wrl_bytes(VERTICES, FACES).replace(b"coordIndex", color.replace("-1", "0 -1").encode(), 1)
    )
    assert any("fit neither" in note for note in report.notes)


@pytest.mark.parametrize("magics", [False, True])
def test_colours_of_stl_facets(tmp_path, magics):
    colors = np.random.default_rng(0).integers(0, 32, (len(FACES), 3))
    shifts = (0, 5, 10) if magics else (10, 5, 0)
    words = sum(colors[:, k] << shifts[k] for k in range(3)) | (0 if magics else 0x8000)
    content = bytearray(stl_bytes(VERTICES, FACES))
    if magics:
        content[:80] = b"COLOR=\xff\xff\xff\xff".ljust(80, b"\0")
    for k, word in enumerate(words):
        struct.pack_into("<H", content, 84 + 50 * k + 48, int(word))
    mesh, report = load(tmp_path, "a.stl", bytes(content))
    allowed = {tuple(c) for c in colors}
    assert {tuple(c) for c in np.round(mesh.vertex_colors * 31).astype(int).tolist()} <= allowed
    assert any("facets" in note for note in report.notes)


def test_splats_are_read_in_their_even_colour(tmp_path):
    values = (COLORS / 255.0 - 0.5) / 0.28209479177387814
    content = ply_with_colors(values, "float", "f_dc_0 f_dc_1 f_dc_2", "<")
    cloud, report = load(tmp_path, "a.ply", content)
    np.testing.assert_allclose(cloud.colors * 255, COLORS, atol=0.01)
    assert any("splats" in note for note in report.notes)


def test_intensity_is_named_and_grey_is_read(tmp_path):
    _, report = load(tmp_path, "a.ply", ply_with_colors(COLORS[:, :1], "uchar", "intensity", "<"))
    assert report.notes[0].startswith("no colour was read")
    assert "'intensity'" in report.notes[1]
    cloud, _ = load(tmp_path, "b.ply", ply_with_colors(COLORS[:, :1], "uchar", "gray", "<"))
    np.testing.assert_allclose(cloud.colors * 255, np.repeat(COLORS[:, :1], 3, axis=1), atol=1e-3)


@given(
    scale=st.sampled_from([1, 255]),
    weight=st.booleans(),
    alpha=st.booleans(),
    first=st.integers(0, 36),
    unknown=st.booleans(),
)
def test_obj_vertices_of_which_only_some_have_colours(tmp_path_factory, scale, weight, alpha, first, unknown):
    """``x y z r g b``, after a weight or before an alpha, on the vertices from ``first`` on."""
    colors = COLORS / 255.0 * scale
    lines = []
    for k, v in enumerate(VERTICES):
        own = [
            *v.tolist(),
            *([1.0] if weight else []),
            *colors[k].tolist(),
            *([float(scale)] if alpha and not weight else []),
        ]
        lines.append("v " + " ".join(map(repr, own if k >= first else v.tolist())))
    text = "\n".join([*lines, *("f " + " ".join(str(v + 1) for v in f) for f in FACES), ""])
    mesh, report = load(tmp_path_factory.mktemp("obj"), "a.obj", text.encode())
    if first == 36:
        assert mesh.vertex_colors is None
        assert report.notes[0].startswith("no colour")
        return
    np.testing.assert_allclose(mesh.vertex_colors[first:] * 255, COLORS[first:], atol=0.01)
    assert any("have no colour" in note for note in report.notes) == (first > 0)


def test_polypaint(tmp_path):
    painted = b"".join(b"ff%02x%02x%02x" % tuple(c) for c in COLORS.tolist())
    lines = b"\n".join(b"#MRGB " + painted[k : k + 8 * 30] for k in range(0, len(painted), 240))
    mesh, _ = load(tmp_path, "a.obj", obj_bytes(VERTICES, FACES) + lines + b"\n")
    np.testing.assert_allclose(mesh.vertex_colors * 255, COLORS, atol=1e-3)
    _, report = load(tmp_path, "b.obj", obj_bytes(VERTICES, FACES) + lines[:-8] + b"\n")
    assert any("polypaint" in note for note in report.notes)


def test_plain_colours_of_materials(tmp_path):
    (tmp_path / "m.mtl").write_text("newmtl skin\nKd 0.8 0.6 0.5\nnewmtl shirt\nkd 0.1 0.2 0.9\n")
    faces = ["f " + " ".join(str(v + 1) for v in f) for f in FACES]
    text = obj_bytes(VERTICES, FACES[:0]).decode() + "mtllib m.mtl\nusemtl skin\n" + "\n".join(faces) + "\n"
    mesh, _ = load(tmp_path, "a.obj", text.encode())
    np.testing.assert_allclose(mesh.vertex_colors, np.broadcast_to([0.8, 0.6, 0.5], (36, 3)), atol=1e-6)
    wrl = wrl_bytes(VERTICES, FACES).replace(
        b"Appearance {", b"Appearance { material Material { diffuseColor .8 .6 .5 }"
    )
    np.testing.assert_allclose(load(tmp_path, "a.wrl", wrl)[0].vertex_colors[0], [0.8, 0.6, 0.5], atol=1e-6)
    (tmp_path / "m.mtl").write_text("newmtl skin\nKd 0.8 0.8 0.8\n")  # what exporters write for none
    assert load(tmp_path, "a.obj", text.encode())[0].vertex_colors is None


SRGB_HALF = 0.735357


@pytest.mark.parametrize(
    ("material", "expected"),
    [
        ({"pbrMetallicRoughness": {"baseColorFactor": [0.5, 0.5, 0.2, 1]}}, [SRGB_HALF, SRGB_HALF, 0.484529]),
        ({"extensions": {"KHR_materials_pbrSpecularGlossiness": {"diffuseFactor": [0.5, 0, 0, 1]}}}, [SRGB_HALF, 0, 0]),
        ({"extensions": {"KHR_materials_common": {"values": {"diffuse": [0.5, 0, 0, 1]}}}}, [SRGB_HALF, 0, 0]),
        ({"pbrMetallicRoughness": {"baseColorFactor": [0, 0, 0, 1]}, "emissiveFactor": [0.5, 0.5, 0]}, [SRGB_HALF, SRGB_HALF, 0]),
        ({"extensions": {"XYZ_shader": {"albedoColor": [0.5, 0, 0], "sheenColorFactor": [1, 1, 1]}}}, [SRGB_HALF, 0, 0]),
    ],
)  # fmt: skip
def test_gltf_material_models(tmp_path, material, expected):
    root, data = gltf_parts(VERTICES, FACES)
    root["materials"] = [material]
    root["meshes"][0]["primitives"][0]["material"] = 0
    mesh, _ = load(tmp_path, "a.glb", glb_bytes(root, data))
    np.testing.assert_allclose(mesh.vertex_colors[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    "material",
    [
        {"extensions": {"KHR_materials_pbrSpecularGlossiness": {"diffuseTexture": {"index": 0}}}},
        {"emissiveTexture": {"index": 0}, "emissiveFactor": [1, 1, 1]},
        {"pbrMetallicRoughness": {"baseColorFactor": [0, 0, 0, 1]}, "emissiveTexture": {"index": 0}, "emissiveFactor": [1, 1, 1]},
        {"extensions": {"KHR_materials_common": {"values": {"diffuse": {"index": 0}}}}},
        {"pbrMetallicRoughness": {"metallicFactor": 0}, "extensions": {"XYZ_shader": {"u_diffuseMap": {"index": 0}}}},
        {"pbrMetallicRoughness": {"baseColorFactor": [0.2, 0.2, 0.2, 1]},
         "extensions": {"KHR_materials_pbrSpecularGlossiness": {"diffuseTexture": {"index": 0}}}},
    ],
)  # fmt: skip
def test_gltf_textures_of_material_models(tmp_path, material):
    pixels = COLORS[:4].reshape(2, 2, 3)
    root, data = gltf_parts(VERTICES, FACES, uv=UV, texture=png_bytes(pixels))
    root["materials"] = [material]
    mesh, _ = load(tmp_path, "a.glb", glb_bytes(root, data))
    np.testing.assert_allclose(mesh.texture * 255, pixels, atol=1e-3)


@given(
    kind=st.sampled_from([(5121, "u1"), (5123, "<u2"), (5126, "<f4")]), normalized=st.booleans(), alpha=st.booleans()
)
def test_gltf_vertex_colours_of_any_type(tmp_path_factory, kind, normalized, alpha):
    component, dtype = kind
    linear = np.random.default_rng(0).uniform(0, 1, (36, 4 if alpha else 3))
    linear[0] = 1.0
    largest = 1.0 if dtype == "<f4" else np.iinfo(dtype).max
    stored = (linear * largest).astype(dtype)
    rows = np.zeros((36, -(-stored[0].nbytes // 4) * 4), np.uint8)
    rows[:, : stored[0].nbytes] = stored.view(np.uint8).reshape(36, -1)
    root, data = gltf_parts(VERTICES, FACES)
    root["bufferViews"].append(
        {"buffer": 0, "byteOffset": len(data), "byteLength": rows.size, "byteStride": rows.shape[1]}
    )
    data += rows.tobytes()
    root["buffers"] = [{"byteLength": len(data)}]
    accessor = {"bufferView": 2, "componentType": component, "count": 36, "type": "VEC4" if alpha else "VEC3"}
    root["accessors"].append({**accessor, **({"normalized": True} if normalized and dtype != "<f4" else {})})
    root["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"] = 2
    mesh, _ = load(tmp_path_factory.mktemp("glb"), "a.glb", glb_bytes(root, data))
    value = (stored / largest)[:, :3]
    expected = np.where(value <= 0.0031308, 12.92 * value, 1.055 * value ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(mesh.vertex_colors, expected, atol=0.002)


@pytest.mark.parametrize("key", ["colors", "Colors", "rgb", "vertex_colors"])
def test_npz_colours_keys_and_widths(tmp_path, key):
    for values in (
        COLORS,
        COLORS.astype(np.int64),
        COLORS / 255.0,
        COLORS.astype(np.uint16) * 257,
        np.column_stack([COLORS, COLORS[:, 0]]),
    ):
        cloud, report = load(tmp_path, "a.npz", npz_bytes(xyz=VERTICES, **{key: values}))
        np.testing.assert_allclose(cloud.colors * 255, COLORS, atol=0.01)
        assert not any("not read" in note for note in report.notes)
    _, report = load(tmp_path, "b.npz", npz_bytes(points=VERTICES, labels=COLORS))
    assert any("labels" in note for note in report.notes)
    cloud, _ = load(tmp_path, "c.npz", npz_bytes(points=np.column_stack([VERTICES, COLORS])))
    np.testing.assert_allclose(cloud.colors * 255, COLORS, atol=0.01)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rgb.png", saved(Image.new("RGB", (8, 8), (200, 150, 100)), "PNG")),
        ("rgba.png", saved(Image.new("RGBA", (8, 8), (200, 150, 100, 0)), "PNG")),
        ("p.png", saved(Image.new("RGB", (8, 8), (200, 150, 100)).quantize(4), "PNG")),
        ("cmyk.jpg", saved(Image.new("RGB", (8, 8), (200, 150, 100)).convert("CMYK"), "JPEG", quality=100)),
        ("progressive.jpg", saved(Image.new("RGB", (8, 8), (200, 150, 100)), "JPEG", quality=100, progressive=True)),
        ("lossless.webp", saved(Image.new("RGB", (8, 8), (200, 150, 100)), "WEBP", lossless=True)),
        ("a.bmp", saved(Image.new("RGB", (8, 8), (200, 150, 100)), "BMP")),
        ("a.tga", saved(Image.new("RGB", (8, 8), (200, 150, 100)), "TGA")),
        ("a.ppm", saved(Image.new("RGB", (8, 8), (200, 150, 100)), "PPM")),
        ("a.tiff", saved(Image.new("RGB", (8, 8), (200, 150, 100)), "TIFF")),
        ("l.png", saved(Image.new("L", (8, 8), 150), "PNG")),
        ("i16.png", saved(Image.fromarray(np.full((8, 8), 150 * 257, np.uint16)), "PNG")),
        ("i32.tiff", saved(Image.fromarray(np.full((8, 8), 150 * 257, np.int32)), "TIFF")),
        ("f.tiff", saved(Image.fromarray(np.full((8, 8), 150 / 255, np.float32)), "TIFF")),
    ],
)
def test_textures_of_any_mode(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    mesh, report = load(tmp_path, "a.wrl", wrl_bytes(VERTICES, FACES, None, UV, name))
    grey = name[0] in "lif" and name != "lossless.webp"
    np.testing.assert_allclose(mesh.texture[4, 4] * 255, [150] * 3 if grey else [200, 150, 100], atol=3)
    assert report.notes == ()


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_textures_orientation_is_named_and_its_pixels_stay(tmp_path, orientation):
    image = Image.fromarray(np.arange(8 * 4 * 3, dtype=np.uint8).reshape(8, 4, 3))
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "t.png").write_bytes(saved(image, "PNG", exif=exif))
    mesh, report = load(tmp_path, "a.wrl", wrl_bytes(VERTICES, FACES, None, UV, "t.png"))
    np.testing.assert_allclose(mesh.texture * 255, np.asarray(image), atol=1e-3)
    assert f"EXIF orientation {orientation}" in report.notes[0]


def test_an_unknown_colour_attribute_is_named(tmp_path):
    root, data = gltf_parts(VERTICES, FACES, COLORS / 255.0)
    attributes = root["meshes"][0]["primitives"][0]["attributes"]
    attributes["_MY_COLOR"] = attributes.pop("COLOR_0")
    _, report = load(tmp_path, "a.glb", glb_bytes(root, data))
    assert any("_MY_COLOR" in note for note in report.notes)


def test_images_that_no_material_shows_and_required_extensions_are_named(tmp_path):
    root, data = gltf_parts(VERTICES, FACES, uv=UV, texture=png_bytes(COLORS[:4].reshape(2, 2, 3)))
    root["materials"] = [
        {"normalTexture": {"index": 0}, "extensions": {"KHR_materials_clearcoat": {"a": {"index": 0}}}}
    ]
    root["extensionsRequired"] = ["KHR_texture_transform", "XYZ_curves"]
    _, report = load(tmp_path, "a.glb", glb_bytes(root, data))
    assert report.notes[0].startswith("no colour was read")
    assert [note for note in report.notes[1:] if "XYZ_curves" in note or "no material's colour" in note] == list(
        report.notes[1:]
    )
    assert len(report.notes) == 3


def test_what_shines_has_the_colour_of_its_light(tmp_path):
    (tmp_path / "m.mtl").write_text("newmtl skin\nKd 0 0 0\nKe 0.8 0.6 0.5\n")
    faces = "\n".join("f " + " ".join(str(v + 1) for v in f) for f in FACES)
    mesh, _ = load(tmp_path, "a.obj", b"MTLLIB m.mtl\nUSEMTL skin\n" + obj_bytes(VERTICES, []) + faces.encode() + b"\n")
    np.testing.assert_allclose(mesh.vertex_colors[0], [0.8, 0.6, 0.5], atol=1e-6)
    for text, expected in (
        ("emissiveColor .8 .6 .5", [0.8, 0.6, 0.5]),
        ("diffuseColor .8 .6 .5 emissiveColor 0 0 0", [0.8, 0.6, 0.5]),
    ):
        wrl = wrl_bytes(VERTICES, FACES).replace(
            b"Appearance {", f"Appearance {{ material Material {{ {text} }}".encode()
        )
        np.testing.assert_allclose(load(tmp_path, "a.wrl", wrl)[0].vertex_colors[0], expected, atol=1e-6)


def test_colours_of_networks_are_from_minus_1_to_1(tmp_path: Path) -> None:
    notes: list[str] = []
    values = np.random.default_rng(0).uniform(-1, 1, (500, 3))
    np.testing.assert_allclose(unit_colors(values, notes.append), (values + 1) / 2, atol=1e-6)
    assert notes == ["colour values from -1 to 1 are taken as black to white"]


def test_bytes_in_a_glbs_floats_are_no_linear_light(tmp_path: Path) -> None:
    vertices, faces, _, _ = grid_mesh(24)
    root, data = gltf_parts(vertices, faces, np.tile([194.0, 143.0, 128.0], (len(vertices), 1)))
    (tmp_path / "a.glb").write_bytes(glb_bytes(root, data))
    scan, report = read_with_report(tmp_path / "a.glb")
    np.testing.assert_allclose(scan.vertex_colors[0] * 255, [194, 143, 128], atol=0.01)
    assert "taken as bytes" in report.notes[0]
