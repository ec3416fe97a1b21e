"""The queue at work: a process per job, watched for time and memory, ended when it is cancelled.

A process that dies without an answer (killed, or out of memory) is started again, twice at most. A server that dies takes its
processes with it; the next one queues their jobs again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from omote.config import dumps
from omote.studio.settings import StudioSettings
from omote.studio.store import Job, State, Store
from omote.studio.worker import DEFECT, ORDER, Order

LOG = logging.getLogger("omote.studio")
COMMAND = (sys.executable, "-m", "omote.studio.worker")
MOST_DEATHS = 3
WATCH_S, CLEAN_S, RETRY_S = 0.5, 30.0, 1.0
MOST_LINES, LONGEST_LINE = 20_000, 64 << 10
MOST_LOG_BYTES = 4000


@dataclass(kw_only=True)
class Live:
    """A job that runs, or has just been heard of: what its process said, and who listens.

    Attributes:
        outcome: flat facts that the page shows: ``stages``, ``files``, ``notes``, ``scan``, ``error``, ``summary``.
        version: counts changes.
        changed: set and replaced at each change.
        process: the process, while it runs.
        cancelled: whether the job is to end.
        peak_mb: most memory that its processes held.
    """

    outcome: dict[str, Any] = field(default_factory=dict)
    version: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    process: asyncio.subprocess.Process | None = None
    cancelled: bool = False
    peak_mb: float = 0.0

    def change(self) -> None:
        """Wake all who listen."""
        self.version += 1
        self.changed.set()
        self.changed = asyncio.Event()


class Workers:
    """Starts the jobs of a store, as many at a time as the settings say.

    Args:
        store: table of jobs.
        settings: limits.
        folder: folder with a folder per job.
    """

    def __init__(self, store: Store, settings: StudioSettings, folder: Path) -> None:
        self.store, self.settings, self.folder = store, settings, folder
        self.live: dict[str, Live] = {}
        self.ended: dict[str, int] = {}
        self.seconds = 0.0
        self.peak_mb = 0.0
        self._wake = asyncio.Event()
        self._served: dict[str, float] = {}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work while the block runs; what still runs at its end is queued again by the next server."""
        self.recover()
        tasks = [asyncio.create_task(self._work()) for _ in range(self.settings.workers)]
        tasks.append(asyncio.create_task(self._clean()))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.store.queue_all_again()

    def recover(self) -> None:
        """Queue what a killed server left, and remove the folders of uploads that were never accepted."""
        self.store.queue_all_again()
        known = self.store.ids()
        for path in self.folder.iterdir():
            if path.name not in known:
                shutil.rmtree(path, ignore_errors=True)

    def wake(self) -> None:
        """A job was added."""
        self._wake.set()

    def of(self, id: str) -> Live:
        """What is known of a job while this server runs."""
        return self.live.setdefault(id, Live())

    def files_of(self, job: Job) -> Path:
        """Folder of the files of a job's last attempt."""
        return self.folder / job.id / f"attempt-{job.attempts}"

    async def delete(self, id: str) -> None:
        """End a job if it runs, and delete it with all its files."""
        await asyncio.to_thread(self.store.delete, id)
        live = self.live.get(id)
        if live is not None:
            live.cancelled = True
            await self._kill(live)
        await asyncio.to_thread(shutil.rmtree, self.folder / id, ignore_errors=True)
        if live is not None:
            live.change()
            if live.process is None:
                self.live.pop(id, None)

    async def delete_old(self) -> None:
        """Delete jobs that ended longer ago than they are kept."""
        for id in await asyncio.to_thread(self.store.older_than, time.time() - 3600 * self.settings.keep_hours):
            await self.delete(id)

    async def _work(self) -> None:
        while True:
            self._wake.clear()
            job: Job | None = None
            try:
                job = await self._next()
                if job is None:
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(self._wake.wait(), CLEAN_S)
                else:
                    await self._attempt(job)
            except (OSError, sqlite3.Error) as error:  # such as a full disk: the job waits until there is space
                LOG.warning("a job could not be started or kept: %s", type(error).__name__)
                await asyncio.sleep(RETRY_S)
                if job is not None:
                    await self._kept(partial(self.store.queue_again, died=False), job.id)
            except Exception:  # a defect ends its job, not the queue
                LOG.exception("a job was given up")
                if job is not None:
                    await self._kept(self.store.end, job.id, "failed", {"error": {"kind": "Defect", "line": DEFECT}})

    async def _next(self) -> Job | None:
        """Start the oldest job of the client that was served the longest time ago."""
        waiting = await asyncio.to_thread(self.store.queued)
        for id, address in sorted(waiting, key=lambda row: self._served.get(row[1], 0.0)):
            job = await asyncio.to_thread(self.store.start, id)
            if job is not None:
                if len(self._served) > 10_000:
                    self._served.clear()
                self._served[address] = time.monotonic()
                return job
        return None

    async def _attempt(self, job: Job) -> None:
        live, start = self.of(job.id), time.monotonic()
        live.outcome = {"stages": [], "files": [], "notes": []}
        live.change()
        try:
            await asyncio.to_thread(self._prepare, job)
            answer = await self._run(job, live)
        finally:
            if live.process is not None:
                await self._kill(live)
            live.process = None
        if live.cancelled:
            await asyncio.to_thread(shutil.rmtree, self.folder / job.id, ignore_errors=True)
            self._forget(job.id, live, "cancelled", time.monotonic() - start)
            return
        if answer is None and job.deaths + 1 < MOST_DEATHS:
            await self._kept(partial(self.store.queue_again, died=True), job.id)
            LOG.warning("job %s…: its process died; it is started again", job.id[:6])
            live.outcome = {}
            live.change()
            self._wake.set()
            return
        if answer is None:
            answer = {
                "error": {
                    "kind": "Machine",
                    "line": f"its process was killed {MOST_DEATHS} times; is memory used up?",
                }
            }
        live.outcome |= answer
        seconds = time.monotonic() - start
        live.outcome["seconds"] = round(seconds, 2)
        live.outcome["peak_memory_mb"] = round(live.peak_mb, 1)
        state: State = "failed" if "error" in answer else "done"
        await self._kept(self.store.end, job.id, state, live.outcome)
        self._forget(job.id, live, state, seconds)

    async def _kept(self, write: Any, *values: object) -> None:
        """Write to the table; on a full disk, as soon as there is space again."""
        while True:
            try:
                await asyncio.to_thread(write, *values)
                return
            except sqlite3.OperationalError:
                await asyncio.sleep(RETRY_S)

    def _forget(self, id: str, live: Live, state: str, seconds: float) -> None:
        self.ended[state] = self.ended.get(state, 0) + 1
        self.seconds += seconds
        self.live.pop(id, None)
        self.peak_mb = max(self.peak_mb, live.peak_mb)
        live.change()
        LOG.info("job %s…: %s after %.1f s", id[:6], state, seconds)

    def _prepare(self, job: Job) -> None:
        folder, out = self.folder / job.id, self.files_of(job)
        for old in [*folder.glob("attempt-*"), folder / "tmp"]:
            shutil.rmtree(old, ignore_errors=True)
        out.mkdir()
        (folder / "tmp").mkdir()
        limits = self.settings
        order = Order(
            request=dumps(job.request),
            out=out,
            name=job.name,
            consent=job.consent,
            weights=limits.weights_of(job.request.settings.pipeline),
            cpu_s=int(limits.job_s * (os.cpu_count() or 1)),
            memory_mb=limits.job_memory_mb,
        )
        (folder / ORDER).write_text(dumps(order), encoding="utf-8")

    async def _run(self, job: Job, live: Live) -> dict[str, Any] | None:
        """What the job's process answered at its end, or None if it died."""
        folder = self.folder / job.id
        with (folder / "tmp/log").open("wb") as log:
            live.process = await asyncio.create_subprocess_exec(
                *COMMAND, str(folder),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(folder / "tmp")} ,
                start_new_session=True, limit=LONGEST_LINE,
            )  # fmt: skip
        if live.cancelled:  # while it was being started
            return None
        reading = asyncio.create_task(self._read(live.process, live))
        watching = asyncio.create_task(self._watch(live.process, live))
        try:
            await asyncio.wait({reading, watching}, return_when=asyncio.FIRST_COMPLETED)
            refused = watching.result() if watching.done() and not reading.done() else None
            if refused is not None:
                return {"error": {"kind": "Limit", "line": refused}}
            answer = await reading
        finally:
            reading.cancel()
            watching.cancel()
        if answer is not None and answer.get("error", {}).get("kind") == "Defect":
            end = await asyncio.to_thread((folder / "tmp/log").read_bytes)
            LOG.error(
                "job %s…: a defect\n%s",
                job.id[:6],
                ascii(end[-MOST_LOG_BYTES:].decode("utf-8", "replace")).replace("\\n", "\n"),
            )
        shutil.rmtree(folder / "tmp", ignore_errors=True)
        return answer

    async def _read(self, process: asyncio.subprocess.Process, live: Live) -> dict[str, Any] | None:
        assert process.stdout is not None
        started = time.monotonic()
        for _ in range(MOST_LINES):
            try:
                line = await process.stdout.readline()
                said = json.loads(line) if line else None
            except ValueError:
                return None
            if said is None:
                break
            if "done" in said:
                return dict(said["done"])
            if "error" in said:
                return dict(said)
            _take(live.outcome, said, time.monotonic() - started)
            live.change()
        return None

    async def _watch(self, process: asyncio.subprocess.Process, live: Live) -> str | None:
        """Wait until a limit is passed, and say which; None if the process ended by itself."""
        deadline = time.monotonic() + self.settings.job_s
        while process.returncode is None:
            held = await asyncio.to_thread(_memory_mb, process.pid)
            live.peak_mb = max(live.peak_mb, held)
            if held > self.settings.job_memory_mb:
                return f"it needs more than {self.settings.job_memory_mb:,} MB of memory; thin the scan first"
            if time.monotonic() > deadline:
                return f"it takes longer than {self.settings.job_s:.0f} s; thin the scan first"
            await asyncio.sleep(WATCH_S)
        # Its last lines may still be in the pipe.
        await asyncio.sleep(3600)
        return None

    async def _kill(self, live: Live) -> None:
        process = live.process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)  # with the processes that it started
            else:
                process.kill()
        await process.wait()

    async def _clean(self) -> None:
        """`delete_old`, again and again."""
        while True:
            try:
                await self.delete_old()
            except (OSError, sqlite3.Error) as error:
                LOG.warning("old jobs could not be deleted: %s", type(error).__name__)
            await asyncio.sleep(min(CLEAN_S, 3600 * self.settings.keep_hours))


def _take(outcome: dict[str, Any], said: dict[str, Any], elapsed_s: float) -> None:
    """Add a line of a process to what is known of its job."""
    if "note" in said:
        outcome["notes"].append(said["note"])
    if "scan" in said:
        outcome["scan"] = said["scan"]
    if "file" in said:
        outcome["files"].append(said["file"])
    if "step" in said:
        stages, step = outcome["stages"], said["step"]
        if stages and stages[-1]["stage"] == step["stage"]:
            stages[-1] |= step
        else:
            stages.append({**step, "at_s": round(elapsed_s, 2)})


def _memory_mb(pid: int) -> float:
    """Resident memory of a process and its children, MiB."""
    total = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += one.memory_info().rss
    return total / 2**20
