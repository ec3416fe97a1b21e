"""How an avatar is made of a scan: one frozen object from the command line to the pipeline.

In Python, expressions may also be `Expression`s, landmarks an array and the head a `HeadModel`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from tyro.conf import arg

from omote.config import Range, check_ranges
from omote.head.expressions import expressions_of
from omote.head.model import HeadModel
from omote.rgbd.weights import SHIPPED_WEIGHTS, Backend
from omote.types import Expression, Unit

OptionalHead = Annotated[HeadModel | Path | None, arg(constructor=Path, metavar="FILE", help_behavior_hint="")]


@dataclass(frozen=True, kw_only=True)
class ScanSettings:
    """What is known about a scan.

    Attributes:
        unit: unit of the scan's coordinates; "auto" estimates it.
        landmarks: 68 × 3 points in the scan's coordinates (JSON, NPY or text), for a face that is not found by itself.
        max_depth_mm: greatest depth of a depth frame that is kept, in mm; walls and furniture are left out without it.
    """

    unit: Unit = "auto"
    landmarks: Annotated[np.ndarray | Path | None, arg(constructor=Path, metavar="FILE", help_behavior_hint="")] = None
    max_depth_mm: Annotated[float | None, Range(1), arg(metavar="MM", help_behavior_hint="")] = None

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class AvatarSettings(ScanSettings):
    """How the avatar is made.

    Attributes:
        expressions: some of: neutral happy sad angry surprised fearful disgusted, or all.
        text: expressions in English or Japanese words, each in quotes ("slightly disgusted" "笑っている顔").
        intensity: strength of the expressions given by name, 0 to 1.
        seed: seed of the diffusion's noise: another seed, another way of smiling.
        steps: diffusion steps; more are slower.
        guidance_scale: above 1 exaggerates the expression; 1 means no guidance.
        head: output head instead of the shipped one: an ICT-FaceKit checkout or .npz.
        pipeline: the candidate: one RGB-D image, several registered views (1), or latents of several views without an image on
            the way (2).
        depth_weight: how far the scan's depth leads several views, from 0 (not at all) to 1; above 1 exaggerates it.
        backend: library that runs the networks.
        weights: a run's export folder instead of the shipped weights.
    """

    expressions: Annotated[tuple[str | Expression, ...], arg(constructor=tuple[str, ...], metavar="NAME ...")] = (
        "all",
    )
    text: Annotated[tuple[str, ...], arg(metavar="WORDS ...")] = ()
    intensity: Annotated[float, Range(0, 1)] = 1.0
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    steps: Annotated[int, Range(1, 1000)] = 1
    guidance_scale: Annotated[float, Range(0, 20)] = 1.0
    head: OptionalHead = None
    pipeline: Literal["rgbd", "multiview", "latent-views"] = "rgbd"
    depth_weight: Annotated[float, Range(0, 4)] = 1.0
    backend: Backend = "auto"
    weights: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None

    def wanted(self) -> tuple[Expression, ...]:
        """The expressions to generate; each name once.

        Raises:
            ConfigError: an unknown expression, words that name none, a name given twice, or no expression at all.
            CheckpointError: expressions in words, and no encoder installed to read them.
        """
        named = expressions_of(self.expressions, self.intensity)
        if self.text:
            from omote.rgbd.conditions.text.conditioner import load_text_conditioner

            reader = load_text_conditioner(
                SHIPPED_WEIGHTS if self.weights is None or self.pipeline != "rgbd" else self.weights
            )
            named = expressions_of([*named, *reader.expressions(self.text)])
        return named
