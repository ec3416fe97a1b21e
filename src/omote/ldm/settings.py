"""How an edit is sampled; apart from the networks, which take seconds to import."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Backend = Literal["auto", "torch", "openvino"]
SHIPPED_WEIGHTS = Path(__file__).parent.parent / "weights"


@dataclass(frozen=True, kw_only=True)
class EditSettings:
    """How to sample.

    Attributes:
        steps: network evaluations per edit.
        guidance_scale: 1 means none.
        seed: of the noise; sample i of a batch uses seed + i, whatever the batch.
    """

    steps: int = 1
    guidance_scale: float = 1.0
    seed: int = 0
