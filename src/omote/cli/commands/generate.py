"""``omote generate``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from omote.diffusion.settings import SamplerName


@dataclass(frozen=True, kw_only=True)
class Options:
    """Draw new images from a run of an image generator.

    The run is one of a recipe `generator-...` (docs/training.md). Image i is a function of the run and SEED + i.
    """

    run: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """folder of the run"""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """folder of the PNG files; made if missing"""
    count: int = 16
    """how many"""
    steps: int = 50
    """of the sampler"""
    sampler: SamplerName = "ddim"
    """how they are taken"""
    guidance_scale: float = 1.0
    """towards the class or text; 1 means none"""
    label: str = ""
    """name of a class; every class in turn without"""
    text: str = ""
    """what to show, where the model was trained with captions"""
    seed: int = 0
    """of the first image's noise"""


def run(options: Options) -> None:
    """Draw, and say how many."""
    from omote import api
    from omote.cli.display import Display

    with Display() as display:
        made = api.generate(
            options.run,
            options.out,
            count=options.count,
            steps=options.steps,
            sampler=options.sampler,
            guidance_scale=options.guidance_scale,
            label=options.label or None,
            text=options.text,
            seed=options.seed,
            on_step=display,
        )
    print(f"{options.out}: {len(made):,} images")
