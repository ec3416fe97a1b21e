"""Flat reports: settings, times, versions and machine of a run, as one JSON object of numbers and text."""

from __future__ import annotations

import json
import math
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from omote.cores import num_cores
from omote.files import atomic_path
from omote.memory import peak_memory_mb

Value = float | int | str | bool | None
LIBRARIES = ("numpy", "scipy", "numba", "torch", "diffusers", "openvino", "pillow")


class Stopwatch:
    """Wall-clock seconds per stage: ``with watch("read"): ...``."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self.stages_s: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the block's time to ``stage``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.stages_s[stage] = self.stages_s.get(stage, 0.0) + time.perf_counter() - start

    def flat(self) -> dict[str, Value]:
        """``time_s/<stage>`` for every stage, and ``time_s/total`` since the watch was made."""
        out: dict[str, Value] = {f"time_s/{stage}": round(t, 4) for stage, t in self.stages_s.items()}
        return {**out, "time_s/total": round(time.perf_counter() - self._start, 4)}


def versions() -> dict[str, Value]:
    """``version/<library>``; None for a library that is not installed."""
    out: dict[str, Value] = {"version/omote": _version("omote"), "version/python": platform.python_version()}
    return {**out, **{f"version/{name}": _version(name) for name in LIBRARIES}}


def machine() -> dict[str, Value]:
    """``machine/<fact>``."""
    return {
        "machine/system": f"{platform.system()} {platform.machine()}",
        "machine/processor": _processor(),
        "machine/cores": num_cores(),
        "machine/memory_gb": _memory_gb(),
    }


def run_facts(watch: Stopwatch, *, elsewhere_mb: float = 0.0) -> dict[str, Value]:
    """The end of every report: times, peak memory (including a separate process's), versions, machine."""
    peak = round(peak_memory_mb() + elsewhere_mb, 1)
    return {**watch.flat(), "memory_mb/peak": peak, **versions(), **machine()}


def doubts(facts: Mapping[str, Value]) -> list[str]:
    """Warnings of a summary."""
    found = []
    if facts.get("align/doubtful"):
        found.append(
            f"the pose is doubtful (confidence {facts['align/confidence']:.2f}): check it, or give --landmarks FILE"
        )
    shown = facts.get("align/expression", "none")
    if shown != "none":
        found.append(f"the scan is not at rest ({shown}): taken off, but a scan at rest gives a better avatar")
    elif facts.get("align/mouth") == "open":
        found.append(
            "the scan's mouth is open, and so is the avatar's: give a scan with closed lips for a closed mouth"
        )
    return found


def prefixed(prefix: str, values: Mapping[str, object]) -> dict[str, Value]:
    """Values flattened as ``prefix/key``: paths as text, sequences joined by spaces, other types left out."""
    out: dict[str, Value] = {}
    for key, value in values.items():
        name = f"{prefix}/{key}"
        if isinstance(value, bool | int | float | str) or value is None:
            out[name] = value
        elif isinstance(value, Path):
            out[name] = str(value)
        elif isinstance(value, tuple | list) and all(isinstance(v, int | float | str) for v in value):
            out[name] = " ".join(map(str, value))
        elif isinstance(value, Mapping):
            out.update(prefixed(name, value))
    return out


def write_json(values: Mapping[str, Value], path: Path) -> None:
    """Write a flat report, whole or not at all; numbers that are not finite become null, since JSON has no others.

    Raises:
        OutputError: it cannot be written.
    """
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(finite, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_run(path: Path, settings: Mapping[str, Value], watch: Stopwatch, *, measured: int) -> Mapping[str, Value]:
    """Write ``run.json``: the study, machine and versions of a result folder.

    A run that measured nothing keeps the earlier record. If runs of several commits filled a folder, all commits are named.

    Args:
        path: path of run.json.
        settings: study, seeds, counts and weights.
        watch: stopwatch of this run.
        measured: number of items measured by this run.

    Returns:
        The content of the file.
    """
    earlier: dict[str, Value] = {}
    if path.exists():
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            earlier = {}
    known = str(earlier.get("run/commits") or "").split()
    if not earlier and measured < int(settings.get("count/persons") or 0):
        known = ["unknown"]  # a version that kept no record measured the others
    if not measured:
        facts: dict[str, Value] = {"run/commits": " ".join(known) or None, **earlier, **settings}
    else:
        now = commit()
        commits = [*known, now] if now and now not in known else known
        facts = {
            **settings,
            **run_facts(watch),
            "run/commits": " ".join(commits) or None,
            "run/finished_utc": datetime.now(timezone.utc).isoformat(timespec="minutes"),
            "run/times_run": int(earlier.get("run/times_run") or 0) + 1,
            "count/measured_last": measured,
        }
    write_json(facts, path)
    return facts


def commit() -> str | None:
    """The checkout's commit, with "+" where files differ from it; None outside a checkout or without git."""
    root = Path(__file__).resolve().parents[2]
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return None

    def answer(*arguments: str) -> str | None:
        done = subprocess.run([git, "-C", str(root), *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    head = answer("rev-parse", "--short=12", "HEAD")
    if not head:
        return None
    return head + ("+" if answer("status", "--porcelain", "--untracked-files=no") else "")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _memory_gb() -> float:
    import psutil

    return round(psutil.virtual_memory().total / 2**30, 1)
