"""The table of jobs, and the page that is shipped."""

from __future__ import annotations

import gzip
import hashlib
import re
import sqlite3
from pathlib import Path

import pytest

from omote.head.expressions import ARKIT_NAMES
from omote.studio.pages import PAGE
from omote.studio.settings import JobRequest, JobSettings
from omote.studio.store import Job, Store, new_id

WEB = Path(__file__).parents[2] / "web"


def added(store: Store, **values: str) -> Job:
    given = {"id": new_id(), "owner": "", "address": "127.0.0.1", "name": "face.ply", "consent": "yes", **values}
    return store.add(
        request=JobRequest(settings=JobSettings(seed=3), landmarks={str(i): (1.0, 2.0, 3.0) for i in range(12)}),
        **given,
    )


def test_a_job_comes_back_as_it_was_from_another_connection(tmp_path: Path) -> None:
    job = added(Store(tmp_path / "jobs.sqlite"))
    assert Store(tmp_path / "jobs.sqlite").get(job.id) == job


def test_a_table_of_another_version_is_refused(tmp_path: Path) -> None:
    added(Store(tmp_path / "jobs.sqlite"))
    with sqlite3.connect(tmp_path / "jobs.sqlite") as connection:
        connection.execute("PRAGMA user_version=99")
    with pytest.raises(sqlite3.DatabaseError, match="another version"):
        Store(tmp_path / "jobs.sqlite")


def test_a_job_is_started_once(tmp_path: Path) -> None:
    one, other = (Store(tmp_path / "jobs.sqlite") for _ in range(2))
    job = added(one)
    started = one.start(job.id)
    assert started is not None
    assert (started.state, started.attempts) == ("running", 1)
    assert other.start(job.id) is None
    other.queue_all_again()
    again = other.start(job.id)
    assert again is not None
    assert again.attempts == 2


def test_places_count_those_before(tmp_path: Path) -> None:
    store = Store(tmp_path / "jobs.sqlite")
    jobs = [added(store) for _ in range(3)]
    assert [store.place(job) for job in sorted(jobs, key=lambda j: (j.created, j.id))] == [0, 1, 2]
    store.start(jobs[0].id)
    store.end(jobs[0].id, "done", {"files": []})
    assert store.counts() == {"done": 1, "queued": 2}
    store.end(jobs[1].id, "done", {})  # not running: nothing ends
    assert store.counts() == {"done": 1, "queued": 2}


def test_the_page_is_that_of_its_sources() -> None:
    digest = hashlib.sha256()
    names = [f"src/{p.name}" for p in sorted((WEB / "src").iterdir())]
    for name in [*names, "build.mjs", "package-lock.json", "tsconfig.json"]:
        digest.update(f"{name}\n".encode() + (WEB / name).read_bytes())
    assert (PAGE / "sources.txt").read_text().strip() == digest.hexdigest(), "run: cd web && npm ci && npm run build"


def test_the_page_is_small_and_names_no_other_server() -> None:
    files = [p for p in PAGE.iterdir() if p.name not in ("sources.txt", "licenses.txt")]
    assert sum(len(gzip.compress(p.read_bytes())) for p in files) < 300_000
    for page in PAGE.glob("*.html"):
        assert not re.search(r"<script(?![^>]*\bsrc=)|\bon\w+=|style=|https?:", page.read_text())
    assert not re.search(r"""(?:from|import\()\s*["']https?:""", "".join(p.read_text() for p in PAGE.glob("*.js")))


def test_lockfile_names_no_registry() -> None:
    text = (WEB / "package-lock.json").read_text()
    assert "resolved" not in text
    assert not re.search(r"https?://(?!(www\.)?(github\.com|opencollective\.com|paypal\.me|tidelift\.com))", text)


def test_the_viewers_units_are_arkits() -> None:
    found = re.findall(r"'(\w+)'", (WEB / "src/units.ts").read_text())
    assert tuple(found) == tuple(ARKIT_NAMES)
