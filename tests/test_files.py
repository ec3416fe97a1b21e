from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys

import pytest

from line_task import LineTask, config, run_to_end
from omote.errors import OutputError
from omote.files import atomic_folder, atomic_path


def test_a_file_appears_whole_and_keeps_its_suffix(tmp_path):
    with atomic_path(tmp_path / "a.glb") as temporary:
        assert temporary.suffix == ".glb"
        temporary.write_bytes(b"new")
        assert not (tmp_path / "a.glb").exists()
    assert (tmp_path / "a.glb").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.glb"]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, error):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(type(error)), atomic_path(tmp_path / "a.txt") as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise error
    assert (tmp_path / "a.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    ("number", "expected"), [(errno.ENOSPC, "no space"), (errno.EACCES, "no permission"), (errno.EIO, "error")]
)
def test_failed_writes_are_one_line_with_advice(tmp_path, number, expected):
    with pytest.raises(OutputError, match=expected), atomic_path(tmp_path / "a.txt"):
        raise OSError(number, os.strerror(number))
    assert os.listdir(tmp_path) == []


def test_missing_folder_folder_and_device(tmp_path):
    for path, expected in [
        (tmp_path / "no" / "a", "does not exist"),
        (tmp_path, "folder or a device"),
        ("/dev/full", "device"),
    ]:
        with pytest.raises(OutputError, match=expected), atomic_path(path):
            pass


@pytest.mark.parametrize("target", ["real.txt", "missing.txt"])
def test_a_link_is_replaced_and_never_followed(tmp_path, target):
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/link.txt").symlink_to(tmp_path / target)
    with atomic_path(tmp_path / "run/link.txt") as temporary:
        temporary.write_text("new")
    assert not (tmp_path / "run/link.txt").is_symlink()
    assert (tmp_path / "run/link.txt").read_text() == "new"
    assert (tmp_path / "real.txt").read_text() == "old"
    assert not (tmp_path / "missing.txt").exists()


def test_a_folder_takes_the_place_of_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/kept").touch()
    for _ in range(2):
        (tmp_path / "export").unlink(missing_ok=True)
        (tmp_path / "export").symlink_to(tmp_path / "elsewhere")
        with atomic_folder(tmp_path / "export", replace=True) as temporary:
            (temporary / "new").touch()
        assert [p.name for p in (tmp_path / "export").iterdir()] == ["new"]
        shutil.rmtree(tmp_path / "export")
    assert [p.name for p in tmp_path.rglob("*")] == ["elsewhere", "kept"]


@pytest.mark.parametrize(
    "name", ["stats.jsonl", "tensorboard", "pictures", "export", "checkpoint.new", "config.json", ".lock"]
)
def test_what_a_run_writes_never_leaves_its_folder(tmp_path, name):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match=f"{re.escape(name)} is a symbolic link"):
        run_to_end(LineTask(), config(total=16), tmp_path / "run")
    assert not (tmp_path / "elsewhere").exists()


def test_a_real_write_that_hits_a_limit_leaves_nothing(tmp_path):
    code = f"""
import resource
from omote.errors import OutputError
from omote.files import atomic_folder, atomic_path
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with atomic_path({str(tmp_path / "a.bin")!r}) as temporary:
        temporary.write_bytes(bytes(5000))
except OutputError as error:
    assert "larger than allowed" in str(error), error
else:
    raise SystemExit("no error")
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert os.listdir(tmp_path) == []


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(OutputError), atomic_folder(tmp_path / "a") as temporary:
        (temporary / "x/y").write_text("1")
    assert not list(tmp_path.iterdir())
    with atomic_folder(tmp_path / "a") as temporary:
        (temporary / "x").write_text("1")
        # Another process is faster: its folder stays.
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "x").write_text("2")
    assert (tmp_path / "a" / "x").read_text() == "2"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    with pytest.raises(OutputError, match="cannot write"), atomic_folder(tmp_path / "a/x/b"):
        pass
