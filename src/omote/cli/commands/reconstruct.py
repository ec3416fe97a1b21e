"""``omote reconstruct``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from omote.api.reconstruction import ReconstructionSettings
from omote.cli import flags


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure the autoencoder on a scan.

    Writes source/ and reconstruction/ (RGB-D frames), picture.png (both, and their difference) and report.json.
    """

    scan: flags.Scan
    """the face: any unit, any orientation, with or without colour"""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """folder of the results; made if missing"""
    settings: tyro.conf.OmitArgPrefixes[ReconstructionSettings] = ReconstructionSettings()


def run(options: Options) -> None:
    """Reconstruct."""
    from omote import api
    from omote.cli.display import Display

    api.check_folder(options.out)
    with Display() as display:
        result = api.reconstruct(options.scan, options.settings, on_step=display)
    result.save(options.out)
    print(f"{options.out}: {result.summary()}")
