"""``omote fit``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from omote.cli import flags


@dataclass(frozen=True, kw_only=True)
class Options:
    """Fit the head model to a scan.

    The mesh is in the head model's vertex order, in millimetres, in the canonical pose.
    """

    scan: flags.Scan
    """the face: any unit, any orientation, with or without colour"""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.ply|.obj")]
    """the fitted head"""
    unit: flags.Unit = "auto"
    """of the scan's coordinates, if you know it"""
    landmarks: flags.File = None
    """68 points (JSON, NPY or text) where the face is not found by itself"""
    head: flags.File = None
    """an ICT-FaceKit checkout or .npz instead of the shipped head"""
    report: flags.JsonFile = None
    """every estimate, time, memory and version"""


def run(options: Options) -> None:
    """Fit and say how well."""
    from omote import api
    from omote.cli.display import Display

    outputs = api.FitOutputs(mesh=options.out, report=options.report).checked(options.scan)
    with Display() as display:
        result = api.fit(
            options.scan, unit=options.unit, landmarks=options.landmarks, head=options.head, on_step=display
        )
        result.save_all(outputs)
    print(f"{options.out}: {result.summary()}")
