"""``omote.train``: recipes by name, changed value by value, run to their end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omote.config import nearest, override
from omote.errors import ConfigError
from omote.files import check_folder
from omote.progress import NOTE, Step


def recipe(name: str, *, run: Path | str, changes: Sequence[str] = ()) -> Any:
    """Return a recipe's complete config, an `omote.recipes.run.RecipeConfig`.

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


def estimate_training(config: Any) -> dict[str, float | str]:
    """What a run of this config will take on this machine: a few steps are taken in memory, nothing is written.

    Args:
        config: config that `recipe` returns.

    Returns:
        ``parameters``, ``frozen_parameters``, ``precision``, ``memory_layout``, ``images_per_s``, ``hours``, ``memory_mb``.

    Raises:
        OmoteError: the population or a run it builds on is missing.
    """
    from omote.recipes.run import estimate_recipe

    return dict(vars(estimate_recipe(config)))


def encode(
    population: Path | str,
    *,
    out: Path | str,
    autoencoder: Path | str | None = None,
    variants: int = 1,
    seed: int = 0,
    on_step: Callable[[Step], None] | None = None,
) -> int:
    """Encode a population's edits once, for editors to train on with ``latents``; shards that are there are kept.

    Args:
        population: folder of rendered shards.
        out: folder of the edits; made if missing.
        autoencoder: folder of an exported first stage; the shipped one if None.
        variants: captures per person.
        seed: seed of everything drawn.
        on_step: called with progress.

    Returns:
        The number of edits in ``out``.

    Raises:
        ConfigError: a number out of range, or ``out`` holds edits of another first stage.
        CheckpointError: the first stage does not load.
        OutputError: ``out`` cannot be written.
    """
    for name, value, low, high in (("variants", variants, 1, 1000), ("seed", seed, 0, 2**63 - 1)):
        if not low <= value <= high:
            raise ConfigError(f"{name}: expected {low} to {high}, got {value}")
    population, out = Path(population), Path(out)
    check_folder(out)

    from omote.head.shipped import shipped_head
    from omote.rgbd.identity_stage import load_first_stage
    from omote.rgbd.train.latent_cache import CachedLatentPairs, encode_population
    from omote.rgbd.weights import SHIPPED_WEIGHTS

    folder = SHIPPED_WEIGHTS / "autoencoder" if autoencoder is None else Path(autoencoder)
    first_stage = load_first_stage(folder).float().eval().requires_grad_(False)
    for step in encode_population(population, first_stage, shipped_head(), out, variants=variants, seed=seed):
        if on_step is not None:
            on_step(step)
    return CachedLatentPairs(out, first_stage).num_edits


def count_parameters(config: Any) -> int | None:
    """Count the parameters of a network that a config alone describes, without its data; None for others.

    Args:
        config: config that `recipe` returns.
    """
    from omote.recipes.run import parameters_of

    return parameters_of(config)


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

    from omote.recipes.run import run_recipe

    line = "nothing left to do"
    for report in run_recipe(config, run):
        values = "  ".join(f"{key} {value:.4g}" for key, value in report.metrics.items())
        line = f"{report.images:,} images, {values}"
        if on_step is not None and report.note:
            on_step(Step(stage=NOTE, note=report.note))
        if on_step is not None:
            note = f"{report.images_per_s:.0f}/s  {values}"
            on_step(Step(stage="train", done=report.images, total=report.total_images, note=note))
    return line
