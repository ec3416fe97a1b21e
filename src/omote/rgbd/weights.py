"""Folders of weights: where the shipped ones lie, and how a result remembers which were used."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from omote.errors import CheckpointError

Backend = Literal["auto", "torch", "openvino"]
SHIPPED_WEIGHTS = Path(__file__).parent.parent / "weights"
WEIGHT_PARTS = ("autoencoder", "editor")


def check_weights(folder: Path) -> None:
    """Refuse a folder without weights, before anything long begins.

    Raises:
        CheckpointError: a part is missing.
    """
    for name in WEIGHT_PARTS:
        if not (folder / name / "config.json").is_file():
            raise CheckpointError(f"{folder / name}: expected config.json and weights; give a run's export folder")


def name_of(folder: Path | None) -> str:
    """Name of weights in a report: "shipped", or their folder."""
    return "shipped" if folder in (None, SHIPPED_WEIGHTS) else str(folder)


# Weights of networks to compare with, a folder per row of the release suite. They are in a checkout and not in a wheel.
RIVALS = "rivals"
RIVALS_ELSEWHERE = "their weights come with omote's repository (src/omote/weights/rivals), not with its wheel"
# File that records how the networks were trained (`omote.studies.training_cost`).
RECORD = "training.json"


def fingerprint(folder: Path) -> str:
    """SHA-256 over the names and contents of a weights folder's files, the first 16 digits.

    Weights of other networks (`RIVALS`) and the record of the training (`RECORD`) do not count.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".safetensors", ".json") and path.relative_to(folder).parts[0] not in (RIVALS, RECORD):
            digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
