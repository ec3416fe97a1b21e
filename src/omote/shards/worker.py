"""A process that makes shards one after the other, and is replaced when it dies.

The function is unpickled once per process, so what it keeps (loaded networks) serves all shards. Since it yields a step before
each item of a shard, the owner knows which item was being made when the process crashed, took too long or too much memory. The
shard is then made again in a new process, which is told that this item is lost.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from omote.errors import OmoteError
from omote.progress import Step, Steps
from omote.shards.owned import end_with_owner, interrupts_blocked

Shard = TypeVar("Shard")
Result = TypeVar("Result")

# Interval in which limits are checked.
TICK_S = 0.25
# Time that a process has to end before it is killed.
GRACE_S = 2.0
LossKind = Literal["crash", "time limit", "memory limit"]


class WorkerError(OmoteError):
    """A worker process that ended before its first item."""


@dataclass(frozen=True, kw_only=True)
class Loss:
    """The end of a worker process, which cost an item.

    Attributes:
        kind: kind of the end.
        reason: the end in a few words.
    """

    kind: LossKind
    reason: str


# From a shard and its lost items by index to its result; `Step.done` is the index of the item that is about to begin.
Function: TypeAlias = Callable[[Shard, Mapping[int, Loss]], Steps[Result]]


@dataclass(frozen=True, kw_only=True)
class ShardStep:
    """A step of a shard.

    Attributes:
        index: index of the shard.
        step: the step, as the function yielded it.
    """

    index: int
    step: Step


@dataclass(frozen=True, kw_only=True)
class ShardDone(Generic[Result]):
    """A shard that is made.

    Attributes:
        index: index of the shard.
        result: what the function returned.
    """

    index: int
    result: Result


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a worker process.

    Attributes:
        cores: number of cores that a process uses.
        item_s: longest time between two steps, in seconds, from the first one on; None sets no limit.
        memory_mb: largest resident memory of a process; None sets no limit.
    """

    cores: int = 1
    item_s: float | None = None
    memory_mb: float | None = None


class Worker(Generic[Shard, Result]):
    """A process that makes shards; it starts with the first one.

    Args:
        function: picklable function that makes a shard.
        limits: limits of the process.
    """

    def __init__(self, function: Function[Shard, Result], limits: Limits) -> None:
        self._packed, self._limits = pickle.dumps(function), limits
        self._process: multiprocessing.process.BaseProcess | None = None
        self._task: tuple[int, Shard] | None = None
        self._lost: dict[int, Loss] = {}
        self._step: Step | None = None
        self._since = 0.0
        self._broken: Loss | None = None

    @property
    def idle(self) -> bool:
        """Whether no shard is being made."""
        return self._task is None

    @property
    def connection(self) -> Connection:
        """Connection that becomes readable when there is something to `receive`."""
        return self._connection

    def begin(self, index: int, shard: Shard) -> None:
        """Make a shard, after the last one is done."""
        self._task, self._lost = (index, shard), {}
        self._send()

    def receive(self) -> ShardStep | ShardDone[Result] | None:
        """The next step or result; None if the process has ended and the shard is begun again without the lost item.

        Raises:
            WorkerError: the process ended before its first item, or twice at the same one.
            Exception: what the function raised.
        """
        assert self._task is not None
        try:
            kind, value = self._connection.recv()
        except (EOFError, OSError):
            self._replace()
            return None
        self._since = time.monotonic()
        if kind == "step":
            self._step = value
            return ShardStep(index=self._task[0], step=value)
        if kind == "error":
            raise value
        index, self._task = self._task[0], None
        return ShardDone(index=index, result=value)

    def check(self) -> None:
        """Kill the process if it is beyond a limit."""
        if self._process is None or self._task is None or self._step is None or self._broken is not None:
            return
        longest, most = self._limits.item_s, self._limits.memory_mb
        if longest is not None and time.monotonic() - self._since > longest:
            self._broken = Loss(kind="time limit", reason=f"not done after {longest:g} s")
        elif most is not None and _memory_mb(self._process.pid) > most:
            self._broken = Loss(kind="memory limit", reason=f"more than {most:,.0f} MB of memory")
        if self._broken is not None:
            self._process.kill()

    def close(self) -> None:
        """End the process."""
        if self._process is None:
            return
        self._connection.close()
        self._process.terminate()
        self._process.join(GRACE_S)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        self._process = None

    def _send(self) -> None:
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self._connection, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(theirs, self._packed, self._limits.cores))
            with interrupts_blocked():
                self._process.start()
            theirs.close()
        self._step, self._broken, self._since = None, None, time.monotonic()
        with suppress(OSError):  # the process has died since: `receive` finds out
            self._connection.send((self._task, self._lost))

    def _replace(self) -> None:
        assert self._process is not None
        assert self._task is not None
        self._process.join(GRACE_S)
        loss = self._broken or Loss(kind="crash", reason=_how_it_ended(self._process.exitcode))
        step, index = self._step, self._task[0]
        self.close()
        if step is None:
            raise WorkerError(
                f"a worker process ended before its first item of shard {index}: {loss.reason}; run the same command again, "
                "with fewer --workers if memory is short"
            )
        if step.done in self._lost:
            raise WorkerError(f"a worker process ended twice at item {step.done} of shard {index}: {loss.reason}")
        self._lost[step.done] = loss
        self._send()


def run(
    workers: Sequence[Worker[Shard, Result]], shards: Iterable[tuple[int, Shard]]
) -> Iterator[ShardStep | ShardDone[Result]]:
    """Make shards with workers, each of which takes the next shard as soon as it is idle.

    Args:
        workers: idle workers, which stay alive afterwards.
        shards: shards with their indices.

    Raises:
        Exception: as `Worker.receive`.
    """
    waiting = deque(shards)
    while True:
        for worker in workers:
            if worker.idle and waiting:
                worker.begin(*waiting.popleft())
        busy = {worker.connection: worker for worker in workers if not worker.idle}
        if not busy:
            return
        for connection in wait(list(busy), timeout=TICK_S):
            assert isinstance(connection, Connection)
            if (event := busy[connection].receive()) is not None:
                yield event
        for worker in busy.values():
            worker.check()


def _how_it_ended(code: int | None) -> str:
    if code is None or code >= 0:
        return f"the process ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"the process was ended by {name}" + (" (is memory used up?)" if name == "SIGKILL" else "")


def _memory_mb(pid: int | None) -> float:
    import psutil

    try:
        return float(psutil.Process(pid).memory_info().rss) / 2**20
    except psutil.Error:  # it has ended
        return 0.0


def _serve(connection: Connection, packed: bytes, cores: int) -> None:
    """Make the shards that come through a connection, until it is closed."""
    end_with_owner()
    function: Function[Any, Any] | None = None
    while True:
        try:
            (_, shard), lost = connection.recv()
        except (EOFError, OSError):  # the owner is done
            return
        try:
            if function is None:
                from omote.cores import use_cores

                use_cores(cores)
                function = pickle.loads(packed)
                use_cores(cores)  # libraries that were imported just now
            answer: tuple[str, object] = ("done", _made(connection, function, shard, lost))
        except BrokenPipeError:
            return
        except (OmoteError, OSError, MemoryError) as error:
            answer = ("error", error)
        except BaseException:
            answer = ("error", RuntimeError(f"in a worker process:\n{traceback.format_exc()}"))
        connection.send(answer)


def _made(connection: Connection, function: Function[Any, Any], shard: object, lost: Mapping[int, Loss]) -> object:
    work = function(shard, lost)
    while True:
        try:
            step = next(work)
        except StopIteration as end:
            return end.value
        connection.send(("step", step))
