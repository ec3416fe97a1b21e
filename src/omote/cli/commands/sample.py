"""``omote sample``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from omote.api.samples import SampleSettings


@dataclass(frozen=True, kw_only=True)
class Options:
    """Draw synthetic people.

    Each is drawn at rest and edited into the expressions by the same network. Writes DIR/person_000/neutral/ and so on
    (RGB-D frames that `omote avatar` reads), DIR/sheet.png and DIR/report.json.
    """

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """folder of the results; made if missing"""
    settings: tyro.conf.OmitArgPrefixes[SampleSettings] = SampleSettings()


def run(options: Options) -> None:
    """Draw."""
    from omote import api
    from omote.cli.display import Display

    api.check_folder(options.out)
    with Display() as display:
        result = api.sample(options.settings, on_step=display)
    result.save(options.out)
    print(f"{options.out}: {result.summary()}; pictures in {options.out / 'sheet.png'}")
