"""Who may ask: the names of this server, pages of its own, the token, and how often; what every answer forbids a browser."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import re
import secrets
import socket
import time
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from omote.studio.settings import LOOPBACK, ServerSettings

TOKEN_COOKIE, CLIENT_COOKIE = "omote_token", "omote_client"
YEAR_S = 365 * 24 * 3600
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self' blob:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}
OPEN_PATHS = ("/healthz",)  # without a token: it says nothing about anybody
_CLIENT = re.compile(r"[0-9a-f]{32}")


class Rate:
    """A number of events per minute and client, with as many at once.

    Args:
        per_minute: the number.
        most_clients: clients that are remembered; the longest silent is forgotten.
    """

    def __init__(self, per_minute: int, most_clients: int = 10_000) -> None:
        self.per_minute, self.most_clients = per_minute, most_clients
        self._left: dict[str, tuple[float, float]] = {}

    def wait_s(self, client: str) -> float:
        """Count an event; 0 if it may happen, otherwise the seconds until one may."""
        now = time.monotonic()
        left, then = self._left.pop(client, (float(self.per_minute), now))
        left = min(float(self.per_minute), left + (now - then) * self.per_minute / 60)
        if len(self._left) >= self.most_clients:
            self._left.pop(next(iter(self._left)))
        self._left[client] = (left - 1 if left >= 1 else left, now)
        return 0.0 if left >= 1 else (1 - left) * 60 / self.per_minute


class Guard:
    """Refuses what does not come from a page of this server, and sets the headers of every answer.

    Args:
        app: what is guarded.
        settings: names of the server, and its token.
        requests_per_minute: limit of each client address.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings, requests_per_minute: int) -> None:
        self.app, self.settings = app, settings
        self.rate = Rate(requests_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        cookies = cookies_of(headers)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {key for key, _ in message["headers"]}
                more = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in given]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        wait_s = self.rate.wait_s(client_of(scope))
        if wait_s:
            await refuse(guarded, 429, "too many requests; try again later", {"retry-after": str(int(wait_s) + 1)})
        elif not self._is_ours(headers.get("host", "")):
            await refuse(guarded, 421, "this server has another name; give that with --names, or use its address")
        elif not self._from_here(scope, headers):
            await refuse(guarded, 403, "pages of other servers may not use this one")
        elif (secret := self.settings.secret) is not None and scope["path"] not in OPEN_PATHS:
            await self._with_token(secret, scope, headers, cookies, receive, guarded)
        else:
            await self.app(scope, receive, guarded)

    def _is_ours(self, host: str) -> bool:
        name = urlsplit(f"//{host}").hostname if re.fullmatch(r"[\w.:\[\]-]{1,255}", host) else None
        if name is None:
            return False
        known = {*LOOPBACK, *(n.lower() for n in self.settings.names)}
        # With a token, the machine's own name and any address will do: no page can guess the token.
        own = name == socket.gethostname().lower() or _is_address(name)
        return name in known or (self.settings.secret is not None and own)

    def _from_here(self, scope: Scope, headers: Mapping[str, str]) -> bool:
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin is not None:
            parts = urlsplit(origin)
            return parts.scheme in ("http", "https") and parts.netloc.lower() == headers.get("host", "").lower()
        if site in (None, "same-origin", "none"):
            return True
        # A link on another page may open this one, and nothing else.
        return scope["method"] == "GET" and scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"

    async def _with_token(
        self,
        secret: str,
        scope: Scope,
        headers: Mapping[str, str],
        cookies: Mapping[str, str],
        receive: Receive,
        send: Send,
    ) -> None:
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0] if scope["path"] == "/" else ""
        if asked and same(asked, secret):
            cookie = cookie_line(TOKEN_COOKIE, digest(secret), scope)
            await refuse(send, 303, "", {"location": "/", "set-cookie": cookie})
            return
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        if same(bearer, secret) or same(cookies.get(TOKEN_COOKIE, ""), digest(secret)):
            await self.app(scope, receive, send)
            return
        line = "this server asks for its token: open the address that it printed, or send `Authorization: Bearer TOKEN`"
        await refuse(send, 401, line, {"www-authenticate": "Bearer"})


async def refuse(send: Send, status: int, line: str, headers: Mapping[str, str] | None = None) -> None:
    """Answer with one line; the connection ends, since the request may have a body."""
    body = json.dumps({"error": {"kind": "Request", "line": line}}).encode() if line else b""
    given = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
        **(headers or {}),
    }
    pairs = [(key.encode(), value.encode("latin-1")) for key, value in given.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


def client_of(scope: Scope) -> str:
    """The client's address; of IPv6, its network, of which one client has all addresses."""
    host = scope["client"][0] if scope.get("client") else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "unknown"
    return host if address.version == 4 else str(ipaddress.ip_network(f"{host}/64", strict=False))


def cookies_of(headers: Mapping[str, str]) -> dict[str, str]:
    """Cookies of a request by name."""
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(headers.get("cookie", "")).items()}
    except CookieError:
        return {}


def owner_of(cookies: Mapping[str, str]) -> str:
    """What jobs of a browser are kept under; empty for a client without the cookie."""
    client = cookies.get(CLIENT_COOKIE, "")
    return digest(client) if _CLIENT.fullmatch(client) else ""


def new_client(scope: Scope) -> str:
    """A ``Set-Cookie`` that gives a browser its name."""
    return cookie_line(CLIENT_COOKIE, secrets.token_hex(16), scope)


def cookie_line(name: str, value: str, scope: Scope) -> str:
    """A ``Set-Cookie`` that scripts cannot read and other sites cannot send."""
    secure = "; Secure" if scope.get("scheme") == "https" else ""
    return f"{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={YEAR_S}{secure}"


def digest(word: str) -> str:
    """A hash in the place of a secret."""
    return hashlib.sha256(f"omote {word}".encode()).hexdigest()


def same(one: str, other: str) -> bool:
    """Whether two secrets are the same, in the same time whether they are or not."""
    return hmac.compare_digest(one.encode(), other.encode())


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
