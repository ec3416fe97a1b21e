"""The HTTP interface: jobs are accepted, done, kept, cancelled and read by their owners only."""

from __future__ import annotations

import asyncio
import io
import json
import re
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from omote.studio import uploads
from omote.studio.app import RESULTS
from omote.studio.openapi import openapi
from omote.studio.settings import CONSENT, JobSettings


def send(client: TestClient, name: str = "face.ply", data: bytes = b"ply scan", **request: Any) -> Any:
    asked = {"consent": True, **request}
    return client.post("/api/jobs", data={"request": json.dumps(asked)}, files=[("file", (name, data))])


def ended(client: TestClient, id: str, patience_s: float = 20.0) -> dict[str, Any]:
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        job = client.get(f"/api/jobs/{id}").json()
        if job["state"] in ("done", "failed"):
            return job
        time.sleep(0.05)
    raise AssertionError(job)


def test_a_scan_becomes_an_avatar_whose_files_its_owner_gets(client: TestClient) -> None:
    client.get("/")
    answer = send(client, data=b"ply 1")
    assert answer.status_code == 201
    job = ended(client, answer.json()["id"])
    assert (job["state"], job["name"], job["results"]) == ("done", "face.ply", list(RESULTS))
    assert client.get(f"/api/jobs/{job['id']}/avatar.glb").content == b"result ply 1"
    assert client.get(f"/api/jobs/{job['id']}/preview.glb").content == b"glTFply 1"
    assert [j["id"] for j in client.get("/api/jobs").json()["jobs"]] == [job["id"]]


def test_consent_comes_first_and_is_kept(client: TestClient) -> None:
    refused = send(client, consent=False)
    assert refused.status_code == 422
    assert CONSENT in refused.json()["error"]["line"]
    assert not list(client.studio.jobs.iterdir())
    assert send(client).json()["consent"].startswith(CONSENT)


def test_a_made_up_person_needs_no_consent_and_an_earlier_scan_keeps_its_own(client: TestClient) -> None:
    assert client.post("/api/jobs", json={"made_up": 3}).json()["consent"] == ""
    first = ended(client, send(client).json()["id"])
    second = client.post("/api/jobs", json={"again": first["id"], "settings": {"seed": 1}}).json()
    assert (second["consent"], second["settings"]["seed"]) == (first["consent"], 1)
    assert client.delete(f"/api/jobs/{first['id']}").status_code == 204
    assert ended(client, second["id"])["state"] == "done"


def test_events_tell_each_change_and_end(client: TestClient) -> None:
    id = send(client).json()["id"]
    text = client.get(f"/api/jobs/{id}/events").text
    assert re.findall("event: (.*)", text)[-1] == "end"
    assert json.loads(re.findall("data: (.*)", text)[-1])["state"] == "done"
    assert not client.studio.listeners


def test_another_browser_and_a_guess_find_nothing(client: TestClient) -> None:
    client.get("/")
    id = ended(client, send(client).json()["id"])["id"]
    mine = dict(client.cookies)
    client.cookies.clear()
    client.get("/")
    assert dict(client.cookies) != mine
    for path in (f"/api/jobs/{id}", f"/api/jobs/{id}/avatar.glb", f"/api/jobs/{id}/events", "/api/jobs/" + "0" * 32):
        assert client.get(path).status_code == 404
    assert client.delete(f"/api/jobs/{id}").status_code == 404
    assert client.post("/api/jobs", json={"again": id}).status_code == 404
    assert client.get("/api/jobs").json() == {"jobs": []}


def test_a_client_without_cookie_needs_its_id_alone_and_gets_no_list(client: TestClient) -> None:
    id = send(client).json()["id"]
    assert ended(client, id)["state"] == "done"
    assert client.get("/api/jobs").json() == {"jobs": []}


@pytest.mark.parametrize(
    "name", ["../order.json", "%2e%2e/order.json", "..%2f..%2fjobs.sqlite", "order.json", "scan.ply", "tmp"]
)
def test_only_a_jobs_own_results_are_served(client: TestClient, name: str) -> None:
    id = ended(client, send(client).json()["id"])["id"]
    assert client.get(f"/api/jobs/{id}/{name}").status_code == 404


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd.ply", "passwd.ply"),
        ("..\\..\\boot.ply", "boot.ply"),
        ("<script>alert(1)<∕script>.ply", "<script>alert(1)<∕script>.ply"),
        ("a\u202egnp.ply", "agnp.ply"),
        ("x" * 300 + ".ply", "x" * 116 + ".ply"),
        ("顔.ply", "顔.ply"),
    ],
)
def test_names_are_for_people_and_never_paths(client: TestClient, name: str, shown: str) -> None:
    job = send(client, name=name).json()
    assert job["name"] == shown
    ended(client, job["id"])
    assert sorted(p.name for p in (client.studio.jobs / job["id"]).iterdir()) == ["attempt-1", "order.json", "scan.ply"]


def test_several_files_become_one_archive(client: TestClient) -> None:
    files = [("file", ("face.obj", b"v")), ("file", ("face.mtl", b"m")), ("file", ("tex/skin.jpg", b"j"))]
    job = client.post("/api/jobs", data={"request": '{"consent": true}'}, files=files).json()
    ended(client, job["id"])
    with zipfile.ZipFile(client.studio.jobs / job["id"] / "scan.zip") as archive:
        assert {i.filename: archive.read(i) for i in archive.infolist()} == {
            "face.obj": b"v",
            "face.mtl": b"m",
            "skin.jpg": b"j",
        }
    assert job["name"] == "face.obj"


def test_too_much_is_refused_whether_it_says_so_or_not(make: Any) -> None:
    client = make(upload_mb=1)
    told = send(client, data=b"x" * (2 << 20))
    head = b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.ply"\r\n\r\n'

    def endless() -> Any:
        yield head
        for _ in range(40):
            yield b"x" * 65536

    untold = client.post("/api/jobs", content=endless(), headers={"content-type": "multipart/form-data; boundary=b"})
    assert (told.status_code, untold.status_code) == (413, 413)
    assert not list(client.studio.jobs.iterdir())
    assert not client.studio.uploads


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"--b\r\nbroken", 400),
        (b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.ply"\r\n\r\nbroken off', 400),
        (b"".join(b'--b\r\ncontent-disposition: form-data; name="file"; filename="%d"\r\n\r\n\r\n' % i for i in range(65)), 413),
        (b'--b\r\ncontent-disposition: form-data; name="request"\r\n\r\n' + b"x" * (300 << 10) + b"\r\n--b--", 413),
        (b'--b\r\ncontent-disposition: form-data; name="request"\r\n\r\nno json\r\n--b--', 422),
        (b'--b\r\ncontent-disposition: form-data; name="request"\r\n\r\n{"consent": true}\r\n--b--', 400),
        (b"--b\r\n" + b"a: b\r\n" * 50, 400),
    ],
)  # fmt: skip
def test_damaged_forms_get_one_line_and_leave_nothing(client: TestClient, body: bytes, status: int) -> None:
    answer = client.post("/api/jobs", content=body, headers={"content-type": "multipart/form-data; boundary=b"})
    assert answer.status_code == status, answer.text
    assert "\n" not in answer.json()["error"]["line"]
    assert not list(client.studio.jobs.iterdir())


def test_other_content_is_refused(client: TestClient) -> None:
    assert client.post("/api/jobs", content=b"x", headers={"content-type": "text/plain"}).status_code == 415
    assert client.post("/api/jobs", json={}).status_code == 400
    assert client.post("/api/jobs", json={"made_up": -1}).status_code == 422
    unknown = client.post("/api/jobs", json={"made_up": 1, "settings": {"intensty": 1}})
    assert "did you mean 'intensity'?" in unknown.json()["error"]["line"]


def test_an_upload_that_stalls_is_ended(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "PATIENCE_S", 0.1)

    async def silence() -> Any:
        yield b"--b\r\n"
        await asyncio.sleep(5)

    async def receive() -> None:
        await uploads.received(silence(), "multipart/form-data; boundary=b", Path("/nowhere"), 1000)

    with pytest.raises(uploads.UploadError, match="nothing arrived") as caught:
        asyncio.run(receive())
    assert caught.value.status == 408


def test_errors_are_the_command_lines_and_name_the_users_file(client: TestClient) -> None:
    job = ended(client, send(client, name="refused.ply").json()["id"])
    assert job["error"] == {"kind": "AlignmentError", "line": "refused.ply: no face"}
    assert client.get(f"/api/jobs/{job['id']}/avatar.glb").status_code == 404
    assert client.get(f"/api/jobs/{job['id']}/preview.glb").status_code == 200


def test_deleting_frees_the_worker_and_leaves_no_file(client: TestClient) -> None:
    slow = send(client, name="slow.ply").json()["id"]
    waiting = send(client).json()["id"]
    while client.get(f"/api/jobs/{slow}").json()["state"] != "running":
        time.sleep(0.05)
    assert client.delete(f"/api/jobs/{slow}").status_code == 204
    assert ended(client, waiting)["state"] == "done"
    assert client.get(f"/api/jobs/{slow}").status_code == 404
    assert {p.name for p in client.studio.jobs.iterdir()} == {waiting}


def test_a_process_that_is_killed_is_started_again_but_not_for_ever(client: TestClient) -> None:
    once, always = (send(client, name=name).json()["id"] for name in ("dies.ply", "dies_always.ply"))
    job = ended(client, once)
    assert (job["state"], job["attempt"]) == ("done", 2)
    job = ended(client, always)
    assert (job["state"], job["attempt"], job["error"]["kind"]) == ("failed", 3, "Machine")


def test_time_is_limited(make: Any) -> None:
    client = make(job_s=1.0)
    assert ended(client, send(client, name="slow.ply").json()["id"])["error"]["line"].startswith(
        "it takes longer than 1 s"
    )


def test_memory_is_limited(make: Any) -> None:
    client = make(job_memory_mb=500)
    line = ended(client, send(client, name="grows.ply").json()["id"])["error"]["line"]
    assert line.startswith("it needs more than 500 MB")


def test_accepted_jobs_survive_the_server(make: Any) -> None:
    client = make(workers=1)
    running, waiting = send(client, name="slow.ply").json()["id"], send(client).json()["id"]
    while client.get(f"/api/jobs/{running}").json()["state"] != "running":
        time.sleep(0.05)
    stray = client.studio.jobs / ("a" * 32)
    stray.mkdir()  # of an upload that was never accepted
    client.end()
    again = make(workers=2)
    assert ended(again, waiting)["state"] == "done"
    assert again.get(f"/api/jobs/{running}").json()["attempt"] == 2
    assert not stray.exists()
    again.delete(f"/api/jobs/{running}")


def test_queues_are_bounded_for_each_client_and_all(make: Any) -> None:
    client = make(queue_each=2, queue=2)
    codes = [send(client, name="slow.ply").status_code for _ in range(3)]
    assert codes == [201, 201, 429]


def test_starts_are_limited_per_minute(make: Any) -> None:
    client = make(jobs_per_minute=2)
    codes = [client.post("/api/jobs", json={"made_up": 1}).status_code for _ in range(3)]
    assert codes == [201, 201, 429]


def test_a_full_disk_refuses_uploads(make: Any) -> None:
    client = make(disk_free_mb=10**9)
    assert send(client).status_code == 507
    assert client.get("/healthz").status_code == 503


def test_old_jobs_are_deleted_and_waiting_ones_kept(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client = make(keep_hours=1.0)
    old = ended(client, send(client).json()["id"])["id"]
    slow, waiting = (send(client, name="slow.ply").json()["id"] for _ in range(2))
    client.portal.call(client.studio.workers.delete_old)
    assert client.get(f"/api/jobs/{old}").status_code == 200
    now = time.time()
    monkeypatch.setattr("omote.studio.workers.time.time", lambda: now + 3700)
    client.portal.call(client.studio.workers.delete_old)
    assert client.get(f"/api/jobs/{old}").status_code == 404
    assert {p.name for p in client.studio.jobs.iterdir()} == {slow, waiting}


def test_metrics_count_and_name_nobody(client: TestClient) -> None:
    ended(client, send(client, name="secret.ply").json()["id"])
    text = client.get("/metrics").text
    assert 'omote_jobs{state="done"} 1' in text
    assert "secret" not in text
    for line in text.splitlines():
        assert re.fullmatch(r'# TYPE \w+ (gauge|counter)|\w+(\{\w+="\w+"\})? [\d.e+]+', line), line


def test_openapi_describes_every_route_and_setting(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    assert described == json.loads(json.dumps(openapi()))
    routes = {(r.path, m) for r in client.studio.app().app.routes for m in r.methods - {"HEAD"}}
    pages = {(p, m) for p, m in routes if not p.startswith("/api") and p not in described["paths"]}
    assert all(method == "GET" for _, method in pages)
    told = {(path, method.upper()) for path, methods in described["paths"].items() for method in methods}
    assert told == routes - pages
    settings = described["components"]["schemas"]["Settings"]["properties"]
    assert settings.keys() == JobSettings.__dataclass_fields__.keys()
    assert settings["intensity"] == {"type": "number", "minimum": 0, "maximum": 1, "default": 1.0}
    job = ended(client, send(client).json()["id"])
    assert job.keys() <= described["components"]["schemas"]["Job"]["properties"].keys()


def test_packed_archives_hold_what_came(tmp_path: Path) -> None:
    (tmp_path / "0").write_bytes(b"a")
    (tmp_path / "1").write_bytes(b"b")
    assert uploads.packed(["depth.png", "intrinsics.json"], tmp_path) == "intrinsics.json"
    assert zipfile.ZipFile(io.BytesIO((tmp_path / "scan.zip").read_bytes())).namelist() == [
        "depth.png",
        "intrinsics.json",
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["scan.zip"]
