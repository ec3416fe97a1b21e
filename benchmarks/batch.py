"""Batches: one process against a bare loop, two processes against one, and Ray beside them.

    make bench BENCH=batch OUT=dir                 (OMOTE_BENCH_SCANS=N: scans of each run, 12 by default, 5 minutes)

Depth frames of synthetic persons, each frame as a scan. The bare loop is `several_avatars` with the same files saved, thumbnails
included, in one process of one thread that is started and loaded before the clock. A batch is a call of ``omote.batch`` in a new
folder, whose workers load networks first: ``warm`` leaves out the start and the first scan of each, which a batch of as many
scans as workers measures. ``shards/`` is the mechanism alone: sums of numbers, 20 ms of processor time each, 200 in shards of 10.

Other programs disturb clock times (``machine/load_1min`` says how many ran at the start), and processor time much less: on two
free cores, two processes are ``2 × efficiency_2_cpu`` times as fast as one, since each uses ``cores_of_a_process``, about one.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import omote
from omote import Execution
from omote.cores import use_cores
from omote.datasets.demo_frame import sensed_frame
from omote.formats.frame_write import save_rgbd
from omote.head.shipped import shipped_head
from omote.pipelines.result import AvatarOutputs, AvatarResult
from omote.progress import Step, Steps
from omote.shards.mapping import Executor, Here, Processes, RayCluster, map_shards
from omote.shards.worker import Loss, ShardDone

SCANS = int(os.environ.get("OMOTE_BENCH_SCANS", "12"))
ITEMS, PER_SHARD, ITEM_S = 200, 10, 0.02


@dataclass(frozen=True)
class Busy:
    """Computes for a while per item, by its own processor time."""

    def __call__(self, shard: range, lost: Mapping[int, Loss]) -> Steps[int]:
        """Make a shard."""
        total = 0
        for index, item in enumerate(shard):
            yield Step(stage="busy", done=index, total=len(shard))
            end = time.process_time() + ITEM_S
            while time.process_time() < end:
                total += item
        return total


def run() -> dict[str, float | int | str]:
    out: dict[str, float | int | str] = {"machine/load_1min": os.getloadavg()[0], "scans": SCANS}
    out |= mechanism()
    with tempfile.TemporaryDirectory(prefix="omote-batch-") as name:
        folder = Path(name)
        for seed in range(SCANS):
            save_rgbd(sensed_frame(seed, shipped_head()), folder / f"scans/person_{seed:03d}")
        loop = bare_loop(folder) / SCANS
        out |= {"loop/s_per_scan": loop.wall_s, "loop/cpu_s_per_scan": loop.cpu_s}
        first, found, warm = by_processes(folder)
        for workers in (1, 2):
            out |= {
                f"batch/s_per_scan_{workers}": found[workers].wall_s / SCANS,
                f"batch/s_per_scan_{workers}_warm": warm[workers].wall_s,
                f"batch/cpu_s_per_scan_{workers}_warm": warm[workers].cpu_s,
            }
        out |= {
            "batch/first_scan_s": first.wall_s,
            "batch/speedup_2": warm[1].wall_s / warm[2].wall_s,
            "batch/overhead_cpu": warm[1].cpu_s / loop.cpu_s - 1,
            "batch/efficiency_2_cpu": warm[1].cpu_s / warm[2].cpu_s,
            "batch/cores_of_a_process": warm[1].cpu_s / warm[1].wall_s,
        }
        if importlib.util.find_spec("ray") is not None:
            with ray_cluster():
                ray = batch(folder / "scans", folder / "ray", Execution(executor="ray", workers=2))
            told("batches", ray=ray)
            out["batch/s_per_scan_ray_2"] = ray.wall_s / SCANS
    return out


def by_processes(folder: Path) -> tuple[Spent, dict[int, Spent], dict[int, Spent]]:
    """A batch of one scan; batches of all by one and two processes, and per scan of them once each process has made its first."""
    starts, found, warm = {}, {}, {}
    for workers in (1, 2):
        few = folder / f"first_{workers}.txt"
        few.write_text("".join(f"scans/person_{seed:03d}\n" for seed in range(workers)))
        starts[workers] = batch(few, folder / f"start_{workers}", Execution(workers=workers))
        found[workers] = batch(folder / "scans", folder / f"workers_{workers}", Execution(workers=workers))
        told(f"batches, {workers} processes", first=starts[workers], all=found[workers])
        warm[workers] = (found[workers] - starts[workers]) / (SCANS - workers)
    return starts[1], found, warm


@dataclass(frozen=True)
class Spent:
    """Seconds on the clock, and of the processor in this process and its children."""

    wall_s: float
    cpu_s: float

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.wall_s - other.wall_s, self.cpu_s - other.cpu_s)

    def __truediv__(self, count: int) -> Spent:
        return Spent(self.wall_s / count, self.cpu_s / count)


def told(what: str, **found: Spent) -> None:
    """Say what has been measured so far: all of it takes minutes."""
    print(f"{what}:", ", ".join(f"{name} {s.wall_s:.1f} s" for name, s in found.items()), file=sys.stderr, flush=True)


@contextmanager
def spending() -> Iterator[list[Spent]]:
    """Append what the block has spent, once its children have ended."""
    found: list[Spent] = []
    wall, cpu = time.perf_counter(), sum(os.times()[:4])
    yield found
    found.append(Spent(time.perf_counter() - wall, sum(os.times()[:4]) - cpu))


def mechanism() -> dict[str, float]:
    """The mechanism of shards without avatars."""
    shards = [range(start, start + PER_SHARD) for start in range(0, ITEMS, PER_SHARD)]

    def spent(executor: Executor) -> Spent:
        with spending() as found:
            done = [event for event in map_shards(Busy(), shards, executor) if isinstance(event, ShardDone)]
        assert len(done) == len(shards)
        return found[0]

    with spending() as loop:
        for shard in shards:
            for _ in Busy()(shard, {}):
                pass
    runs = {"here": Here(), "processes_1": Processes(workers=1), "processes_2": Processes(workers=2)}
    found = {"loop": loop[0], **{name: spent(executor) for name, executor in runs.items()}}
    told("without avatars", **found)
    if importlib.util.find_spec("ray") is not None:
        with ray_cluster():
            found["ray_2"] = spent(RayCluster(workers=2))
    numbers = {f"shards/{name}_s": each.wall_s for name, each in found.items()}
    numbers |= {f"shards/{name}_cpu_s": each.cpu_s for name, each in found.items() if name != "ray_2"}
    overhead = (found["processes_1"].cpu_s - found["loop"].cpu_s) / ITEMS
    return {**numbers, "shards/overhead_cpu_ms_per_item": 1e3 * overhead}


@contextmanager
def ray_cluster() -> Iterator[None]:
    """A Ray cluster of two processors on this machine, started before the clock."""
    import ray

    # Its processes import what this one does.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    # Of Ray's own niceness, 15, workers hardly get on beside other programs.
    config = {"worker_niceness": 0}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR", _system_config=config)
    try:
        yield
    finally:
        ray.shutdown()


def bare_loop(folder: Path) -> Spent:
    """A loop over the scans in this process, after one scan that loads everything."""
    from omote.batches.picture import write_picture

    use_cores(1)
    scans = sorted((folder / "scans").iterdir())
    results: Iterator[AvatarResult | Exception] = omote.several_avatars([scans[0], *scans])
    next(results)
    with spending() as found:
        for scan, result in zip(scans, results, strict=True):
            if isinstance(result, Exception):
                raise result
            glb = folder / f"{scan.name}.glb"
            result.save_all(AvatarOutputs(glb=glb, report=glb.with_suffix(".json")))
            write_picture(glb.with_suffix(".jpg"), glb, result.source, result.generated)
    return found[0]


def batch(scans: Path, out: Path, execution: Execution) -> Spent:
    """A batch in a new folder."""
    with spending() as found:
        result = omote.batch(scans, out, execution=execution)
    assert all(row.made for row in result.rows), result.summary()
    return found[0]
