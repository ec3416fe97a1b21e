"""`map_shards`: make shards here, in processes of this machine, as a part of an array job, or on a Ray cluster.

    function: (shard, lost items) → steps → result          executor: where

A function writes a shard's output whole or not at all, and leaves alone what is there already, so twice is harmless, a killed run
continues, and any executor gives the same files. It yields a `Step` before each item, whose ``done`` is the item's index; if
the process dies at an item, the function is called again with that item among the lost ones.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

from tyro.conf import arg

from omote.config import Range, check_ranges
from omote.cores import num_cores
from omote.errors import ConfigError, of_extra
from omote.shards.worker import Function, Limits, ShardDone, ShardStep, Worker, run

Shard = TypeVar("Shard")
Result = TypeVar("Result")
Events: TypeAlias = Iterator[ShardStep | ShardDone[Result]]
Indexed: TypeAlias = Sequence[tuple[int, Shard]]


@runtime_checkable
class Executor(Protocol):
    """Where shards are made."""

    def share(self, count: int) -> range:
        """Which of so many shards are made here."""
        ...

    def run(self, function: Function[Shard, Result], shards: Indexed[Shard]) -> Events[Result]:
        """Make shards, each with its index; steps may be left out, results not."""
        ...


def map_shards(
    function: Function[Shard, Result], shards: Sequence[Shard], executor: Executor, *, skip: Container[int] = ()
) -> Events[Result]:
    """Make shards, yielding their steps and results in the order in which they come.

    Args:
        function: function that makes a shard, picklable except for `Here`.
        shards: shards, picklable except for `Here`.
        executor: where they are made. Closing the generator ends its processes.
        skip: indices of shards that need not be made.

    Raises:
        Exception: what the function raised; the other shards are not finished.
        WorkerError: a process died before the first item of its shard.
    """
    return executor.run(function, [(k, shards[k]) for k in executor.share(len(shards)) if k not in skip])


@dataclass(frozen=True, kw_only=True)
class Here:
    """One shard after the other in this process, which a crash ends."""

    def share(self, count: int) -> range:
        """All shards."""
        return range(count)

    def run(self, function: Function[Shard, Result], shards: Indexed[Shard]) -> Events[Result]:
        """Make shards."""
        for index, shard in shards:
            work = function(shard, {})
            while True:
                try:
                    step = next(work)
                except StopIteration as end:
                    yield ShardDone(index=index, result=end.value)
                    break
                yield ShardStep(index=index, step=step)


@dataclass(frozen=True, kw_only=True)
class Processes:
    """Processes of this machine.

    Attributes:
        workers: number of processes.
        limits: limits of each process.
    """

    workers: int
    limits: Limits = field(default_factory=Limits)

    def share(self, count: int) -> range:
        """All shards."""
        return range(count)

    def run(self, function: Function[Shard, Result], shards: Indexed[Shard]) -> Events[Result]:
        """Make shards."""
        with ExitStack() as stack:
            workers = [
                stack.enter_context(closing(Worker(function, self.limits)))
                for _ in range(min(self.workers, len(shards)))
            ]
            yield from run(workers, shards)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One of several equal parts of the shards, as one task of an array job makes it.

    Attributes:
        rank: number of the part, from 0.
        world: number of parts.
        within: where this part is made.
    """

    rank: int
    world: int
    within: Executor

    def share(self, count: int) -> range:
        """Every ``world``-th shard."""
        return range(self.rank, count, self.world)

    def run(self, function: Function[Shard, Result], shards: Indexed[Shard]) -> Events[Result]:
        """Make shards of this part."""
        return self.within.run(function, shards)


@dataclass(frozen=True, kw_only=True)
class RayCluster:
    """An existing Ray cluster, whose machines have omote installed and see the same folders.

    Attributes:
        address: address of the cluster, or "auto".
        workers: number of processes; 0 means as many as the cluster has room for.
        limits: limits of each process.
    """

    address: str = "auto"
    workers: int = 0
    limits: Limits = field(default_factory=Limits)

    def share(self, count: int) -> range:
        """All shards."""
        return range(count)

    def run(self, function: Function[Shard, Result], shards: Indexed[Shard]) -> Events[Result]:
        """Make shards; their steps stay in the cluster.

        Raises:
            ConfigError: Ray is not installed, or there is no such cluster.
        """
        with of_extra("ray"):
            import ray
        connected = ray.is_initialized()
        if not connected:
            try:
                ray.init(address=self.address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise ConfigError(
                    f"no Ray cluster at {self.address!r} ({' '.join(str(error).split())[:100]}); start one with "
                    "`ray start --head`, or give --ray-address"
                ) from None
        try:
            yield from self._run(function, shards)
        finally:
            if not connected:
                ray.shutdown()

    def _run(self, function: Function[Shard, Result], shards: Indexed[Shard]) -> Events[Result]:
        import ray

        room = int(ray.cluster_resources().get("CPU", 1) // self.limits.cores)
        count = max(1, min(self.workers or room, len(shards)))
        # Ray restarts what a lost machine has taken along; making a shard twice is harmless.
        remote = ray.remote(num_cpus=self.limits.cores, max_restarts=-1, max_task_retries=-1)(_RayWorker)
        idle = [remote.remote(function, self.limits) for _ in range(count)]
        waiting = list(reversed(shards))
        running: dict[Any, Any] = {}
        try:
            while waiting or running:
                while waiting and idle:
                    actor = idle.pop()
                    running[actor.run.remote(*waiting.pop())] = actor
                for answer in ray.wait(list(running))[0]:
                    idle.append(running.pop(answer))
                    found = ray.get(answer)
                    if isinstance(found, Exception):
                        raise found
                    yield found
        finally:
            for actor in (*idle, *running.values()):
                ray.kill(actor)


class _RayWorker:
    """A `Worker` owned by an actor: limits and lost items as everywhere, with its networks kept between shards."""

    def __init__(self, function: Function[Any, Any], limits: Limits) -> None:
        self._worker = Worker(function, limits)

    def run(self, index: int, shard: object) -> ShardDone[Any] | Exception:
        try:
            return next(event for event in run([self._worker], [(index, shard)]) if isinstance(event, ShardDone))
        except Exception as error:
            self._worker.close()
            return error


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Settings of where shards are made.

    Attributes:
        workers: number of processes; 0 means one per core (with ray: as many as the cluster has room for).
        executor: processes of this machine; this part of an array job (--rank and --world, or SLURM's variables); or a Ray
            cluster (extra: ray).
        rank: number of this part of an array job, from 0.
        world: number of parts of the array job.
        ray_address: address of the Ray cluster.
    """

    workers: Annotated[int, Range(0, 4096)] = 0
    executor: Literal["processes", "array", "ray"] = "processes"
    rank: Annotated[int | None, Range(0), arg(metavar="R", help_behavior_hint="")] = None
    world: Annotated[int | None, Range(1), arg(metavar="N", help_behavior_hint="")] = None
    ray_address: str = "auto"

    def __post_init__(self) -> None:
        check_ranges(self)

    def place(self, limits: Limits | None = None, *, alone: bool = False) -> Executor:
        """Where to make shards.

        Args:
            limits: limits of each process.
            alone: whether a single worker may be this process itself, where no crash of an item is expected.

        Raises:
            ConfigError: rank and world are missing, or do not fit each other.
        """
        limits = limits or Limits()
        given = self.rank is not None or self.world is not None
        if self.executor == "ray":
            if given:
                raise ConfigError("--rank and --world are for array jobs; leave them out with --executor ray")
            return RayCluster(address=self.ray_address, workers=self.workers, limits=limits)
        workers = self.workers or max(1, num_cores() // limits.cores)
        machine: Executor = Here() if alone and workers == 1 else Processes(workers=workers, limits=limits)
        if self.executor == "processes" and not given:
            return machine
        rank, world = (self.rank, self.world) if given else array_position(os.environ)
        if rank is None or world is None or rank >= world:
            raise ConfigError(f"expected --rank R and --world N with R < N, got {rank} and {world}; give both")
        return Part(rank=rank, world=world, within=machine)


def array_position(environment: Mapping[str, str]) -> tuple[int, int]:
    """Rank and world of this process by SLURM's variables: of an array job, of a step of several tasks, or both.

    Raises:
        ConfigError: it is part of neither.
    """
    rank, world = 0, 1
    try:
        if "SLURM_ARRAY_TASK_ID" in environment:
            first, step = (int(environment.get(f"SLURM_ARRAY_TASK_{k}", d)) for k, d in (("MIN", "0"), ("STEP", "1")))
            world = int(environment["SLURM_ARRAY_TASK_COUNT"])
            rank = (int(environment["SLURM_ARRAY_TASK_ID"]) - first) // max(step, 1)
        # Without srun, the tasks of a job run nothing by themselves: its script runs once.
        if (tasks := int(environment.get("SLURM_STEP_NUM_TASKS", "1"))) > 1:
            rank, world = rank * tasks + int(environment["SLURM_PROCID"]), world * tasks
    except (KeyError, ValueError) as error:
        raise ConfigError(f"SLURM's variables are not complete ({error}); give --rank and --world") from None
    if world == 1 and "SLURM_ARRAY_TASK_ID" not in environment:
        raise ConfigError("expected an array job of SLURM, found none; give --rank and --world")
    return rank, world
