"""Settings of an avatar, as one frozen object from the command line to the pipeline.

In Python, expressions may also be given as `Expression` objects, landmarks as an array and the head as a `HeadModel`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from tyro.conf import arg

from omote.completion.names import CompletionName
from omote.config import Range, check_ranges
from omote.head.expressions import expressions_of
from omote.head.model import HeadModel
from omote.rgbd.weights import SHIPPED_WEIGHTS, Backend
from omote.types import Expression, Unit

OptionalHead = Annotated[HeadModel | Path | None, arg(constructor=Path, metavar="FILE", help_behavior_hint="")]


@dataclass(frozen=True, kw_only=True)
class ScanSettings:
    """Known properties of a scan.

    Attributes:
        unit: unit of the scan's coordinates; "auto" estimates it.
        landmarks: 68 × 3 points in the scan's coordinates (JSON, NPY or text), for a scan whose face is not found automatically.
        max_depth_mm: greatest depth that is kept of a depth frame, in mm; without it, walls and furniture are removed
            automatically.
    """

    unit: Unit = "auto"
    landmarks: Annotated[np.ndarray | Path | None, arg(constructor=Path, metavar="FILE", help_behavior_hint="")] = None
    max_depth_mm: Annotated[float | None, Range(1), arg(metavar="MM", help_behavior_hint="")] = None

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class AvatarSettings(ScanSettings):
    """Settings of an avatar's expressions and networks.

    Attributes:
        expressions: any of neutral, happy, sad, angry, surprised, fearful and disgusted, or all.
        text: expressions described in English or Japanese, each in quotes ("slightly disgusted" "笑っている顔").
        intensity: strength of the expressions given by name, from 0 to 1.
        seed: seed of the diffusion's noise; another seed gives another variant of each expression.
        steps: number of diffusion steps; more steps are slower.
        guidance_scale: scale of classifier-free guidance; above 1 exaggerates the expression, 1 means none. By default 1 for one
            image and 1.5 for several views.
        head: ICT-FaceKit checkout or .npz file of an output head to use instead of the shipped one.
        surroundings: hair, collar and glasses of a mesh come along as a rigid piece, or are dropped.
        appearance_seed: seed of skin, brows, lips and irises for a scan without colour; by default the person's shape draws them.
        pipeline: candidate pipeline: one RGB-D image (rgbd), several registered views (multiview, candidate 1), or latents
            of several views without images on the way (latent-views, candidate 2).
        completion: what takes the place of surface that the scan lacks: the best trained network if much of the head is missing
            (auto), the head fit (none), the head fit as the alignment refined it (restoration), or a trained network.
        completion_weights: folder export/completion of a run, to complete with instead of the shipped network.
        depth_weight: influence of the scan's depth on several views, from 0 (none) to 1; above 1 exaggerates it.
        backend: library that runs the networks.
        weights: export folder of a run, to use instead of the shipped weights.
    """

    expressions: Annotated[tuple[str | Expression, ...], arg(constructor=tuple[str, ...], metavar="NAME ...")] = (
        "all",
    )
    text: Annotated[tuple[str, ...], arg(metavar="WORDS ...")] = ()
    intensity: Annotated[float, Range(0, 1)] = 1.0
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    steps: Annotated[int, Range(1, 1000)] = 1
    guidance_scale: Annotated[float | None, Range(0, 20), arg(metavar="SCALE", help_behavior_hint="")] = None
    head: OptionalHead = None
    pipeline: Literal["rgbd", "multiview", "latent-views"] = "rgbd"
    surroundings: Literal["keep", "drop"] = "keep"
    appearance_seed: Annotated[int | None, Range(0, 2**63 - 1), arg(metavar="SEED", help_behavior_hint="")] = None
    completion: CompletionName = "auto"
    completion_weights: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    depth_weight: Annotated[float, Range(0, 4)] = 1.0
    backend: Backend = "auto"
    weights: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None

    def guidance(self, own: float) -> float:
        """The scale of guidance: the one asked for, or ``own``, a pipeline's."""
        return own if self.guidance_scale is None else self.guidance_scale

    def wanted(self) -> tuple[Expression, ...]:
        """The expressions to generate, each name once.

        Raises:
            ConfigError: an unknown expression, a text that names none, a name given twice, or no expression at all.
            CheckpointError: texts are given, but no encoder to read them is installed.
        """
        named = expressions_of(self.expressions, self.intensity)
        if self.text:
            from omote.rgbd.conditions.text.conditioner import load_text_conditioner

            reader = load_text_conditioner(
                SHIPPED_WEIGHTS if self.weights is None or self.pipeline != "rgbd" else self.weights
            )
            named = expressions_of([*named, *reader.expressions(self.text)])
        return named
