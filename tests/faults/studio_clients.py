"""A studio and clients that misbehave, all at once, while its processes are killed: ``make studio-faults``.

    python tests/faults/studio_clients.py --clients 50 --honest 6 --kills 10

Each client misbehaves in its own way (`WAYS`), from an address of its own, again and again; honest clients upload scans and await
their avatars. Meanwhile the server and the processes of jobs are killed (SIGKILL) at random moments, and the server is started
again. At the end a table: every accepted job of the honest must have become the same avatar, nobody may have read anything of
anybody else, no file may lie elsewhere, and the server's memory stays bounded. Linux (127.0.0.2 and on are addresses there).
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
PORT = int(os.environ.get("OMOTE_FAULTS_PORT", "8391"))
BOUNDARY = "omote-faults"
NEUTRAL = {"consent": True, "settings": {"expressions": ["neutral"]}}
MOST_SERVER_MB = 400.0
HONEST_PATIENCE_S = 1500.0
SMALL_DISK, LARGE_SCAN = 24 << 20, 3 << 20


@dataclass
class Seen:
    """What happened, for all threads.

    Attributes:
        statuses: number of answers by way and status.
        accepted: ids of jobs of the honest.
        avatars: their files.
        violations: what must not happen.
        foreign: ids that anybody may try to read.
        server_mb: most memory of the server's own process.
    """

    statuses: Counter[tuple[str, str]] = field(default_factory=Counter)
    accepted: dict[str, str] = field(default_factory=dict)
    avatars: dict[str, bytes] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    server_mb: float = 0.0
    stop: threading.Event = field(default_factory=threading.Event)


class Client:
    """Requests from one address.

    Args:
        number: which client; its address is 127.0.0.(2 + number).
    """

    def __init__(self, number: int) -> None:
        self.address = f"127.0.0.{2 + number}"
        self.cookie = ""

    def connection(self, timeout_s: float = 20.0) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", PORT, timeout=timeout_s, source_address=(self.address, 0))

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        connection = self.connection()
        try:
            given = {key.replace("_", "-"): value for key, value in headers.items()}
            if self.cookie:
                given["cookie"] = self.cookie
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            if found := re.search(r"omote_client=\w+", answer.getheader("set-cookie") or ""):
                self.cookie = found[0]
            return answer.status, answer.read()
        finally:
            connection.close()

    def upload(self, name: str, data: bytes, request: Any = NEUTRAL, **headers: str) -> tuple[int, bytes]:
        return self.ask(
            "POST",
            "/api/jobs",
            form(name, data, request),
            content_type=f"multipart/form-data; boundary={BOUNDARY}",
            **headers,
        )


def form(name: str, data: bytes, request: Any) -> bytes:
    parts = [
        f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="request"\r\n\r\n{json.dumps(request)}\r\n'.encode(),
        f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode(),
        data,
        f"\r\n--{BOUNDARY}--\r\n".encode(),
    ]
    return b"".join(parts)


def bomb() -> bytes:
    """A small archive that unpacks to a gigabyte of zeros."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("face.ply", "w") as member:
        member.write(b"ply\nformat ascii 1.0\n")
        for _ in range(64):
            member.write(bytes(16 << 20))
    return out.getvalue()


def slow_upload(client: Client, scan: bytes, seen: Seen) -> str:
    with socket.create_connection(("127.0.0.1", PORT), 10, source_address=(client.address, 0)) as raw:
        head = f"POST /api/jobs HTTP/1.1\r\nhost: 127.0.0.1:{PORT}\r\ncontent-length: 1000000\r\n"
        raw.sendall(f"{head}content-type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n--{BOUNDARY}\r\n".encode())
        for _ in range(20):
            time.sleep(0.5)
            raw.sendall(b"a")
    return "left"


def slow_head(client: Client, scan: bytes, seen: Seen) -> str:
    with socket.create_connection(("127.0.0.1", PORT), 10, source_address=(client.address, 0)) as raw:
        for letter in b"GET / HTTP/1.1\r\nx: " + b"y" * 60:
            raw.sendall(bytes([letter]))
            time.sleep(0.5)
    return "was let"


def endless_upload(client: Client, scan: bytes, seen: Seen) -> str:
    def chunks() -> Any:
        yield form("face.ply", b"", NEUTRAL)[:-30]
        while True:
            yield bytes(1 << 20)

    status, _ = client.ask(
        "POST",
        "/api/jobs",
        chunks(),
        content_type=f"multipart/form-data; boundary={BOUNDARY}",
        transfer_encoding="chunked",
    )
    return str(status)


def wrong_type(client: Client, scan: bytes, seen: Seen) -> str:
    return str(client.upload("face.ply", b"%PDF-1.7 no scan")[0])


def zip_bomb(client: Client, scan: bytes, seen: Seen) -> str:
    return str(client.upload("face.zip", BOMB)[0])


def path_in_name(client: Client, scan: bytes, seen: Seen) -> str:
    return str(client.upload("../../../../omote-was-here.ply", b"ply\n")[0])


def script_in_name(client: Client, scan: bytes, seen: Seen) -> str:
    status, body = client.upload("<script>alert(1)</script>\u202e.ply", b"ply\n")
    if status == 201 and "\u202e" in json.loads(body)["name"]:
        seen.violations.append("a name with control characters came back")
    return str(status)


def foreign_origin(client: Client, scan: bytes, seen: Seen) -> str:
    status, _ = client.ask(
        "POST", "/api/jobs", b'{"made_up": 1}', content_type="application/json", origin="http://evil.example"
    )
    if status not in (403, 429):
        seen.violations.append(f"foreign Origin: {status}")
    return str(status)


def foreign_host(client: Client, scan: bytes, seen: Seen) -> str:
    status, _ = client.ask("GET", "/api/jobs", host="evil.example")
    if status not in (421, 429):
        seen.violations.append(f"foreign Host: {status}")
    return str(status)


def replayed_ids(client: Client, scan: bytes, seen: Seen) -> str:
    id = random.choice(seen.foreign) if seen.foreign else "0" * 32
    name = random.choice(["", "/avatar.glb", "/preview.glb", "/report.json", "/../jobs.sqlite", "/order.json"])
    status, _ = client.ask(random.choice(["GET", "GET", "DELETE"]), f"/api/jobs/{id}{name}")
    if status < 300:
        seen.violations.append(f"read or deleted {id[:6]}…{name}: {status}")
    return str(status)


def cancel_storm(client: Client, scan: bytes, seen: Seen) -> str:
    statuses = []
    for _ in range(3):
        status, body = client.ask("POST", "/api/jobs", b'{"made_up": 1}', content_type="application/json")
        statuses.append(status)
        if status == 201:
            client.ask("DELETE", f"/api/jobs/{json.loads(body)['id']}")
    return str(max(statuses))


def disconnects(client: Client, scan: bytes, seen: Seen) -> str:
    with socket.create_connection(("127.0.0.1", PORT), 10, source_address=(client.address, 0)) as raw:
        body = form("face.ply", scan, NEUTRAL)
        head = f"POST /api/jobs HTTP/1.1\r\nhost: 127.0.0.1:{PORT}\r\ncontent-length: {len(body)}\r\n"
        raw.sendall(
            f"{head}content-type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n".encode() + body[: len(body) // 2]
        )
    return "left"


def no_http(client: Client, scan: bytes, seen: Seen) -> str:
    with socket.create_connection(("127.0.0.1", PORT), 10, source_address=(client.address, 0)) as raw:
        raw.sendall(os.urandom(4096))
        return raw.recv(12)[9:].decode("latin-1") or "closed"


WAYS: tuple[Callable[[Client, bytes, Seen], str], ...] = (
    slow_upload, slow_head, endless_upload, wrong_type, zip_bomb, path_in_name, script_in_name, foreign_origin, foreign_host,
    replayed_ids, cancel_storm, disconnects, no_http,
)  # fmt: skip
BOMB = b""


def misbehave(number: int, scan: bytes, seen: Seen) -> None:
    way, client = WAYS[number % len(WAYS)], Client(1 + number)
    while not seen.stop.is_set():
        try:
            result = way(client, scan, seen)
        except (OSError, http.client.HTTPException) as error:  # refused, or the server has just been killed
            result = type(error).__name__
        seen.statuses[way.__name__, result] += 1
        seen.stop.wait(random.uniform(0.2, 1.5))


def be_honest(number: int, scan: bytes, seen: Seen) -> None:
    client, end = Client(100 + number), time.monotonic() + HONEST_PATIENCE_S
    id = ""
    while time.monotonic() < end and not seen.stop.is_set():
        try:
            if not client.cookie:
                client.ask("GET", "/")
            if not id:
                status, body = client.upload(f"person {number}.ply", scan)
                seen.statuses["honest", str(status)] += 1
                if status == 201:
                    id = json.loads(body)["id"]
                    seen.accepted[id] = "waiting"
                    seen.foreign.append(id)
            status, body = client.ask("GET", f"/api/jobs/{id}") if id else (0, b"")
            if id and status == 404:
                seen.violations.append(f"accepted job {id[:6]}… is lost")
                return
            job = json.loads(body) if status == 200 else {"state": ""}
            if job["state"] == "failed":
                seen.accepted[id] = job["error"]["line"]
                return
            if job["state"] == "done":
                status, glb = client.ask("GET", f"/api/jobs/{id}/avatar.glb")
                if status == 200:
                    seen.accepted[id] = "done"
                    seen.avatars[id] = glb
                    return
        except (OSError, http.client.HTTPException, ValueError):
            pass
        time.sleep(1.0)


def started(folder: Path, log: Path, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "omote", "studio", "--no-browser", "--port", str(PORT), "--folder", str(folder)]
    command += ["--workers", "2", "--upload-mb", "20", "--job-s", "300", "--jobs-per-minute", "60", *options]
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, "PYTHONPATH": str(ROOT / "src")})
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", PORT), 1).close()
            return process
        except OSError:
            time.sleep(0.2)
    raise SystemExit(log.read_text())


def workers_of(server: subprocess.Popen, spared: Counter[str]) -> list[tuple[psutil.Process, str]]:
    """Processes of jobs that were killed less than twice: the third death is the server's to report."""
    found = []
    for process in psutil.Process(server.pid).children():
        try:
            line = process.cmdline()
        except psutil.Error:
            continue
        if "omote.studio.worker" in line and spared[line[-1]] < 2:
            found.append((process, line[-1]))
    return found


def killing(holder: dict[str, subprocess.Popen], folder: Path, log: Path, kills: int, seen: Seen) -> Counter[str]:
    """Kill servers and workers in turn, and start the next server; the number of kills."""
    done: Counter[str] = Counter()
    spared: Counter[str] = Counter()
    for number in range(kills):
        seen.stop.wait(random.uniform(3.0, 12.0))
        if number % 2:
            for process, place in workers_of(holder["server"], spared)[:1]:
                process.send_signal(signal.SIGKILL)
                spared[place] += 1
                done["worker"] += 1
            continue
        holder["server"].send_signal(signal.SIGKILL)
        holder["server"].wait()
        done["server"] += 1
        holder["server"] = started(folder, log)
    return done


def watch(current: Callable[[], subprocess.Popen], seen: Seen) -> None:
    while not seen.stop.wait(0.5):
        try:
            seen.server_mb = max(seen.server_mb, psutil.Process(current().pid).memory_info().rss / 2**20)
        except psutil.Error:
            continue


def main() -> int:
    parser = argparse.ArgumentParser(description="A studio among clients that misbehave.")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--honest", type=int, default=6)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    random.seed(given.seed)
    global BOMB
    BOMB = bomb()
    seen, start = Seen(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="omote-faults-") as name:
        home = Path(name)
        folder, log = home / "inner/studio", home / "log"
        folder.mkdir(parents=True)
        scan = made_up_scan()
        holder = {"server": started(folder, log)}
        threads = [threading.Thread(target=misbehave, args=(i, scan, seen), daemon=True) for i in range(given.clients)]
        honest = [threading.Thread(target=be_honest, args=(i, scan, seen), daemon=True) for i in range(given.honest)]
        threads.append(threading.Thread(target=watch, args=(lambda: holder["server"], seen), daemon=True))
        for thread in [*honest, *threads]:
            thread.start()
        killed = killing(holder, folder, log, given.kills, seen)
        for thread in honest:
            thread.join(HONEST_PATIENCE_S)
        seen.stop.set()
        for thread in threads:
            thread.join(40)
        outside = [p for p in [*home.iterdir(), *(home / "inner").iterdir()] if p not in (log, folder, home / "inner")]
        strange = [p for p in (folder / "jobs").rglob("*") if not expected(p.relative_to(folder / "jobs"))]
        holder["server"].send_signal(signal.SIGINT)
        code = holder["server"].wait(30)
        text = log.read_text(errors="replace")
    bad = told(seen, killed, outside + strange, text, code, time.monotonic() - start, given.honest)
    full = on_a_full_disk()
    print("a full disk:", full or "none can be mounted here")
    return bad or int(not full.get("fine", True))


def on_a_full_disk() -> dict[str, Any]:
    """Upload to a small disk until it is full, make room, and go on; what was seen, empty where nothing can be mounted."""
    from kills import mounted

    out: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="omote-full-") as name:
        disk = Path(name) / "disk"
        if not mounted(disk, SMALL_DISK):
            return out
        server = started(disk / "studio", Path(name) / "log", "--disk-free-mb", "0", "--queue-each", "1000")
        try:
            client, ids, statuses = Client(200), [], Counter()
            client.ask("GET", "/")
            for _ in range(2 * SMALL_DISK // LARGE_SCAN):
                status, body = client.upload("face.ply", b"ply\n" + bytes(LARGE_SCAN))
                statuses[status] += 1
                if status == 201:
                    ids.append(json.loads(body)["id"])
            freed = [client.ask("DELETE", f"/api/jobs/{id}")[0] for id in ids[::2]]
            again, _ = client.upload("face.ply", b"ply\n" + bytes(LARGE_SCAN))
            end = time.monotonic() + 120
            states: list[str] = []
            while time.monotonic() < end:
                states = [json.loads(client.ask("GET", f"/api/jobs/{id}")[1])["state"] for id in ids[1::2]]
                if not {"queued", "running"} & set(states):
                    break
                time.sleep(1)
            out = {
                "answers": dict(statuses),
                "after room was made": again,
                "deleted": freed,
                "ended": dict(Counter(states)),
            }
            out["fine"] = (
                {201, 507} == set(statuses)
                and again == 201
                and set(freed) == {204}
                and not {"queued", "running"} & set(states)
            )
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(30)
            subprocess.run(["umount", "--lazy", disk], check=True)
    return out


def made_up_scan() -> bytes:
    """The shipped head's template as a PLY."""
    sys.path.insert(0, str(ROOT / "src"))
    from omote.formats.write import save_ply
    from omote.head.shipped import shipped_head
    from omote.types import Mesh

    head = shipped_head()
    with tempfile.TemporaryDirectory() as name:
        save_ply(Mesh(vertices=head.template_mm, faces=head.faces), Path(name) / "face.ply")
        return (Path(name) / "face.ply").read_bytes()


def expected(path: Path) -> bool:
    """Whether a file of a job's folder has a name that the server gives."""
    first = path.parts[1] if len(path.parts) > 1 else ""
    return bool(re.fullmatch(r"[0-9a-f]{32}", path.parts[0])) and bool(
        re.fullmatch(r"|\d+|scan(\.\w+)?|order\.json|\.order\.\w+\.json|tmp|attempt-\d+", first)
    )


def told(
    seen: Seen, killed: Counter[str], outside: list[Path], log: str, code: int, seconds: float, honest: int
) -> int:
    """Print the table; the exit code."""
    ways = sorted({way for way, _ in seen.statuses})
    print(f"{'client':<16} answers")
    for way in ways:
        found = ", ".join(f"{status} × {n}" for (w, status), n in sorted(seen.statuses.items()) if w == way)
        print(f"{way:<16} {found}")
    lost = [f"{id[:6]}…: {state}" for id, state in seen.accepted.items() if state != "done"]
    different = len(set(seen.avatars.values()))
    leaks = [word for word in ("<script>", "omote-was-here", "person 0", "Traceback") if word in log]
    facts = {
        "seconds": round(seconds),
        "killed": ", ".join(f"{what} × {n}" for what, n in killed.items()) or "none",
        "honest jobs accepted": f"{len(seen.accepted)} of {honest}",
        "done": len(seen.avatars),
        "different avatars of the one scan": different,
        "lost": ", ".join(lost) or 0,
        "foreign reads and other violations": ", ".join(seen.violations) or 0,
        "files elsewhere or of strange names": ", ".join(map(str, outside)) or 0,
        "words of users or tracebacks in the log": ", ".join(leaks) or 0,
        "server's memory, MB": round(seen.server_mb),
        "exit code at Ctrl-C": code,
    }
    print()
    for key, value in facts.items():
        print(f"{key}: {value}")
    fine = len(seen.avatars) == honest and different == 1 and not (lost or seen.violations or outside or leaks or code)
    for word in leaks:
        at = log.index(word)
        print(f"\n{word}:\n{log[max(0, at - 500) : at + 3000]}")
    return 0 if fine and seen.server_mb < MOST_SERVER_MB else 1


if __name__ == "__main__":
    sys.exit(main())
