"""``omote studio`` and ``omote view``: the servers themselves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sqlite3
import sys
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omote.errors import ConfigError, OutputError, ScanError, of_extra
from omote.files import check_folder, locked, make_folder
from omote.studio.settings import LOOPBACK, ServerSettings, StudioSettings

DATABASE, JOBS = "jobs.sqlite", "jobs"
MOST_CONNECTIONS, MOST_CONNECTIONS_EACH = 600, 64
PATIENCE_S = 15.0  # for a request's head
SHUTDOWN_S = 3


def studio(settings: StudioSettings, *, browser: bool = True, ready: Callable[[str], None] | None = None) -> None:
    """Serve the studio until interrupted.

    Args:
        settings: names, limits and the folder of jobs.
        browser: open the page.
        ready: called with the page's address as soon as it can be opened.

    Raises:
        ConfigError: the extra is not installed, or the port is taken.
        OutputError: the folder cannot be written, or another server uses it.
    """
    with of_extra("studio"):
        from omote.studio.app import Studio
        from omote.studio.store import Store
    home = settings.home
    check_folder(home)
    make_folder(home / JOBS)
    home.chmod(0o700)  # faces of people
    with locked(home):
        try:
            store = Store(home / DATABASE)
        except sqlite3.Error as error:
            raise OutputError(
                f"{home / DATABASE}: the table of jobs cannot be opened ({error}); move it away"
            ) from None
        with contextlib.closing(store):
            _serve(Studio(settings, store, home / JOBS).app(), settings, browser=browser, ready=ready)


def view(
    file: Path, settings: ServerSettings, *, browser: bool = True, ready: Callable[[str], None] | None = None
) -> None:
    """Show a GLB or VRM in the browser until interrupted.

    Raises:
        ScanError: no such file, or not a GLB.
        ConfigError: the extra is not installed, or the port is taken.
    """
    with of_extra("studio"):
        from omote.studio.pages import viewer
    if file.suffix.lower() not in (".glb", ".vrm"):
        raise ScanError(f"{file.name}: expected a file that ends in .glb or .vrm, got another")
    try:
        with file.open("rb") as opened:
            head = opened.read(4)
    except OSError as error:
        raise ScanError(f"{file}: cannot be read ({error.strerror}); check the path") from None
    if head != b"glTF":
        raise ScanError(f"{file.name}: expected a binary glTF file, but the content is something else; export it again")
    _serve(viewer(file, settings), settings, browser=browser, ready=ready)


def _serve(app: Any, settings: ServerSettings, *, browser: bool, ready: Callable[[str], None] | None) -> None:
    import uvicorn
    from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

    if settings.proxy:
        app = ProxyHeadersMiddleware(app, trusted_hosts=list(settings.proxy))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    listening = _listen(settings)
    name = settings.host if settings.host in LOOPBACK else settings.names[0] if settings.names else socket.gethostname()
    url = f"http://{f'[{name}]' if ':' in name else name}:{listening.getsockname()[1]}/"
    if settings.secret is not None:
        url += f"?token={settings.secret}"

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if not self.started:
                return
            print(f"omote: {url} (Ctrl-C ends it)", flush=True)
            if ready is not None:
                ready(url)
            if browser:
                threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()

    logging.getLogger("uvicorn.error").addFilter(is_worth_a_line)
    config = uvicorn.Config(
        app, http=_protocol(settings), ws="none", log_level="error", access_log=False, server_header=False,
        limit_concurrency=MOST_CONNECTIONS, timeout_graceful_shutdown=SHUTDOWN_S, proxy_headers=False, lifespan="on",
    )  # fmt: skip
    with contextlib.suppress(KeyboardInterrupt):
        Server(config).run([listening])


def is_worth_a_line(record: logging.LogRecord) -> bool:
    """Whether a record is more than a request that the server's end cut off, or whose client broke the protocol."""
    from h11 import LocalProtocolError

    return record.exc_info is None or not isinstance(record.exc_info[1], asyncio.CancelledError | LocalProtocolError)


def _listen(settings: ServerSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=256)
    except OSError as error:
        way_out = "give another --port" if settings.port else "give another --host"
        raise ConfigError(f"port {settings.port} of {settings.host}: {error.strerror or error}; {way_out}") from None


def _protocol(settings: ServerSettings) -> type[asyncio.Protocol]:
    """HTTP/1.1 that ends connections which send no whole request in time, or are too many of one address."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    held: dict[str, int] = {}
    exempt = set(settings.proxy)

    class Impatient(H11Protocol):
        _address = ""
        _timer: asyncio.TimerHandle | None = None
        _before: object = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._address = self.client[0] if self.client else ""
            held[self._address] = held.get(self._address, 0) + 1
            if held[self._address] > MOST_CONNECTIONS_EACH and self._address not in exempt:
                transport.abort()
                return
            self._timer = self.loop.call_later(PATIENCE_S, self._check)

        def connection_lost(self, exc: Exception | None) -> None:
            held[self._address] -= 1
            if not held[self._address]:
                del held[self._address]
            if self._timer is not None:
                self._timer.cancel()
            super().connection_lost(exc)

        def _check(self) -> None:
            answered = self.cycle is None or self.cycle.response_complete
            if answered and self.cycle is self._before:
                self.transport.abort()
                return
            self._before = self.cycle if answered else None
            self._timer = self.loop.call_later(PATIENCE_S, self._check)

    return Impatient
