"""``omote tool``: how shipped weights that are no network of the diffusion were made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from omote.cli import flags


@dataclass(frozen=True, kw_only=True)
class Landmarks:
    """Train the face finder and the landmark network on simulated scans, about twenty minutes on one core.

    DIR/landmarks.safetensors has the shipped format. The same command resumes a run.
    """

    run: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """folder of the run; made if missing"""
    ict: flags.File = None
    """an ICT-FaceKit checkout or .npz as a second head family"""
    steps: int = 4200
    """optimiser steps"""
    seed: int = 0
    """seed of scans, views and weights"""
    threads: int = 1
    """torch threads"""


@dataclass(frozen=True, kw_only=True)
class UnitStyle:
    """Learn the second style of expression units from a population of both head families, about ten minutes on one core."""

    out: Annotated[Path, tyro.conf.arg(metavar="FILE.safetensors")]
    """file of the style"""
    ict: Annotated[Path, tyro.conf.arg(metavar="PATH")]
    """an ICT-FaceKit checkout or .npz, the head family whose style is learned"""
    persons: int = 600
    """number of persons; the last 40 are held out and measure what was learned"""


Options = (
    Annotated[Landmarks, tyro.conf.subcommand("landmarks")] | Annotated[UnitStyle, tyro.conf.subcommand("unit-style")]
)
NAMES = ["landmarks", "unit-style"]


def run(options: Landmarks | UnitStyle) -> None:
    """Train or learn, and print the result's place and scores."""
    if isinstance(options, Landmarks):
        _landmarks(options)
    else:
        _unit_style(options)


def _landmarks(options: Landmarks) -> None:
    from omote.cli.display import Display
    from omote.files import check_folder
    from omote.head.shipped import population_heads
    from omote.progress import Step
    from omote.tools.landmarks import LandmarkTraining, train_landmarks

    check_folder(options.run)
    config = LandmarkTraining(steps=options.steps, seed=options.seed, threads=options.threads)
    with Display() as display:
        for step in train_landmarks(config, list(population_heads(options.ict)), options.run):
            error = f"landmark error {step.landmark_error_mm:.1f} mm"
            display(Step(stage="train", done=step.step, total=step.steps, note=error))
    print(options.run / "landmarks.safetensors")


def _unit_style(options: UnitStyle) -> None:
    from omote.cli.display import Display
    from omote.datasets.population import PopulationConfig
    from omote.files import check_file
    from omote.head.shipped import population_heads
    from omote.progress import Step
    from omote.tools.unit_style import learn_unit_style

    check_file(options.out, (".safetensors",))
    config = PopulationConfig(seed=0, split="train", ict=options.ict)
    with Display() as display:
        for item in learn_unit_style(config, population_heads(options.ict), options.persons):
            if isinstance(item, int):
                display(Step(stage="observe", done=item, total=options.persons))
            else:
                style, report = item
    style.save(options.out)
    print(
        f"{options.out}: error of the units of {options.ict} {report.before_mm:.2f} mm before, {report.after_mm:.2f} mm after; "
        f"{report.told_apart:.0%} of the held-out persons told apart"
    )
