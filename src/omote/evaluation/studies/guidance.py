"""Identity against expression strength: what guidance buys of one and costs of the other.

Classifier-free guidance (Ho & Salimans, "Classifier-Free Diffusion Guidance", 2022, eq. 6) pushes an edit further along what is
asked for, and further from the person. Every scale is asked for at every intensity; distances are to the true render at that
intensity, so that a stronger expression is no loss of identity by itself. A scale of 1 is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from omote.config import Range
from omote.evaluation.figures import figure
from omote.evaluation.studies.conditions import Condition, Edit, StudyOfEdits, at_intensity, run_conditions
from omote.evaluation.studies.table import DEPTH, IDENTITY, TOP1, Table, curves, trade_off
from omote.ldm.editing import EditSettings
from omote.progress import Step


@dataclass(frozen=True, kw_only=True)
class Guidance(StudyOfEdits):
    """The study.

    Attributes:
        scales: of guidance.
        intensities: asked for.
        steps: of the sampler.
    """

    scales: tuple[Annotated[float, Range(0, 20)], ...] = (0.5, 1.0, 1.5, 2.0, 3.0)
    intensities: tuple[Annotated[float, Range(0, 1)], ...] = (0.5, 1.0)
    steps: Annotated[int, Range(1)] = 1

    def __post_init__(self) -> None:
        if not self.scales or not self.intensities:
            raise ValueError("expected at least one of scales and of intensities")


def study_guidance(config: Guidance, out: Path) -> Iterator[Step]:
    """Run the study into ``out`` (`run_conditions`)."""
    edits = {
        f"guidance_{scale:g}": Edit(settings=EditSettings(steps=config.steps, guidance_scale=scale))
        for scale in config.scales
    }
    conditions = [
        Condition(name=name, edits=edits, shown=partial(at_intensity, intensity=intensity))
        for intensity, name in _at(config).items()
    ]
    yield from run_conditions(config, conditions, out, lambda table: _drawn(table, config))


def _at(config: Guidance) -> Mapping[float, str]:
    return {intensity: f"intensity_{intensity:g}" for intensity in config.intensities}


def _drawn(table: Table, config: Guidance) -> str:
    at = _at(config)
    traded: dict[str, list[str]] = {
        f"intensity {intensity:g}": [f"guidance_{scale:g}_{name}" for scale in config.scales]
        for intensity, name in at.items()
    }
    # A copy of the source: as much identity as an expression leaves, and no expression.
    traded["copy"] = [f"copy_source_{name}" for name in at.values()]
    traded["autoencoder"] = [f"autoencoder_ceiling_{name}" for name in at.values()]
    charts = [trade_off(table, IDENTITY, TOP1, traded)]
    for metric in (TOP1, IDENTITY, DEPTH):
        # Scales stand across here, and a line is an intensity: rows are named the other way round.
        turned = {
            f"{name}_{scale:g}": table[f"guidance_{scale:g}_{name}"] for name in at.values() for scale in config.scales
        }
        lines = {name: f"intensity {intensity:g}" for intensity, name in at.items()}
        levels = {
            f"true render, {intensity:g}": table[f"ceiling_{name}"][metric].value
            for intensity, name in at.items()
            if metric in table[f"ceiling_{name}"]
        }
        scales = [(scale, f"{scale:g}") for scale in config.scales]
        charts.append(curves(turned, metric, scales, "guidance scale", lines=lines, levels=levels))
    return figure(charts)
