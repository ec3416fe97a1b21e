"""Who may ask: other hosts' names and other sites' pages are refused, tokens are asked for, requests are counted."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from omote.errors import ConfigError
from omote.studio.guard import HEADERS, Rate, client_of
from omote.studio.settings import ServerSettings

TOKEN = "a word of some length"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8360", 200), ("localhost:8360", 200), ("[::1]:8360", 200), ("evil.example", 421),
        ("127.0.0.1.evil.example", 421), ("192.168.0.7:8360", 421), ("", 421), ("localhost@evil.example", 421),
        ("localhost/evil", 421),
    ],
)  # fmt: skip
def test_only_known_names_are_answered(client: TestClient, host: str, status: int) -> None:
    assert client.get("/api/about", headers={"host": host}).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 201),
        ({"origin": "http://127.0.0.1:8360"}, 201),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": "http://localhost:8360"}, 403),
        ({"origin": "file://127.0.0.1:8360"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
    ],
)
def test_pages_from_elsewhere_start_nothing(client: TestClient, headers: dict[str, str], status: int) -> None:
    assert client.post("/api/jobs", json={"made_up": 1}, headers=headers).status_code == status


def test_a_link_from_elsewhere_opens_the_page_and_nothing_else(client: TestClient) -> None:
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/", headers=link).status_code == 200
    assert client.get("/api/jobs", headers=link).status_code == 403
    assert client.get("/", headers={**link, "sec-fetch-mode": "no-cors"}).status_code == 403


@pytest.mark.parametrize("path", ["/", "/studio.js", "/api/about", "/api/jobs/x", "/nothing", "/healthz"])
def test_every_answer_forbids_what_the_page_does_not_need(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
    assert {key: headers[key] for key in HEADERS if key != "cache-control"} == {
        key: value for key, value in HEADERS.items() if key != "cache-control"
    }
    assert "access-control-allow-origin" not in headers
    refused = client.get(path, headers={"host": "evil.example"})
    assert refused.headers["x-content-type-options"] == "nosniff"


def test_a_token_is_asked_for_and_becomes_a_cookie(make: Any) -> None:
    client = make(token=TOKEN, host="0.0.0.0")
    assert client.get("/healthz").status_code == 200
    assert [client.get(path).status_code for path in ("/", "/api/about", "/metrics", "/?token=wrong")] == [401] * 4
    assert client.get("/api/about", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert (
        client.get("/api/about", headers={"host": "192.168.0.7:8360", "authorization": f"Bearer {TOKEN}"}).status_code
        == 200
    )
    answer = client.get("/", params={"token": TOKEN}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly; SameSite=Strict" in cookie
    assert TOKEN not in cookie
    assert client.get("/api/about").status_code == 200


def test_cookies_are_out_of_scripts_reach(client: TestClient) -> None:
    cookie = client.get("/").headers["set-cookie"]
    assert "HttpOnly; SameSite=Strict" in cookie
    assert "set-cookie" not in client.get("/").headers  # the browser keeps its name


def test_requests_are_counted(make: Any) -> None:
    client = make(requests_per_minute=5)
    codes = [client.get("/healthz").status_code for _ in range(7)]
    assert codes == [200] * 5 + [429] * 2


def test_rates_are_per_client_refill_and_forget(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("omote.studio.guard.time.monotonic", lambda: now[0])
    rate = Rate(2, most_clients=2)
    assert [rate.wait_s("a") for _ in range(2)] == [0.0, 0.0]
    assert rate.wait_s("a") == pytest.approx(30.0)
    assert rate.wait_s("b") == 0.0
    now[0] = 30.0
    assert rate.wait_s("a") == 0.0
    for name in "cdefg":
        rate.wait_s(name)
    assert len(rate._left) == 2


def test_one_clients_ipv6_addresses_are_one_client() -> None:
    one, other = ({"client": (f"2001:db8::{i:x}", 1)} for i in (1, 2))
    assert client_of(one) == client_of(other) == "2001:db8::/64"
    assert client_of({"client": None}) == "unknown"


def test_a_server_for_others_needs_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMOTE_STUDIO_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="give --token"):
        ServerSettings(host="0.0.0.0")
    with pytest.raises(ConfigError, match="at least 16"):
        ServerSettings(host="0.0.0.0", token="short")
    monkeypatch.setenv("OMOTE_STUDIO_TOKEN", TOKEN)
    assert ServerSettings(host="0.0.0.0").secret == TOKEN
