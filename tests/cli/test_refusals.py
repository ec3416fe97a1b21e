"""Bad input, bad options and outputs that cannot be written: exit code 2, one line, no file left behind."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omote.cli.main import main

PLY = b"ply\nformat binary_little_endian 1.0\nelement vertex %d\nproperty float x\nproperty float y\nproperty float z\n"


def empty(folder: Path) -> Path:
    path = folder / "empty.ply"
    path.touch()
    return path


def wrong_suffix(folder: Path) -> Path:
    path = folder / "scan.docx"
    path.write_bytes(b"PK\x03\x04")
    return path


def renamed_image(folder: Path) -> Path:
    path = folder / "photo.ply"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 100)
    return path


def truncated_ply(folder: Path) -> Path:
    path = folder / "short.ply"
    path.write_bytes(PLY % 1000 + b"end_header\n" + b"\0" * 500)
    return path


def claims_a_billion_vertices(folder: Path) -> Path:
    path = folder / "claim.ply"
    path.write_bytes(PLY % 10**9 + b"end_header\n")
    return path


def forty_bytes(folder: Path) -> Path:
    path = folder / "claim.off"
    path.write_bytes(b"OFF\n1000000000 1000000000 0\n0 0 0\n".ljust(40))
    assert path.stat().st_size == 40
    return path


def faces_out_of_range(folder: Path) -> Path:
    path = folder / "faces.obj"
    rows = "".join(f"v {i} {i % 7} {i % 11}\n" for i in range(600))
    path.write_text(rows + "f 1 2 999999\n")
    return path


def a_million_nans(folder: Path) -> Path:
    path = folder / "nan.ply"
    path.write_bytes(PLY % 10**6 + b"end_header\n" + np.full((10**6, 3), np.nan, "<f4").tobytes())
    return path


def decompression_bomb(folder: Path) -> Path:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    png = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10**6)))
        + chunk(b"IEND", b"")
    )
    (folder / "bomb").mkdir()
    (folder / "bomb/color.png").write_bytes(png)
    np.save(folder / "bomb/depth.npy", np.full((32, 32), 700, np.uint16))
    layout = {"intrinsics": {"width": 32, "height": 32, "fx": 32, "fy": 32, "cx": 16, "cy": 16}}
    (folder / "bomb/intrinsics.json").write_text(json.dumps(layout))
    return folder / "bomb"


def missing(folder: Path) -> Path:
    return folder / "none.ply"


SCANS: list[Callable[[Path], Path]] = [
    empty, wrong_suffix, renamed_image, truncated_ply, claims_a_billion_vertices, forty_bytes, faces_out_of_range,
    a_million_nans, decompression_bomb, missing,
]  # fmt: skip


def assert_one_line(err: str, *parts: str) -> None:
    err = "".join(
        line for line in err.splitlines(keepends=True) if not line.startswith("note: ")
    )  # of reading the scan
    assert err.startswith("omote: "), err
    assert err.count("\n") == 1, err
    for part in parts:
        assert part in err, err


@pytest.mark.parametrize("make", SCANS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("command", ["avatar", "fit", "render"])
def test_a_bad_scan_is_one_line_and_no_output(
    make: Callable[[Path], Path],
    command: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    pipeline: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("omote.api.scans.load_head", lambda path: None)
    scan = make(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    target = {"avatar": out / "a.glb", "fit": out / "a.ply", "render": out / "image"}[command]
    assert main([command, str(scan), "--out", str(target)]) == 2
    printed, err = capsys.readouterr()
    assert_one_line(err, scan.name if scan.is_file() else "")
    assert printed == ""
    assert list(out.iterdir()) == []
    assert pipeline == []


def test_a_claim_of_a_billion_vertices_takes_no_memory(tmp_path: Path) -> None:
    scan = claims_a_billion_vertices(tmp_path)
    program = (
        "import sys; from omote.cli.main import main; from omote.memory import peak_memory_mb;"
        f"code = main(['avatar', {str(scan)!r}, '--out', {str(tmp_path / 'a.glb')!r}]);"
        "print(code, round(peak_memory_mb()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    code, peak_mb = map(int, done.stdout.split())
    assert code == 2
    assert peak_mb < 1_000
    assert_one_line(done.stderr, "claim.ply")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--expressions", "hapy"], "expressions: unknown 'hapy' (did you mean 'happy'?)"),
        (["--expressions", "sad", "sad"], "expressions: 'sad' is given twice"),
        (["--expressions", ","], "expressions: expected at least one"),
        (["--intensity", "1.5"], "intensity: expected 0 to 1, got 1.5"),
        (["--intensity", "nan"], "intensity: expected 0 to 1, got nan"),
        (["--steps", "0"], "steps: expected 1 to 1000, got 0"),
        (["--guidance-scale", "-1"], "guidance_scale: expected 0 to 20, got -1.0"),
        (["--guidance-scale", "nan"], "guidance_scale: expected 0 to 20"),
        (["--seed", "-1"], "seed: expected 0 to 9223372036854775807, got -1"),
        (["--landmarks", "none.json"], "none.json: the landmarks cannot be read"),
        (["--report", "none/a.json"], "cannot write none/a.json: the folder none does not exist"),
        (["--report", "a.txt"], "cannot write a.txt: expected a name that ends in .json"),
        (["--sheet", "a.jpg"], "cannot write a.jpg: expected a name that ends in .png"),
        (["--vrm", "b.glb"], "cannot write b.glb: expected a name that ends in .vrm"),
        (["--vrm", "a.vrm", "--vrm-authors"], "authors: expected at least one, got none"),
        (["--appearance-seed", "-1"], "appearance_seed: expected 0 to 9223372036854775807, got -1"),
    ],
)
def test_a_bad_option_is_one_line_and_no_output(
    options: list[str],
    says: str,
    cloud: Path,
    tmp_path: Path,
    pipeline: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["avatar", cloud.name, "--out", "a.glb", *options]) == 2
    assert_one_line(capsys.readouterr().err, says)
    assert [p.name for p in tmp_path.iterdir()] == [cloud.name]
    assert pipeline == []


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("a.gltf", "expected a name that ends in .glb"),
        ("none/a.glb", "the folder none does not exist"),
        ("folder.glb", "expected a file name, got a folder"),
        ("scan.xyz/a.glb", "the folder scan.xyz does not exist"),
        ("/proc/a.glb", "cannot write /proc/a.glb"),
        ("x" * 300 + ".glb", "cannot write"),
    ],
)
def test_an_unwritable_output_is_refused_before_any_work(
    out: str,
    says: str,
    cloud: Path,
    tmp_path: Path,
    pipeline: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.glb").mkdir()
    assert main(["avatar", cloud.name, "--out", out]) == 2
    assert_one_line(capsys.readouterr().err, says)
    assert pipeline == []
    assert {p.name for p in tmp_path.iterdir()} == {cloud.name, "folder.glb"}


def test_an_output_never_replaces_the_scan_or_another_output(
    tmp_path: Path, pipeline: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    scan = tmp_path / "scan.glb"
    scan.write_bytes(b"glTF")
    assert main(["avatar", str(scan), "--out", str(tmp_path / "." / "scan.glb")]) == 2
    assert_one_line(capsys.readouterr().err, "give different names")
    assert scan.read_bytes() == b"glTF"


def test_a_full_disk_leaves_nothing(
    cloud: Path, tmp_path: Path, pipeline: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    resource = pytest.importorskip("resource")
    out = tmp_path / "out"
    out.mkdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The GLB (5,004 bytes) no longer fits, the report written before it would: a disk that fills half-way.
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        code = main(["avatar", str(cloud), "--out", str(out / "a.glb"), "--report", str(out / "a.json")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 2
    assert_one_line(capsys.readouterr().err, "cannot write", "larger than allowed")
    assert list(out.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_real_full_disk_leaves_nothing(
    cloud: Path, tmp_path: Path, pipeline: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("this machine does not allow mounting")
    try:
        (disk / "fill").write_bytes(bytes(4096))
        code = main(["avatar", str(cloud), "--out", str(disk / "a.glb")])
        assert code == 2
        assert_one_line(capsys.readouterr().err, "cannot write", "no space left")
        assert [p.name for p in disk.iterdir()] == ["fill"]
    finally:
        subprocess.run(["umount", disk], check=False)
