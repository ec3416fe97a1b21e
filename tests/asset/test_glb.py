"""The file a viewer gets: names, units, seams, morphs, validity."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.spatial import cKDTree

from omote.asset.atlas import skin_atlas
from omote.asset.export import avatar_mesh
from omote.asset.file_settings import Compression
from omote.asset.glb import glb_bytes, write_glb
from omote.asset.glb_read import read_avatar
from omote.asset.gltf_file import STEP_M
from omote.asset.materials import materials_of
from omote.asset.primitives import PRIMITIVES, target_order
from omote.errors import ConfigError, OmoteError, OutputError
from omote.formats.read import read
from omote.formats.write import save_obj, save_ply
from omote.geometry.camera import orbit_camera
from omote.head.expressions import ARKIT_NAMES, CATEGORIES, typical_expression
from omote.head.shipped import shipped_head
from omote.pipelines.sheet import draw_sheet, render_glb
from omote.rendering.rgbd import render_head
from omote.types import Avatar, Head, Mesh

MODEL = shipped_head()
ROOT = Path(__file__).resolve().parents[2]


def _avatar() -> Avatar:
    rest = MODEL.template_mm
    # Out of order on purpose: the file's order is fixed.
    morphs = {n: MODEL.expression_mm[i] for i, n in reversed(list(enumerate(ARKIT_NAMES)))}
    for c in CATEGORIES:
        morphs[c] = (MODEL.vertices(None, typical_expression(c).arkit) - rest).astype(np.float32)
    texture = np.full((64, 64 * skin_atlas(MODEL).num_tiles, 3), (0.8, 0.6, 0.5), np.float32)
    return Avatar(
        neutral=Head(model_name=MODEL.name, vertices_mm=rest, inferred=np.zeros(len(rest), bool)),
        morphs_mm=morphs,
        texture=texture,
        texture_inferred=np.zeros(texture.shape[:2], bool),
    )


AVATAR = _avatar()


def parts_of(data: bytes) -> tuple[dict[str, Any], bytes]:
    """(JSON, binary chunk) of a GLB."""
    (length,) = struct.unpack("<I", data[12:16])
    return json.loads(data[20 : 20 + length]), data[28 + length :]


@pytest.fixture(scope="module")
def data() -> bytes:
    return glb_bytes(AVATAR, MODEL)


def test_names_and_primitives_come_in_the_fixed_order(data: bytes) -> None:
    file = read_avatar(data)
    # The category at rest moves nothing, and is there for those who ask.
    assert file.target_names == (*CATEGORIES[1:], *ARKIT_NAMES)
    kept = read_avatar(glb_bytes(AVATAR, MODEL, keep_neutral=True))
    assert kept.target_names == (*CATEGORIES, *ARKIT_NAMES)
    assert not any(p.targets[0].any() for p in kept.primitives)
    assert [p.name for p in file.primitives] == list(PRIMITIVES)
    assert file.extras["head_model"] == MODEL.name
    assert target_order({"own": 0, "jawOpen": 0, "happy": 0}) == ["happy", "jawOpen", "own"]


def test_every_vertex_is_where_the_head_is_in_metres(data: bytes) -> None:
    file = read_avatar(data)
    for name in ("happy", "jawOpen", "eyeLookInLeft"):
        posed = (AVATAR.neutral.vertices_mm + AVATAR.morphs_mm[name]) / 1000
        for p in file.primitives:
            ids = MODEL.part_vertices(*PRIMITIVES[p.name])
            positions, normals = p.posed(file.weights(**{name: 1.0}))
            # Compared as sets of corner positions: a primitive's vertices are the model's, split at seams.
            mine = np.unique(np.round(positions * 1e4).astype(int), axis=0)
            theirs = np.unique(np.round(posed[ids] * 1e4).astype(int), axis=0)
            assert abs(len(mine) - len(theirs)) <= 0.02 * len(theirs) + 2
            np.testing.assert_allclose(positions.min(0), posed[ids].min(0), atol=5e-6)
            np.testing.assert_allclose(positions.max(0), posed[ids].max(0), atol=5e-6)
            np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0, atol=1e-5)


def test_skin_uv_seams_are_split_and_nothing_else(data: bytes) -> None:
    skin = read_avatar(data).primitives[0]
    atlas = skin_atlas(MODEL)
    pairs = np.stack([MODEL.faces[atlas.face_ids].ravel(), atlas.faces_uv.ravel()], axis=1)
    assert len(skin.positions) == len(np.unique(pairs, axis=0))
    assert skin.uv is not None
    assert skin.uv.min() >= 0
    assert skin.uv.max() <= 1


def test_unknown_target_lists_the_known(data: bytes) -> None:
    with pytest.raises(OmoteError, match="happy"):
        read_avatar(data).weights(joyful=1.0)
    with pytest.raises(OmoteError, match="glTF"):
        read_avatar(b"not a file")


def test_unwritable_path_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        write_glb(AVATAR, MODEL, tmp_path / "no" / "a.glb")


def test_render_of_the_file_moves_with_a_morph(data: bytes) -> None:
    file = read_avatar(data)
    camera = orbit_camera(size=96)
    rest = render_glb(file, file.weights(), camera)
    again = render_glb(file, file.weights(happy=0.0), camera)
    opened = render_glb(file, file.weights(jawOpen=1.0), camera)
    np.testing.assert_allclose(rest, again, atol=1e-6)
    change = np.abs(opened - rest).mean(axis=-1)
    assert change[60:].mean() > 5 * change[:40].mean()


def test_sheet_has_a_column_per_image(data: bytes) -> None:
    camera = orbit_camera(size=64)
    image = render_head(MODEL, MODEL.template_mm, camera)
    one = draw_sheet(read_avatar(data), source=image, generated={"happy": image}, cell=64)
    two = draw_sheet(read_avatar(data), source=image, generated={"happy": image, "sad": image}, cell=64)
    assert two.shape[1] - one.shape[1] == 64
    assert one.std() > 10


def test_deviation_is_an_attribute_of_the_skin_and_a_row_of_the_sheet(data: bytes) -> None:
    sigma = np.linspace(0.5, 3.0, MODEL.num_vertices).astype(np.float32)
    avatar = replace(AVATAR, neutral=replace(AVATAR.neutral, sigma_mm=sigma))
    told = glb_bytes(avatar, MODEL)
    assert "_UNCERTAINTY_MM" not in json.dumps(parts_of(data)[0])
    skin, *others = read_avatar(told).primitives
    assert skin.sigma_mm is not None
    assert all(p.sigma_mm is None for p in others)
    # Every vertex has the deviation of the model's vertex that it is, or of one in the same place.
    _, vertex = cKDTree(MODEL.template_mm).query(1000 * skin.positions)
    assert (np.abs(skin.sigma_mm - sigma[vertex]) < 1e-6).mean() > 0.95

    image = render_head(MODEL, MODEL.template_mm, orbit_camera(size=64))
    plain, with_row = (draw_sheet(read_avatar(d), source=image, generated={}, cell=64) for d in (data, told))
    assert with_row.shape[0] - plain.shape[0] == 64


def test_meshes_read_back_in_correspondence(tmp_path: Path) -> None:
    made = avatar_mesh(AVATAR, MODEL, "happy", materials=materials_of())
    rest = avatar_mesh(AVATAR, MODEL, None, materials=materials_of())
    np.testing.assert_allclose(made.vertices - rest.vertices, AVATAR.morphs_mm["happy"], atol=1e-6)
    for save, path in ((save_ply, tmp_path / "happy.ply"), (save_obj, tmp_path / "happy.obj")):
        save(made, path)
        mesh = read(path)
        assert isinstance(mesh, Mesh)
        np.testing.assert_allclose(mesh.vertices, made.vertices, atol=2e-3)
        np.testing.assert_allclose(mesh.vertex_colors, made.vertex_colors, atol=0.5 / 255 + 1e-6)


def test_every_morph_accessor_has_a_buffer_view(data: bytes) -> None:
    """UniVRM fails on those without (its issue 1906); the base of sparse ones is zeros."""
    root, blob = parts_of(data)
    views = root["bufferViews"]
    targets = [a for p in root["meshes"][0]["primitives"] for t in p["targets"] for a in t.values()]
    sparse = [root["accessors"][a] for a in targets if "sparse" in root["accessors"][a]]
    assert all("bufferView" in root["accessors"][a] for a in targets)
    assert len(sparse) > 300
    for base in {a["bufferView"] for a in sparse}:
        start = views[base]["byteOffset"]
        assert not any(blob[start : start + views[base]["byteLength"]])


@pytest.mark.parametrize("compression", ["quantized", "meshopt"])
def test_compressed_files_read_back_within_their_bound(tmp_path: Path, data: bytes, compression: Compression) -> None:
    if compression == "meshopt":
        pytest.importorskip("meshopt")
    plain, packed = read_avatar(data), glb_bytes(AVATAR, MODEL, compression=compression)
    file = read_avatar(packed)
    assert file.target_names == plain.target_names
    # The textures of this avatar weigh nothing.
    assert len(packed) < {"quantized": 0.5, "meshopt": 0.3}[compression] * len(data)
    turned = []
    for a, b in zip(plain.primitives, file.primitives, strict=True):
        # Half a step each of rest and offset; float32 ends the rest.
        np.testing.assert_allclose(b.positions, a.positions, atol=STEP_M / 2 + 1e-7)
        np.testing.assert_allclose(b.targets, a.targets, atol=STEP_M / 2 + 1e-7)
        if a.uv is not None:
            np.testing.assert_allclose(b.uv, a.uv, atol=1e-5)
        same = np.sort(a.triangles, axis=1), np.sort(b.triangles, axis=1)
        np.testing.assert_array_equal(*same)
        for name in ("happy", "jawOpen", "eyeBlinkLeft"):
            normals = [p.posed(plain.weights(**{name: 1.0}))[1] for p in (a, b)]
            turned.append(np.degrees(np.arccos(np.clip((normals[0] * normals[1]).sum(1), -1, 1))))
    assert np.quantile(np.concatenate(turned), 0.999) < 2
    # Other readers of the same file find the head at the same place and size.
    (tmp_path / "a.glb").write_bytes(packed)
    mesh = read(tmp_path / "a.glb")
    assert isinstance(mesh, Mesh)
    np.testing.assert_allclose(mesh.vertices.max(0), AVATAR.neutral.vertices_mm.max(0) / 1000, atol=STEP_M)


def test_compression_without_its_library_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "meshopt", None)
    with pytest.raises(ConfigError, match=r"omote\[formats\].*quantized"):
        glb_bytes(AVATAR, MODEL, compression="meshopt")


def test_surroundings_are_a_mesh_of_their_own_under_the_head(data: bytes) -> None:
    piece = Mesh(
        vertices=np.array([[0.0, 90, 0], [40, 90, 0], [0, 130, 0], [40, 130, 0]]),
        faces=np.array([[0, 1, 2], [2, 1, 3]]),
        uv=np.array([[0.0, 0], [1, 0], [0, 1], [1, 1], [0.5, 0]]),
        faces_uv=np.array([[0, 4, 2], [2, 1, 3]]),
        texture=np.full((8, 8, 3), (0.2, 0.1, 0.05), np.float32),
    )
    with_piece = glb_bytes(replace(AVATAR, surroundings=piece), MODEL)
    root, _ = parts_of(with_piece)
    assert [n["name"] for n in root["nodes"]] == ["head", "surroundings", "omote_head"]
    file = read_avatar(with_piece)
    drawn = file.primitives[-1]
    assert drawn.name == "surroundings"
    assert file.target_names == read_avatar(data).target_names
    # A vertex with two texture coordinates is two, shaded as one.
    assert len(drawn.positions) == 5
    np.testing.assert_allclose(drawn.normals, [[0, 0, 1]] * 5, atol=1e-6)
    positions, _ = drawn.posed(file.weights(jawOpen=1.0))
    np.testing.assert_allclose(positions, drawn.positions)
    assert drawn.texture is not None
    np.testing.assert_allclose(drawn.texture.mean((0, 1)), (0.2, 0.1, 0.05), atol=0.02)


@pytest.mark.parametrize("compression", ["none", "quantized", "meshopt"])
def test_khronos_validator_finds_no_errors(tmp_path: Path, compression: Compression) -> None:
    if compression == "meshopt":
        pytest.importorskip("meshopt")
    data = glb_bytes(AVATAR, MODEL, compression=compression)
    if shutil.which("node") is None or not (ROOT / "scripts/web/node_modules/gltf-validator").is_dir():
        pytest.skip("needs node, and npm ci in scripts/web")
    path = tmp_path / "a.glb"
    path.write_bytes(data)
    run = subprocess.run(
        ["node", str(ROOT / "scripts/validate_glb.mjs"), str(path)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "numErrors 0 numWarnings 0" in run.stdout


def test_textures_survive(data: bytes) -> None:
    skin, eyes = read_avatar(data).primitives[:2]
    assert skin.texture is not None
    assert eyes.texture is not None
    np.testing.assert_allclose(skin.texture.mean((0, 1)), (0.8, 0.6, 0.5), atol=0.01)
    # The iris is the dark middle of the eyeball's picture.
    size = len(eyes.texture)
    assert eyes.texture[size // 2, size // 2].mean() < 0.3 < eyes.texture[size // 2, 4].mean()
    assert Image.fromarray((eyes.texture * 255).astype(np.uint8)).size == (size, size)
