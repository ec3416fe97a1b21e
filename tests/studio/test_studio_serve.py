"""Starting a server: what is refused, and what the viewer alone serves."""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="the extra studio is not installed")

from h11 import LocalProtocolError
from starlette.testclient import TestClient

from omote.cli.main import main
from omote.errors import ConfigError, OutputError, ScanError
from omote.files import locked
from omote.studio.pages import viewer
from omote.studio.serve import is_worth_a_line, studio, view
from omote.studio.settings import ServerSettings, StudioSettings
from omote.studio.worker import named


def test_the_viewer_serves_its_file_and_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "face <b>.glb").write_bytes(b"glTF face")
    (tmp_path / "other.glb").write_bytes(b"glTF other")
    client = TestClient(viewer(tmp_path / "face <b>.glb", ServerSettings(port=0)), base_url="http://127.0.0.1:1")
    assert client.get("/avatar.glb").content == b"glTF face"
    assert client.get("/name.json").json() == {"name": "face <b>.glb"}
    assert client.get("/other.glb").status_code == 404
    assert client.get("/api/jobs").status_code == 404
    page = client.get("/")
    assert "view.js" in page.text
    assert "script-src 'self' 'wasm-unsafe-eval'" in page.headers["content-security-policy"]
    assert client.get("/", headers={"host": "evil.example"}).status_code == 421


def test_what_is_no_avatar_is_refused(tmp_path: Path) -> None:
    (tmp_path / "face.glb").write_bytes(b"ply")
    (tmp_path / "face.ply").write_bytes(b"ply")
    for name, reason in (
        ("face.glb", "content is something else"),
        ("face.ply", "ends in .glb or .vrm"),
        ("no.glb", "cannot be read"),
    ):
        with pytest.raises(ScanError, match=reason):
            view(tmp_path / name, ServerSettings(port=0), browser=False)


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = StudioSettings(port=taken.getsockname()[1], folder=tmp_path / "studio")
        with pytest.raises(ConfigError, match="give another --port"):
            studio(settings, browser=False)


def test_a_folder_is_one_servers(tmp_path: Path) -> None:
    (tmp_path / "studio").mkdir()
    with locked(tmp_path / "studio"), pytest.raises(OutputError, match="another process is at work there"):
        studio(StudioSettings(port=0, folder=tmp_path / "studio"), browser=False)
    (tmp_path / "studio/jobs.sqlite").write_bytes(b"no database " * 100)
    with pytest.raises(OutputError, match="cannot be opened"):
        studio(StudioSettings(port=0, folder=tmp_path / "studio"), browser=False)


def test_the_command_line_says_no_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMOTE_STUDIO_TOKEN", raising=False)
    assert main(["studio", "--host", "0.0.0.0", "--no-browser"]) == 2
    assert "give --token WORD too" in capsys.readouterr().err
    assert main(["studio", "--port", "70000", "--no-browser"]) == 2
    assert main(["view", "/nowhere/face.glb", "--no-browser"]) == 2


@pytest.mark.parametrize(
    ("file", "line", "told"),
    [
        ("scan.ply", "scan.ply: damaged; give another scan", "face.ply: damaged; give another scan"),
        ("scan.ply", "{folder}/scan.ply: no such file", "face.ply: no such file"),
        ("scan", "scan: expected a scan file", "face.ply: expected a scan file"),
        ("scan", "no face found: give another scan", "no face found: give another scan"),
        (
            "scan.ply",
            "cannot write {folder}/attempt-1/avatar.glb: no space",
            "cannot write attempt-1/avatar.glb: no space",
        ),
    ],
)
def test_messages_have_the_users_names_and_no_folders(tmp_path: Path, file: str, line: str, told: str) -> None:
    (tmp_path / file).touch()
    assert named(line.format(folder=tmp_path), tmp_path, "face.ply") == told


@pytest.mark.parametrize(
    ("error", "told"), [(asyncio.CancelledError(), False), (LocalProtocolError("x"), False), (ValueError(), True)]
)
def test_requests_that_are_cut_off_are_no_defects(error: BaseException, told: bool) -> None:
    record = logging.LogRecord(
        "x", logging.ERROR, "", 1, "Exception in ASGI application", (), (type(error), error, None)
    )
    assert is_worth_a_line(record) is told
