"""Outputs are checked first and appear together; frames and landmarks are read back as they were written."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omote.api.scans import read
from omote.errors import ConfigError, OutputError, ScanError
from omote.files import all_or_nothing, check_folder
from omote.formats.frame_write import DEPTH_UNIT_MM, depth_greys, save_rgbd
from omote.formats.landmarks import read_landmarks
from omote.geometry.camera import orbit_camera
from omote.head.expressions import CATEGORIES, expressions_of
from omote.runs import Stopwatch, machine, peak_memory_mb, prefixed, run_facts, write_json
from omote.types import Expression, Rgbd


def image(size: int = 64, seed: int = 0) -> Rgbd:
    rng = np.random.default_rng(seed)
    mask = rng.random((size, size)) > 0.2
    depth = np.where(mask, rng.uniform(400, 900, (size, size)), 0.0)
    return Rgbd(rgb=rng.random((size, size, 3)), depth_mm=depth, mask=mask, camera=orbit_camera(size=size))


def test_files_appear_together_or_not_at_all(tmp_path: Path) -> None:
    a, b = tmp_path / "a.txt", tmp_path / "b.txt"
    b.write_text("before")

    def half_write() -> None:
        with all_or_nothing(a, b) as temporary:
            for path in (a, b):
                temporary[path].write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half_write()
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"b.txt": "before"}
    with all_or_nothing(a, b) as temporary:
        for path in (a, b):
            temporary[path].write_text("whole")
        assert not a.exists()
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a.txt": "whole", "b.txt": "whole"}


def test_a_folder_can_be_made_anywhere_below_a_folder_and_below_nothing_else(tmp_path: Path) -> None:
    check_folder(tmp_path / "a/b/c")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file/a"):
        with pytest.raises(OutputError, match="folder"):
            check_folder(path)


def test_an_rgbd_frame_reads_back(tmp_path: Path) -> None:
    written = image()
    save_rgbd(written, tmp_path / "frame")
    back = read(tmp_path / "frame")
    assert isinstance(back, Rgbd)
    np.testing.assert_array_equal(back.mask, written.mask)
    assert np.abs(back.depth_mm - written.depth_mm).max() <= DEPTH_UNIT_MM / 2 + 1e-9
    assert np.abs(back.rgb - written.rgb).max() <= 0.5 / 255 + 1e-6
    np.testing.assert_allclose(back.camera.intrinsics, written.camera.intrinsics)
    assert (tmp_path / "frame/picture.png").stat().st_size > 1000


def test_depth_that_16_bits_cannot_hold_is_refused_not_wrapped(tmp_path: Path) -> None:
    far = image()
    far = Rgbd(rgb=far.rgb, depth_mm=far.depth_mm * 1000, mask=far.mask, camera=far.camera)
    with pytest.raises(OutputError, match="unit"):
        save_rgbd(far, tmp_path / "frame")


def test_near_is_lighter_than_far() -> None:
    wall = image()
    picture = depth_greys(wall)
    near, far = (np.unravel_index(f(np.where(wall.mask, wall.depth_mm, np.nan)), wall.mask.shape)
                 for f in (np.nanargmin, np.nanargmax))  # fmt: skip
    assert picture[near][0] > picture[far][0]


@pytest.mark.parametrize("suffix", [".json", ".npy", ".txt", ".csv"])
def test_landmarks_read_back_from_every_format(suffix: str, tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(68, 3))
    points[5] = np.nan
    path = tmp_path / f"landmarks{suffix}"
    if suffix == ".json":
        path.write_text(json.dumps({"landmarks": [[None if math.isnan(v) else v for v in p] for p in points.tolist()]}))
    elif suffix == ".npy":
        np.save(path, points)
    else:
        np.savetxt(path, points, delimiter="," if suffix == ".csv" else " ", header="x y z")
    np.testing.assert_allclose(read_landmarks(path), points)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.json", b"{}", "expected 68 rows"),
        ("a.json", b"[[1, 2, 3]]", "got an array of shape (1, 3)"),
        ("a.json", b"3", "expected 68 rows"),
        ("a.json", b"[" * 100_000, "expected 68 rows"),
        ("a.txt", b"1 2 x\n", "expected 68 rows"),
        ("a.txt", b"\xff\xfe\x00", "expected 68 rows"),
        ("a.txt", b"1 2 3\n1 2\n", "expected 68 rows"),
        ("a.txt", b"nan nan nan\n" * 68, "at least 12 known"),
        ("a.npy", b"not numpy", "expected 68 rows"),
        ("a.txt", b"1 2 3\n" * 400_000, "got a file of 2,400,000 bytes"),
    ],
)
def test_landmarks_that_are_none_are_refused_in_one_line(name: str, content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ScanError) as caught:
        read_landmarks(tmp_path / name)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_expressions_by_name_by_list_and_by_value() -> None:
    assert [e.category for e in expressions_of(["all"])] == list(CATEGORIES)
    assert [e.category for e in expressions_of(["Happy, sad", "angry"], 0.5)] == ["happy", "sad", "angry"]
    given = Expression(category="happy", intensity=0.3)
    assert expressions_of([given, "sad"])[0] is given
    with pytest.raises(ConfigError, match="unknown 'hapy'"):
        expressions_of([Expression(category="hapy")])


@given(st.dictionaries(st.text("ab/", min_size=1, max_size=4), st.floats() | st.integers() | st.text() | st.none()))
def test_a_report_is_json_that_any_reader_takes(values: dict) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        write_json(values, Path(folder) / "report.json")
        text = (Path(folder) / "report.json").read_text(encoding="utf-8")
    back = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert set(back) == set(values)


def test_a_report_has_times_memory_and_versions() -> None:
    watch = Stopwatch()
    with watch("a"), watch("b"):
        pass
    facts = run_facts(watch)
    assert facts["time_s/total"] >= facts["time_s/a"] >= facts["time_s/b"] >= 0
    assert 10 < peak_memory_mb() < 1_000_000
    assert facts["version/numpy"] == np.__version__
    assert machine()["machine/cores"] >= 1


def test_flattening_keeps_numbers_and_text_and_drops_arrays() -> None:
    values = {"a": 1, "b": Path("x"), "c": (1, 2), "d": {"e": None}, "f": np.zeros(3)}
    assert prefixed("p", values) == {"p/a": 1, "p/b": "x", "p/c": "1 2", "p/d/e": None}
