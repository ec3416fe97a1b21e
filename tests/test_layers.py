"""The import rules of pyproject.toml hold, and cover every package there is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def contracts() -> str:
    return (ROOT / "pyproject.toml").read_text().partition("[tool.importlinter]")[2]


def test_no_module_imports_upward_or_sideways() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_every_module_of_the_package_has_its_row() -> None:
    package = ROOT / "src/omote"
    named = set(re.findall(r"omote\.(\w+)", contracts().partition("layers = [")[2].partition("]")[0]))
    there = {p.stem for p in package.iterdir() if p.suffix == ".py" or (p.is_dir() and (p / "__init__.py").exists())}
    assert there - {"__init__", "__main__"} == named


def test_importing_omote_and_its_bottom_row_needs_none_of_the_heavy_libraries() -> None:
    program = (
        "import sys, omote, omote.config, omote.errors, omote.files, omote.progress, omote.cli.main;"
        "print(sorted({'numpy', 'torch', 'diffusers', 'scipy', 'numba', 'tyro', 'openvino'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={**os.environ}
    )
    assert done.stdout.strip() == "[]"
