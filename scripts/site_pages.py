"""MkDocs hook of ``make docs``: files outside docs/ become pages or downloads of the site, and links to them follow.

README is the landing page; a file of the code that a page links to (`types.py`, Dockerfile) is copied beside the pages. The
gallery's avatars are made anew, and the studio's viewer that shows them is copied with its bundle.
"""

from __future__ import annotations

import posixpath
import re
import tempfile
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "NOTICE": "notice.md",
    "src/omote/weights/README.md": "model-card.md",
    "src/omote/weights/unit_style/README.md": "unit-style.md",
}
NOT_IN_NAV = {"unit-style.md"}
STUDIO_ONLY = {"index.html", "studio.js", "sources.txt"}
PERSONS = 3  # in the gallery: the demo's and the next ones
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)\s#]+)(?=[)#])")


def page_text(source: str, text: str) -> str:
    """A page's Markdown with its links led to the site's pages.

    Args:
        source: the page's file in the repository, such as ``docs/batch.md``.
        text: its Markdown.
    """
    here = PAGES.get(source, source.removeprefix("docs/"))

    def led(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[1]))
        return posixpath.relpath(place(target), posixpath.dirname(here) or ".")

    return LINK.sub(led, text)


def place(target: str) -> str:
    """Where a file of the repository is in the site."""
    return PAGES.get(target) or (target.removeprefix("docs/") if target.startswith("docs/") else f"code/{target}")


def linked(source: str) -> list[str]:
    """Files of the repository that a page links to."""
    text = (ROOT / source).read_text(encoding="utf-8")
    return [posixpath.normpath(posixpath.join(posixpath.dirname(source), link)) for link in LINK.findall(text)]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are outside docs/, and the code that pages link to."""
    sources = [*PAGES, *(f"docs/{file.src_uri}" for file in files.documentation_pages())]
    for source, uri in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        content = f"# Notice\n\n```text\n{text}```\n" if source == "NOTICE" else page_text(source, text)
        file = File.generated(config, uri, content=content)
        if uri in NOT_IN_NAV:
            file.inclusion = file.inclusion.NOT_IN_NAV
        files.append(file)
    for target in sorted({target for source in sources for target in linked(source) if source != "NOTICE"}):
        if target not in PAGES and not target.startswith("docs/"):
            files.append(File.generated(config, place(target), abs_src_path=str(ROOT / target)))
    for path in sorted((ROOT / "src/omote/studio/page").iterdir()):
        if path.name not in STUDIO_ONLY:
            files.append(File.generated(config, f"viewer/{path.name}", abs_src_path=str(path)))
    for name, data in avatars().items():
        files.append(File.generated(config, f"viewer/{name}", content=data))
    return files


def avatars() -> dict[str, bytes]:
    """Files of the gallery's avatars by name."""
    import omote
    from omote.datasets.demo_frame import sensed_frame
    from omote.formats.frame_write import save_rgbd
    from omote.head.shipped import shipped_head
    from omote.pipelines.result import AvatarOutputs, AvatarResult

    found = {}
    with tempfile.TemporaryDirectory() as name:
        scans = [Path(name) / f"person-{seed}" for seed in range(PERSONS)]
        for seed, scan in enumerate(scans):
            save_rgbd(sensed_frame(seed, shipped_head()), scan)
        for scan, result in zip(scans, omote.several_avatars(scans), strict=True):
            assert isinstance(result, AvatarResult), result
            path = scan.with_suffix(".glb")
            result.save_all(AvatarOutputs(glb=path, compress="quantized"))
            found[path.name] = path.read_bytes()
    return found


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links out of docs/ to their place in the site."""
    generated = page.file.generated_by is not None
    return markdown if generated else page_text(f"docs/{page.file.src_uri}", markdown)
