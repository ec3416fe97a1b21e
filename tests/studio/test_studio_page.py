"""The page in Chromium, by clicks alone, with real avatars: what a user does from a dropped scan to the downloaded GLB."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chromium import SOURCE, Server, browser_context, pixels
from omote.asset.glb_read import read_avatar
from omote.formats.read import read
from omote.formats.write import save_ply
from omote.head.shipped import shipped_head
from omote.types import Mesh

pytest.importorskip("starlette", reason="the extra studio is not installed")
pytestmark = pytest.mark.early
CLICKED = (36, 39, 42, 45, 30, 33, 31, 35, 48, 54, 51, 57, 8)  # as the page asks for them
RECORDING = """Timecode,BlendShapeCount,EyeBlinkLeft,EyeBlinkRight,JawOpen,HeadYaw,HeadPitch,HeadRoll
10:00:00:00.000,61,0,0,0.9,0.3,0,0
10:00:02:00.000,61,0,0,0.9,0.3,0,0
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("studio")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[dict[str, Server]]:
    held = {
        "now": Server(folder / "jobs", folder / "log", "--requests-per-minute", "100000", "--jobs-per-minute", "1000")
    }
    yield held
    held["now"].kill()


@pytest.fixture(scope="module")
def context(server: dict[str, Server]) -> Iterator[Any]:
    with browser_context() as context:
        asked: list[str] = []
        context.on("request", lambda request: asked.append(request.url))
        yield context
        elsewhere = [url for url in asked if not url.startswith((server["now"].url, "blob:", "data:"))]
        assert elsewhere == []


@pytest.fixture
def page(context: Any) -> Iterator[Any]:
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "console",
        lambda m: (
            problems.append(m.text) if m.type == "error" and not re.search(r"status of 4|net::ERR_", m.text) else None
        ),
    )
    page.on("dialog", lambda dialog: dialog.accept())
    yield page
    page.close()
    assert problems == []


def opened(page: Any, server: dict[str, Server]) -> None:
    page.goto(server["now"].url)
    page.wait_for_selector(".start")


def settle(page: Any) -> None:
    """Wait until what was asked for has been drawn."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def same_again(page: Any, canvas: Any, rest: np.ndarray) -> None:
    """Wait until the canvas shows what it did; a busy machine draws late."""
    for _ in range(40):
        if np.abs(pixels(canvas) - rest).max() <= 2:
            return
        page.wait_for_timeout(100)
    raise AssertionError("the picture did not come back")


def only_neutral(page: Any) -> None:
    page.get_by_text("Settings").click()
    for name in ("happy", "sad", "angry", "surprised", "fearful", "disgusted"):
        page.get_by_label(name, exact=True).uncheck()


def made(page: Any) -> bytes:
    """Wait for the avatar, and download it."""
    page.wait_for_selector(".downloads, [role=alert]")
    assert page.locator(".downloads").count() == 1, page.locator("[role=alert]").inner_text()
    page.wait_for_selector(".stages canvas[data-ready=yes]")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download GLB").click()
    return Path(download.value.path()).read_bytes()


def by_command(scan: Path, out: Path, *options: str) -> bytes:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-m", "omote", "avatar", str(scan), "--out", str(out), *options]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return out.read_bytes()


@pytest.fixture(scope="module")
def person(context: Any, server: dict[str, Server], folder: Path) -> dict[str, Any]:
    """The address of a made-up person's avatar, and its GLB."""
    page = context.new_page()
    opened(page, server)
    page.get_by_label("Person no.").fill("3")
    page.get_by_role("button", name="Try it with a made-up person").click()
    glb = made(page)
    (folder / "avatar.glb").write_bytes(glb)
    url = page.url
    page.close()
    return {"url": url, "glb": glb, "id": url.partition("=")[2]}


@pytest.fixture(scope="module")
def head(person: dict[str, Any], folder: Path) -> Mesh:
    """That avatar's skin as a scan with colours."""
    scan = read(folder / "avatar.glb")
    assert isinstance(scan, Mesh)
    return scan


def test_a_made_up_persons_avatar_is_the_command_lines(
    person: dict[str, Any], server: dict[str, Server], folder: Path
) -> None:
    frame = folder / "jobs/jobs" / person["id"] / "scan"
    assert by_command(frame, folder / "by_command.glb") == person["glb"]


def test_sliders_move_what_they_name_and_nothing_else(person: dict[str, Any], page: Any, folder: Path) -> None:
    page.goto(person["url"])
    canvas = page.locator(".stages canvas")
    page.wait_for_selector(".stages canvas[data-ready=yes]")
    settle(page)
    rest = pixels(canvas)
    page.get_by_text("52 ARKit units").click()
    page.get_by_label("Find a unit").fill("jawOpen")
    page.get_by_role("slider", name="jawOpen").press("End")
    settle(page)
    avatar = read_avatar(folder / "avatar.glb")
    expected = sum(
        int((np.abs(p.posed(avatar.weights(jawOpen=1.0))[0] - p.posed(avatar.weights())[0]).max(axis=1) > 1e-6).sum())
        for p in avatar.primitives
    )
    assert canvas.evaluate("(c) => c.viewer.moved()") == expected
    changed = np.abs(pixels(canvas) - rest).max(axis=2) > 12
    rows, columns = np.nonzero(changed)
    height, width = changed.shape
    assert len(rows) > 1000
    assert rows.min() > 0.45 * height  # below the eyes
    assert 0.25 * width < columns.min() < columns.max() < 0.75 * width
    page.get_by_role("button", name="At rest").click()
    same_again(page, canvas, rest)


def test_tools_change_the_picture_and_come_back(person: dict[str, Any], page: Any) -> None:
    page.goto(person["url"])
    canvas = page.locator(".stages canvas")
    page.wait_for_selector(".stages canvas[data-ready=yes]")
    settle(page)
    rest = pixels(canvas)
    for name in ("Wires", "Not from the scan"):
        box = page.get_by_label(name)
        box.check()
        page.wait_for_timeout(400)
        assert (np.abs(pixels(canvas) - rest).max(axis=2) > 20).sum() > 300
        box.uncheck()
        same_again(page, canvas, rest)
    canvas.press("ArrowRight")
    settle(page)
    assert (np.abs(pixels(canvas) - rest).max(axis=2) > 20).sum() > 3000
    page.get_by_role("button", name="Front").click()
    same_again(page, canvas, rest)


def test_a_recording_plays_and_stops(person: dict[str, Any], page: Any, tmp_path: Path) -> None:
    page.goto(person["url"])
    canvas = page.locator(".stages canvas")
    page.wait_for_selector(".stages canvas[data-ready=yes]")
    settle(page)
    rest = pixels(canvas)
    (tmp_path / "take.csv").write_text(RECORDING)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    page.set_input_files("[data-recording]", str(tmp_path / "other.csv"))
    page.get_by_text("No ARKit units found").wait_for()
    page.set_input_files("[data-recording]", str(tmp_path / "take.csv"))
    page.get_by_role("button", name="Pause").click()
    settle(page)
    assert canvas.evaluate("(c) => c.viewer.moved()") > 1000
    assert (np.abs(pixels(canvas) - rest).max(axis=2) > 20).sum() > 3000
    page.get_by_role("button", name="Stop").click()
    same_again(page, canvas, rest)


def write_kind(kind: str, head: Mesh, person: dict[str, Any], folder: Path) -> list[Path]:
    """The files of one kind of scan."""
    import zipfile

    from PIL import Image

    place = folder / f"kind-{kind}"
    place.mkdir(exist_ok=True)
    if kind == "frame":
        scan = folder / "jobs/jobs" / person["id"] / "scan"
        return [scan / name for name in ("color.png", "depth.png", "intrinsics.json")]
    if kind == "glb":
        (place / "<b>face<i>.glb").write_bytes(person["glb"])
        return [place / "<b>face<i>.glb"]
    if kind == "ply":
        save_ply(Mesh(vertices=head.vertices, faces=head.faces), place / "face.ply")
        return [place / "face.ply"]
    assert head.uv is not None
    assert head.texture is not None
    corners = head.faces if head.faces_uv is None else head.faces_uv
    lines = ["mtllib face.mtl", *(f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in head.vertices)]
    lines += [f"vt {u:.6f} {v:.6f}" for u, v in head.uv] + ["usemtl skin"]
    lines += [
        "f " + " ".join(f"{a + 1}/{b + 1}" for a, b in zip(f, t, strict=True))
        for f, t in zip(head.faces, corners, strict=True)
    ]
    (place / "face.obj").write_text("\n".join(lines) + "\n")
    (place / "face.mtl").write_text("newmtl skin\nmap_Kd skin.png\n")
    Image.fromarray((head.texture * 255).astype(np.uint8)).save(place / "skin.png")
    names = ["face.obj", "face.mtl", "skin.png"]
    if kind == "obj":
        return [place / name for name in names]
    with zipfile.ZipFile(place / "face.zip", "w") as archive:
        for name in names:
            archive.write(place / name, name)
    return [place / "face.zip"]


@pytest.mark.parametrize("kind", ["ply", "obj", "glb", "frame", "zip"])
def test_every_kind_of_scan_becomes_an_avatar(
    kind: str, head: Mesh, person: dict[str, Any], server: dict[str, Server], page: Any, folder: Path
) -> None:
    files = write_kind(kind, head, person, folder)
    opened(page, server)
    page.get_by_label("The person in this scan agrees").check()
    only_neutral(page)
    page.set_input_files("[data-scan]", [str(path) for path in files])
    page.wait_for_selector("canvas[data-ready=yes]")  # what was read
    glb = made(page)
    name = next((p.name for p in files if p.suffix not in (".png", ".mtl")), "")
    assert page.locator("aside h1").inner_text() == name
    if kind == "obj":  # several files, which the server packs
        assert by_command(files[0], folder / "obj.glb", "--expressions", "neutral") == glb


def test_a_dropped_scan_waits_for_consent(page: Any, server: dict[str, Server]) -> None:
    opened(page, server)
    drop = """(zone) => {
        const data = new DataTransfer();
        data.items.add(new File(['ply\\n'], 'face.ply'));
        zone.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
    }"""
    page.locator(".drop").evaluate(drop)
    page.get_by_role("alert").get_by_text("Tick the box first").wait_for()
    assert "#job" not in page.url
    page.get_by_label("The person in this scan agrees").check()
    page.locator(".drop").evaluate(drop)
    page.get_by_role("alert").get_by_text("face.ply: ").wait_for()  # the reader's own words


def fits_any_window(page: Any) -> None:
    """What is shown, here wider than high, is framed anew in a window of another shape, until somebody turns it."""
    canvas = page.locator("canvas[data-ready=yes]")
    canvas.wait_for()
    away = []
    for width in (1280, 360, 1280):
        page.set_viewport_size({"width": width, "height": 860})
        settle(page)
        away.append(canvas.evaluate("(c) => c.viewer.camera.position.length()"))
    assert away[0] == pytest.approx(away[2])
    assert away[1] > 1.2 * away[0]
    canvas.press("ArrowRight")
    turned = canvas.evaluate("(c) => c.viewer.camera.position.toArray()")
    page.set_viewport_size({"width": 360, "height": 860})
    settle(page)
    assert canvas.evaluate("(c) => c.viewer.camera.position.toArray()") == pytest.approx(turned)
    page.set_viewport_size({"width": 1280, "height": 860})


def test_clicked_landmarks_rescue_a_refused_scan(
    head: Mesh, page: Any, server: dict[str, Server], tmp_path: Path
) -> None:
    vertices = np.concatenate([head.vertices, head.vertices + np.array([0.32, 0.0, 0.0])])
    save_ply(
        Mesh(vertices=vertices, faces=np.concatenate([head.faces, head.faces + len(head.vertices)])),
        tmp_path / "two.ply",
    )
    # The avatar is in the canonical frame, as the template is, whose landmarks are near enough.
    template = shipped_head()
    marks = template.landmarks(template.template_mm) / 1000
    opened(page, server)
    page.get_by_label("The person in this scan agrees").check()
    only_neutral(page)
    page.set_input_files("[data-scan]", str(tmp_path / "two.ply"))
    page.get_by_role("alert").get_by_text("two faces found").wait_for()
    id = page.url.partition("=")[2]
    glb = page.request.get(f"{server['now'].url}api/jobs/{id}/preview.glb").body()
    extras = json.loads(glb[20 : 20 + int.from_bytes(glb[12:16], "little")])["asset"]["extras"]
    fits_any_window(page)
    page.get_by_role("button", name="Click landmarks").click()
    page.wait_for_selector("canvas[data-ready=yes]")
    settle(page)
    for number in CLICKED:
        point = ((marks[number] - extras["center"]) / extras["size"]).tolist()
        page.mouse.click(*page.locator("canvas").evaluate("(c, p) => c.viewer.screenOf(p)", point))
    page.get_by_role("button", name="Go on with these").click()
    assert made(page)[:4] == b"glTF"


def test_cancel_frees_the_worker_and_a_killed_server_keeps_the_job(
    page: Any, server: dict[str, Server], folder: Path
) -> None:
    opened(page, server)
    page.get_by_role("button", name="Try it with a made-up person").click()
    page.wait_for_selector(".steps li")
    cancelled = page.url.partition("=")[2]
    page.get_by_role("button", name="Cancel").click()
    page.wait_for_selector(".start")
    assert page.request.get(f"{server['now'].url}api/jobs/{cancelled}").status == 404
    only_neutral(page)
    page.get_by_role("button", name="Try it with a made-up person").click()
    page.wait_for_selector(".steps li")
    old = server["now"]
    old.kill()
    page.get_by_role("button", name="New avatar").click()
    page.get_by_role("button", name="Try it with a made-up person").click()
    page.get_by_role("alert").get_by_text("The server does not answer").wait_for()
    page.go_back()
    time.sleep(0.5)
    server["now"] = Server(folder / "jobs", folder / "log2", port=old.port)
    page.reload()
    assert made(page)[:4] == b"glTF"
    page.get_by_role("button", name="New avatar").click()
    assert page.locator(".history li").count() >= 2


def test_on_a_phone_in_the_dark_in_japanese_nothing_overflows(
    person: dict[str, Any], page: Any, server: dict[str, Server]
) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.emulate_media(color_scheme="dark")
    opened(page, server)
    page.get_by_role("button", name="日本語").click()
    page.get_by_text("架空の人で試す").wait_for()
    for url in (server["now"].url, person["url"]):
        page.goto(url)
        page.wait_for_timeout(500)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(25, 24, 23)"
    page.get_by_role("button", name="English").click()


def test_the_keyboard_is_enough(page: Any, server: dict[str, Server]) -> None:
    opened(page, server)
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent || document.activeElement.type"))
    assert "checkbox" in reached
    assert "Try it with a made-up person" in reached
    assert "Settings" in reached
