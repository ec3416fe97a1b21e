"""Every layout is found and listed as it lies; what is wrong is named and skipped; nobody is in two splits."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import omote
from dataset_folders import FOLDERS, grid, write_image, write_obj, write_ply
from omote import api
from omote.cli.main import main
from omote.datasets.layouts.labels import BU3DFE, COMA, FACESCAPE, WORDS, meaning_of_word
from omote.datasets.layouts.registry import LAYOUTS, find_layout, list_items
from omote.datasets.layouts.splits import DATASET_SPLITS, split_of
from omote.errors import ConfigError, DatasetError
from omote.formats.read import PLAIN
from omote.head.expressions import CATEGORIES, arkit_weights
from omote.rgbd.train.dataset_shards import read_item
from omote.types import Mesh


@pytest.fixture(params=list(FOLDERS))
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    FOLDERS[request.param](tmp_path)
    return request.param, tmp_path


def test_every_layout_is_found_and_used_whole(dataset: tuple[str, Path]) -> None:
    name, folder = dataset
    assert find_layout(folder).name == name
    report = omote.data(folder)
    assert (report.layout, report.num_subjects, report.num_skipped, report.problems) == (name, 2, 0, ())
    per_subject = {"facescape": 20, "bu3dfe": 13, "coma": 4, "florence4d": 4, "headspace": 1, "generic": 4}
    assert report.num_used == 2 * per_subject[name]
    assert sum(report.categories.values()) == sum(report.labels.values()) == report.num_used
    assert sum(scans for _, scans in report.splits.values()) == report.num_used


def test_every_subject_has_one_rest_and_textures_are_read(dataset: tuple[str, Path]) -> None:
    name, folder = dataset
    _, listing = list_items(folder)
    rests = Counter(item.subject for item in listing.items if item.is_neutral)
    assert set(rests.values()) == {1}
    assert all((item.category == "neutral") == item.is_neutral == (item.intensity == 0) for item in listing.items)
    scan, notes = read_item(listing.items[0])
    assert isinstance(scan, Mesh)
    # Headspace's mesh names no material here: the image beside it is its texture all the same.
    textured = name in ("facescape", "bu3dfe", "headspace")
    assert (scan.texture is not None) == textured
    lone = ["13.bmp is taken as the texture: the scan names none"] if name == "headspace" else []
    assert [note.reason for note in notes] == (lone if textured else [PLAIN])


def test_the_readers_notes_are_lines_on_the_terminal_and_in_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    FOLDERS["generic"](tmp_path / "scans")
    assert main(["data", "check", str(tmp_path / "scans"), "--report", str(tmp_path / "report.json")]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  note")]
    assert lines == [f"  note      anna/0.ply and 7 more: {PLAIN}"]
    notes = json.loads((tmp_path / "report.json").read_text())["notes"]
    assert len(notes) == 8
    assert notes[0] == {"path": "anna/0.ply", "note": PLAIN}


def test_labels_mean_what_their_datasets_say(tmp_path: Path) -> None:
    for name, write in FOLDERS.items():
        write(tmp_path / name)
    found = {name: {i.label: i for i in list_items(tmp_path / name)[1].items} for name in FOLDERS}
    jaw = found["facescape"]["jaw_left"]
    assert (jaw.category, jaw.arkit) == (None, {"jawLeft": 1.0})
    assert found["facescape"]["mouth_stretch"].arkit == {"jawOpen": 1.0}
    assert (found["bu3dfe"]["FE01"].category, found["bu3dfe"]["FE01"].intensity) == ("fearful", 0.25)
    assert found["bu3dfe"]["SU04"].intensity == 1.0
    assert found["coma"]["mouth_side"].category is None
    assert found["coma"]["mouth_side"].geometry.name == "mouth_side.000002.ply"
    assert found["florence4d"]["joy_2"].category == "happy"
    assert found["florence4d"]["flirting"].category is None
    assert (found["generic"]["Smile"].category, found["generic"]["Smile"].intensity) == ("happy", 0.5)
    assert found["generic"]["jawOpen"].arkit == {"jawOpen": 1.0}


def test_label_maps_name_categories_and_units_that_there_are() -> None:
    for meaning in [*FACESCAPE.values(), *BU3DFE.values(), *COMA.values(), *WORDS.values()]:
        assert meaning.category is None or meaning.category in CATEGORIES
        arkit_weights(meaning.units or {})  # raises on an unknown name
    assert len(FACESCAPE) == 20
    assert {m.category for m in BU3DFE.values()} == set(CATEGORIES)
    assert meaning_of_word("mouthsmile").units == {"mouthSmile": 1.0}


def test_numbers_before_labels_and_subjects_before_numbers(tmp_path: Path) -> None:
    for name in ("212_1", "212_smile", "212_99", "213_1"):
        write_obj(tmp_path / f"models_reg/{name}.obj", *grid(0))
    _, listing = list_items(tmp_path)
    assert [(i.subject, i.label) for i in listing.items] == [("212", "neutral"), ("212", "smile"), ("213", "neutral")]
    assert [p.path.name for p in listing.problems] == ["212_99.obj"]


@given(st.lists(st.text(max_size=12), unique=True, max_size=40), st.integers(0, 99), st.randoms())
def test_splits_depend_on_the_subject_alone(subjects: list[str], seed: int, order) -> None:
    before = {subject: split_of(subject, seed) for subject in subjects}
    order.shuffle(subjects)
    assert before == {subject: split_of(subject, seed) for subject in subjects + subjects}
    assert set(before.values()) <= set(DATASET_SPLITS)


def test_splits_have_their_shares_and_seeds_differ() -> None:
    names = [f"F{i:04d}" for i in range(4000)]
    shares = Counter(split_of(name) for name in names)
    assert abs(shares["test"] - 400) < 70
    assert abs(shares["validation"] - 400) < 70
    assert sum(split_of(n) != split_of(n, 1) for n in names) > 500


def test_a_corrupt_scan_is_listed_and_skipped_with_the_count(
    dataset: tuple[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = dataset[1]
    whole = omote.data(folder, quick=True).num_used
    used = [i.geometry for i in list_items(folder)[1].items]
    broken = used[-1]
    broken.write_bytes(broken.read_bytes()[:200])
    assert main(["data", "check", str(folder), "--report", str(folder / "r.json")]) == 0
    text = capsys.readouterr().out
    assert str(broken.relative_to(folder)) in text
    report = json.loads((folder / "r.json").read_text())
    # Headspace's only scan of a person takes the person along.
    assert report["used"] == whole - 1
    assert report["skipped"] == 1
    assert f"skipped   1 scans, {len(report['problems'])} problems" in text
    assert report["problems"][-1]["path"] == str(broken.relative_to(folder))
    assert omote.data(folder, quick=True).num_used == whole


def test_a_subject_without_rest_is_not_used(tmp_path: Path) -> None:
    FOLDERS["facescape"](tmp_path)
    (tmp_path / "1/models_reg/1_neutral.obj").unlink()
    report = omote.data(tmp_path, quick=True)
    assert (report.num_used, report.num_skipped, report.num_subjects) == (20, 19, 1)
    assert "subject 1: no neutral scan" in report.problems[0].reason


@pytest.mark.parametrize("what", ["missing", "empty", "file", "unknown", "all broken", "only headers"])
def test_nothing_usable_is_one_clear_error(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "set"
    if what == "file":
        folder.write_text("x")
    elif what != "missing":
        folder.mkdir()
    if what == "unknown":
        write_image(folder / "holiday.jpg")
    if what == "all broken":
        FOLDERS["generic"](folder)
        for path in folder.rglob("*.ply"):
            path.write_bytes(b"ply\n")
    if what == "only headers":
        (folder / "labels.csv").write_text("path,subject,expression\n")
    for arguments in (
        ["check", str(folder)],
        ["render", str(folder), "--out", str(tmp_path / "out"), "--split", "all"],
    ):
        if what == "all broken" and arguments[0] == "render":
            continue  # its own test: it takes the networks to be loaded
        assert main(["data", *arguments]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("omote: ")
        assert err.count("\n") == 1
        assert not (tmp_path / "out").exists()


def test_a_list_with_wrong_rows_keeps_the_right_ones(tmp_path: Path) -> None:
    FOLDERS["generic"](tmp_path)
    write_ply(tmp_path.parent / "outside.ply", *grid(0)[:2])
    with (tmp_path / "labels.csv").open("a", encoding="utf-8") as file:
        file.write("none.ply,anna,happy,1\n../outside.ply,anna,happy,1\nanna/1.ply,anna,happy,1\n")
        file.write("anna/0.ply,,happy,1\nanna/0.ply,anna,happy,2\nanna/0.ply,anna,happy,much\nx\0.ply,anna,happy,1\n")
    report = omote.data(tmp_path)
    assert report.num_used == 8
    assert [p.reason.split(":")[0] for p in report.problems] == [f"line {k}" for k in range(10, 17)]


def test_a_list_without_its_columns_or_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,who\n")
    with pytest.raises(DatasetError, match="path or subject or expression"):
        omote.data(tmp_path)
    (tmp_path / "labels.csv").write_bytes(b"path,subject,expression\n\xff\xfe,x,y\n")
    with pytest.raises(DatasetError, match="UTF-8"):
        omote.data(tmp_path)


def test_a_layout_can_be_forced_and_wrong_numbers_are_refused(tmp_path: Path) -> None:
    FOLDERS["coma"](tmp_path)
    assert omote.data(tmp_path, layout="florence4d", quick=True).layout == "florence4d"
    with pytest.raises(DatasetError, match="labels.csv"):
        omote.data(tmp_path, layout="generic")
    with pytest.raises(ConfigError, match="size"):
        api.render_dataset(tmp_path, tmp_path / "out", size=1)
    assert set(LAYOUTS) == set(FOLDERS)


def test_render_needs_a_folder_to_write_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    FOLDERS["coma"](tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["data", "render", str(tmp_path)])
    assert caught.value.code == 2
    assert "--out" in capsys.readouterr().err
