"""The studio: how long a first avatar takes, jobs per hour, memory, fifty clients at once, and the page's frames per second.

    make bench BENCH=studio OUT=dir

``studio/first_avatar_s`` counts from the command ``omote studio`` in a fresh folder to the avatar of a made-up person; its
parts are the start of the server and the job. ``studio/jobs_per_hour`` is the rate of `JOBS` jobs on one worker. Memory is the
most that a job's processes and the server itself held. Fifty clients each ask for the page and a job while a job runs:
``studio/answer_ms_*``. In Chromium (``CHROMIUM=path``) the page shows that avatar at 640 × 640 pixels, drawn in software, while
one slider moves: ``studio/frames_per_s``. The page's size is that of its files, gzipped.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil

from omote.studio.pages import PAGE

JOBS, CLIENTS, ASKS = 3, 50, 10
FRAMES = 150
BROWSERS = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--no-first-run",
]
MOVE = """(canvas) => new Promise((done) => {
  const viewer = canvas.viewer, frames = %d;
  let n = 0, start = 0;
  const step = () => {
    viewer.setWeights({ jawOpen: (n %% 50) / 50 });
    if (n++ === 20) start = performance.now();
    if (n < frames + 21) requestAnimationFrame(step);
    else done([(1000 * frames) / (performance.now() - start), canvas.width, canvas.height]);
  };
  step();
})"""


def ask(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def ended(base: str, id: str) -> dict[str, Any]:
    while True:
        job: dict[str, Any] = ask(f"{base}api/jobs/{id}")
        if job["state"] == "done":
            return job
        if job["state"] == "failed":
            raise RuntimeError(job["error"]["line"])
        time.sleep(0.1)


def started(folder: Path) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "omote", "studio", "--no-browser", "--port", "0", "--folder", str(folder)]
    command += ["--requests-per-minute", "1000000", "--jobs-per-minute", "1000"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL)
    assert server.stdout is not None
    found = re.search(r"http://\S+/", server.stdout.readline())
    if found is None:
        raise RuntimeError("omote studio did not start")
    return server, found[0]


def crowd(base: str, id: str) -> dict[str, float]:
    """Times of the answers to many clients at once."""
    times: list[float] = []
    failed = [0]

    def one() -> None:
        for number in range(ASKS):
            path = ("", "api/about", f"api/jobs/{id}")[number % 3]
            start = time.perf_counter()
            try:
                with urllib.request.urlopen(base + path, timeout=60) as answer:
                    answer.read()
            except OSError:
                failed[0] += 1
            times.append(1000 * (time.perf_counter() - start))

    threads = [threading.Thread(target=one) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times.sort()
    return {
        "studio/answer_ms_median": statistics.median(times),
        "studio/answer_ms_p95": times[int(0.95 * len(times))],
        "studio/answers_failed": failed[0],
    }


def frames(base: str, id: str) -> dict[str, float | str]:
    """Frames per second of the avatar in Chromium."""
    path = next((p for p in (os.environ.get("CHROMIUM"), *BROWSERS) if p and shutil.which(p)), None)
    if path is None:
        return {"studio/browser": "none"}
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        page = browser.new_page(viewport={"width": 1100, "height": 800})
        start = time.perf_counter()
        page.goto(f"{base}#job={id}")
        page.wait_for_selector(".stages canvas[data-ready=yes]", timeout=120_000)
        shown = time.perf_counter() - start
        size = "(s) => { s.style.width = s.style.height = '640px'; }"
        page.locator(".stages").evaluate(size)
        page.wait_for_timeout(500)
        rate, width, height = page.locator(".stages canvas").evaluate(MOVE % FRAMES)
        browser.close()
    assert (width, height) == (640, 640)
    return {"studio/frames_per_s": rate, "studio/page_shown_s": shown, "studio/browser": Path(path).name}


def run() -> dict[str, float | int | str]:
    """For ``make bench``."""
    out: dict[str, float | int | str] = {}
    with tempfile.TemporaryDirectory() as name:
        start = time.perf_counter()
        server, base = started(Path(name) / "studio")
        try:
            out["studio/start_s"] = time.perf_counter() - start
            first = ended(base, ask(f"{base}api/jobs", {"made_up": 1})["id"])
            out["studio/first_avatar_s"] = time.perf_counter() - start
            ids = [ask(f"{base}api/jobs", {"made_up": 2 + i})["id"] for i in range(JOBS)]
            begun = time.perf_counter()
            out |= crowd(base, ids[0])
            jobs = [ended(base, id) for id in ids]
            out["studio/jobs_per_hour"] = 3600 * JOBS / (time.perf_counter() - begun)
            out["studio/job_memory_mb"] = max(job["peak_memory_mb"] for job in [first, *jobs])
            out["studio/server_memory_mb"] = psutil.Process(server.pid).memory_info().rss / 2**20
            out |= frames(base, first["id"])
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(30)
    page = [p for p in PAGE.iterdir() if p.name not in ("sources.txt", "licenses.txt")]
    out["studio/page_bytes_gzipped"] = sum(len(gzip.compress(p.read_bytes())) for p in page)
    return {**out, "count/jobs": JOBS, "count/clients": CLIENTS}
