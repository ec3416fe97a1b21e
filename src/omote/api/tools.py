"""``omote.tool``: making the shipped weights outside the diffusion model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from omote.files import check_file, check_folder
from omote.progress import Step, Steps, finish


@dataclass(frozen=True, kw_only=True)
class LandmarkSettings:
    """Train the face finder and the landmark network on simulated scans, about half an hour on one core.

    DIR/landmarks.safetensors has the shipped format. The same command resumes a run.
    """

    run: Annotated[Path, arg(metavar="DIR")]
    """folder of the run; made if missing"""
    ict: Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="")] = None
    """ICT-FaceKit checkout or .npz file of a second head family"""
    steps: int = 7500
    """optimiser steps"""
    seed: int = 0
    """seed of scans, views and weights"""
    threads: int = 1
    """torch threads"""


@dataclass(frozen=True, kw_only=True)
class UnitStyleSettings:
    """Learn the second style of expression units from a population of both head families, about ten minutes on one core."""

    out: Annotated[Path, arg(metavar="FILE.safetensors")]
    """file of the style"""
    ict: Annotated[Path, arg(metavar="PATH")]
    """ICT-FaceKit checkout or .npz file of the head family whose style is learned"""
    persons: int = 600
    """number of persons; the last 40 are held out to measure the result"""


@dataclass(frozen=True, kw_only=True)
class SourceExpressionSettings:
    """Train the network that finds the expression in a scan, about six minutes on one core."""

    out: Annotated[Path, arg(metavar="FILE.safetensors")]
    """file of the weights"""
    ict: Annotated[Path, arg(metavar="PATH")]
    """ICT-FaceKit checkout or .npz file of the second head family"""
    persons: int = 30_000
    """number of persons drawn"""
    seed: int = 0
    """seed of persons and weights"""


ToolSettings = LandmarkSettings | UnitStyleSettings | SourceExpressionSettings


def tool(settings: ToolSettings, *, on_step: Callable[[Step], None] | None = None) -> str:
    """Train the landmark networks or the network of a scan's expression, or learn the second style of units.

    Args:
        settings: settings of the tool.
        on_step: function called with each step.

    Returns:
        One line with the file and its scores.

    Raises:
        HeadModelError: ``ict`` is not ICT-FaceKit.
        OutputError: the result cannot be written.
    """
    match settings:
        case LandmarkSettings():
            return finish(_landmarks(settings), on_step)
        case UnitStyleSettings():
            return finish(_unit_style(settings), on_step)
        case SourceExpressionSettings():
            return finish(_source_expression(settings), on_step)


def _landmarks(settings: LandmarkSettings) -> Steps[str]:
    from omote.head.shipped import population_heads
    from omote.tools.landmarks import LandmarkTraining, train_landmarks

    check_folder(settings.run)
    config = LandmarkTraining(steps=settings.steps, seed=settings.seed, threads=settings.threads)
    note = ""
    for step in train_landmarks(config, list(population_heads(settings.ict)), settings.run):
        note = f"landmark error {step.landmark_error_mm:.1f} mm"
        yield Step(stage="train", done=step.step, total=step.steps, note=note)
    return f"{settings.run / 'landmarks.safetensors'}: {note or 'trained before'}"


def _unit_style(settings: UnitStyleSettings) -> Steps[str]:
    from omote.datasets.population import PopulationConfig
    from omote.head.shipped import population_heads
    from omote.tools.unit_style import learn_unit_style

    check_file(settings.out, (".safetensors",))
    config = PopulationConfig(seed=0, split="train", ict=settings.ict)
    for item in learn_unit_style(config, population_heads(settings.ict), settings.persons):
        if isinstance(item, int):
            yield Step(stage="observe", done=item, total=settings.persons)
        else:
            style, report = item
    style.save(settings.out)
    return (
        f"{settings.out}: error of the units of {settings.ict} {report.before_mm:.2f} mm before, {report.after_mm:.2f} mm after; "
        f"{report.told_apart:.0%} of the held-out persons told apart"
    )


def _source_expression(settings: SourceExpressionSettings) -> Steps[str]:
    from omote.head.shipped import population_heads
    from omote.tools.source_expression import ExpressionTraining, train_source_expression

    check_file(settings.out, (".safetensors",))
    config = ExpressionTraining(persons=settings.persons, seed=settings.seed)
    error = float("nan")
    for stage, done, total, error in train_source_expression(config, population_heads(settings.ict), settings.out):
        yield Step(stage=stage, done=done, total=total, note="" if error != error else f"error {error:.2f} mm")
    return f"{settings.out}: {error:.2f} mm off the motion of the last persons"
