"""The numbered examples run, and do what they say."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from omote.head.expressions import CATEGORIES

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def example(number: int) -> Any:
    (path,) = EXAMPLES.glob(f"{number:02d}_*.py")
    return runpy.run_path(str(path))["main"]


def test_there_are_five_of_at_most_a_page() -> None:
    paths = sorted(EXAMPLES.glob("*.py"))
    assert [path.name[:2] for path in paths] == ["01", "02", "03", "04", "05"]
    assert all(len(path.read_text().splitlines()) <= 50 for path in paths)


def test_a_scan_becomes_an_avatar(tmp_path: Path) -> None:
    example(1)(None, str(tmp_path / "avatar.glb"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["avatar.glb", "avatar.json", "avatar.png"]


def test_expressions_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example(2)(None, str(tmp_path / "avatar.glb"))
    assert capsys.readouterr().out.strip().endswith("avatar.glb: happy, disgusted")


def test_the_tiny_recipe_trains(tmp_path: Path) -> None:
    example(3)(str(tmp_path))
    assert (tmp_path / "editor/export/editor/config.json").is_file()


def test_one_person_is_measured() -> None:
    errors = example(4)()
    assert sorted(errors) == sorted(CATEGORIES)
    assert max(errors.values()) < 1.5  # copying is off by 2 to 6 mm


def test_the_autoencoder_works_alone() -> None:
    assert example(5)() < 0.5
