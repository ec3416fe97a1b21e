"""``omote avatar``."""

from __future__ import annotations

from dataclasses import dataclass

from tyro.conf import OmitArgPrefixes

from omote.cli import flags
from omote.pipelines.result import AvatarOutputs
from omote.pipelines.settings import AvatarSettings


@dataclass(frozen=True, kw_only=True)
class Options:
    """Make an avatar.

    SCAN is a PLY, OBJ, GLB/glTF, STL, OFF, PCD, XYZ, CSV, NPZ, WRL or USDZ file, a zip archive of one, or an RGB-D frame: a
    folder, its JSON file or a recording of Record3D.
    """

    scan: flags.Scan
    """the face: any unit, any orientation, with or without colour"""
    outputs: OmitArgPrefixes[AvatarOutputs]
    settings: OmitArgPrefixes[AvatarSettings] = AvatarSettings()


def run(options: Options) -> None:
    """Make the avatar."""
    from omote import api
    from omote.cli.display import Display

    outputs = options.outputs.checked(options.scan)
    with Display() as display:
        result = api.avatar(options.scan, options.settings, own_process=True, on_step=display)
        result.save_all(outputs, on_step=display)
    print(f"{outputs.glb}: {result.summary()}")
