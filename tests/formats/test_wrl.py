"""VRML 2.0 as scanners write it: polygons, several shapes, images, and files that are not whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from omote.errors import ScanError
from omote.formats import read_with_report
from omote.types import Mesh, PointCloud
from scan_files import grid_mesh, wrl_bytes

VERTICES, FACES, COLORS, _ = grid_mesh()
UV = (VERTICES[:, :2] - VERTICES[:, :2].min(0)) / np.ptp(VERTICES[:, :2], axis=0)


def load(path: Path, content: bytes):
    path.write_bytes(content)
    return read_with_report(path, min_points=1)


def test_a_bmp_texture_is_put_on_the_surface(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "F0001_HA03WH_F3D.bmp")
    mesh, report = load(tmp_path / "a.wrl", wrl_bytes(VERTICES, FACES, None, UV, "F0001_HA03WH_F3D.bmp"))
    assert isinstance(mesh, Mesh)
    assert report.format == "wrl"
    np.testing.assert_allclose(mesh.texture * 255, pixels, atol=1e-4)
    np.testing.assert_allclose(mesh.uv[mesh.faces_uv], UV[FACES])


def test_an_absent_texture_is_a_note(tmp_path: Path) -> None:
    mesh, report = load(tmp_path / "a.wrl", wrl_bytes(VERTICES, FACES, None, UV, "none.bmp"))
    assert mesh.texture is None
    assert "none.bmp" in report.notes[1]


def test_polygons_points_and_two_shapes(tmp_path: Path) -> None:
    square = b"Coordinate { point [ 0 0 0, 1 0 0 1 1 0, 0 1 0 ] }"
    face_set = b"Shape { geometry IndexedFaceSet { coord " + square + b" coordIndex [0 1 2 3] } }"
    mesh, _ = load(tmp_path / "q.wrl", b"#VRML V2.0 utf8\n" + face_set)
    np.testing.assert_array_equal(mesh.vertices[mesh.faces], mesh.vertices[[[0, 1, 2], [0, 2, 3]]])
    cloud, _ = load(tmp_path / "p.wrl", b"#VRML V2.0 utf8\nShape { geometry PointSet { coord " + square + b" } }")
    assert isinstance(cloud, PointCloud)
    assert len(cloud.points) == 4
    moved = face_set.replace(b"0 0 0,", b"0 0 5,")
    group = b"#VRML V2.0 utf8\nTransform { children [ " + face_set + moved + b" ] }"
    both, report = load(tmp_path / "b.wrl", group)
    assert len(both.faces) == 4
    assert both.vertices[:, 2].max() == 5
    assert "transforms" in report.notes[1]


def test_arrays_longer_than_a_block_and_unknown_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = wrl_bytes(VERTICES, FACES, None, UV)
    content = content.replace(b"solid FALSE", b"normal Normal { vector [" + b" 0 0 1,\n" * 3000 + b"] }")
    whole, _ = load(tmp_path / "a.wrl", content)
    monkeypatch.setattr("omote.formats.numbers.BLOCK_BYTES", 150)
    blocks, _ = load(tmp_path / "a.wrl", content)
    np.testing.assert_array_equal(blocks.vertices[blocks.faces], whole.vertices[whole.faces])
    np.testing.assert_array_equal(whole.vertices[whole.faces], VERTICES[FACES])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"#VRML V1.0 ascii\nSeparator { }", "VRML 1.0"),
        (wrl_bytes(VERTICES, FACES)[:-20], "truncated"),
        (wrl_bytes(VERTICES, FACES)[:400], "truncated"),
        (b"#VRML V2.0 utf8\n}", "closes nothing"),
        (b"#VRML V2.0 utf8\nShape { }", "found none"),
        (b"#VRML V2.0 utf8\n" + b"Group { " * 10_000, "nested"),
        (wrl_bytes(VERTICES, FACES + 1), "refers to vertex 36"),
        (wrl_bytes(VERTICES, FACES, None, UV[:-1]), "texture coordinate 35"),
        (wrl_bytes(VERTICES, FACES).replace(b"-1\n]", b"-1, 2.5\n]"), "expected numbers"),
        (b"#VRML V2.0 utf8\nPointSet { coord Coordinate { point [ 1 2 3 4 ] } }", "3 numbers for each point"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(ScanError, match=says) as caught:
        load(tmp_path / "a.wrl", content)
    assert "\n" not in str(caught.value)
