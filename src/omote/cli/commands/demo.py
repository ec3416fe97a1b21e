"""``omote demo``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from omote.pipelines.settings import AvatarSettings


@dataclass(frozen=True, kw_only=True)
class Options:
    """Make an avatar of a synthetic person.

    Draws a person (by the seed) from the shipped head model, takes one frame with a simulated depth camera, writes it to
    DIR/scan as any user's frame, and makes the avatar of that: DIR/avatar.glb, DIR/sheet.png, DIR/report.json.
    """

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("out")
    """folder of the results; made if missing"""
    settings: tyro.conf.OmitArgPrefixes[AvatarSettings] = AvatarSettings()


def run(options: Options) -> None:
    """Run the demo and say where its results are."""
    from omote import api
    from omote.cli.display import Display

    with Display() as display:
        result = api.demo(options.out, options.settings, own_process=True, on_step=display)
    print(f"{options.out / 'avatar.glb'}: {result.summary()}; pictures in {options.out / 'sheet.png'}")
