"""Depth cameras' frames: their keys, scales, invalid values, orientations and recordings."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from omote.errors import ScanError
from omote.formats import read_with_report
from scan_files import png_bytes, write_frame

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (30, 40, 3)).astype(np.uint8)
DEPTH_MM = RNG.integers(400, 900, (30, 40)).astype(float)


def load(path: Path):
    return read_with_report(path, min_points=1)


@given(
    key=st.sampled_from([
        "depth_scale", "depthScale", "DEPTH SCALE", "depth_factor", "depth_map_factor", "png_depth_scale", "factor", "scale",
        "depth_units", "integer_depth_scale", "depth_unit_scale_factor", "depthShift",
    ]),
    scale=st.sampled_from([
        (0.001, 1.0), (0.0001, 0.1), (0.00025, 0.25), (1000, 1.0), (5000, 0.2), (6553.5, 1000 / 6553.5), (0.1, 0.1), (1.0, 1.0),
    ]),
    nested=st.booleans(),
)  # fmt: skip
def test_a_depth_scale_is_recognised_by_its_size(tmp_path_factory, key, scale, nested):
    value, mm = scale
    depth = np.round(DEPTH_MM / mm).astype(np.uint16)
    keys = {"intrinsics": {"fx": 100.0, "fy": 110.0, "cx": 20.0, "cy": 15.0, key: value}} if nested else {key: value}
    frame, report = load(write_frame(tmp_path_factory.mktemp("f") / "f", depth, RGB, **keys))
    np.testing.assert_allclose(frame.depth_mm, depth * mm)
    assert key in report.notes[0]
    assert "depth_scale_mm" in report.notes[0]


@pytest.mark.parametrize(("unit", "mm"), [("mm", 1), ("cm", 10), ("m", 1000), ("meters", 1000), ("Millimetres", 1)])
def test_units(tmp_path, unit, mm):
    depth = (DEPTH_MM / mm).astype(np.float32)
    for key in ("depth_unit", "depth_units"):
        frame, report = load(write_frame(tmp_path / key, depth, RGB, **{key: unit}))
        np.testing.assert_allclose(frame.depth_mm, DEPTH_MM, rtol=1e-6)
        assert report.notes == ()


@pytest.mark.parametrize("value", [0, -1, "a", None, [1], 1e12, 0.5])
def test_a_scale_that_tells_nothing_is_refused_by_name(tmp_path, value):
    folder = write_frame(tmp_path / "f", DEPTH_MM.astype(np.float32), RGB, depth_scale=value)
    with pytest.raises(ScanError, match=r"depth_scale|depth_unit"):
        load(folder)


def test_every_key_that_is_not_used_is_named(tmp_path):
    keys = {
        "depth_scale_mm": 1.0,
        "serial": "123",
        "fps": 30,
        "coeffs": [0.1, 0, 0, 0, 0],
        "depth_scale": 0.001,
        "Model": "D405",
    }
    _, report = load(write_frame(tmp_path / "f", DEPTH_MM.astype(np.uint16), RGB, **keys))
    named = " ".join(report.notes)
    assert all(key in named for key in ("serial", "fps", "depth_scale", "Model"))
    assert "distortion" in named
    keys["coeffs"] = [0, 0.0, 0, 0, 0]
    _, report = load(write_frame(tmp_path / "g", DEPTH_MM.astype(np.uint16), RGB, **keys))
    assert "distortion" not in " ".join(report.notes)


@pytest.mark.parametrize(
    "keys",
    [
        {"ppx": 19.5, "ppy": 14.5},
        {"K": [100, 0, 20, 0, 110, 15, 0, 0, 1]},
        {"K": [[100, 0, 20], [0, 110, 15], [0, 0, 1]]},
        {"intrinsic_matrix": [100, 0, 0, 0, 110, 0, 20, 15, 1]},
        {"camera_matrix": {"rows": 3, "cols": 3, "data": [100, 0, 20, 0, 110, 15, 0, 0, 1]}},
        {"intrinsics": [[100, 0, 20], [0, 110, 15], [0, 0, 1]]},
        {"fl_x": 100, "fl_y": 110, "cx": 20, "cy": 15, "w": 40, "h": 30},
    ],
)
def test_intrinsics_of_other_cameras(tmp_path, keys):
    folder = write_frame(tmp_path / "f", DEPTH_MM.astype(np.uint16), RGB)
    given = keys if "ppx" not in keys else {"fx": 100, "fy": 110, **keys}
    (folder / "intrinsics.json").write_text(json.dumps(given))
    np.testing.assert_allclose(load(folder)[0].camera.intrinsics, [[100, 0, 20], [0, 110, 15], [0, 0, 1]])


@given(
    dtype=st.sampled_from(["u2", "f4"]),
    kinds=st.sets(st.sampled_from(["zero", "nan", "inf", "negative", "full", "kinect", "named"]), min_size=1),
)
def test_invalid_values(tmp_path_factory, dtype, kinds):
    depth = DEPTH_MM.copy()
    bad = {"zero": 0, "nan": np.nan, "inf": np.inf, "negative": -1, "full": 65535, "kinect": 2047, "named": 777}
    if dtype == "u2":
        kinds = kinds - {"nan", "inf", "negative"}
    else:
        kinds = kinds - {"full", "kinect"}
    if "full" in kinds:
        kinds = kinds - {"kinect"}
    depth[depth == 777] = 778
    invalid = np.zeros(depth.shape, bool)
    for row, kind in enumerate(sorted(kinds)):
        depth[row] = bad[kind]
        invalid[row] = True
    keys = {"invalid": 777} if "named" in kinds else {}
    folder = write_frame(tmp_path_factory.mktemp("f") / "f", depth.astype(dtype), RGB, depth_unit="mm", **keys)
    frame, report = load(folder)
    np.testing.assert_array_equal(frame.mask, ~invalid)
    assert any("taken as no depth" in note for note in report.notes) == bool(kinds & {"full", "kinect"})
    assert report.num_dropped_nan == invalid.sum()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_colour_is_turned_upright(tmp_path, orientation, kind):
    smooth = np.asarray(Image.fromarray(RGB[:6, :8]).resize((40, 30), Image.Resampling.BICUBIC))
    upright = Image.fromarray(smooth)
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose that undoes each
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(back[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    folder = write_frame(tmp_path / "f", DEPTH_MM.astype(np.uint16), RGB, color=f"c.{kind.lower()}")
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    stored.save(folder / f"c.{kind.lower()}", kind, exif=exif, **options)
    frame, report = load(folder)
    assert np.abs(frame.rgb * 255 - smooth).mean() < 3
    if kind != "TIFF":  # Pillow turns these unasked
        assert any("EXIF orientation" in note for note in report.notes) == (orientation != 1)


def test_an_orientation_that_does_not_fit_the_depth_is_not_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    folder = write_frame(tmp_path / "f", DEPTH_MM.astype(np.uint16), RGB)
    Image.fromarray(RGB).save(folder / "color.png", exif=exif)
    frame, report = load(folder)
    np.testing.assert_allclose(frame.rgb * 255, RGB, atol=1e-3)
    assert "not applied" in report.notes[0]


def test_files_of_any_case_and_kind(tmp_path):
    folder = write_frame(tmp_path / "f", DEPTH_MM.astype(np.uint16), RGB)
    (folder / "depth.png").rename(folder / "Depth.PNG")
    (folder / "color.png").rename(folder / "RGB.png")
    (folder / "._intrinsics.json").write_bytes(b"\0\5\x16\7")
    (folder / "intrinsics.json").rename(folder / "cam.json")
    assert load(folder)[1].num_points == 1200
    (folder / "Depth.PNG").unlink()
    Image.fromarray(DEPTH_MM.astype(np.uint16)).save(folder / "depth.pgm", "PPM")
    np.testing.assert_array_equal(load(folder)[0].depth_mm, DEPTH_MM)


def recording(depth: np.ndarray, *, metadata: dict, image: np.ndarray = RGB, packed: bool = False) -> bytes:
    data = depth.astype("<f4").tobytes()
    if packed:
        lzfse = pytest.importorskip("lzfse", reason="needs lzfse: pip install 'omote[formats]'")
        data = lzfse.compress(data)
    picture, out = io.BytesIO(), io.BytesIO()
    Image.fromarray(image).save(picture, "JPEG", quality=100, subsampling=0)
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("metadata", json.dumps(metadata))
        archive.writestr("rgbd/0.jpg", picture.getvalue())
        for k in range(3):
            archive.writestr(f"rgbd/{k}.depth", data)
    return out.getvalue()


@pytest.mark.parametrize("packed", [False, True])
def test_a_recording_of_record3d(tmp_path, packed):
    metres = np.random.default_rng(1).uniform(0.3, 0.6, (640, 480))
    metres[:10], metres[10:20] = np.nan, 0.0
    image = np.full((960, 720, 3), 100, np.uint8)
    image[:, :360] = 200
    metadata = {"w": 720, "h": 960, "K": [900, 0, 0, 0, 960, 0, 360, 480, 1], "fps": 30, "poses": [], "extra": 1}
    (tmp_path / "a.r3d").write_bytes(recording(metres, metadata=metadata, image=image, packed=packed))
    frame, report = load(tmp_path / "a.r3d")
    np.testing.assert_allclose(frame.depth_mm[20:], 1000 * metres[20:], rtol=1e-6)
    assert not frame.mask[:20].any()
    np.testing.assert_allclose(frame.camera.intrinsics, [[600, 0, 240], [0, 640, 320], [0, 0, 1]])
    np.testing.assert_allclose(frame.rgb[300, [50, 400]] * 255, [[200] * 3, [100] * 3], atol=3)
    assert report.format == "r3d"
    assert any("first of 3 frames" in note for note in report.notes)
    assert any("extra" in note for note in report.notes)


def test_a_recordings_own_sizes_and_intrinsics_win(tmp_path):
    metadata = {
        "w": 40,
        "h": 30,
        "dw": 20,
        "dh": 15,
        "K": [1] * 9,
        "perFrameIntrinsicCoeffs": [[100, 110, 20, 15], [1, 1, 1, 1]],
    }
    (tmp_path / "a.r3d").write_bytes(recording(np.full((15, 20), 0.5), metadata=metadata))
    np.testing.assert_allclose(load(tmp_path / "a.r3d")[0].camera.intrinsics, [[50, 0, 10], [0, 55, 7.5], [0, 0, 1]])
    for change, says in (
        ({"dw": 21}, "size"),
        ({"w": "a"}, "'w'"),
        ({"perFrameIntrinsicCoeffs": None, "K": [1]}, "'K'"),
    ):
        (tmp_path / "b.r3d").write_bytes(recording(np.full((15, 20), 0.5), metadata=metadata | change))
        with pytest.raises(ScanError, match=says):
            load(tmp_path / "b.r3d")
    with zipfile.ZipFile(tmp_path / "c.r3d", "w") as archive:
        archive.writestr("metadata", "{}")
    with pytest.raises(ScanError, match="depth"):
        load(tmp_path / "c.r3d")


def test_a_colour_image_larger_than_the_depth_is_averaged(tmp_path):
    folder = write_frame(tmp_path / "f", DEPTH_MM.astype(np.uint16), RGB)
    (folder / "color.png").write_bytes(png_bytes(np.repeat(np.repeat(RGB, 2, 0), 2, 1)))
    frame, report = load(folder)
    np.testing.assert_allclose(frame.rgb * 255, RGB, atol=1e-3)
    assert "80 × 60" in report.notes[0]


def test_images_whose_names_only_begin_as_they_should(tmp_path):
    folder = write_frame(tmp_path / "f", np.full((30, 40), 500, np.uint16), np.full((30, 40, 3), 99, np.uint8))
    for name in ("color", "depth"):
        (folder / f"{name}.png").rename(folder / f"{name}_000123.png")
    assert read_with_report(folder)[1].notes[:2] == (
        "color_000123.png is taken as the color image",
        "depth_000123.png is taken as the depth image",
    )
    (folder / "color_000124.png").write_bytes(b"")
    with pytest.raises(ScanError, match="name it in the JSON"):
        read_with_report(folder)
