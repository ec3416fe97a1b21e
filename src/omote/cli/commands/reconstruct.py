"""``omote reconstruct``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

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
    unit: flags.Unit = "auto"
    """of the scan's coordinates, if you know it"""
    landmarks: flags.File = None
    """68 points (JSON, NPY or text) where the face is not found by itself"""
    backend: flags.Backend = "auto"
    """what runs the networks"""
    weights: flags.Folder = None
    """a run's export folder instead of the shipped weights"""


def run(options: Options) -> None:
    """Reconstruct."""
    from omote import api
    from omote.cli.display import Display

    api.check_folder(options.out)
    with Display() as display:
        result = api.reconstruct(
            options.scan,
            unit=options.unit,
            landmarks=options.landmarks,
            backend=options.backend,
            weights=options.weights,
            on_step=display,
        )
    result.save(options.out)
    print(f"{options.out}: {result.summary()}")
