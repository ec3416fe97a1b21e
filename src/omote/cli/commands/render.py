"""``omote render``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from omote.api.scans import RenderSettings
from omote.cli import flags


@dataclass(frozen=True, kw_only=True)
class Options:
    """Render a scan to an RGB-D image.

    Writes color.png, depth.png (16 bits), intrinsics.json and a picture of both, picture.png; `omote` reads the folder
    back as a scan.
    """

    scan: flags.Scan
    """the face: any unit, any orientation, with or without colour"""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """folder of the image; made if missing"""
    settings: tyro.conf.OmitArgPrefixes[RenderSettings] = RenderSettings()


def run(options: Options) -> None:
    """Render and say where the files are."""
    from omote import api
    from omote.cli.display import Display

    api.check_folder(options.out)
    with Display() as display:
        image = api.render(options.scan, options.settings, on_step=display)
    api.save_rgbd(image, options.out)
    print(f"{options.out}: {image.camera.width} × {image.camera.height}, {int(image.mask.sum()):,} pixels with depth")
