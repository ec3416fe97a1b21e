"""The wheel in an empty environment: its size, and seconds of the first and of a second `omote demo` and `omote avatar`.

    make bench BENCH=wheel OUT=dir

Builds the wheel of this checkout (``OMOTE_WHEEL=FILE`` takes another), installs torch and it into a new virtual environment
without extras, and runs both commands in an empty folder with an empty home. Before each first run all compiled kernels are
deleted; bytecode is there, as pip leaves it. ``cpu_s`` is processor time of a command and its children, which a busy machine
changes least; ``machine/load_1min`` tells how busy it was.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

from omote.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 3
MOST_MB = 35.0


def run() -> dict[str, float | int | str]:
    with tempfile.TemporaryDirectory(prefix="omote-wheel-") as name:
        folder = Path(name)
        wheel = Path(os.environ["OMOTE_WHEEL"]) if "OMOTE_WHEEL" in os.environ else build(folder)
        size_mb = wheel.stat().st_size / 1e6
        if size_mb > MOST_MB:
            raise ConfigError(f"{wheel}: expected at most {MOST_MB:g} MB, got {size_mb:.1f}")
        bin_folder = install(wheel, folder / "environment")
        seconds = [timed(bin_folder, folder / f"round_{k}") for k in range(ROUNDS)]
    out: dict[str, float | int | str] = {"wheel_mb": size_mb, "rounds": ROUNDS, "machine/load_1min": os.getloadavg()[0]}
    # The least of the rounds: what else the machine does only adds.
    return {**out, **{key: min(one[key] for one in seconds) for key in seconds[0]}}


def build(folder: Path) -> Path:
    """The wheel of a copy of this checkout, so that no build folder is left behind or found."""
    files = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True, check=True,
    ).stdout.split(b"\0")  # fmt: skip
    for name in filter(None, files):
        source, copy = ROOT / os.fsdecode(name), folder / "checkout" / os.fsdecode(name)
        if source.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            os.link(source, copy) if source.stat().st_dev == folder.stat().st_dev else copy.write_bytes(
                source.read_bytes()
            )
    pip(sys.executable, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, folder / "checkout")
    return next(folder.glob("*.whl"))


def install(wheel: Path, environment: Path) -> Path:
    """A new environment with torch, as pip's own configuration finds it, and the wheel."""
    venv.create(environment, with_pip=True)
    pip(environment / "bin/python", "install", "pip>=25.1")
    pip(environment / "bin/python", "install", "--group", f"{ROOT / 'pyproject.toml'}:torch")
    pip(environment / "bin/python", "install", wheel)
    return environment / "bin"


def pip(python: Path | str, *arguments: Path | str) -> None:
    done = subprocess.run([python, "-m", "pip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(f"pip {arguments[0]} failed: {(done.stderr.strip() or 'no message').splitlines()[-1]}")


def timed(bin_folder: Path, folder: Path) -> dict[str, float]:
    """Wall and processor seconds of both commands, first and again."""
    home, out = folder / "home", {}
    home.mkdir(parents=True)
    environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
    for command, arguments in (("demo", ["--out", "out"]), ("avatar", ["out/scan", "--out", "avatar.glb"])):
        for cache in bin_folder.parent.rglob("*.nb[ic]"):
            cache.unlink()
        for which in ("first", "second"):
            start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(
                [bin_folder / "omote", command, *arguments],
                cwd=folder,
                env=environment,
                check=True,
                capture_output=True,
            )
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            out[f"time_s/{command}_{which}"] = time.perf_counter() - start
            out[f"cpu_s/{command}_{which}"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return out
