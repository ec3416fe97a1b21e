"""What networks cost to train: read from the folders of their runs, or from the record that ships beside weights.

A run's folder is read as files alone (``config.json``, ``checkpoint/progress.json``, ``stats.jsonl``): evaluation knows no
training code. Which network a run made is seen by the keys of its config.
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

Kind = Literal["autoencoder", "editor", "decoder", "expressions", "regression", "pixel"]
MODEL: tuple[Kind, ...] = ("autoencoder", "editor", "decoder")
# Row of a release table → networks that it took; the first is what the row cannot be without.
NETWORKS: Mapping[str, tuple[Kind, ...]] = {
    "model": MODEL,
    "model_category": (*MODEL, "expressions"),
    "model_token": MODEL,
    "autoencoder_ceiling": ("autoencoder", "decoder"),
    "regression": ("regression", "autoencoder", "decoder"),
    "pixel_diffusion": ("pixel",),
}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A training that is over.

    Attributes:
        name: of its run.
        kind: of network.
        images: seen.
        minutes: of training.
        starts_from: name of the stage whose weights it went on with, or "".
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
        machine: that minutes are of, in words.
        stages: in the order of training.
    """

    machine: str
    stages: tuple[Stage, ...]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a row's networks took.

    Attributes:
        images: seen by all of them together.
        hours: of training.
        stages: their names.
    """

    images: int
    hours: float
    stages: tuple[str, ...]


def stages_of(runs: Sequence[Path], records: Iterable[Path]) -> list[Stage]:
    """All stages: those of the runs, and of the records those of a kind that no run is of.

    Args:
        runs: folders of runs.
        records: weights folders; one without a record adds nothing.

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
    """The stage that a run's folder holds.

    Raises:
        ConfigError: not a run's folder, none of the networks that are compared, or nothing was trained yet.
    """
    config = _json(run / "config.json")
    kind = _kind_of(config)
    if kind is None:
        raise ConfigError(
            f"{run}: expected a run of an autoencoder, an editor, a decoder or a prior of expressions; leave it out"
        )
    checkpoint = next((run / name for name in ("checkpoint", "checkpoint.old") if (run / name).is_dir()), None)
    if checkpoint is None:
        raise ConfigError(f"{run}: expected a run's folder with checkpoint/; train it first, or leave it out")
    progress = _json(checkpoint / "progress.json")
    try:
        images, seconds = int(progress["images"]), float(progress.get("seconds", 0.0))
    except (KeyError, TypeError, ValueError):
        raise ConfigError(f"{checkpoint / 'progress.json'}: damaged; train that run again, or leave it out") from None
    # Runs of earlier versions did not count seconds, but said their rate.
    minutes = (seconds or _seconds_by_rate(run / "stats.jsonl")) / 60
    begun = config.get("start_from") or config.get("teacher")
    # RUN/export/NETWORK
    starts_from = Path(begun).parent.parent.name if begun else ""
    return Stage(name=run.resolve().name, kind=kind, images=images, minutes=minutes, starts_from=starts_from)


def cost_of(row: str, stages: Sequence[Stage]) -> Cost | None:
    """What a row's networks took; None for a row without networks, or where their training is not known.

    A rival that goes on with an editor's weights took the editor's training too, as far as it goes on with it.
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
        # A prior of expressions sees 52 numbers at a time, which are no image.
        images=sum(stage.images for stage in taken.values() if stage.kind != "expressions"),
        hours=sum(stage.minutes for stage in taken.values()) / 60,
        stages=tuple(taken),
    )


def _kind_of(config: Mapping[str, Any]) -> Kind | None:
    """Which network a recipe's config describes."""
    if "clean_share" in config:
        return "decoder"
    if "teacher" in config:
        return "editor"
    if "drop_arkit" in config:
        if config.get("pixels"):
            return "pixel"
        # At pure noise alone there is no diffusion left (recipe editor-cpu-regression).
        alone = config.get("objective", {}).get("at_noise") == 1
        return "regression" if alone else "editor"
    if "kl_weight" in config and "learned_channels" in config:
        return "autoencoder"
    return "expressions" if {"width", "depth", "objective"} <= config.keys() else None


def _seconds_by_rate(stats: Path) -> float:
    """Seconds that a run's reports add up to."""
    try:
        rows = [json.loads(line) for line in stats.read_text(encoding="utf-8").splitlines()]
        seen = [0, *(int(row["images"]) for row in rows)]
        return sum((b - a) / float(row["images_per_s"]) for a, b, row in zip(seen[:-1], seen[1:], rows, strict=True))
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise ConfigError(
            f"{stats}: expected a run's reports, which say its rate ({error}); leave the run out"
        ) from None


def _json(path: Path) -> Mapping[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise ValueError("not an object")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: expected a file of a training run ({error}); give the folders of runs") from None
    return data
