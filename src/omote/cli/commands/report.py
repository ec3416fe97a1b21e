"""``omote report``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True, kw_only=True)
class Options:
    """Compare result folders of `omote evaluate release` on one page.

    One folder gives its own report. Several are compared with intervals and tested against the first, paired by person.
    """

    folders: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="DIR...")]
    """finished result folders; the first is what the others are compared with"""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.html")]
    """the page; it needs nothing beside itself"""


def run(options: Options) -> None:
    """Write the page and say where it is."""
    from omote import api

    path = api.report(options.folders, out=options.out)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
