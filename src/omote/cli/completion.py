"""``omote completion``: what a shell needs to complete commands, options and choices."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Union

import tyro
from tyro.conf import Positional, arg

from omote.cli.scans import AvatarCommand


@dataclass(frozen=True, kw_only=True)
class _AvatarOptions(AvatarCommand):
    """Options for one scan and for several."""

    out_dir: Annotated[Path, arg(metavar="DIR")]
    sheets: bool = False


@dataclass(frozen=True, kw_only=True)
class CompletionCommand:
    """Print what a shell needs to complete omote's commands, options and choices.

    The shell reads it from a file: bash from ~/.local/share/bash-completion/completions/omote, fish from
    ~/.config/fish/completions/omote.fish, zsh from _omote in a folder of its fpath.

    Attributes:
        shell: the shell.
    """

    shell: Annotated[Positional[Literal["bash", "zsh", "fish"]], arg(metavar="SHELL")]

    def __call__(self) -> None:
        print(script(self.shell), end="")


def script(shell: str) -> str:
    """The completions of all commands as a script for a shell."""
    from omote.cli.main import COMMANDS
    from omote.cli.options import REGISTRY, options_of

    kinds = {name: _AvatarOptions if name == "avatar" else options_of(name, []) for name in COMMANDS}
    commands = tuple(
        Annotated[kind, tyro.conf.subcommand(name, description=COMMANDS[name])] for name, kind in kinds.items()
    )
    text = io.StringIO()
    with redirect_stdout(text):
        try:
            tyro.cli(
                Union[commands],  # noqa: UP007 (of a tuple that is made here)
                prog="omote",
                args=["--tyro-write-completion", shell, "-"],
                registry=REGISTRY,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
        except SystemExit as end:
            if end.code:
                raise
    return text.getvalue()
