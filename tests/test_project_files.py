"""The files beside the code name what is there: the image's paths and options, the citation's version, the rules' tasks."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from omote import __version__

ROOT = Path(__file__).parents[1]


def test_the_image_copies_what_is_there_and_nothing_that_is_ignored() -> None:
    text = (ROOT / "Dockerfile").read_text()
    copied = [line.split()[1:-1] for line in re.findall(r"^COPY (?!--from).*$", text, re.MULTILINE)]
    names = [name for names in copied for name in names]
    assert names
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for name in names:
        assert (ROOT / name).exists(), name
        assert name in kept, name
    # What setuptools reads to build the wheel.
    project = (ROOT / "pyproject.toml").read_text()
    for name in re.findall(r"^(?:readme|license-files) = (.*)$", project, re.MULTILINE):
        assert set(re.findall(r'"(.*?)"', name)) <= set(names)


def test_the_image_installs_the_torch_and_the_extras_of_the_project() -> None:
    text, project = (ROOT / "Dockerfile").read_text(), (ROOT / "pyproject.toml").read_text()
    torch = re.search(r"^ARG TORCH=(\S+)$", text, re.MULTILINE)
    assert torch is not None
    assert f'torch = ["torch=={torch[1]}"]' in project
    extras = re.search(r"^ARG EXTRAS=(\S+)$", text, re.MULTILINE)
    assert extras is not None
    optional = project.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    assert set(extras[1].split(",")) <= set(re.findall(r"^([\w-]+) = \[", optional, re.MULTILINE))


def test_the_image_passes_the_linter() -> None:
    linter = shutil.which("hadolint")
    if linter is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([linter, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_citation_names_this_version() -> None:
    text = (ROOT / "CITATION.cff").read_text()
    keys = {key: value for key, value in re.findall(r"^([\w-]+): *(.*)$", text, re.MULTILINE)}
    assert {"cff-version", "message", "title", "authors", "license"} <= keys.keys()
    assert keys["version"] == __version__


def test_the_rules_for_contributors_name_tasks_and_files_that_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    tasks = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z]+)", text)) <= tasks
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert link.startswith("https://") or (ROOT / link).exists(), link
    packages = {
        path.name for path in (ROOT / "src/omote").iterdir() if path.is_dir() and (path / "__init__.py").exists()
    }
    assert packages <= set(re.findall(r"\w+", text)), sorted(packages - set(re.findall(r"\w+", text)))
