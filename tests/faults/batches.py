"""A batch over many scans of which some are broken, killed at random moments, and made again by other executors.

    python tests/faults/batches.py --scans 200 --broken 20 --kills 10 --compared 200

Depth frames of synthetic persons and files broken in several ways lie in one folder. ``omote batch`` is killed (SIGKILL, with all
its processes) at random moments and run again until it ends; every scan must then have an avatar or a reason. Batches that nobody
disturbs, by three parts of an array job at once and on a Ray cluster (where it is installed), must give the same bytes, times in
reports aside: of all scans, or of a few (``--compared 6``), which one process makes too. Avatars are of one expression and their
own fit, networks, lift, units and texture, as every avatar's.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from kills import digests

EXPRESSIONS = ("--expressions", "happy", "--backend", "torch")
TIMES = r"^time_s|memory|machine|version"
results = digests("shards/*/*", "shards/*/_done", "table.csv", "index.html", "shards.json", without=TIMES)


def broken(number: int, frame: Path) -> Callable[[Path], None]:
    """A way to break a scan; each number takes the next."""
    image = (frame / "depth.png").read_bytes()
    points = "".join(f"{x % 97} {x % 89} {x % 83}\n" for x in range(3000))
    ways: list[Callable[[Path], object]] = [
        lambda path: path.with_suffix(".ply").write_text("no scan"),
        lambda path: path.with_suffix(".obj").touch(),
        lambda path: path.with_suffix(".glb").write_bytes(random.Random(number).randbytes(5000)),
        lambda path: path.with_suffix(".stl").write_bytes(image),
        lambda path: path.with_suffix(".ply").write_text(
            "ply\nformat ascii 1.0\nelement vertex 999999999\nend_header\n"
        ),
        lambda path: path.with_suffix(".xyz").write_text(points),  # points, but no face
        lambda path: path.with_suffix(".fbx").write_bytes(b"Kaydara FBX Binary"),
        lambda path: path.with_suffix(".zip").write_bytes(b"PK\x03\x04" + image[:200]),
        lambda path: (path.mkdir(), (path / "intrinsics.json").write_text("{")),
        lambda path: (path.mkdir(), [(path / f.name).write_bytes(f.read_bytes()[:900]) for f in frame.iterdir()]),
    ]
    return ways[number % len(ways)]  # type: ignore[return-value]


def make_scans(folder: Path, num_scans: int, num_broken: int) -> None:
    from omote.datasets.demo_frame import sensed_frame
    from omote.formats.frame_write import save_rgbd
    from omote.head.shipped import shipped_head

    good = num_scans - num_broken
    for seed in range(good):
        save_rgbd(sensed_frame(seed, shipped_head()), folder / f"person_{seed:03d}")
    frame = folder / "person_000"
    for number in range(num_broken):
        # Among the others, by name.
        broken(number, frame)(folder / f"person_{number * good // num_broken:03d}_broken_{number}")


def batch(scans: Path, out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "omote", "batch", str(scans), "--out", str(out), *EXPRESSIONS, *options]


def rows(out: Path) -> dict[str, dict[str, str]]:
    with (out / "table.csv").open(newline="", encoding="utf-8") as file:
        return {row["scan"]: row for row in csv.DictReader(file)}


def killed(command: list[str], out: Path, kills: int, num_scans: int, draw: random.Random) -> None:
    """Run a batch, killing it so many times after a random number of its scans, and then to its end."""
    moments = sorted(draw.uniform(0, 0.95 * num_scans) for _ in range(kills))
    for moment in moments:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        while done(out) < moment and process.poll() is None:
            time.sleep(0.5)
        time.sleep(draw.uniform(0, 5))
        with suppress(ProcessLookupError):  # it has just ended
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        print(f"killed after {done(out)} scans", flush=True)
    subprocess.run(command, check=True)


def done(out: Path) -> int:
    """Scans with a row, in shards that are done or not."""
    kept = sum(path.read_text(encoding="utf-8").count('"scan":') for path in out.glob("shards/*/_done"))
    return kept + sum(1 for _ in out.glob("shards/.*.partial/*.row"))


def main() -> int:
    parser = argparse.ArgumentParser(description="A batch with broken scans, killed and made again.")
    parser.add_argument("--scans", type=int, default=200)
    parser.add_argument("--broken", type=int, default=20)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument(
        "--compared", type=int, default=6, help="scans that every executor makes again; all of them if as many as scans"
    )
    parser.add_argument("--workers", default="2")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="folder to work in, which is kept; without it, a temporary one")
    given = parser.parse_args()
    draw = random.Random(given.seed)
    with tempfile.TemporaryDirectory(prefix="omote-batches-") as root:
        folder = given.folder or Path(root)
        if not (folder / "scans").exists():
            make_scans(folder / "scans", given.scans, given.broken)
        start = time.monotonic()
        killed(
            batch(folder / "scans", folder / "killed", "--workers", given.workers),
            folder / "killed",
            given.kills,
            given.scans,
            draw,
        )
        found = rows(folder / "killed")
        made = [scan for scan, row in found.items() if row["made"] == "yes"]
        reasons = Counter(row["kind"] for row in found.values() if row["made"] == "no")
        print(f"{len(made)} avatars, reasons: {dict(reasons)}, in {time.monotonic() - start:.0f} s", flush=True)
        assert len(found) == given.scans
        assert len(made) == given.scans - given.broken
        assert all("broken" in scan and row["reason"] for scan, row in found.items() if row["made"] == "no")

        if given.compared >= given.scans:
            compare(folder, folder / "scans", folder / "killed")
            return 0
        names = sorted(draw.sample(sorted(found), given.compared))
        (folder / "some.txt").write_text("".join(f"scans/{name}\n" for name in names))
        subprocess.run(batch(folder / "some.txt", folder / "one", "--workers", "1"), check=True)
        compare(folder, folder / "some.txt", folder / "one")
        again = rows(folder / "one")
        for name in names:
            row, other = found[name], again[f"scans/{name}"]
            assert (row["made"], row["kind"]) == (other["made"], other["kind"])
            for key in ("avatar", "picture") if row["made"] == "yes" else ():
                assert (folder / "killed" / row[key]).read_bytes() == (folder / "one" / other[key]).read_bytes(), name
        print(f"{len(names)} scans of the killed batch: the same avatars and thumbnails", flush=True)
    return 0


def compare(folder: Path, scans: Path, reference: Path) -> None:
    """Make a batch by an array job and on Ray, and check that their files are those of the reference."""
    whole = results(reference)
    parts = [batch(scans, folder / "array", "--workers", "1", "--rank", str(r), "--world", "3") for r in (2, 0, 1)]
    for process in [subprocess.Popen(part) for part in parts]:
        assert process.wait() == 0
    assert results(folder / "array") == whole
    print(f"three parts of an array: the same {len(whole)} files", flush=True)
    if importlib.util.find_spec("ray") is not None:
        on_ray(batch(scans, folder / "ray", "--executor", "ray", "--workers", "2"))
        assert results(folder / "ray") == whole
        print(f"Ray: the same {len(whole)} files", flush=True)


def on_ray(command: list[str]) -> None:
    """Run a command beside a Ray cluster of two processors, which ends with it."""
    import ray

    # Of Ray's own niceness, 15, workers hardly get on beside other programs.
    config = {"worker_niceness": 0}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR", _system_config=config)
    try:
        subprocess.run([*command, "--ray-address", ray.get_runtime_context().gcs_address], check=True)
    finally:
        ray.shutdown()


if __name__ == "__main__":
    sys.exit(main())
