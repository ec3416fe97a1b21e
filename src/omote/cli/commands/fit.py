"""``omote fit``."""

from __future__ import annotations

from dataclasses import dataclass

from tyro.conf import OmitArgPrefixes

from omote.api.scans import FitOutputs, FitSettings
from omote.cli import flags


@dataclass(frozen=True, kw_only=True)
class Options:
    """Fit the head model to a scan.

    The mesh is in the head model's vertex order, in millimetres, in the canonical pose.
    """

    scan: flags.Scan
    """the face: any unit, any orientation, with or without colour"""
    outputs: OmitArgPrefixes[FitOutputs]
    settings: OmitArgPrefixes[FitSettings] = FitSettings()


def run(options: Options) -> None:
    """Fit and say how well."""
    from omote import api
    from omote.cli.display import Display

    outputs = options.outputs.checked(options.scan)
    with Display() as display:
        result = api.fit(options.scan, options.settings, on_step=display)
        result.save_all(outputs)
    print(f"{outputs.mesh}: {result.summary()}")
