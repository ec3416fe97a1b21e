"""The page's own files, and the viewer alone."""

from __future__ import annotations

import gzip
from functools import partial
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from omote.errors import ConfigError
from omote.studio.guard import HEADERS, Guard, cookies_of, new_client, owner_of
from omote.studio.settings import ServerSettings

PAGE = Path(__file__).parent / "page"
TYPES = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
    ".txt": "text/plain; charset=utf-8", ".svg": "image/svg+xml", ".glb": "model/gltf-binary", ".vrm": "model/gltf-binary",
    ".png": "image/png", ".json": "application/json",
}  # fmt: skip
POLICY = "content-security-policy"
# meshopt's decoder is WebAssembly; the studio's own avatars need none.
VIEWER_POLICY = HEADERS[POLICY].replace("script-src 'self'", "script-src 'self' 'wasm-unsafe-eval'")
VIEWER_REQUESTS_PER_MINUTE = 10_000


def page_routes(index: str, policy: str = HEADERS[POLICY]) -> list[Route]:
    """Routes of the page's files, packed once.

    Args:
        index: the file at ``/``.
        policy: its Content-Security-Policy.

    Raises:
        ConfigError: the page was not built.
    """
    if not (PAGE / index).is_file():
        raise ConfigError(f"{PAGE / index}: expected the page; build it: cd web && npm ci && npm run build")
    routes = []
    for path in sorted(PAGE.iterdir()):
        if path.suffix in TYPES:
            plain = path.read_bytes()
            place = "/" if path.name == index else f"/{path.name}"
            answer = partial(_page_file, plain, gzip.compress(plain, 9, mtime=0), TYPES[path.suffix], policy)
            routes.append(Route(place, answer))
    return routes


async def _page_file(plain: bytes, packed: bytes, kind: str, policy: str, request: Request) -> Response:
    headers = {"vary": "accept-encoding", "cache-control": "no-cache", POLICY: policy}
    if request.url.path == "/" and not owner_of(cookies_of(request.headers)):
        headers["set-cookie"] = new_client(request.scope)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(packed, media_type=kind, headers={**headers, "content-encoding": "gzip"})
    return Response(plain, media_type=kind, headers=headers)


def viewer(file: Path, settings: ServerSettings) -> ASGIApp:
    """The viewer alone, of one file.

    Args:
        file: a GLB or VRM.
        settings: names of the server.
    """

    async def avatar(request: Request) -> Response:
        return FileResponse(file, media_type=TYPES[".glb"])

    async def name(request: Request) -> Response:
        return JSONResponse({"name": file.name})

    routes = [*page_routes("view.html", VIEWER_POLICY), Route("/avatar.glb", avatar), Route("/name.json", name)]
    return Guard(Starlette(routes=routes), settings, VIEWER_REQUESTS_PER_MINUTE)
