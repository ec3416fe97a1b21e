"""Which weights: where they lie, how a result remembers them, and the protocol of what edits with them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from omote.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omote.diffusion.settings import EditSettings
    from omote.head.rest_face import RestFace
    from omote.types import Expression, Rgbd


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
    """What a report calls weights: "shipped", or their folder."""
    return "shipped" if folder in (None, SHIPPED_WEIGHTS) else str(folder)


@runtime_checkable
class Editor(Protocol):
    """What edits: `EditingModel` here, or `EditingProcess` in a process of its own."""

    @property
    def sample_size(self) -> int:
        """Side of the images in pixels."""
        ...

    def edit(
        self,
        source: Rgbd,
        expressions: Sequence[Expression],
        settings: EditSettings | None = None,
        *,
        face: RestFace | None = None,
    ) -> list[Rgbd]:
        """All wanted expressions of one source, in its camera."""
        ...


# Weights of networks to compare with, a folder per row of the release suite. They are in a checkout and not in a wheel.
RIVALS = "rivals"
RIVALS_ELSEWHERE = "their weights come with omote's repository (src/omote/weights/rivals), not with its wheel"


def fingerprint(folder: Path) -> str:
    """SHA-256 over the names and contents of a weights folder's files, the first 16 digits.

    Its rivals are none of it, and neither is what is told of the training.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".safetensors", ".json") and path.relative_to(folder).parts[0] not in (RIVALS, RECORD):
            digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


# How the networks were trained (`omote.studies.training_cost`).
RECORD = "training.json"
