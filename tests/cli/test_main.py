"""``omote`` finds commands, answers help lightly, and turns every error into one line and an exit code."""

from __future__ import annotations

import dataclasses
import errno
import inspect
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest

import omote
from omote.cli.main import COMMANDS, _find_temporary_folder, main
from omote.cli.options import options_of
from omote.errors import OmoteError

HEAVY = {"numpy", "scipy", "numba", "torch", "diffusers", "openvino", "trimesh", "tyro", "rich", "PIL"}


def run(*arguments: str, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "omote", *arguments], capture_output=True, text=True, timeout=timeout_s, check=False
    )


def test_help_imports_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "omote", "--help"], capture_output=True, text=True, check=True
    )
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert not imported & HEAVY
    assert done.stdout.startswith("usage: omote COMMAND")


def kinds_of(name: str) -> list[type]:
    """The dataclass of a command's options, or those of its subcommands."""
    options = options_of(name, [])
    kinds = [get_args(kind)[0] for kind in get_args(options)] or [options]
    return [get_origin(kind) or kind for kind in kinds]


def test_every_command_that_help_lists_has_options_and_can_be_called() -> None:
    for name in COMMANDS:
        assert all(inspect.getdoc(kind) and callable(kind) and callable(kind.__call__) for kind in kinds_of(name))
    with pytest.raises(KeyError):
        options_of("another", [])


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_explains_every_option(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert COMMANDS[name].rstrip(".") in text
    assert "{None}" not in text
    # Options of suites and studies are fields of their configs (tests/studies/test_registry.py).
    if name not in ("evaluate", "study"):
        for options in kinds_of(name):
            assert_explained(options)


def assert_explained(options: type) -> None:
    """Every field has a docstring below it or a line among its class's attributes; nested options too."""
    kinds = [kind for kind in options.__mro__ if dataclasses.is_dataclass(kind)]
    source, told = "".join(map(inspect.getsource, kinds)), "".join(inspect.getdoc(kind) or "" for kind in kinds)
    hints = get_type_hints(options)
    for option in dataclasses.fields(options):
        if dataclasses.is_dataclass(hints[option.name]):
            assert_explained(hints[option.name])
            continue
        below = source[source.index(f"    {option.name}: ") :].partition('\n    """')[0]
        assert f"    {option.name}: " in told or "\n\n" not in below, f"{options.__module__}: {option.name} has no help"


def test_every_command_is_a_function_of_the_same_name() -> None:
    from omote import api

    for name in COMMANDS.keys() - {"studio", "view", "completion"}:  # these serve pages and shells
        assert callable(getattr(omote, name))
        assert inspect.isfunction(getattr(api, name))


def test_a_package_that_shares_its_name_with_a_command_is_both() -> None:
    import omote.asset.glb
    import omote.rendering.zbuffer

    assert omote.asset.glb.write_glb is not None
    with pytest.raises(OmoteError, match="no such file"):
        omote.avatar("/nowhere/scan.ply")
    with pytest.raises(OmoteError, match="size"):
        omote.render("/nowhere/scan.ply", omote.RenderSettings(size=1))


def test_a_wrong_command_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["avatr", "x.ply"]) == 2
    assert "did you mean 'avatar'?" in capsys.readouterr().err
    assert main(["zzz"]) == 2
    assert main([]) == 2


def test_wrong_options_exit_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["avatar"], ["avatar", "x.ply"], ["avatar", "x.ply", "--out", "a.glb", "--steps", "many"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (OmoteError("expected a face,\n got a cube"), 2, "omote: expected a face, got a cube"),
        (KeyboardInterrupt(), 130, "omote: interrupted"),
        (OSError(errno.ENOSPC, "No space left on device", "a.glb"), 2, "omote: a.glb: no space left"),
        (PermissionError(errno.EACCES, "Permission denied", "a.glb"), 2, "omote: a.glb: Permission denied"),
        (
            FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"),
            2,
            "omote: no folder for temporary",
        ),
        (
            BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
            2,
            "omote: the system gives no more processes or",
        ),
        (MemoryError(), 2, "omote: this computer's memory is used up"),
        (RuntimeError("can't start new thread"), 2, "omote: the system gives no more processes or"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    error: BaseException, code: int, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(options: object) -> None:
        raise error

    monkeypatch.setattr("omote.cli.training.InfoCommand.__call__", fail)
    assert main(["info"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(says)
    assert err.count("\n") == 1


def test_too_few_threads_are_found_before_a_library_needs_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start, alive = threading.Thread.start, threading.active_count()

    def scarce(thread: threading.Thread) -> None:
        if threading.active_count() >= alive + 6:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", scarce)
    assert main(["info"]) == 2
    assert capsys.readouterr().err.startswith("omote: the system gives no more processes or threads")
    assert threading.active_count() == alive


def test_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(options: object) -> None:
        raise AssertionError("a defect")

    monkeypatch.setattr("omote.cli.training.InfoCommand.__call__", fail)
    with pytest.raises(AssertionError, match="a defect"):
        main(["info"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_termination_unwinds_as_an_exception_does(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    unwound = []

    def wait(options: object) -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(10)
        finally:
            unwound.append(True)

    monkeypatch.setattr("omote.cli.training.InfoCommand.__call__", wait)
    # Whoever started the tests may ignore hang-ups (nohup), and what is ignored stays so.
    before = signal.signal(number, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit) as caught:
            main(["info"])
        assert caught.value.code == 128 + number
        assert unwound == [True]
        assert signal.getsignal(number) == signal.default_int_handler
    finally:
        signal.signal(number, before)


def test_a_hang_up_that_is_ignored_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        monkeypatch.setattr(
            "omote.cli.training.InfoCommand.__call__", lambda options: os.kill(os.getpid(), signal.SIGHUP)
        )
        assert main(["info"]) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("where", "code", "says"),
    [
        (">&-", 2, "omote: standard output is closed; send it somewhere, such as >/dev/null\n"),
        (">/dev/full", 2, "omote: standard output: no space left on the device; free some or choose another folder\n"),
        (">/dev/null 2>&-", 0, ""),
        ("<&- >/dev/null", 0, ""),
    ],
)
def test_streams_that_cannot_be_used(where: str, code: int, says: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m omote --version {where}"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (code, says)


def test_a_name_that_the_terminal_cannot_show_is_one_line(tmp_path: Path) -> None:
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "omote", "Überblick→"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=plain)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_without_a_temporary_folder_shared_memory_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_found() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setenv("TMPDIR", "/nowhere")
    monkeypatch.setattr("tempfile.gettempdir", none_found)
    _find_temporary_folder()
    assert os.environ["TMPDIR"] == "/dev/shm"


def test_set_given_twice_adds_up_and_any_other_option_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = ["train", "autoencoder-tiny", "--dry-run", "--run", str(tmp_path / "runs/a")]
    assert main([*command, "--set", "kl_weight=0.5", "--set", "engine.seed=7", "engine.batch_size=24"]) == 0
    config = json.loads(capsys.readouterr().out)
    assert (config["kl_weight"], config["engine"]["seed"], config["engine"]["batch_size"]) == (0.5, 7, 24)
    for again, named in ((["--run", "b"], "--run: given twice"), (["--set", "a=1", "a=2"], "a: unknown key")):
        assert main([*command, *again]) == 2
        assert named in capsys.readouterr().err
    assert main([*command, "--set", "engine.seed=7", "--set", "engine.seed=8"]) == 2
    assert "engine.seed: given twice; give it once" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", ["--help", "avatar --help"])
def test_a_reader_that_leaves_early_is_no_error(arguments: str) -> None:
    command = f"{sys.executable} -m omote {arguments} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == ""


def test_avatar_writes_everything_it_is_asked_for(
    pipeline: list[dict[str, Any]], cloud: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    arguments = ["avatar", str(cloud), "--out", str(out / "a.glb"), "--report", str(out / "a.json"), "--seed", "7"]
    arguments += ["--sheet", str(out / "a.png"), "--meshes", str(out / "meshes"), "--expressions", "happy", "sad"]
    assert main([*arguments, "--intensity", "0.5", "--unit", "cm", "--steps", "3", "--guidance-scale", "1.5"]) == 0
    assert {p.name for p in out.iterdir()} == {"a.glb", "a.json", "a.png", "meshes"}
    assert {p.name for p in (out / "meshes").iterdir()} == {"happy.ply", "happy.obj", "sad.ply", "sad.obj"}
    (call,) = pipeline
    assert [(e.category, e.intensity) for e in call["expressions"]] == [("happy", 0.5), ("sad", 0.5)]
    how = call["settings"]
    assert (how.seed, how.steps, how.guidance_scale, how.unit) == (7, 3, 1.5, "cm")
    report = json.loads((out / "a.json").read_text())
    assert report["fit/median_mm"] == 0.4
    assert report["time_s/diffuse"] == 0.5
    assert report["settings/seed"] == 7
    assert report["memory_mb/peak"] > 10
    assert {"fit/p90_mm", "time_s/total", "time_s/read", "time_s/write", "version/torch"} <= set(report)
    assert all(isinstance(v, float | int | str | None) for v in report.values())
    said = capsys.readouterr()
    assert "2 morph targets, fit 0.40 mm median" in said.out
    assert said.err == "note: no colour was read: the skin will be drawn\n"


def test_three_lines_make_an_avatar(pipeline: list[dict[str, Any]], cloud: Path, tmp_path: Path) -> None:
    result = omote.avatar(str(cloud))
    result.save(tmp_path / "avatar.glb")
    assert (tmp_path / "avatar.glb").read_bytes().startswith(b"glTF")
    assert [e.category for e in pipeline[0]["expressions"]][:2] == ["neutral", "happy"]
    assert len(pipeline[0]["expressions"]) == 7
    assert pipeline[0]["settings"].unit == "auto"


def test_dry_run_prints_a_config_that_reads_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_folder = tmp_path / "runs/a"
    assert main(["train", "autoencoder-tiny", "--run", str(run_folder), "--dry-run", "--set", "kl_weight=0.5"]) == 0
    config = json.loads(capsys.readouterr().out)
    assert config["kl_weight"] == 0.5
    assert config["population"] == str(tmp_path / "runs/population")
    assert not run_folder.exists()
    assert main(["train", "autoencoder-tny", "--run", str(run_folder)]) == 2
    assert "did you mean 'autoencoder-tiny'?" in capsys.readouterr().err


def test_no_traceback_reaches_a_real_process(tmp_path: Path) -> None:
    done = run("avatar", str(tmp_path / "none.ply"), "--out", str(tmp_path / "a.glb"))
    assert done.returncode == 2
    assert done.stderr.startswith("omote: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
