"""An installed Chromium for tests, and what it was asked for."""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
]  # fmt: skip
PATHS = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
SOURCE = Path(__file__).resolve().parents[2] / "src"


def chromium() -> str:
    """The browser; the test is skipped if there is none."""
    pytest.importorskip("playwright", reason="playwright is not installed")
    found = next((p for p in (os.environ.get("CHROMIUM"), *PATHS) if p and shutil.which(p)), None)
    if found is None:
        pytest.skip("no Chromium is installed; install the package chromium, or set CHROMIUM to a browser")
    return found


@contextmanager
def browser_context(**options: Any) -> Iterator[Any]:
    """A fresh profile of the browser, in English and at desktop size."""
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        given = {"viewport": {"width": 1280, "height": 860}, "locale": "en-GB", "accept_downloads": True, **options}
        context = browser.new_context(**given)
        context.set_default_timeout(200_000)
        try:
            yield context
        finally:
            browser.close()


class Server:
    """``omote studio`` in a process of its own.

    Args:
        folder: folder of jobs.
        log: file of what it prints.
        options: further options.
    """

    def __init__(self, folder: Path, log: Path, *options: str, port: int = 0) -> None:
        command = [
            sys.executable,
            "-m",
            "omote",
            "studio",
            "--no-browser",
            "--port",
            str(port),
            "--folder",
            str(folder),
            *options,
        ]
        environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
        with log.open("wb") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)
        end = time.monotonic() + 120
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)/", log.read_text())):
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(log.read_text())
            time.sleep(0.1)
        self.port, self.url = int(found[1]), found[0]

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def pixels(canvas: Any) -> np.ndarray:
    """What a canvas shows, on black; bytes. A screenshot may resample it: the layout is in fractions of pixels."""
    canvas.evaluate("(c) => c.viewer.render()")
    url = canvas.evaluate("(c) => c.toDataURL('image/png')")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")).astype(int)
