"""What lies in a weights folder beside the weights, and how a result remembers which weights it is of."""

from __future__ import annotations

import hashlib
from pathlib import Path

# Weights of other networks, a folder per row of the release suite.
RIVALS = "rivals"
# How the networks were trained (`omote.evaluation.studies.training_cost`).
RECORD = "training.json"


def fingerprint(folder: Path) -> str:
    """SHA-256 over the names and contents of a weights folder's files, the first 16 digits.

    Its rivals are none of it, and neither is what is told of the training.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".safetensors", ".json") and path.relative_to(folder).parts[0] not in (RIVALS, RECORD):
            digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
