"""The pages link to what is there, and their code blocks name commands, options, functions and files that exist.

No block is run as it stands: commands are parsed by the command line's own parser, Python is compiled and its names are looked
up. What the tutorials do at length runs in the tests of examples/.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote

import pytest
from PIL import Image

import omote
from chromium import browser_context, pixels
from omote.cli.main import COMMANDS, _parse

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "src/omote/weights/README.md")),
    *DOCS,
]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
RUNNERS = ("accelerate launch", "torchrun")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    """A page without its code."""
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text(encoding="utf-8")))


def blocks(page: Path, *languages: str) -> list[str]:
    found = FENCE.findall(page.read_text(encoding="utf-8"))
    return [re.sub(f"^{indent}", "", code, flags=re.MULTILINE) for indent, kind, code in found if kind in languages]


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings that are the same on a code host and in the built site, which join hyphens differently."""
    titles = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    words = [re.sub(r"[^\w\s-]", "", title).strip().lower() for title in titles]
    return {re.sub(r"\s", "-", w) for w in words} & {re.sub(r"[-\s]+", "-", w) for w in words}


def commands(page: Path) -> list[list[str]]:
    """Every ``omote …`` of a page's shell blocks, as words."""
    lines = "\n".join(blocks(page, "sh", "bash")).replace("\\\n", " ").splitlines()
    found = []
    for line in lines:
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words = words[1:]
        if words and words[0] == "omote":
            found.append(words[1:])
    return found


def source_of(module: str) -> Path:
    path = ROOT / "src" / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def names_in(module: str) -> set[str]:
    """What a module defines or imports, without importing it."""
    found: set[str] = set()
    for node in ast.parse(source_of(module).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"\w+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = page if not file else Path(os.path.normpath(page.parent / file))
        assert target.exists(), f"{name_of(page)}: {link}"
        assert not anchor or anchor in anchors(target), f"{name_of(page)}: {link}"


@pytest.mark.parametrize("page", [ROOT / "README.md", *DOCS], ids=name_of)
def test_commands_parse(page: Path) -> None:
    for words in commands(page):
        assert words[0] in COMMANDS, f"{name_of(page)}: omote {shlex.join(words)}"
        try:
            assert callable(_parse(words[0], words[1:]))
        except SystemExit:
            pytest.fail(f"{name_of(page)}: omote {shlex.join(words)}")


def test_an_option_that_is_not_there_is_found() -> None:
    with pytest.raises(SystemExit):
        _parse("avatar", ["scan.ply", "--out", "avatar.glb", "--sheets", "sheet.png"])


@pytest.mark.parametrize("page", [ROOT / "README.md", *DOCS], ids=name_of)
def test_make_tasks_are_there(page: Path) -> None:
    tasks = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for block in blocks(page, "sh", "bash"):
        assert set(re.findall(r"^make ([a-z-]+)", block, re.MULTILINE)) <= tasks


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=name_of)
def test_python_compiles_and_its_names_exist(page: Path) -> None:
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("omote"):
                assert {alias.name for alias in node.names} <= names_in(node.module), ast.unparse(node)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "omote":
                assert hasattr(omote, node.attr), ast.unparse(node)
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("omote.") and node.keywords:
                called = getattr(omote, ast.unparse(node.func).partition(".")[2])
                known = called.__dataclass_fields__ if isinstance(called, type) else called.__annotations__
                assert {k.arg for k in node.keywords} <= set(known), ast.unparse(node)


def test_the_reference_has_every_public_name_and_only_modules_that_exist() -> None:
    named = {
        p.stem: re.findall(r"^::: (\S+)", p.read_text(), re.MULTILINE) for p in (ROOT / "docs/reference").glob("*.md")
    }
    public = {f"omote.{name}" for name in omote.__all__ if not name.startswith("__")}
    assert len(named["omote"]) == len(set(named["omote"]))
    assert set(named.pop("omote")) == public
    for module in (module for names in named.values() for module in names):
        assert source_of(module).is_file(), module


def test_pictures_of_the_stages_are_small_and_all_shown() -> None:
    pictures = sorted((ROOT / "docs/stages").iterdir())
    text = (ROOT / "docs/how-it-works.md").read_text()
    assert [p.name for p in pictures] == sorted(re.findall(r"\]\(stages/(\S+?)\)", text))
    for path in pictures:
        assert path.stat().st_size <= 150_000, path
        Image.open(path).verify()


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    shown = set(re.findall(r"^ +- .*: (\S+\.md)$", text, re.MULTILINE))
    assert {p.relative_to(ROOT / "docs").as_posix() for p in DOCS} <= shown


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    for module in ("mkdocs", "material", "mkdocstrings"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed; `make docs` installs it")
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.mark.slow
def test_the_site_names_no_other_host(site: Path) -> None:
    assert (site / "index.html").is_file()
    host = r"[\"']?(?:https?:)?//[^\"'\s>]+"
    sources = rf"<(?:script|img|iframe|source|video)\b[^>]*\bsrc={host}"
    sheets = rf"<link\b[^>]*rel=[\"']?(?:stylesheet|icon|preload|preconnect)[^>]*href={host}"
    loads = re.compile(f"{sources}|{sheets}")
    for path in site.rglob("*.html"):
        assert loads.findall(path.read_text(encoding="utf-8")) == [], path
    for path in site.rglob("*.css"):
        assert re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//[^)\"']+", path.read_text(encoding="utf-8")) == [], (
            path
        )


@pytest.mark.slow
def test_links_of_the_site_lead_to_its_files(site: Path) -> None:
    for path in site.rglob("*.html"):
        for link in re.findall(r"(?:href|src)=[\"']?([^\"'\s>]+)", path.read_text(encoding="utf-8")):
            file = unquote(link.partition("#")[0].partition("?")[0])
            if file and not re.match(r"\w+:|/", file):
                assert (path.parent / file).exists(), f"{path.relative_to(site)}: {link}"


@pytest.mark.slow
def test_the_gallery_shows_avatars_whose_sliders_move_them(site: Path) -> None:
    serve = partial(SimpleHTTPRequestHandler, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server, browser_context() as context:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        asked: list[str] = []
        context.on("request", lambda request: asked.append(request.url))
        page = context.new_page()
        page.goto(f"{address}gallery.html")
        page.locator("iframe").scroll_into_view_if_needed()
        frame = page.frame_locator("iframe")
        canvas = frame.locator("canvas[data-ready=yes]")
        canvas.wait_for()
        rest = pixels(canvas)
        frame.get_by_role("slider", name="surprised").press("End")
        page.wait_for_timeout(500)
        assert (abs(pixels(canvas) - rest).max(axis=2) > 20).sum() > 300
        for number in (1, 2):
            page.goto(f"{address}viewer/view.html?file=person-{number}.glb")
            page.locator("canvas[data-ready=yes]").wait_for()
            assert page.title() == f"person-{number}.glb – omote"
        server.shutdown()
    assert [url for url in asked if not url.startswith((address, "blob:", "data:"))] == []
