"""Several scans: ``omote avatar SCAN ... --out-dir DIR`` and ``omote batch``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from omote.cli.main import main


def test_each_scan_gives_files_of_its_name(
    cloud: Path, pipeline: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = cloud.with_name("other.xyz")
    other.write_bytes(cloud.read_bytes())
    out = tmp_path / "avatars"
    assert main(["avatar", str(cloud), str(other), "--out-dir", str(out), "--sheets", "--seed", "3"]) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        f"{stem}.{suffix}" for stem in ("other", "scan") for suffix in ("glb", "json", "png")
    ]
    assert json.loads((out / "other.json").read_text())["settings/seed"] == 3
    said = capsys.readouterr()
    assert [line.partition(":")[0] for line in said.out.splitlines()] == [str(out / "scan.glb"), str(out / "other.glb")]
    assert [call["settings"].seed for call in pipeline] == [3, 3]


def test_a_scan_without_an_avatar_does_not_stop_the_others(
    cloud: Path, pipeline: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.ply"
    broken.write_text("junk")
    assert main(["avatar", str(broken), str(cloud), "--out-dir", str(tmp_path / "out")]) == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["scan.glb", "scan.json"]
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"{broken}: broken.ply: expected PLY content")
    assert lines[-1] == f"omote: 1 of 2 scans gave no avatar: {broken}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out-dir", "{}"], "expected scans before --out-dir"),
        (["a/x.ply", "b/x.ply", "--out-dir", "{}"], "two scans are named x"),
        (["a.ply", "b.ply", "--out-dir", "{}", "--landmarks", "p.json"], "landmarks"),
        (["a.ply", "b.ply", "--out", "{}/x.glb"], "nrecognized"),
    ],
)
def test_what_does_not_fit_is_one_line(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["avatar", *(argument.replace("{}", str(tmp_path)) for argument in arguments)])
    except SystemExit as end:  # tyro's own
        code = int(str(end.code))
    assert code == 2
    assert said in capsys.readouterr().err


def test_a_batch_of_nothing_readable_is_a_table_and_not_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans/broken.ply").write_text("junk")
    arguments = [
        "batch",
        str(tmp_path / "scans"),
        "--out",
        str(tmp_path / "out"),
        "--backend",
        "torch",
        "--workers",
        "1",
    ]
    assert main(arguments) == 0
    assert "0 avatars of 1 scans; 1 failed (1 unreadable)" in capsys.readouterr().out
    assert (tmp_path / "out/table.csv").read_text().splitlines()[1].startswith("broken.ply,no,unreadable,")
    assert main(["batch", str(tmp_path), "--out", str(tmp_path / "out"), "--rank", "2", "--world", "2"]) == 2
    assert "--rank R and --world N with R < N" in capsys.readouterr().err
