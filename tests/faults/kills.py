"""Kill commands at random moments, and fill their disk: ``make kills``, or ``python tests/faults/kills.py --times 10``.

Each job is a command that writes into a folder. It runs once undisturbed, then again and again in one other folder, killed
(SIGKILL, with all its processes) at a random moment each time, and at last to its end. After each kill an output must be what the
undisturbed run wrote, what lay there before, or absent; at the end all must be the same. Then it runs on file systems of growing
size (Linux, as root): each that is too small must end in one line and exit code 2, with the outputs as above.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OLD = b"what lay here before"
PAGE = 4096  # bytes of the smallest disk
Outputs = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A command and its outputs.

    Attributes:
        run: does the work in a folder; gives the exit code.
        outputs: digests of the folder's current files, of each file that has its final name.
        before: files that lie in the folder beforehand.
        grows: whether outputs are replaced by better ones along the way, so that only the last ones are the same.
        kills: whether it is worth killing.
    """

    run: Callable[[Path], int]
    outputs: Callable[[Path], Outputs]
    before: tuple[str, ...] = ()
    grows: bool = False
    kills: bool = True


def digests(*patterns: str, without: str = r"(?!)") -> Callable[[Path], Outputs]:
    """Outputs: the files of some patterns; of JSON files, without the keys that an expression matches, such as times."""

    def outputs(folder: Path) -> Outputs:
        found = {}
        paths = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
        for path in sorted(paths):
            if any(part[0] == "." for part in path.relative_to(folder).parts):
                continue  # half made
            data = path.read_bytes()
            if path.suffix == ".json" and data != OLD and isinstance(found_in := json.loads(data), dict):
                kept = {k: v for k, v in found_in.items() if not re.search(without, k)}
                data = json.dumps(kept, sort_keys=True).encode()
            found[str(path.relative_to(folder))] = hashlib.sha256(data).hexdigest()
        return found

    return outputs


def started(job: Job, folder: Path, log: Path) -> int:
    """The process of a job: forked, so that the command's imports are done."""
    process = os.fork()
    if process == 0:
        code = 70
        try:
            os.setsid()
            out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(out, 1)
            os.dup2(out, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
            code = job.run(folder)
            sys.stdout.flush()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return process


def ended(process: int) -> int:
    """The exit code of a process, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def prepared(job: Job, folder: Path) -> Path:
    """A new folder with the job's existing files."""
    folder.mkdir(parents=True)
    for name in job.before:
        (folder / name).write_bytes(OLD)
    return folder


def check_whole(found: Mapping[str, str], whole: Mapping[str, str], when: str) -> None:
    """Every output that is there is a whole one, of now or of before."""
    known = hashlib.sha256(OLD).hexdigest()
    wrong = [name for name, digest in found.items() if digest not in (whole.get(name), known)]
    assert not wrong, f"{when}: {', '.join(wrong)} half written, or not the same"


def undisturbed(job: Job, folder: Path) -> tuple[Outputs, float]:
    """What a job writes, and in how many seconds."""
    start = time.monotonic()
    code = ended(started(job, prepared(job, folder), folder.with_suffix(".log")))
    assert code == 0, folder.with_suffix(".log").read_text()
    whole = job.outputs(folder)
    assert whole, "the job wrote nothing"
    return whole, time.monotonic() - start


def survive_kills(
    job: Job, folder: Path, whole: Outputs, seconds: float, times: int, draw: random.Random
) -> list[float]:
    """Kill a job again and again, then let it end.

    Returns:
        The moments, in shares of an undisturbed run.
    """
    prepared(job, folder)
    moments = []
    while len(moments) < times:
        moment = draw.random()
        process = started(job, folder, folder.with_suffix(".log"))
        time.sleep(moment * seconds)
        try:
            os.killpg(process, signal.SIGKILL)
        except ProcessLookupError:  # it has no group of its own yet
            os.kill(process, signal.SIGKILL)
        killed = ended(process) == -signal.SIGKILL
        moments += [moment] if killed else []
        check_whole({} if job.grows else job.outputs(folder), whole, f"killed at {moment:.0%}")
        if not killed and len(job.outputs(folder)) == len(whole):  # all is done: begin again
            shutil.rmtree(folder)
            prepared(job, folder)
    code = ended(started(job, folder, folder.with_suffix(".log")))
    assert code == 0, folder.with_suffix(".log").read_text()
    assert job.outputs(folder) == whole
    return moments


def mounted(folder: Path, num_bytes: int) -> bool:
    """Whether a file system of so many bytes could be mounted on a new folder."""
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={num_bytes}"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False)
    return done.returncode == 0


def survive_full_disks(job: Job, folder: Path, whole: Outputs, sizes: list[int]) -> int | None:
    """Run a job on disks of growing sizes, of which one of a page is full from the start.

    Returns:
        How many were too small, or None where nothing can be mounted.
    """
    too_small, log = 0, folder.with_suffix(".log")
    for size in sizes:
        if not mounted(folder, size):
            return None
        try:
            for name in job.before:
                (folder / name).write_bytes(OLD)
            if size == PAGE:  # full already
                (folder / ".filler").write_bytes(bytes(PAGE))
            code = ended(started(job, folder, log))
            found, lines = job.outputs(folder), log.read_text().strip().splitlines()
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)
        when = f"a disk of {size:,} bytes"
        check_whole({} if job.grows else found, whole, when)
        assert code or found == whole, when
        if code:
            too_small += 1
            errors = [line for line in lines if line.startswith("omote: ")]
            assert (code, len(errors)) == (2, 1), f"{when}: exit code {code}: {lines[-3:]}"
            assert not any(line.startswith("Traceback") for line in lines), when
    return too_small


def command(*arguments: str) -> Callable[[Path], int]:
    """An ``omote`` command that writes into ``{}``."""

    def run(folder: Path) -> int:
        from omote.cli.main import main

        return main([argument.replace("{}", str(folder)) for argument in arguments])

    return run


def loop_over(scans: list[Path]) -> Callable[[Path], int]:
    """Avatars of several scans, as in a shell loop that skips existing ones."""

    def run(folder: Path) -> int:
        return next(
            (
                code
                for scan in scans
                if not (out := folder / f"{scan.stem}.glb").exists()
                and (
                    code := command(
                        "avatar", str(scan), "--out", str(out), "--backend", "torch", "--expressions", "happy"
                    )(folder)
                )
            ),
            0,
        )

    return run


def jobs(scans: list[Path], made: Path) -> dict[str, Job]:
    """A job for each writing command, on ``scans`` and the results of `prepare`.

    The first ones, of a second and more, are killed; the disks of all are filled.
    """
    times = r"^time_s|seconds|created|machine|python|version|path|date|memory|peak"
    scan, torch = str(scans[0]), ("--backend", "torch")
    trained = ("engine.checkpoint_s=0.2", "engine.threads=1", "engine.grid_images=0")
    population, images, run = f"population={made / 'population'}", f"images={made / 'images'}", "{}/run"
    results = digests("out/metrics.json", "out/persons/*", "out/table.csv", without=times)
    written = digests("**/*", without=times)
    avatar = ("avatar", scan, "--out", "{}/a.glb", "--sheet", "{}/a.png", "--report", "{}/a.json", *torch)
    render = ("data", "render", str(made / "scans"), "--out", "{}/shards", "--split", "all", "--size", "64")
    batch = ("batch", str(made / "many"), "--out", "{}/out", "--expressions", "happy", "--workers", "2", *torch)
    people = ("--persons", "6", "--images", "7", "--workers", "3")
    train = ("train", "autoencoder-tiny", "--run", run, "--set", population, "engine.total_images=160", *trained)
    stage = ("train", "autoencoder-paper-tiny", "--run", run, "--set", images, *trained)
    export = digests("run/export/**/*")

    def job(*arguments: str, outputs: Callable[[Path], Outputs] = written, **options: Any) -> Job:
        return Job(run=command(*arguments), outputs=outputs, **options)

    return {
        "export": job(*avatar, before=("a.glb", "a.png", "a.json")),
        "training": job(*train, outputs=export, grows=True),
        "evaluation": job("evaluate", "population", "--out", "{}/out", "--persons", "3", outputs=results),
        "study": job("study", "intensity", "--out", "{}/out", "--persons", "2", outputs=results),
        "shards": job("population", "--out", "{}/made", "--sheet", "{}/sheet.png", *people),
        "dataset": job(*render),
        "avatars": Job(run=loop_over(scans), outputs=digests("*.glb")),
        # Its table and page grow, as each run writes what is done so far.
        "batch": job(
            *batch, outputs=digests("out/shards/*/*", "out/table.csv", "out/index.html", without=times), grows=True
        ),
        "training images": job(*stage, outputs=export, grows=True, kills=False),
        "tar": job("population", "--out", "{}/made", *people, "--format", "webdataset", kills=False),
        "pack": job("data", "pack", str(made / "raw"), "--out", "{}/packed", "--size", "64", kills=False),
        "check": job("data", "check", str(made / "scans"), "--report", "{}/check.json", kills=False),
        "encode": job("encode", str(made / "population"), "--out", "{}/edits", kills=False),
        "generate": job("generate", "--run", str(made / "generator"), "--out", "{}/out", "--steps", "2", kills=False),
        "fit": job("fit", scan, "--out", "{}/fitted.obj", "--report", "{}/fit.json", before=("fit.json",), kills=False),
        "render": job("render", scan, "--out", "{}/image", kills=False),
        "reconstruct": job("reconstruct", scan, "--out", "{}/out", *torch, kills=False),
        "sample": job(
            "sample", "--weights", str(made / "drawing"), "--out", "{}/out", "--count", "1", *torch, kills=False
        ),
        "demo": job("demo", "--out", "{}/out", *torch, kills=False),
        "report": job("report", str(made / "results"), "--out", "{}/report.html", kills=False),
        "landmarks": job(
            "tool", "landmarks", "--run", run, "--steps", "2", outputs=digests("run/landmarks.safetensors"), kills=False
        ),
    }


def prepare(folder: Path) -> tuple[list[Path], Path]:
    """Scans, and the inputs of the jobs: a population, a dataset, images, a trained generator, results."""
    from image_folders import make_images
    from results import write_results

    made = folder / "made"
    make_images(made / "raw")
    write_results(made / "results", num_persons=3)
    population = f"population={made / 'population'}"
    fitted = ("fit", str(folder / "demo/scan"), "--out", str(made / "scans/anna/neutral.ply"))
    stages = [
        ("demo", "--out", str(folder / "demo"), "--backend", "torch"),
        ("population", "--out", str(made / "population"), "--persons", "4", "--images", "7", "--workers", "1"),
        ("data", "pack", str(made / "raw"), "--out", str(made / "images"), "--size", "32"),
        ("train", "autoencoder-paper-tiny", "--run", str(made / "autoencoder")),
        ("train", "generator-paper-tiny", "--run", str(made / "generator"), "--set", "condition=none"),
        fitted,
        ("train", "autoencoder-tiny", "--run", str(made / "runs/autoencoder"), "--set", population),
        ("train", "decoder-tiny-draw", "--run", str(made / "runs/decoder"), "--set", population),
        ("train", "editor-tiny", "--run", str(made / "runs/editor"), "--set", population, "draw_share=0.5",
         f"autoencoder={made / 'runs/decoder/export/autoencoder'}"),
    ]  # fmt: skip
    for name in ("anna", "ben", "cleo"):
        (made / "scans" / name).mkdir(parents=True)
    for stage in stages:
        code = ended(started(Job(run=command(*stage), outputs=dict), folder, folder / "log"))
        assert code == 0, (folder / "log").read_text()
    for part in ("decoder/export/autoencoder", "editor/export/editor"):
        shutil.copytree(made / "runs" / part, made / "drawing" / Path(part).name)
    for name in ("anna", "ben"):
        shutil.copytree(folder / "demo/scan", made / "many" / name)
    (made / "many/broken.ply").write_text("no scan")
    rows = ["path,subject,expression"]
    for name in ("anna", "ben", "cleo"):
        rows += [f"{name}/{word}.ply,{name},{word}" for word in ("neutral", "smile")]
        for word in ("neutral", "smile"):
            if (name, word) != ("anna", "neutral"):
                shutil.copy(made / "scans/anna/neutral.ply", made / f"scans/{name}/{word}.ply")
    (made / "scans/labels.csv").write_text("\n".join(rows) + "\n")
    return [shutil.copytree(folder / "demo/scan", folder / name) for name in ("first", "second", "third")], made


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill commands at random moments, and fill their disk.")
    parser.add_argument("--times", type=int, default=10, help="kills of each job")
    parser.add_argument("--disks", type=int, default=6, help="sizes of disks; 0 for none")
    parser.add_argument("--only", nargs="*", help="names of jobs")
    parser.add_argument("--scans", nargs="*", type=Path, help="scans of the avatars; the demo's if not given")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "helpers"))
    import omote.api  # noqa: F401 (so that no child has to)

    with tempfile.TemporaryDirectory(prefix="omote-kills-") as root:
        folder = Path(root)
        scans, made = prepare(folder)
        for name, job in jobs(given.scans or scans, made).items():
            if given.only and name not in given.only:
                continue
            own = folder / name
            whole, seconds = undisturbed(job, own / "whole")
            line = f"{name}: {len(whole)} outputs in {seconds:.1f} s"
            if job.kills and given.times:
                draw = random.Random(f"{name} {given.seed}")
                moments = survive_kills(job, own / "killed", whole, seconds, given.times, draw)
                shown = " ".join(f"{m:.0%}" for m in sorted(moments))
                line += f"; killed {len(moments)} times ({shown}): the same"
            print(line, flush=True)
            if given.disks:
                written = sum(path.stat().st_size for path in (own / "whole").rglob("*") if path.is_file())
                most = 3 * written + (4 << 20)  # a new checkpoint or export lies beside those it replaces
                sizes = [round(PAGE * (most / PAGE) ** (k / given.disks)) for k in range(given.disks + 1)]
                if (too_small := survive_full_disks(job, own / "disk", whole, sizes)) is None:
                    print(f"{name}: no small disk can be mounted here", flush=True)
                else:
                    print(f"{name}: {too_small} of {len(sizes)} disks were too small: one line each", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
