"""Training costs of networks, from the folders of their runs or from the record beside shipped weights.

The keys of a run's config show which network it trained.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from omote.config import Range, load
from omote.errors import ConfigError
from omote.rgbd.weights import RECORD

Kind = Literal[
    "autoencoder",
    "editor",
    "decoder",
    "expressions",
    "regression",
    "pixel",
    "views",
    "encoder",
    "denoiser",
    "to_3d",
    "completion",
]
MODEL: tuple[Kind, ...] = ("autoencoder", "editor", "decoder")
# Networks of each row of a release table; the first one is required.
NETWORKS: Mapping[str, tuple[Kind, ...]] = {
    "model": MODEL,
    "model_category": (*MODEL, "expressions"),
    "model_token": MODEL,
    "autoencoder_ceiling": ("autoencoder", "decoder"),
    "regression": ("regression", "autoencoder", "decoder"),
    "pixel_diffusion": ("pixel",),
    "rgbd": MODEL,
    "rgbd_shipped": MODEL,
    "multiview": ("denoiser", "views", "to_3d"),
    "latent_views": ("denoiser", "views", "encoder", "to_3d"),
}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A finished training.

    Attributes:
        name: name of its run.
        kind: kind of network.
        images: number of training images.
        minutes: minutes of training.
        starts_from: name of the stage from whose weights it started, or "".
    """

    name: str
    kind: Kind
    images: Annotated[int, Range(0)]
    minutes: Annotated[float, Range(0)]
    starts_from: str = ""


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """``training.json`` beside weights.

    Attributes:
        machine: description of the machine on which the minutes were measured.
        stages: stages in the order of training.
    """

    machine: str
    stages: tuple[Stage, ...]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Training cost of a row's networks.

    Attributes:
        images: number of training images of all networks together.
        hours: hours of training.
        stages: names of the stages.
    """

    images: int
    hours: float
    stages: tuple[str, ...]


def stages_of(runs: Sequence[Path], records: Iterable[Path]) -> list[Stage]:
    """All stages: those of the runs, and those of the records whose kind no run has.

    Args:
        runs: folders of runs.
        records: weights folders; a folder without a record adds nothing.

    Raises:
        ConfigError: not a run's folder, or a record that does not fit.
    """
    found = [read_run(run) for run in runs]
    given = {stage.kind for stage in found}
    for folder in records:
        if (folder / RECORD).is_file():
            found += [stage for stage in load(TrainingRecord, folder / RECORD).stages if stage.kind not in given]
    return found


def read_run(run: Path) -> Stage:
    """The stage of a run's folder.

    Raises:
        ConfigError: not a run's folder, not one of the compared networks, or nothing trained yet.
        CheckpointError: a damaged checkpoint.
    """
    from omote.engine.checkpoint import progress_of

    try:
        config: Mapping[str, Any] = json.loads((run / "config.json").read_text(encoding="utf-8"))
        kind = _kind_of(config)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{run}: expected the folder of a training run ({error}); leave it out") from None
    progress = progress_of(run)
    if kind is None or not progress.images:
        raise ConfigError(
            f"{run}: expected a trained autoencoder, editor, decoder or prior of expressions; train it, or leave it out"
        )
    # RUN/export/NETWORK
    begun = config.get("start_from") or config.get("teacher")
    return Stage(
        name=run.resolve().name,
        kind=kind,
        images=progress.images,
        minutes=progress.seconds / 60,
        starts_from=Path(begun).parent.parent.name if begun else "",
    )


def cost_of(row: str, stages: Sequence[Stage]) -> Cost | None:
    """Training cost of a row's networks; None for a row without networks, or if a training is unknown.

    The cost includes the training of the weights that a network started from.
    """
    kinds = NETWORKS.get(row, ())
    if not kinds or not any(stage.kind == kinds[0] for stage in stages):
        return None
    taken = {stage.name: stage for stage in stages if stage.kind in kinds}
    by_name = {stage.name: stage for stage in stages}
    for stage in list(taken.values()):
        before = by_name.get(stage.starts_from)
        while before is not None and before.name not in taken:
            taken[before.name] = before
            before = by_name.get(before.starts_from)
    return Cost(
        # A prior of expressions is trained on 52 numbers at a time, which are no image.
        images=sum(stage.images for stage in taken.values() if stage.kind != "expressions"),
        hours=sum(stage.minutes for stage in taken.values()) / 60,
        stages=tuple(taken),
    )


def training_hours(folder: Path) -> float | None:
    """Hours of all stages behind exported weights: by the record beside them, or by the run that exported them."""
    if (folder / RECORD).is_file():
        return sum(stage.minutes for stage in load(TrainingRecord, folder / RECORD).stages) / 60
    # RUN/export/NETWORK
    run = folder.parent.parent
    if not (run / "config.json").is_file():
        return None
    from omote.engine.checkpoint import progress_of

    return progress_of(run).seconds / 3600


def _kind_of(config: Mapping[str, Any]) -> Kind | None:
    """Kind of network that a recipe's config describes."""
    if "clean_share" in config:
        return "decoder"
    if "teacher" in config:
        return "editor"
    if "drop_source" in config:
        if config.get("pixels"):
            return "pixel"
        # At pure noise alone there is no diffusion left (recipe editor-cpu-regression).
        alone = config.get("objective", {}).get("at_noise") == 1
        return "regression" if alone else "editor"
    if "kl_weight" in config and "learned_channels" in config:
        return "autoencoder"
    return "expressions" if {"width", "depth", "objective"} <= config.keys() else None
