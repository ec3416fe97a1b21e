"""Options that several commands share, with one wording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

Scan = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SCAN")]
Unit = Literal["auto", "mm", "cm", "m", "in"]
Backend = Literal["auto", "torch", "openvino"]
File = Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")]
Folder = Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="")]
JsonFile = Annotated[Path | None, tyro.conf.arg(metavar="FILE.json", help_behavior_hint="")]
PngFile = Annotated[Path | None, tyro.conf.arg(metavar="FILE.png", help_behavior_hint="")]
Steps = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")]
