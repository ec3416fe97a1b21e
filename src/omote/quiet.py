"""What a process of ours sees to before it imports libraries: no warnings that nobody can act on, nothing fetched."""

from __future__ import annotations

import os
import sys
import threading
import warnings

# Networks are read from local files; no library may look for them elsewhere.
QUIET_AND_OFFLINE = {"DIFFUSERS_VERBOSITY": "error", "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_OFFLINE": "1"}

# Held while networks load. diffusers replaces its package in `sys.modules` as it is imported: a second thread that imports it at
# that moment gets the package from before, which has no classes.
LOADING = threading.RLock()


def calm_libraries() -> None:
    """Silence libraries and keep them offline; ``python -W default -m omote ...`` shows their warnings."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    for variable, value in QUIET_AND_OFFLINE.items():
        os.environ.setdefault(variable, value)
    # Where it is installed, diffusers imports all of it, which takes a second; Stable Diffusion's text encoder takes it back.
    sys.modules.setdefault("transformers", None)  # type: ignore[arg-type]
