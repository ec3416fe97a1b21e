"""``omote tool``."""

from __future__ import annotations

from typing import Annotated

from tyro.conf import subcommand

from omote.api.tools import Landmarks, UnitStyle, tool

Options = Annotated[Landmarks, subcommand("landmarks")] | Annotated[UnitStyle, subcommand("unit-style")]


def run(options: Landmarks | UnitStyle) -> None:
    """Train or learn, and print the result's place and scores."""
    from omote.cli.display import Display

    with Display() as display:
        line = tool(options, on_step=display)
    print(line)
