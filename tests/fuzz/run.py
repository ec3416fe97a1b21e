"""Fuzz every reader: ``make fuzz MINUTES=5``, or ``python tests/fuzz/run.py --cases 50000``.

Workers mutate valid scans and side files (`mutators`; of the latter, weights, shards, checkpoints and whole folders) and build
hostile scans (`hostile`), each from the number of its case, and read them. A case may end in what was read or in one line; it
fails by any other exception, by a message of several lines, over 10 seconds of processor time, over 1 GB of memory, by showing
or writing what lies outside its folder, or by ending its process. Failures are printed with the command that repeats them.
"""

from __future__ import annotations

import argparse
import base64
import faulthandler
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "helpers")]
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")  # as the command line does

import numpy as np  # noqa: E402

import hostile  # noqa: E402
import side_files  # noqa: E402
from mutators import mutated  # noqa: E402
from seeds import Folder, seeds  # noqa: E402

SECONDS, MEGABYTES = 10.0, 1000.0
# What a fresh process with the readers in it holds; what a long one of tests holds beyond that is not the case's.
PLAIN_MEGABYTES = 200.0
ADDRESSES = 6 << 30  # bytes, so that a finding does not take the machine with it
HOSTILE_SHARE = 0.015  # they are slow
SIDE = "side/"
ELSEWHERE = "elsewhere"  # a name beside the case's folder, where links lead to and nothing may be written
BLOCKED_SHARE = 0.02  # of side files: no regular file in the place of one
# Starts a process, or takes a tenth of a second and more.
RARE = {
    "draco": 0.2, "usdz": 0.15, "r3d": 0.4, "side/head": 0.1, "side/results": 0.3, "side/weights": 0.3, "side/prior": 0.1,
    "side/checkpoint": 0.3,
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """The end of a case: ``read``, ``refused``, or a description of the failure."""

    kind: str
    ending: str
    seconds: float
    megabytes: float


class Cases:
    """Every number is a case, the same on every machine with the same libraries."""

    def __init__(self, made: Path | None = None) -> None:
        self.seeds = _all_seeds() if made is None else _load(made)
        self.kinds = list(self.seeds)

    def write(self, number: int, folder: Path, only: str | None = None) -> tuple[str, Path]:
        """Write the case; its kind, and the scan's file or the side files' folder."""
        rng = np.random.default_rng([20261128, number])
        kinds = [only] if only is not None else self.kinds
        if only in hostile.KINDS or (only is None and rng.random() < HOSTILE_SHARE):
            names = [only] if only is not None else list(hostile.KINDS)
            name = names[rng.integers(0, len(names))]
            assert name is not None
            return f"hostile/{name}", hostile.KINDS[name](folder, rng)
        chances = np.array([RARE.get(k, 1.0) for k in kinds if k is not None])
        kind = kinds[rng.choice(len(kinds), p=chances / chances.sum())]
        assert kind is not None
        own = self.seeds[kind]
        whole: Folder = own[rng.integers(0, len(own))]
        if kind.startswith(SIDE):  # any of them is damaged, not mostly the first
            whole = {str(name): whole[name] for name in rng.permutation(list(whole))}
        blocked = next(iter(whole)) if kind.startswith(SIDE) and rng.random() < BLOCKED_SHARE else None
        files = whole if blocked else mutated(whole, rng)
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        if blocked is not None:
            hostile.block(folder / blocked, rng, folder.parent / ELSEWHERE)
        return kind, folder if kind.startswith(SIDE) else folder / next(iter(files))


def _all_seeds() -> dict[str, list[Folder]]:
    """Scans and side files by kind."""
    out = seeds()
    for name, kind in side_files.KINDS.items():
        with tempfile.TemporaryDirectory() as made:
            kind.make(Path(made))
            files = sorted(path for path in Path(made).rglob("*") if path.is_file() and path.name != ".lock")
            out[SIDE + name] = [{str(path.relative_to(made)): path.read_bytes() for path in files}]
    return out


def _save(folders: dict[str, list[Folder]], path: Path) -> None:
    """Workers read prepared inputs, so that their memory contains no library that made them."""
    packed = {k: [{n: base64.b64encode(c).decode() for n, c in f.items()} for f in fs] for k, fs in folders.items()}
    path.write_text(json.dumps(packed))


def _load(path: Path) -> dict[str, list[Folder]]:
    packed = json.loads(path.read_text())
    return {k: [{n: base64.b64decode(c) for n, c in f.items()} for f in fs] for k, fs in packed.items()}


def read_case(kind: str, path: Path) -> Outcome:
    """Read a case and measure it."""
    from omote.errors import OmoteError
    from omote.formats.landmarks import read_landmarks
    from omote.formats.read import read_with_report

    Path("/proc/self/clear_refs").write_text("5")  # the peak of this case alone
    held = max(0.0, _status("VmRSS") / 1024 - PLAIN_MEGABYTES)
    start, ending = time.process_time(), "read"
    try:
        scan: object = None
        if kind.startswith(SIDE):
            side_files.KINDS[kind.removeprefix(SIDE)].read(path)
        else:
            scan = read_landmarks(path) if kind == "landmarks" else read_with_report(path, min_points=1)[0]
        if kind == "hostile/links" and _shows_secret(scan):
            ending = "showed a file outside its folder"
        del scan
    except OmoteError as error:
        one_line = "\n" not in str(error) and len(str(error)) < 700
        ending = "refused" if one_line else f"a message of several lines: {error!r}"
    except BaseException as error:  # whatever it is, it is the finding
        ending = f"{type(error).__name__}: {str(error)[:200]}"
    if (path.parent / ELSEWHERE).exists():
        (path.parent / ELSEWHERE).unlink()
        ending = "wrote through a link out of its folder"
    seconds = time.process_time() - start
    megabytes = _status("VmHWM") / 1024 - held
    if ending in ("read", "refused") and seconds > SECONDS:
        ending = f"took {seconds:.1f} s"
    if ending in ("read", "refused") and megabytes > MEGABYTES:
        ending = f"took {megabytes:,.0f} MB"
    return Outcome(kind, ending, seconds, megabytes)


def _shows_secret(scan: object) -> bool:
    secret = np.array(hostile.SECRET) / 255
    values = [getattr(scan, name, None) for name in ("texture", "vertex_colors", "colors", "rgb")]
    return any(v is not None and (np.abs(v.reshape(-1, 3) - secret) < 0.003).all(axis=1).any() for v in values)


def _status(key: str, process: str = "self") -> int:
    text = Path(f"/proc/{process}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith(key)))


def work(first: int, step: int, log: Path, only: str | None, folder: Path, made: Path) -> None:
    """Run cases ``first``, ``first + step`` … until ended; one JSON line each before and after."""
    faulthandler.enable(log.with_suffix(".dump").open("w"))
    warnings.simplefilter("ignore")  # as the command line does
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    cases = Cases(made)
    _warm_up(cases, folder, only)
    with log.open("a", buffering=1) as out:
        number = first
        while True:
            shutil.rmtree(folder / "case", ignore_errors=True)
            (folder / "case").mkdir(parents=True)
            kind, path = cases.write(number, folder / "case", only)
            out.write(json.dumps([number, kind]) + "\n")
            outcome = read_case(kind, path)
            out.write(json.dumps([number, kind, outcome.ending, outcome.seconds, outcome.megabytes]) + "\n")
            number += step


def _warm_up(cases: Cases, folder: Path, only: str | None) -> None:
    """Read the whole side files once: the libraries that reading imports are no case's time or memory."""
    for kind in cases.kinds if only is None else [only]:
        if kind.startswith(SIDE):
            whole = folder / "whole"
            for name, content in cases.seeds[kind][0].items():
                (whole / name).parent.mkdir(parents=True, exist_ok=True)
                (whole / name).write_bytes(content)
            side_files.KINDS[kind.removeprefix(SIDE)].read(whole)
            shutil.rmtree(whole)


def supervise(
    num_workers: int, first: int, num_cases: int, seconds: float, only: str | None
) -> Iterator[tuple[int, Outcome]]:
    """Run workers, restart those that die or hang, and yield their findings."""
    deadline = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="omote-fuzz-") as root:
        nexts = [first + k for k in range(num_workers)]
        running: list[subprocess.Popen[bytes] | None] = [None] * num_workers
        places = [0] * num_workers
        begun: list[tuple[int, str, float, float] | None] = [None] * num_workers
        done, made = 0, Path(root, "seeds.json")
        _save(_all_seeds(), made)
        try:
            while done < num_cases and time.monotonic() < deadline:
                time.sleep(0.2)
                for k in range(num_workers):
                    log = Path(root, f"{k}.log")
                    process = running[k]
                    if process is None or process.poll() is not None:
                        if process is not None:
                            number, kind, _, _ = begun[k] or (nexts[k], "fuzz job", 0.0, 0.0)
                            yield number, Outcome(kind, f"ended its process ({process.returncode})", 0.0, 0.0)
                            nexts[k], done = number + num_workers, done + 1
                        log.unlink(missing_ok=True)
                        places[k], begun[k] = 0, None
                        running[k] = _start(nexts[k], num_workers, log, only, Path(root, str(k)), made)
                        continue
                    for line in _new_lines(log, places, k):
                        entry = json.loads(line)
                        if len(entry) == 2:
                            begun[k] = (entry[0], entry[1], _cpu_seconds(process.pid), time.monotonic())
                        else:
                            begun[k], nexts[k], done = None, entry[0] + num_workers, done + 1
                            yield entry[0], Outcome(*entry[1:])
                    hung = begun[k]
                    if hung is None:
                        continue
                    spent, waited = _cpu_seconds(process.pid) - hung[2], time.monotonic() - hung[3]
                    if spent > 3 * SECONDS or (waited > 300 and spent < 1.0):
                        process.kill()
                        process.wait()
                        ending = "hung" if spent > SECONDS else "waits for something"
                        yield hung[0], Outcome(hung[1], ending, spent, 0.0)
                        nexts[k], begun[k], running[k], done = hung[0] + num_workers, None, None, done + 1
        finally:
            for process in running:
                if process is not None:
                    process.kill()
                    process.wait()


def _start(first: int, step: int, log: Path, only: str | None, folder: Path, made: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, "--work", json.dumps([first, step, str(log), only, str(folder), str(made)])]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})


def _new_lines(log: Path, places: list[int], k: int) -> list[str]:
    if not log.exists():
        return []
    with log.open() as file:
        file.seek(places[k])
        text = file.read()
    whole = text[: text.rfind("\n") + 1]
    places[k] += len(whole.encode())
    return whole.splitlines()


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz every reader of scans and side files.")
    parser.add_argument("--cases", type=int, default=1 << 60)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", help="one format, or one kind of hostile input")
    parser.add_argument("--keep", type=Path, help="write the first case into this folder instead, and read it")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        first, step, log, only, folder, made = json.loads(given.work)
        work(first, step, Path(log), only, Path(folder), Path(made))
        return 0
    if given.keep is not None:
        given.keep.mkdir(parents=True)
        kind, path = Cases().write(given.first, given.keep, given.only)
        print(path, read_case(kind, path))
        return 0
    return _report(supervise(given.workers, given.first, given.cases, 60 * given.minutes, given.only), given.only)


def _report(outcomes: Iterator[tuple[int, Outcome]], only: str | None) -> int:
    counts: Counter[tuple[str, str]] = Counter()
    worst: dict[str, tuple[float, float]] = {}
    failures = 0
    for number, outcome in outcomes:
        good = outcome.ending in ("read", "refused")
        counts[outcome.kind, outcome.ending if good else "failed"] += 1
        seconds, megabytes = worst.get(outcome.kind, (0.0, 0.0))
        worst[outcome.kind] = max(seconds, outcome.seconds), max(megabytes, outcome.megabytes)
        if not good:
            failures += 1
            again = f"python tests/fuzz/run.py --first {number} --keep DIR" + (f" --only {only}" if only else "")
            print(f"{outcome.kind}: {outcome.ending}\n    {again}", flush=True)
    print(f"{'kind':<20}{'cases':>8}{'read':>8}{'refused':>9}{'failed':>8}{'most s':>9}{'most MB':>9}")
    for kind in sorted(worst):
        row = [counts[kind, ending] for ending in ("read", "refused", "failed")]
        print(f"{kind:<20}{sum(row):>8}{row[0]:>8}{row[1]:>9}{row[2]:>8}{worst[kind][0]:>9.2f}{worst[kind][1]:>9.0f}")
    print(f"{sum(counts.values()):,} cases, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
