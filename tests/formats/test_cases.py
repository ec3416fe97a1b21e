"""The inputs of public bug reports in ``shared/cases``, each read with the value that a user rightly expects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from omote.errors import ScanError
from omote.formats import read_with_report
from omote.images.packed import list_images, read_image
from omote.types import Mesh, PointCloud, Rgbd

SKIN = (193.4, 142.9, 127.9)  # of the vertices, 0 to 255
TEXTURE = (193.0, 152.8, 139.6)
NO_COLOR = "no colour was read: the skin will be drawn"


@pytest.fixture
def cases(shared_dir: Path) -> Path:
    folder = shared_dir / "cases"
    if not folder.is_dir():
        pytest.skip(f"no cases at {folder}: set OMOTE_SHARED to the folder that holds them")
    return folder


def mean_color(scan: Mesh | PointCloud | Rgbd) -> np.ndarray:
    """0 to 255."""
    if isinstance(scan, Rgbd):
        colors = scan.rgb[scan.mask]
    elif isinstance(scan, PointCloud):
        colors = scan.colors
    else:
        colors = scan.vertex_colors if scan.texture is None else scan.texture.reshape(-1, 3)
    assert colors is not None
    return 255 * colors.mean(axis=0)


@pytest.mark.parametrize(
    ("name", "color", "num_points"),
    [
        ("01_ply_int_colours.ply", SKIN, 2788),
        ("04_ply_face_colours.ply", SKIN, 2788),
        ("05_obj_map_kd_lowercase/scan.obj", TEXTURE, 1672),
        ("06_obj_no_usemtl/scan.obj", TEXTURE, 1672),
        ("09_obj_texture_other_case/scan.obj", TEXTURE, 1672),
        ("10_obj_two_mtllib/scan.obj", TEXTURE, 1672),
        ("14_glb_specular_glossiness.glb", TEXTURE, 2788),
        ("16_glb_sparse_accessor.glb", TEXTURE, 2788),
        ("17_xyz_decimal_comma.xyz", SKIN, 2788),
        ("18_xyz_pandas_index.xyz", SKIN, 2788),
        ("19_xyz_rgba.xyz", SKIN, 2788),
        ("21_xyz_cloudcompare_float_colours.xyz", SKIN, 2788),
    ],
)
def test_the_skin_is_read(cases: Path, name: str, color: tuple[float, float, float], num_points: int) -> None:
    scan, report = read_with_report(cases / name)
    np.testing.assert_allclose(mean_color(scan), color, atol=0.6)
    assert report.num_points == num_points
    assert report.has_color
    assert not any("look wrong" in note for note in report.notes)


def test_points_of_tables_are_all_the_same(cases: Path) -> None:
    names = ("17_xyz_decimal_comma", "18_xyz_pandas_index", "19_xyz_rgba", "21_xyz_cloudcompare_float_colours")
    clouds = [read_with_report(cases / f"{name}.xyz")[0] for name in names]
    for cloud in clouds:
        assert isinstance(cloud, PointCloud)
        np.testing.assert_array_equal(cloud.points, clouds[0].points)
        np.testing.assert_allclose(cloud.points[0], [81.414, 359.794, 74.553])
        np.testing.assert_allclose(cloud.colors[0] * 255, [189, 157, 146], atol=0.02)


def test_a_sparse_accessor_leaves_the_other_places_as_they_are(cases: Path) -> None:
    sparse = read_with_report(cases / "16_glb_sparse_accessor.glb")[0]
    whole = read_with_report(cases / "14_glb_specular_glossiness.glb")[0]
    np.testing.assert_allclose(sparse.vertices, whole.vertices)  # its values are those that it replaces
    np.testing.assert_array_equal(sparse.faces, whole.faces)


def test_a_texture_that_is_not_here_is_said_and_the_shape_read(cases: Path) -> None:
    mesh, report = read_with_report(cases / "07_obj_missing_texture_windows_path/scan.obj")
    assert mesh.texture is None
    assert (report.num_points, report.has_color) == (1672, False)
    assert report.notes[0] == NO_COLOR
    assert "face_diffuse.jpg" in report.notes[1]


def test_the_scale_of_a_realsense_is_used_and_named(cases: Path) -> None:
    frame, report = read_with_report(cases / "23_rgbd_depth_scale_key")
    plain, _ = read_with_report(cases / "26_rgbd_exif_square")
    assert 400 < np.median(frame.depth_mm[frame.mask]) < 800
    np.testing.assert_allclose(np.median(frame.depth_mm[frame.mask]), np.median(plain.depth_mm[plain.mask]), rtol=0.01)
    assert any("depth_scale 0.0001 is read as metres per unit" in note for note in report.notes)
    assert any("model" in note for note in report.notes)
    np.testing.assert_allclose(frame.camera.intrinsics[:2, 2], [240, 240])  # ppx counts pixel centres from 0


@pytest.mark.parametrize("name", ["24_rgbd_exif_colour", "26_rgbd_exif_square"])
def test_colour_on_its_side_is_turned_upright(cases: Path, name: str) -> None:
    frame, report = read_with_report(cases / name)
    upright, _ = read_with_report(cases / "23_rgbd_depth_scale_key")
    same = upright.rgb[:, 40:440] if "24" in name else upright.rgb
    assert frame.rgb.shape == same.shape
    assert np.abs(frame.rgb - same).mean() < 0.02  # JPEG, written twice
    assert any("EXIF orientation 6" in note for note in report.notes)


def test_a_wall_behind_the_face_is_read_as_it_is(cases: Path) -> None:
    frame, report = read_with_report(cases / "22_rgbd_background_wall")
    assert frame.mask.all()
    np.testing.assert_allclose(frame.depth_mm.max(), 1500, rtol=0.1)
    assert (frame.depth_mm < 800).mean() > 0.2
    assert report.notes == ()


def test_hidden_files_of_a_mac_are_no_images(cases: Path) -> None:
    assert list_images(cases / "27_images_appledouble").names == ("a/00.png",)


def test_sixteen_bits_of_grey_keep_their_brightness(cases: Path) -> None:
    twins = [read_image(cases / "30_images_grey16/a" / name, 64) for name in ("grey.png", "grey16.png")]
    np.testing.assert_allclose(twins[1].astype(float), twins[0], atol=1)
    assert 150 < twins[1].mean() < 180


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("npz_tokenerror/a.npz", "'points' is damaged"),
        ("npz_shape_float/a.npz", "'points' is damaged"),
        ("rgbd_npy_tokenerror", "the depth cannot be read"),
        ("rgbd_overflow", "expected 'fx' to be a number"),
        ("glb_stride_overflow/a.glb", "an accessor claims"),
        ("glb_instances_8000/a.glb", "expected at most"),
        ("wrl_redos_esc/a.wrl", "ends inside a text in quotes"),
    ],
)
def test_faults_are_one_line(cases: Path, name: str, says: str) -> None:
    with pytest.raises(ScanError, match=says) as caught:
        read_with_report(cases / "faults" / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["glb_20_materials/a.glb", "obj_64_names/a.obj"])
def test_an_image_of_many_names_or_materials_is_decoded_once(
    cases: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from omote.formats import materials

    decoded = []
    plain = materials.read_pixels
    small = {"max_size": 64}

    def counted(*arguments, **options):
        decoded.append(options["max_size"])
        return plain(*arguments, **{**options, **small})

    monkeypatch.setattr(materials, "read_pixels", counted)
    mesh, _ = read_with_report(cases / "faults" / name)
    assert decoded == [4096]
    assert mesh.texture is not None
