"""The file a viewer gets: names, units, seams, morphs, validity."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from omote.asset.atlas import skin_atlas
from omote.asset.export import avatar_mesh
from omote.asset.glb import glb_bytes, write_glb
from omote.asset.glb_read import read_avatar
from omote.asset.materials import materials_of
from omote.asset.primitives import PRIMITIVES, target_order
from omote.errors import OmoteError, OutputError
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


@pytest.fixture(scope="module")
def data() -> bytes:
    return glb_bytes(AVATAR, MODEL)


def test_names_and_primitives_come_in_the_fixed_order(data: bytes) -> None:
    file = read_avatar(data)
    assert file.target_names == (*CATEGORIES, *ARKIT_NAMES)
    assert [p.name for p in file.primitives] == list(PRIMITIVES)
    assert file.extras["head_model"] == MODEL.name
    assert target_order({"own": 0, "jawOpen": 0, "happy": 0}) == ["happy", "jawOpen", "own"]


def test_every_vertex_is_where_the_head_is_in_metres(data: bytes) -> None:
    file = read_avatar(data)
    for name in ("happy", "jawOpen", "eyeLookInLeft", "neutral"):
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
    again = render_glb(file, file.weights(neutral=1.0), camera)
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


def test_khronos_validator_finds_no_errors(tmp_path: Path, data: bytes) -> None:
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
