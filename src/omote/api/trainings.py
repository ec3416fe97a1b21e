"""``omote.train``: recipes by name, changed value by value, run to their end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omote.api.outputs import check_folder
from omote.config import nearest, override
from omote.errors import ConfigError
from omote.progress import Step


def recipe(name: str, *, run: Path | str, changes: Sequence[str] = ()) -> Any:
    """Return a recipe's complete config, an `omote.training.run.RecipeConfig`.

    Args:
        name: one of `omote.recipes.RECIPES`.
        run: the run's folder; other runs that the recipe builds on lie beside it.
        changes: single values, ``["engine.batch_size=8"]``.

    Raises:
        ConfigError: an unknown recipe or key, or a value that does not fit.
    """
    from omote.recipes import RECIPES

    if name not in RECIPES:
        raise ConfigError(f"{name}: unknown recipe{nearest(name, RECIPES)}")
    return override(RECIPES[name](Path(run).parent), changes)


def estimate_training(config: Any) -> dict[str, float]:
    """What a run of this config will take on this machine: a few steps are taken in memory, nothing is written.

    Args:
        config: what `recipe` returns.

    Returns:
        ``parameters``, ``frozen_parameters``, ``images_per_s``, ``hours``, ``memory_mb``.

    Raises:
        OmoteError: the population or a run it builds on is missing.
    """
    from omote.training.run import estimate_recipe

    return dict(vars(estimate_recipe(config)))


def train(config: Any, *, run: Path | str, on_step: Callable[[Step], None] | None = None) -> str:
    """Train to the end of a recipe, or go on where the run in this folder stopped.

    Args:
        config: a recipe's name, or what `recipe` returns.
        run: the run's folder; made if missing.
        on_step: called with progress.

    Returns:
        One line: images seen, and the last means.

    Raises:
        ConfigError: an unknown recipe.
        CheckpointError: the folder holds a run of another network, or a run it builds on is missing.
        OutputError: the folder cannot be written.
    """
    run = Path(run)
    check_folder(run)
    config = recipe(config, run=run) if isinstance(config, str) else config

    from omote.training.run import run_recipe

    line = "nothing left to do"
    for report in run_recipe(config, run):
        values = "  ".join(f"{key} {value:.4g}" for key, value in report.metrics.items())
        line = f"{report.images:,} images, {values}"
        if on_step is not None:
            note = f"{report.images_per_s:.0f}/s  {values}"
            on_step(Step(stage="train", done=report.images, total=report.total_images, note=note))
    return line
