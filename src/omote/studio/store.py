"""The table of jobs in SQLite: what was accepted survives a killed server, and is queued again when the next one starts."""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from omote.config import dumps, from_json
from omote.studio.settings import JobRequest

State = Literal["queued", "running", "done", "failed"]
VERSION = 1  # of the table; kept as SQLite's user_version
ACTIVE: tuple[State, State] = ("queued", "running")
_TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, address TEXT NOT NULL, name TEXT NOT NULL, state TEXT NOT NULL,
    created REAL NOT NULL, started REAL, ended REAL, attempts INTEGER NOT NULL DEFAULT 0,
    deaths INTEGER NOT NULL DEFAULT 0,
    request TEXT NOT NULL, consent TEXT NOT NULL, outcome TEXT NOT NULL DEFAULT '{}'
)
"""
_FIELDS = "id, owner, address, name, state, created, started, ended, attempts, deaths, request, consent, outcome"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A row of the table.

    Attributes:
        id: 128 random bits in hexadecimal; also the name of its folder.
        owner: hash of the browser's cookie; empty for a client without one, to whom the id is enough.
        address: the client's address, for limits.
        name: what the user calls the scan; text for people, never a path.
        state: queued, running, done or failed.
        created: seconds since 1970, as the other times.
        started: start of the last attempt.
        ended: when it was done or failed.
        attempts: number of processes that were started for it.
        deaths: number of those that died while their server lived.
        request: what was asked for.
        consent: the words agreed to, and when; empty for a made-up person.
        outcome: what came of it, flat: the scan's facts, stages, files or the error.
    """

    id: str
    owner: str
    address: str
    name: str
    state: State
    created: float
    started: float | None
    ended: float | None
    attempts: int
    deaths: int
    request: JobRequest
    consent: str
    outcome: dict[str, Any]

    @property
    def active(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ACTIVE


def new_id() -> str:
    """An id that nobody can guess."""
    return secrets.token_hex(16)


class Store:
    """Jobs in a file; methods may be called from any thread.

    Args:
        path: the database; made if missing.

    Raises:
        sqlite3.Error: it is no database, or has another version's table.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
        (there,) = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if there and version != VERSION:
            raise sqlite3.DatabaseError("of another version of omote")
        # An accepted job is on the disk before its client hears of it.
        safe = ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "PRAGMA secure_delete=ON")
        for line in (*safe, _TABLE, f"PRAGMA user_version={VERSION}"):
            self._connection.execute(line)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _run(self, line: str, values: Sequence[object] = ()) -> list[tuple]:
        with self._lock:
            return self._connection.execute(line, values).fetchall()

    def add(self, *, id: str, owner: str, address: str, name: str, request: JobRequest, consent: str) -> Job:
        """Accept a job.

        Raises:
            sqlite3.OperationalError: the disk is full; then the job is not accepted.
        """
        values = (id, owner, address, name, "queued", time.time(), dumps(request), consent)
        self._run(
            "INSERT INTO jobs (id, owner, address, name, state, created, request, consent) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            values,
        )
        job = self.get(id)
        assert job is not None
        return job

    def get(self, id: str) -> Job | None:
        """A job by its id."""
        found = self._run(f"SELECT {_FIELDS} FROM jobs WHERE id = ?", (id,))
        return _job(found[0]) if found else None

    def of_owner(self, owner: str, most: int = 100) -> list[Job]:
        """Jobs of one browser, the newest first."""
        rows = self._run(f"SELECT {_FIELDS} FROM jobs WHERE owner = ? ORDER BY created DESC LIMIT ?", (owner, most))
        return [_job(row) for row in rows]

    def queued(self) -> list[tuple[str, str]]:
        """(id, address) of waiting jobs, the oldest first."""
        return [
            (i, a) for i, a in self._run("SELECT id, address FROM jobs WHERE state = 'queued' ORDER BY created, id")
        ]

    def place(self, job: Job) -> int:
        """Number of waiting jobs that came before."""
        line = "SELECT count(*) FROM jobs WHERE state = 'queued' AND (created, id) < (?, ?)"
        return int(self._run(line, (job.created, job.id))[0][0])

    def active_of(self, address: str) -> int:
        """Number of jobs of an address that wait or run."""
        line = "SELECT count(*) FROM jobs WHERE address = ? AND state IN ('queued', 'running')"
        return int(self._run(line, (address,))[0][0])

    def counts(self) -> dict[str, int]:
        """Number of jobs by state."""
        return {state: int(n) for state, n in self._run("SELECT state, count(*) FROM jobs GROUP BY state")}

    def ids(self) -> set[str]:
        """Ids of all jobs."""
        return {row[0] for row in self._run("SELECT id FROM jobs")}

    def start(self, id: str) -> Job | None:
        """Mark a waiting job as running; None if it no longer waits."""
        line = (
            "UPDATE jobs SET state = 'running', started = ?, attempts = attempts + 1 WHERE id = ? AND state = 'queued'"
        )
        with self._lock:
            won = self._connection.execute(line, (time.time(), id)).rowcount == 1
        return self.get(id) if won else None

    def end(self, id: str, state: State, outcome: dict[str, Any]) -> None:
        """Keep what came of a running job."""
        line = "UPDATE jobs SET state = ?, ended = ?, outcome = ? WHERE id = ? AND state = 'running'"
        self._run(line, (state, time.time(), json.dumps(outcome, ensure_ascii=False), id))

    def queue_all_again(self) -> None:
        """Let all running jobs wait again, after their server died."""
        self._run("UPDATE jobs SET state = 'queued' WHERE state = 'running'")

    def queue_again(self, id: str, *, died: bool) -> None:
        """Let a running job wait again.

        Args:
            id: the job.
            died: whether its process died.
        """
        line = "UPDATE jobs SET state = 'queued', deaths = deaths + ? WHERE state = 'running' AND id = ?"
        self._run(line, (int(died), id))

    def delete(self, id: str) -> None:
        """Forget a job."""
        self._run("DELETE FROM jobs WHERE id = ?", (id,))

    def older_than(self, moment: float) -> list[str]:
        """Ids of jobs that ended before a moment."""
        return [row[0] for row in self._run("SELECT id FROM jobs WHERE ended < ?", (moment,))]


def _job(row: tuple) -> Job:
    values = dict(zip(_FIELDS.split(", "), row, strict=True))
    values["request"] = from_json(JobRequest, json.loads(values["request"]))
    values["outcome"] = json.loads(values["outcome"])
    return Job(**values)
