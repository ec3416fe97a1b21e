"""``omote population``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from omote.api.populations import PopulationSettings
from omote.cli import flags


@dataclass(frozen=True, kw_only=True)
class Options:
    """Render synthetic persons.

    Person i of a split is the same for the same seed, on any machine. Shards that are in DIR already are kept, so the
    same command goes on after an interrupt.
    """

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """folder of the shards; made if missing"""
    sheet: flags.PngFile = None
    """a contact sheet: seven expressions of twelve persons"""
    settings: tyro.conf.OmitArgPrefixes[PopulationSettings] = PopulationSettings()


def run(options: Options) -> None:
    """Render and say how many."""
    from omote import api
    from omote.cli.display import Display

    with Display() as display:
        count = api.population(options.out, options.settings, sheet=options.sheet, on_step=display)
    print(f"{options.out}: {count:,} persons, {count * options.settings.images:,} images")
