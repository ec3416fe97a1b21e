"""One 3D face in, an avatar that can show any expression out.

Three lines of Python::

    import omote
    result = omote.avatar("scan.ply")
    result.save("avatar.glb")

The functions here have the names of the commands (`omote avatar`, `omote render`, ...) and are defined in `omote.api`. Importing
`omote` imports none of the heavy libraries; the first call does.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

# Nothing phones home. Usage reports of dependencies are switched off before any of them is imported, in every process that
# imports omote: huggingface_hub's variable covers diffusers and transformers too; OpenVINO has none, but uses its own stub if
# the reporting package is missing.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

if TYPE_CHECKING:
    from omote.api import *

__version__ = "0.1.0"
__all__ = [
    "AvatarSettings",
    "BatchSettings",
    "Execution",
    "FitSettings",
    "FuseSettings",
    "GenerateSettings",
    "PopulationSettings",
    "ReconstructionSettings",
    "RenderSettings",
    "SampleSettings",
    "__version__",
    "avatar",
    "batch",
    "data",
    "demo",
    "encode",
    "evaluate",
    "fit",
    "fuse",
    "generate",
    "info",
    "pack",
    "population",
    "read",
    "reconstruct",
    "render",
    "report",
    "sample",
    "several_avatars",
    "study",
    "tool",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from omote import api

        return getattr(api, name)
    raise AttributeError(f"module 'omote' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
