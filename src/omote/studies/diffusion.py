"""Where diffusion pays: a determined answer and an ambiguous one, drawn and regressed.

With the truth's ARKit weights given the answer is determined, and one pass is all there is to it. By category and intensity alone
many faces are right: a regression answers with their mean, whatever the seed; diffusion in latents draws one of them, and so does
diffusion of the expression's weights before an editor of one step (`omote.rgbd.expression_prior`). All are measured by the suite
for editors (`omote.studies.editors`), as single answers, as best of several, and as sets of images.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from omote.config import Range
from omote.errors import ConfigError
from omote.files import atomic_path
from omote.progress import Step
from omote.rgbd.model import SHIPPED_WEIGHTS
from omote.rgbd.weights import RIVALS
from omote.studies.conditions import PersonsOfStudy
from omote.studies.editors import EditorSuite, evaluate_editors, load_editor
from omote.studies.first_stage import row_names

REGRESSION = "regression"
SHIPPED = tuple(SHIPPED_WEIGHTS / RIVALS / name for name in ("flow", REGRESSION))


@dataclass(frozen=True, kw_only=True)
class WhereDiffusionPays(PersonsOfStudy):
    """The study.

    Attributes:
        runs: editors, as runs or weights folders; what others are compared with is the one named `REGRESSION`.
        steps: of each editor.
        samples: where many answers are right.
    """

    runs: tuple[Path, ...] = SHIPPED
    steps: tuple[Annotated[int, Range(1)], ...] = (8, 1)
    samples: Annotated[int, Range(1)] = 8


def study_diffusion(config: WhereDiffusionPays, out: Path) -> Iterator[Step]:
    """Run the study into ``out``; `against_regression` joins the suite's numbers.

    Raises:
        ConfigError: no regression among the runs.
        CheckpointError: missing or damaged weights.
    """
    names = row_names(config.runs)
    if REGRESSION not in names:
        raise ConfigError(f"runs: expected one of a folder named {REGRESSION}, got {', '.join(names)}")
    yield Step(stage="load")
    models = {name: load_editor(run, config.backend) for name, run in zip(names, config.runs, strict=True)}
    suite = EditorSuite(
        population=config.unseen(),
        num_persons=config.num_persons,
        steps=config.steps,
        samples=config.samples,
        seed=config.seed,
    )
    for step in evaluate_editors(models, suite, out):
        yield Step(stage="persons", done=step.done, total=step.total)
    numbers = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    numbers |= against_regression(numbers)
    with atomic_path(out / "metrics.json") as temporary:
        temporary.write_text(json.dumps(numbers, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def against_regression(numbers: dict[str, float]) -> dict[str, float]:
    """Every measure of a row asked by category, over that of the regression asked so in one pass.

    Args:
        numbers: flat keys ``<metric>/<row>`` of `evaluate_editors`.

    Returns:
        ``against_regression/<metric>/<row>``; where the regression's is 0, as its diversity is, there is no ratio.
    """
    reference = f"{REGRESSION}_category_1"
    out: dict[str, float] = {}
    for key, value in numbers.items():
        metric, _, row = key.rpartition("/")
        least = numbers.get(f"{metric}/{reference}")
        asked_by_category = any(f"_{condition}_" in row for condition in ("category", "prior"))
        if least and asked_by_category and not metric.startswith("ratio/"):
            out[f"against_regression/{key}"] = value / least
    return out
