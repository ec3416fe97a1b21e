"""A studio whose jobs are done by a small script, in a second instead of half a minute: the server is tested, not the avatars."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra studio is not installed")

from starlette.testclient import TestClient

from omote.studio.app import Studio
from omote.studio.settings import StudioSettings
from omote.studio.store import Store

ADDRESS = "http://127.0.0.1:8360"

# Does what the scan's name says: makes an avatar of the scan's bytes, refuses, waits, dies once or always, grows.
WORKER = """
import json, os, signal, sys, time
from pathlib import Path

folder = Path(sys.argv[1])
order = json.loads((folder / "order.json").read_text())
name, out = order["name"], Path(order["out"])
def say(**values):
    print(json.dumps(values), flush=True)
say(step={"stage": "read", "done": 0, "total": 0, "note": ""})
scan = next((p for p in folder.iterdir() if p.stem == "scan"), None)
data = scan.read_bytes() if scan else b"made up"
(out / "preview.glb").write_bytes(b"glTF" + data)
say(file={"name": "preview.glb", "label": ""})
if "refused" in name:
    say(error={"kind": "AlignmentError", "line": f"{name}: no face"})
    sys.exit()
if "dies" in name and ("always" in name or out.name == "attempt-1"):
    os.kill(os.getpid(), signal.SIGKILL)
if "grows" in name:
    held = bytearray(600 << 20)
    held[::4096] = b"x" * len(held[::4096])
    time.sleep(60)
if "slow" in name:
    time.sleep(60)
for result in ("avatar.glb", "avatar.vrm", "sheet.png", "report.json", "inferred.png"):
    (out / result).write_bytes(b"result " + data)
say(done={"summary": "made", "facts": {}})
"""


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., TestClient]]:
    """A function that starts a studio with some settings and gives a client of it; one folder for all of a test."""
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    monkeypatch.setattr("omote.studio.workers.COMMAND", (sys.executable, str(script)))
    monkeypatch.setattr("omote.studio.workers.WATCH_S", 0.05)
    monkeypatch.delenv("OMOTE_STUDIO_TOKEN", raising=False)
    with ExitStack() as stack:

        def start(**settings: Any) -> TestClient:
            given = StudioSettings(folder=tmp_path / "studio", **{"disk_free_mb": 0, **settings})
            (given.home / "jobs").mkdir(parents=True, exist_ok=True)
            store = Store(given.home / "jobs.sqlite")
            stack.callback(store.close)
            studio = Studio(given, store, given.home / "jobs")
            client = TestClient(
                studio.app(), base_url=ADDRESS, client=("127.0.0.1", 50000), raise_server_exceptions=False
            )
            client.studio = studio  # type: ignore[attr-defined]
            inner = stack.enter_context(ExitStack())
            client.end = inner.close  # type: ignore[attr-defined]
            return inner.enter_context(client)

        yield start


@pytest.fixture
def client(make: Callable[..., TestClient]) -> TestClient:
    """A client of a studio with default settings."""
    return make()
