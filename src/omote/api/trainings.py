"""``omote.train``: recipes by name, with changes of single values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omote.config import nearest, override
from omote.errors import ConfigError
from omote.files import check_folder
from omote.progress import NOTE, Step


def recipe(name: str, *, run: Path | str, changes: Sequence[str] = ()) -> Any:
    """The complete config of a recipe, an `omote.recipes.run.RecipeConfig`.

    Args:
        name: a name in `omote.recipes.RECIPES`.
        run: folder of the run; other runs that the recipe depends on lie beside it.
        changes: changes of single values: ``["engine.batch_size=8"]``.

    Raises:
        ConfigError: an unknown recipe or key, or a value that does not fit.
    """
    from omote.recipes import RECIPES

    if name not in RECIPES:
        raise ConfigError(f"{name}: unknown recipe{nearest(name, RECIPES)}")
    return override(RECIPES[name](Path(run).parent), changes)


def estimate_training(config: Any) -> dict[str, float | str]:
    """Estimate of a run of this config on this machine: a few steps are taken in memory, nothing is written.

    Args:
        config: config of a recipe.

    Returns:
        ``parameters``, ``frozen_parameters``, ``precision``, ``memory_layout``, ``gflop_per_image``, ``images_per_s``, ``hours``,
        ``memory_mb`` (`omote.engine.estimate.Estimate`).

    Raises:
        OmoteError: the population or a run that it depends on is missing.
    """
    from omote.recipes.run import estimate_recipe

    return dict(vars(estimate_recipe(config)))


def encode(
    population: Path | str,
    *,
    out: Path | str,
    autoencoder: Path | str | None = None,
    encoder: Path | str | None = None,
    variants: int = 1,
    seed: int = 0,
    on_step: Callable[[Step], None] | None = None,
) -> int:
    """Encode a population's latent pairs once, to train editors on with ``latents``; existing shards are kept.

    Args:
        population: folder of rendered shards, of single images or of views.
        out: folder of the latent pairs; made if missing.
        autoencoder: folder of an exported first stage; if None, the shipped one, which encodes single images.
        encoder: for views, folder of an exported 3D encoder that gives the source's latents (candidate 2).
        variants: captures per person; 1 for views.
        seed: seed of all random choices.
        on_step: function called with each step.

    Returns:
        The number of latent pairs in ``out``.

    Raises:
        ConfigError: a number out of range, or ``out`` contains latent pairs of another first stage.
        CheckpointError: the first stage does not load.
        OutputError: ``out`` cannot be written.
    """
    for name, value, low, high in (("variants", variants, 1, 1000), ("seed", seed, 0, 2**63 - 1)):
        if not low <= value <= high:
            raise ConfigError(f"{name}: expected {low} to {high}, got {value}")
    population, out = Path(population), Path(out)
    check_folder(out)

    from omote.datasets.view_shards import holds_views

    if holds_views(population):
        if autoencoder is None or variants != 1:
            raise ConfigError(
                f"{population}: holds views, which need --autoencoder RUN/export/first_stage, and one variant"
            )
        return _encode_views(population, out, Path(autoencoder), None if encoder is None else Path(encoder), on_step)
    if encoder is not None:
        raise ConfigError(f"encoder: expected a population of views (`omote population --views`), got {population}")

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


def _encode_views(
    population: Path, out: Path, stage: Path, encoder: Path | None, on_step: Callable[[Step], None] | None
) -> int:
    """Encode views with a first stage and, for the source, with a 3D encoder; the number of edits in ``out``."""
    from omote.engine.weights import load_pretrained
    from omote.multiview.first_stage import ViewAutoencoder
    from omote.multiview.latent_views import EncodedViews, ViewEncoders, encode_views
    from omote.multiview.voxels import VoxelEncoder

    encoders = ViewEncoders(
        first_stage=load_pretrained(ViewAutoencoder, stage).eval(),
        encoder=None if encoder is None else load_pretrained(VoxelEncoder, encoder).eval(),
    )
    for step in encode_views(population, encoders, out):
        if on_step is not None:
            on_step(step)
    return EncodedViews(out, encoders).num_edits


def count_parameters(config: Any) -> int | None:
    """Number of parameters of a network that its config describes without data; None for other networks.

    Args:
        config: config of a recipe.
    """
    from omote.recipes.run import parameters_of

    return parameters_of(config)


def train(config: Any, *, run: Path | str, on_step: Callable[[Step], None] | None = None) -> str:
    """Train a recipe, or resume the run in this folder.

    Args:
        config: name of a recipe, or its config.
        run: folder of the run; made if missing.
        on_step: function called with each step.

    Returns:
        One line with the images seen and the last means.

    Raises:
        ConfigError: an unknown recipe.
        CheckpointError: the folder contains a run of another network, or a run that it depends on is missing.
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
