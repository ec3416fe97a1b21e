"""Folders of weights: the path of the shipped weights, and names and hashes that identify weights in results."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal

from omote.errors import CheckpointError

# "torch-bf16" rounds convolutions and matrix products to bfloat16; "fastest" is what PyTorch is faster with on this machine.
Backend = Literal["auto", "torch", "torch-bf16", "fastest", "openvino"]
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
# Networks that complete scans, a folder per kind (`omote.completion`).
COMPLETIONS = "completion"
# File that records how the networks were trained (`omote.studies.training_cost`).
RECORD = "training.json"


def fingerprint(folder: Path) -> str:
    """SHA-256 over the names and contents of a weights folder's files, the first 16 digits.

    Weights of other networks (`RIVALS`) and the record of the training (`RECORD`) are excluded. The fingerprint of a run covers
    its exported weights and the first stage that they were trained with.
    """
    folders = [folder]
    if (folder / "export").is_dir() and (folder / "config.json").is_file():
        first_stage = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("autoencoder")
        folders = [folder / "export", *([Path(first_stage)] if first_stage else [])]
    digest = hashlib.sha256()
    for root in folders:
        for path in sorted(root.rglob("*")):
            if path.suffix in (".safetensors", ".json") and path.relative_to(root).parts[0] not in (RIVALS, RECORD):
                digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
