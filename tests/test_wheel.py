"""What a wheel holds: everything that users run, and nothing that is there to be compared with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST_MB = 35.0


@pytest.fixture(scope="module")
def shipped() -> list[Path]:
    """Files of the package that setuptools puts into a wheel."""
    setuptools = pytest.importorskip("setuptools", reason="builds the wheel")
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        distribution = setuptools.Distribution({"script_name": "setup.py"})
        distribution.parse_config_files([str(ROOT / "pyproject.toml")])
        build = distribution.get_command_obj("build_py")
        build.ensure_finalized()
        build.manifest_files = {}  # asked for, it would write an egg-info folder into the checkout
        data = [
            Path(path) for name in build.packages for path in build.find_data_files(name, build.get_package_dir(name))
        ]
        return [*data, *(Path(module) for _, _, module in build.find_all_modules())]
    finally:
        os.chdir(before)


def test_a_wheel_holds_all_modules_and_weights_but_those_to_compare_with(shipped: list[Path]) -> None:
    files = {path.as_posix() for path in shipped}
    source = ROOT / "src"
    expected = {
        path.relative_to(ROOT).as_posix()
        for path in source.rglob("*")
        if path.suffix in (".py", ".npz", ".safetensors", ".json", ".typed", ".html", ".js", ".css")
        and "rivals" not in path.parts
    }
    assert expected <= files
    assert not any("rivals" in path.parts for path in shipped)


def test_a_wheel_is_small(shipped: list[Path]) -> None:
    # Weights hardly compress, so the sum of the files bounds the wheel from above.
    assert sum((ROOT / path).stat().st_size for path in shipped) < MOST_MB * 1e6
