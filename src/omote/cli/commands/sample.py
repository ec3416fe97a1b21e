"""``omote sample``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from omote.cli import flags
from omote.diffusion.settings import SamplerName


@dataclass(frozen=True, kw_only=True)
class Options:
    """Draw people who never were.

    Each is drawn at rest and edited into the expressions by the same network. Writes DIR/person_000/neutral/ and so on
    (RGB-D frames that `omote avatar` reads), DIR/sheet.png and DIR/report.json.
    """

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """folder of the results; made if missing"""
    expressions: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ("neutral",)
    """some of: neutral happy sad angry surprised fearful disgusted, or all"""
    count: int = 4
    """how many people"""
    seed: int = 0
    """of the noise: another seed, other people"""
    intensity: float = 1.0
    """how strong the expressions are, 0 to 1"""
    steps: flags.Steps = None
    """steps of the drawing; more are slower"""
    sampler: SamplerName = "flow_heun"
    """how they are taken"""
    guidance_scale: float = 1.0
    """of the drawing: above 1 shows more of what is asked for and less variety"""
    weights: flags.Folder = None
    """a folder with autoencoder/ and editor/ that were trained to draw, instead of the shipped weights"""
    backend: flags.Backend = "auto"
    """what runs the networks"""


def run(options: Options) -> None:
    """Draw and say what was drawn."""
    from omote import api
    from omote.cli.display import Display

    api.check_folder(options.out)
    with Display() as display:
        result = api.sample(
            expressions=options.expressions,
            count=options.count,
            seed=options.seed,
            intensity=options.intensity,
            steps=options.steps,
            sampler=options.sampler,
            guidance_scale=options.guidance_scale,
            weights=options.weights,
            backend=options.backend,
            on_step=display,
        )
    result.save(options.out)
    print(f"{options.out}: {result.summary()}; pictures in {options.out / 'sheet.png'}")
