"""Shards: each executor makes the same ones, and no item takes its shard along."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from omote.errors import ConfigError
from omote.shards.mapping import Execution, Executor, Here, Part, Processes, array_position, map_shards
from omote.shards.worker import Limits, ShardDone, WorkerError
from shard_tasks import Squares, dies_early, process_number

SHARDS = [(f"shard_{k}", tuple(str(3 * k + i) for i in range(3))) for k in range(5)]


def made(out: Path, shards: list[tuple[str, tuple[str, ...]]], executor: Executor) -> dict[int, list[str]]:
    events = map_shards(Squares(out), shards, executor)
    return {event.index: event.result for event in events if isinstance(event, ShardDone)}


def content(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def test_processes_and_parts_of_an_array_write_what_one_process_writes(tmp_path: Path) -> None:
    here = made(tmp_path / "here", SHARDS, Here())
    assert here == {k: [str((3 * k + i) ** 2) for i in range(3)] for k in range(5)}
    assert made(tmp_path / "two", SHARDS, Processes(workers=2)) == here
    parts = [made(tmp_path / "parts", SHARDS, Part(rank=r, world=3, within=Here())) for r in range(3)]
    assert [sorted(part) for part in parts] == [[0, 3], [1, 4], [2]]
    assert {k: v for part in parts for k, v in part.items()} == here
    assert content(tmp_path / "here") == content(tmp_path / "two") == content(tmp_path / "parts")


def test_twice_is_harmless(tmp_path: Path) -> None:
    first = made(tmp_path, SHARDS, Here())
    before = content(tmp_path)
    assert made(tmp_path, SHARDS, Here()) == first
    assert content(tmp_path) == before


def test_items_that_crash_hang_or_fill_memory_are_lost_and_nothing_else(tmp_path: Path) -> None:
    shards = [("a", ("1", "segfault", "2", "exit")), ("b", ("hang", "3")), ("c", ("fill", "4"))]
    limits = Limits(item_s=4.0, memory_mb=400.0)
    found = made(tmp_path, shards, Processes(workers=2, limits=limits))
    assert found == {0: ["1", "crash", "4", "crash"], 1: ["time limit", "9"], 2: ["memory limit", "16"]}


def test_a_worker_lives_from_shard_to_shard_with_the_threads_it_may_have() -> None:
    events = map_shards(process_number, list(range(4)), Processes(workers=1, limits=Limits(cores=1)))
    found = [event.result for event in events if isinstance(event, ShardDone)]
    assert len(set(found)) == 1
    number, threads = found[0]
    assert number != os.getpid()
    assert threads == "1"


def test_errors_of_the_function_come_back_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give another number"):
        made(tmp_path, [("a", ("refuse",))], Processes(workers=1))
    with pytest.raises(RuntimeError, match="ZeroDivisionError: a defect"):
        made(tmp_path, [("a", ("break",))], Processes(workers=1))
    with pytest.raises(WorkerError, match="before its first item of shard 0"):
        list(map_shards(dies_early, [0], Processes(workers=1)))


def test_a_killed_owner_takes_its_workers_along_and_the_next_run_goes_on(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom omote.shards.mapping import *\nfrom shard_tasks import Squares\n"
        "if __name__ == '__main__':\n"
        f"    shards = {SHARDS!r}\n"
        f"    for e in map_shards(Squares(Path({str(tmp_path / 'out')!r}), pause_s=0.1), shards, Processes(workers=2)):\n"
        "        print(e, flush=True)\n"
    )
    (tmp_path / "run.py").write_text(program)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    owner = subprocess.Popen([sys.executable, tmp_path / "run.py"], stdout=subprocess.PIPE, text=True, env=environment)
    assert owner.stdout is not None
    while "ShardDone" not in owner.stdout.readline():
        pass
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert owner.stdout.read() is not None  # ends when the last process that holds the pipe has ended
    left = content(tmp_path / "out")
    time.sleep(0.3)
    assert content(tmp_path / "out") == left
    assert len(made(tmp_path / "out", SHARDS, Here())) == 5
    made(tmp_path / "whole", SHARDS, Here())
    finished = {name: data for name, data in content(tmp_path / "out").items() if not name.startswith(".")}
    assert finished == content(tmp_path / "whole")


def test_array_jobs_find_their_part_in_slurms_variables() -> None:
    array = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_STEP": "2",
             "SLURM_ARRAY_TASK_COUNT": "4"}  # fmt: skip
    step = {"SLURM_STEP_NUM_TASKS": "3", "SLURM_PROCID": "2"}
    assert array_position(array) == (3, 4)
    assert array_position(step) == (2, 3)
    assert array_position({**array, **step}) == (11, 12)
    assert array_position({**array, "SLURM_NTASKS": "8"}) == (3, 4)  # a script without srun runs once
    for wrong in ({}, {"SLURM_ARRAY_TASK_ID": "7"}, {**step, "SLURM_PROCID": "x"}):
        with pytest.raises(ConfigError, match="--rank and --world"):
            array_position(wrong)


def test_where_shards_are_made_follows_from_the_settings() -> None:
    assert Execution(workers=1).place(alone=True) == Here()
    assert Execution(workers=3).place() == Processes(workers=3)
    assert Execution(workers=1, rank=1, world=3).place(alone=True) == Part(rank=1, world=3, within=Here())
    for wrong in (Execution(rank=3, world=3), Execution(rank=1), Execution(executor="ray", rank=0, world=2)):
        with pytest.raises(ConfigError, match="--world"):
            wrong.place()


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_ray_writes_the_same_and_loses_the_same_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    from omote.shards.mapping import RayCluster

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    shards = [*SHARDS, ("bad", ("1", "exit", "2")), ("lost", ("orphan",))]
    here = made(tmp_path / "here", SHARDS, Here())
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        found = made(tmp_path / "ray", shards, RayCluster())
        assert found == {**here, 5: ["1", "crash", "4"], 6: ["made elsewhere"]}
        assert {k: v for k, v in content(tmp_path / "ray").items() if k.startswith("shard_")} == content(
            tmp_path / "here"
        )
        with pytest.raises(ConfigError, match="give another number"):
            made(tmp_path / "ray", [("refused", ("refuse",))], RayCluster())
    finally:
        ray.shutdown()


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_no_ray_cluster_is_said_in_one_line(tmp_path: Path) -> None:
    from omote.shards.mapping import RayCluster

    with pytest.raises(ConfigError, match="no Ray cluster"):
        made(tmp_path, SHARDS, RayCluster(address="auto"))


def test_the_example_of_the_documentation_runs(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/batch.md").read_text(encoding="utf-8")
    (tmp_path / "example.py").write_text(page.partition("```python\n")[2].partition("```")[0])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, tmp_path / "example.py"], capture_output=True, text=True, check=True, env=environment
    )
    assert sorted(done.stdout.splitlines()) == ["0 [1, 2]", "1 [3]"]
