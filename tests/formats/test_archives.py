"""Zip archives of a scan, and what other projects' libraries unpack."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import seeds
from omote.errors import ScanError
from omote.formats import foreign, read_with_report
from scan_files import glb_bytes, gltf_parts, grid_mesh, obj_bytes, ply_bytes, png_bytes, stl_bytes, write_frame

VERTICES, FACES, COLORS, _ = grid_mesh()
OBJ = (
    b"mtllib m.mtl\nusemtl a\nvt 0 0\n"
    + obj_bytes(VERTICES, [])
    + b"".join(b"f %d/1 %d/1 %d/1\n" % tuple(f) for f in FACES + 1)
)
FILES = {
    "m.obj": OBJ,
    "m.mtl": b"newmtl a\nmap_Kd textures/t.png\n",
    "textures/t.png": png_bytes(COLORS[:4].reshape(2, 2, 3)),
}
NEEDS = "needs the libraries of 'omote[formats]'"


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def load(path: Path):
    return read_with_report(path, min_points=1)


@pytest.mark.parametrize("folder", ["", "head/", "a/b/c/"])
def test_an_obj_with_its_files(tmp_path, folder):
    files = {folder + name: content for name, content in FILES.items()}
    mac = {f"__MACOSX/{folder}._m.obj": b"\0\5\x16\7", f"{folder}._m.obj": b"\0", f"{folder}.DS_Store": b"\0"}
    mesh, report = load(zipped(tmp_path / "a.zip", {**mac, **files, "readme.txt": b"a head"}))
    assert report.format == "obj"
    assert report.notes == ()
    np.testing.assert_allclose(mesh.texture.reshape(-1, 3) * 255, COLORS[:4], atol=1e-3)


def test_a_glb_a_cloud_and_a_frame(tmp_path):
    root, data = gltf_parts(VERTICES, FACES)
    assert load(zipped(tmp_path / "a.zip", {"m.glb": glb_bytes(root, data)}))[1].format == "glb"
    assert load(zipped(tmp_path / "b.zip", {"x/p.csv": b"x,y,z\n" + b"1,2,3\n4,5,6\n"}))[1].format == "xyz"
    frame = write_frame(tmp_path / "f", np.full((30, 40), 500, np.uint16), np.zeros((30, 40, 3), np.uint8))
    files = {f"f/{p.name}": p.read_bytes() for p in frame.iterdir()}
    scan, report = load(zipped(tmp_path / "c.zip", files))
    assert (report.format, report.num_points) == ("rgbd", 1200)
    assert scan.depth_mm.max() == 500


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"a.obj": OBJ, "b.obj": OBJ}, "expected one scan"),
        ({"a.doc": b"x"}, "found a.doc"),
        ({}, "found nothing"),
        ({"../a.obj": OBJ}, "found nothing"),
        ({"a.ply": b"nonsense"}, "a.zip: a.ply: expected PLY"),
        ({"a.obj": b"v 0 0\n"}, "a.zip: a.obj: "),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, files, says):
    with pytest.raises(ScanError, match=says) as caught:
        load(zipped(tmp_path / "a.zip", files))
    assert "\n" not in str(caught.value)
    assert "/tmp" not in str(caught.value)


def test_links_and_names_that_leave_the_archive_are_left_out(tmp_path):
    link = zipfile.ZipInfo("textures/t.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("m.obj", FILES["m.obj"])
        archive.writestr("m.mtl", FILES["m.mtl"])
        archive.writestr(link, "/etc/passwd")
        archive.writestr("../../evil.png", b"x")
    mesh, report = load(tmp_path / "a.zip")
    assert mesh.texture is None
    assert report.notes[0].startswith("no colour was read")


@pytest.mark.parametrize("name", ["", "/", ".", "./", "\\", "folder/", "a\\", "x" * 2000])
def test_entries_without_a_name_of_a_file_are_left_out(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("named")
        info.filename = name  # as a damaged archive has it
        archive.writestr(info, b"")
        for own, content in FILES.items():
            archive.writestr(own, content)
    mesh, _ = load(tmp_path / "a.zip")
    np.testing.assert_allclose(mesh.texture.reshape(-1, 3) * 255, COLORS[:4], atol=1e-3)


def test_an_archive_that_unpacks_to_far_more_than_its_size(tmp_path):
    for name, content in (("a.obj", b"#" + b" " * 100_000_000 + b"\n"), ("a.ply", b"\0" * 100_000_000)):
        with pytest.raises(ScanError, match="expected at most .* bytes"):
            load(zipped(tmp_path / "a.zip", {name: content}))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.obj", OBJ)
    (tmp_path / "l.zip").write_bytes(out.getvalue())
    with pytest.raises(ScanError, match="neither stored nor deflated"):
        load(tmp_path / "l.zip")


def test_damaged_archives(tmp_path):
    whole = zipped(tmp_path / "a.zip", FILES).read_bytes()
    for cut in (10, len(whole) // 2, len(whole) - 5):
        (tmp_path / "b.zip").write_bytes(whole[:cut])
        with pytest.raises(ScanError, match="zip is damaged"):
            load(tmp_path / "b.zip")
    broken = bytearray(whole)
    broken[60:80] = b"\xff" * 20
    (tmp_path / "c.zip").write_bytes(bytes(broken))
    with pytest.raises(ScanError):
        load(tmp_path / "c.zip")


@pytest.mark.parametrize(("suffix", "tool"), [(".fbx", "Blender"), (".dae", "Blender"), (".e57", "CloudCompare")])
def test_an_unsupported_format_gets_advice_on_conversion(tmp_path, suffix, tool):
    (tmp_path / f"a{suffix}").write_bytes(b"Kaydara FBX Binary")
    with pytest.raises(ScanError, match=f"convert it: in {tool}"):
        load(tmp_path / f"a{suffix}")


MAKERS = {"draco": seeds.draco_glb, "meshopt": seeds.meshopt_glb, "usd": seeds.usdz}


def made(kind: str, folder: Path) -> Path:
    module = foreign._MODULES[kind]
    if not seeds.has(module):
        pytest.skip(f"{module} is not installed: {NEEDS}")
    path = folder / ("a.usdz" if kind == "usd" else "a.glb")
    path.write_bytes(MAKERS[kind]())
    return path


@pytest.mark.parametrize("kind", list(MAKERS))
def test_compressed_scans_are_read_as_the_plain_ones(tmp_path, kind):
    mesh, report = load(made(kind, tmp_path))
    offset = np.array([1, 2, 3]) if kind == "usd" else 0
    assert (report.num_points, report.num_faces) == (784, 1458)
    expected = seeds.VERTICES + offset
    near = 0.003 if kind == "draco" else 1e-5
    assert np.abs(np.sort(mesh.vertices, axis=0) - np.sort(expected, axis=0)).max() < near
    if kind != "draco":  # which writes faces in an order of its own; meshopt begins them at another corner
        np.testing.assert_allclose(mesh.texture * 255, seeds.PIXELS, atol=1e-3)
        centres = mesh.vertices[mesh.faces].mean(axis=1)
        np.testing.assert_allclose(centres, expected[seeds.FACES].mean(axis=1), atol=1e-5)
        uv = seeds.UV if kind == "usd" else seeds.UV * [1, -1] + [0, 1]  # glTF's v goes down
        np.testing.assert_allclose(mesh.uv[mesh.faces_uv].mean(axis=1), uv[seeds.FACES].mean(axis=1), atol=1e-5)


@pytest.mark.parametrize("kind", list(MAKERS))
def test_damaged_ones_are_one_line(tmp_path, kind):
    path = made(kind, tmp_path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(6):
        broken = bytearray(whole)
        start = len(broken) // 2 if kind != "usd" else 64
        for place in rng.integers(start, len(broken), 40):
            broken[place] = rng.integers(0, 256)
        path.write_bytes(bytes(broken))
        try:
            load(path)
        except ScanError as error:
            assert "\n" not in str(error)  # noqa: PT017  # either outcome is right


@pytest.mark.parametrize("kind", list(MAKERS))
def test_a_library_that_is_not_installed_is_named(tmp_path, monkeypatch, kind):
    path = made(kind, tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ScanError, match=r"pip install 'omote\[formats\]'"):
        load(path)


def test_a_package_that_refers_to_what_is_outside_of_it_is_refused(tmp_path):
    made("usd", tmp_path)
    (tmp_path / "other.usda").write_text('#usda 1.0\ndef Sphere "s" {}\n')
    for reference in ("../other.usda", str(tmp_path / "other.usda"), "other.usda"):
        text = f"#usda 1.0\n(\n    subLayers = [@{reference}@]\n)\n"
        with zipfile.ZipFile(tmp_path / "a.usdz", "w") as archive:
            archive.writestr("a.usda", text)
        with pytest.raises(ScanError, match="not in the package"):
            load(tmp_path / "a.usdz")


def test_samples_of_other_formats_stay_what_they_are(tmp_path):
    """An archive's suffix does not make a scan of what has another signature."""
    for suffix, content in ((".zip", ply_bytes(VERTICES, FACES)), (".usdz", stl_bytes(VERTICES, FACES)), (".r3d", OBJ)):
        (tmp_path / f"a{suffix}").write_bytes(content)
        with pytest.raises(ScanError, match="content"):
            load(tmp_path / f"a{suffix}")


def test_images_in_another_folder_of_the_archive(tmp_path):
    library = b"newmtl skin\nmap_Kd ../textures/tex.png\n"
    files = {"source/m.obj": seeds.textured_obj().replace(b"usemtl cloth\n", b""), "source/m.mtl": library}
    files |= {"textures/tex.png": png_bytes(np.full((8, 8, 3), [194, 143, 128], np.uint8))}
    path = zipped(tmp_path / "a.zip", files)
    scan, report = read_with_report(path, min_points=1)
    assert report.notes == ()
    np.testing.assert_allclose(scan.texture[0, 0] * 255, [194, 143, 128], atol=0.01)


@pytest.mark.skipif(not seeds.has("DracoPy"), reason="needs the libraries of 'omote[formats]'")
def test_a_user_whose_limits_are_lower_reads_compressed_scans_too(tmp_path):
    path = tmp_path / "a.glb"
    path.write_bytes(seeds.draco_glb())
    program = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
from omote.formats.read import read
print(len(read(sys.argv[1]).vertices))
"""
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["784"], done.stderr
