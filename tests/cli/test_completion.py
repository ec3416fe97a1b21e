"""Completions, asked of the shells themselves where they are installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from omote.cli.completion import script
from omote.cli.main import COMMANDS

IN_BASH = """
source "$1"
read -ra COMP_WORDS <<< "$2"
[[ "$2" == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
$(complete -p omote | sed -E 's/.*-F ([^ ]+).*/\\1/') omote "${COMP_WORDS[COMP_CWORD]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
CASES = {
    "omote ": set(COMMANDS),
    "omote bat": {"batch"},
    "omote data ": {"check", "render", "pack"},
    "omote batch --out x --exec": {"--executor"},
    "omote population --executor ": {"processes", "array", "ray"},
    "omote avatar --out-": {"--out-dir"},
}


@pytest.fixture(scope="module", params=["bash", "fish", "zsh"])
def shell(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A shell, and the file of its completions."""
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    path = tmp_path_factory.mktemp("completion") / f"omote.{request.param}"
    path.write_text(script(request.param))
    return request.param, path


@pytest.mark.parametrize("line", CASES)
def test_the_shell_completes(shell: tuple[str, Path], line: str) -> None:
    name, path = shell
    if name == "zsh":  # its completion needs a terminal
        subprocess.run(["zsh", "-n", path], check=True)
        assert all(f"{word}" in path.read_text() for word in CASES[line])
        return
    if name == "bash":
        command = ["bash", "-c", IN_BASH, "bash", str(path), line]
    else:
        command = ["fish", "--no-config", "-c", f"source {path}; complete -C '{line}'"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert CASES[line] <= {row.partition("\t")[0] for row in done.stdout.splitlines()}, done.stderr
