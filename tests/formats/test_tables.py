"""Tables of points in text, however a spreadsheet, a script or a scanner wrote them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omote.errors import ScanError
from omote.formats import read_with_report
from omote.types import PointCloud
from scan_files import grid_mesh

VERTICES, _, COLORS, NORMALS = grid_mesh()
VERTICES = np.round(VERTICES, 4)
ROWS = len(VERTICES)
NAMES = {
    "x": ("x", "X", "X [mm]", "Points:0", "pos_x", "Point X", "x(m)"),
    "y": ("y", "Y", "Y [mm]", "Points:1", "pos_y", "Point Y", "y(m)"),
    "z": ("z", "Z", "Z [mm]", "Points:2", "pos_z", "Point Z", "z(m)"),
    "r": ("r", "R", "red", "Rf", "Colors:0", "Red", "diffuse_red"),
    "g": ("g", "G", "green", "Gf", "Colors:1", "Green", "diffuse_green"),
    "b": ("b", "B", "blue", "Bf", "Colors:2", "Blue", "diffuse_blue"),
    "nx": ("nx", "Nx", "normal_x", "Normals:0", "normalX", "NX", "norm_x"),
    "ny": ("ny", "Ny", "normal_y", "Normals:1", "normalY", "NY", "norm_y"),
    "nz": ("nz", "Nz", "normal_z", "Normals:2", "normalZ", "NZ", "norm_z"),
}


def load(folder: Path, name: str, content: bytes):
    (folder / name).write_bytes(content)
    return read_with_report(folder / name, min_points=1)


def columns(color_scale: float) -> dict[str, np.ndarray]:
    colors = COLORS / 255.0 * color_scale
    colors = np.round(colors) if color_scale > 1 else np.round(colors, 6)
    out = dict(zip("xyz", VERTICES.T, strict=True)) | dict(zip("rgb", colors.T, strict=True))
    return out | dict(zip(("nx", "ny", "nz"), NORMALS.T, strict=True))


def check(cloud: PointCloud, *, has_colors: bool, has_normals: bool) -> None:
    np.testing.assert_array_equal(cloud.points, VERTICES)
    assert (cloud.colors is not None, cloud.normals is not None) == (has_colors, has_normals)
    if has_colors:
        np.testing.assert_allclose(cloud.colors * 255, COLORS, atol=0.01)
    if has_normals:
        np.testing.assert_allclose(cloud.normals, NORMALS, atol=1e-6)


def number(value: float, *, comma: bool) -> str:
    text = f"{value:.0f}" if value == int(value) and abs(value) > 3 else f"{value:.8f}"
    return text.replace(".", ",") if comma else text


@given(data=st.data())
def test_names_decide_whatever_the_order_separator_and_encoding(tmp_path_factory, data):
    held = columns(data.draw(st.sampled_from([1.0, 255, 65535])))
    style = data.draw(st.integers(0, 6))
    wanted = ["x", "y", "z"]
    has_colors, has_normals = data.draw(st.booleans()), data.draw(st.booleans())
    wanted += ["r", "g", "b"] if has_colors else []
    wanted += ["nx", "ny", "nz"] if has_normals else []
    order = data.draw(st.permutations(wanted))
    separator = data.draw(st.sampled_from([",", ";", "\t", "|", " "]))
    comma = (separator not in ",;" and data.draw(st.booleans())) or (separator == ";" and data.draw(st.booleans()))
    quoted = separator != " " and data.draw(st.booleans())
    comma = comma or (separator == "," and quoted and data.draw(st.booleans()))
    index, extra = data.draw(st.sampled_from([None, "", "index"])), data.draw(st.booleans())
    if separator == " ":
        index = None if index == "" else index
        style = style if " " not in NAMES["x"][style] else 0
    quote = '"{}"' if quoted else "{}"
    head = [NAMES[n][style] for n in order] + (["confidence"] if extra else [])
    lines = [([quote.format(index)] if index is not None else []) + [quote.format(h) for h in head]]
    for k in range(ROWS):
        own = [number(held[n][k], comma=comma) for n in order] + (["0,75" if comma else "0.75"] if extra else [])
        lines.append(([quote.format(k)] if index is not None else []) + [quote.format(v) for v in own])
    text = data.draw(st.sampled_from(["", "# made by a test\n"])) + data.draw(st.sampled_from(["", "//", "# "])) * (
        index is None
    )
    text += data.draw(st.sampled_from(["\n", "\r\n"])).join(separator.join(line) for line in lines) + "\n"
    encoding = data.draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
    suffix = data.draw(st.sampled_from([".csv", ".txt", ".asc", ".xyz", ".pts"]))
    folder = tmp_path_factory.mktemp("table")
    (folder / f"a{suffix}").write_bytes(text.encode(encoding))
    cloud, report = read_with_report(folder / f"a{suffix}", min_points=1)
    check(cloud, has_colors=has_colors, has_normals=has_normals)
    assert any("confidence" in note for note in report.notes) == extra


@given(
    scale=st.sampled_from([1.0, 255, 65535]),
    alpha=st.sampled_from([None, 255, 1]),
    intensity=st.booleans(),
    normals=st.sampled_from(["", "before", "after"]),
    index=st.booleans(),
    separator=st.sampled_from([" ", ",", ";", "\t"]),
    count=st.booleans(),
)
def test_values_tell_the_columns_where_no_header_does(
    tmp_path_factory, scale, alpha, intensity, normals, index, separator, count
):
    held = columns(scale)
    rows = [np.arange(ROWS)] if index else []
    rows += [held[n] for n in "xyz"]
    rows += [held[n] for n in ("nx", "ny", "nz")] if normals == "before" else []
    rows += [np.linspace(-300, 900, ROWS)] if intensity else []
    rows += [held[n] for n in "rgb"]
    rows += [np.full(ROWS, alpha)] if alpha is not None else []
    rows += [held[n] for n in ("nx", "ny", "nz")] if normals == "after" else []
    text = f"{ROWS}\n" if count else ""
    text += "".join(separator.join(number(v, comma=False) for v in row) + "\n" for row in zip(*rows, strict=True))
    cloud, report = load(tmp_path_factory.mktemp("table"), "a.pts", text.encode())
    check(cloud, has_colors=True, has_normals=bool(normals))
    assert any("counts the rows" in note for note in report.notes) == index
    assert any("columns not read" in note for note in report.notes) == intensity


def test_a_comma_that_is_decimal_and_separates_is_named(tmp_path):
    rows = "".join(f"{81 + k},{k % 10:02d},359,{(7 * k) % 100:02d},74,{(3 * k) % 100:02d}\n" for k in range(40))
    with pytest.raises(ScanError, match="comma is decimal sign and separator"):
        load(tmp_path, "a.csv", rows.encode())


def test_packed_colours(tmp_path):
    packed = (COLORS.astype(np.int64) << np.array([16, 8, 0])).sum(axis=1)
    for head in ("x y z rgb\n", ""):
        rows = "".join(f"{x} {y} {z} {c}\n" for (x, y, z), c in zip(VERTICES.tolist(), packed.tolist(), strict=True))
        cloud, _ = load(tmp_path, "a.xyz", (head + rows).encode())
        np.testing.assert_allclose(cloud.colors * 255, COLORS, atol=1e-3)


def test_text_empty_fields_and_columns_of_r(tmp_path):
    rows = "".join(f'"point, {k}",{x},{y},{z},,left\n' for k, (x, y, z) in enumerate(VERTICES.tolist()))
    cloud, report = load(tmp_path, "a.csv", b"name,x,y,z,quality,side\n" + rows.encode())
    np.testing.assert_array_equal(cloud.points, VERTICES)
    assert any("text" in note for note in report.notes)
    assert any("quality" in note for note in report.notes)
    rows = "".join(f'"{k + 1}" {x} {y} {z}\n' for k, (x, y, z) in enumerate(VERTICES.tolist()))
    cloud, _ = load(tmp_path, "r.txt", b'"x" "y" "z"\n' + rows.encode())  # R: no name above the row names
    np.testing.assert_array_equal(cloud.points, VERTICES)


def test_a_missing_value_is_a_point_that_is_dropped(tmp_path):
    rows = "x;y;z\n" + "".join(f"{x};{'' if k == 3 else y};{z}\n" for k, (x, y, z) in enumerate(VERTICES.tolist()))
    _, report = load(tmp_path, "a.csv", rows.encode())
    assert (report.num_points, report.num_dropped_nan) == (ROWS - 1, 1)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"x,y,z\n", "found none"),
        (b"hello\nworld\n", "found none"),
        (b"1 2 3\n1 2\n", "one width"),
        (b"1 2 3\n1 2 x\n", "expected numbers"),
        (b"x y z\n1;2;3\n4;5;a\n", "expected numbers"),
        (b"1 2\n3 4\n", "found none"),
        (b"\n" * 100, "found none"),
    ],
)
def test_what_is_no_table_is_one_line(tmp_path, content, says):
    with pytest.raises(ScanError, match=says) as caught:
        load(tmp_path, "a.csv", content)
    assert "\n" not in str(caught.value)


def test_a_table_longer_than_a_block(tmp_path, monkeypatch):
    rows = "x;y;z;name\n" + "".join(
        f"{x};{y};{z};p{k}\n".replace(".", ",") for k, (x, y, z) in enumerate(VERTICES.tolist())
    )
    whole, _ = load(tmp_path, "a.csv", rows.encode("utf-16"))
    monkeypatch.setattr("omote.formats.numbers.BLOCK_BYTES", 128)
    blocks, _ = read_with_report(tmp_path / "a.csv", min_points=1)
    np.testing.assert_array_equal(whole.points, VERTICES)
    np.testing.assert_array_equal(blocks.points, VERTICES)


SKIN_ROWS = [(0.5 * k, float(k * k % 7), 500.0 + k % 5, 194, 143, 128) for k in range(600)]


def table_of(line: str) -> str:
    return "".join(line.format(*row, 194 << 16 | 143 << 8 | 128) + "\n" for row in SKIN_ROWS)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("comments.xyz", "# a\n" + table_of("{} {} {} {} {} {}").replace("\n", "\n# between\n//too\n", 40)),
        ("blank.csv", "x,y,z,r,g,b\n" + table_of("{},{},{},{},{},{}").replace("\n", "\n,,,,,\n", 40)),
        ("unknown.csv", "x,y,z,r,g,b\n" + "NA,N/A,null,0,0,0\n" * 3 + table_of("{},{},{},{},{},{}")),
        ("hex.csv", "x,y,z,color\n" + table_of("{0},{1},{2},#{6:06x}")),
        ("hex_alone.txt", table_of("{0} {1} {2} #{6:06X}")),
        ("quoted_hex.csv", "x,y,z,color\n" + table_of('{0},{1},{2},"#{6:06x}"')),
        ("german.csv", "X;Y;Z;Rot;Grün;Blau\n" + table_of("{};{};{};{};{};{}").replace(".", ",")),
        ("french.csv", "x;y;z;rouge;vert;bleu\n" + table_of("{};{};{};{};{};{}")),
        ("spanish.csv", "x;y;z;rojo;verde;azul\n" + table_of("{};{};{};{};{};{}")),
    ],
)
@pytest.mark.parametrize("page", ["utf-8", "latin-1"])
def test_what_lies_between_rows_and_in_cells_of_spreadsheets(tmp_path: Path, name: str, text: str, page: str) -> None:
    (tmp_path / name).write_bytes(text.encode(page))
    scan, report = read_with_report(tmp_path / name)
    assert len(scan.points) == 600
    np.testing.assert_allclose(scan.colors * 255, np.tile([194, 143, 128], (600, 1)), atol=0.01)
    assert report.notes == ()
