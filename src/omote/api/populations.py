"""``omote.population``: shards of synthetic persons, and a contact sheet of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from jaxtyping import Float
from tyro.conf import arg

from omote.config import Range, check_ranges
from omote.errors import ConfigError
from omote.files import atomic_path, check_file, check_folder
from omote.formats.frame_write import as_bytes
from omote.progress import Step, Steps, finish
from omote.shards.mapping import Execution, Executor

if TYPE_CHECKING:
    from omote.datasets.population import PopulationConfig
    from omote.head.model import HeadModel

SHEET_PERSONS = 12
# Shards do not depend on the number of processes, so that any number writes the same ones.
MOST_PERSONS_IN_SHARD, FEWEST_SHARDS = 100, 64


@dataclass(frozen=True, kw_only=True)
class PopulationSettings:
    """Settings of the persons and their shards.

    Attributes:
        persons: number of persons.
        images: number of images of each person, the first at rest.
        size: side of the images in pixels.
        seed: seed of all random choices.
        split: split of the persons; splits have no person in common.
        ict: ICT-FaceKit checkout or .npz file, which half of the persons are drawn from.
        views: render every face from all cameras of a rig: their number, or YAW,PITCH in degrees for each.
        pose_deg: largest rotation of a head in front of a rig, in degrees.
        pose_mm: largest shift of a head in front of a rig, in mm.
        format: format of the shards: memory-mapped files, or tars for populations larger than a disk (docs/training.md).
    """

    persons: Annotated[int, Range(1, 10_000_000)] = 100
    images: Annotated[int, Range(1, 1000)] = 8
    size: Annotated[int, Range(16, 4096)] = 128
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    split: Literal["train", "validation", "test", "tuning"] = "train"
    ict: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None
    views: Annotated[tuple[str, ...], arg(metavar="N | YAW,PITCH ...")] = ()
    pose_deg: Annotated[float, Range(0, 45)] = 0.0
    pose_mm: Annotated[float, Range(0, 50)] = 0.0
    format: Literal["npy", "webdataset"] = "npy"

    def __post_init__(self) -> None:
        check_ranges(self)


def population(
    out: Path | str,
    settings: PopulationSettings | None = None,
    *,
    sheet: Path | str | None = None,
    execution: Execution | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> int:
    """Render a population into shards under ``out``; existing shards are kept.

    Args:
        out: folder of the shards, made if missing.
        settings: settings of the population; if None, the defaults of `PopulationSettings`.
        sheet: path of a PNG of seven expressions × twelve persons, or None.
        execution: where the shards are rendered; if None, in a process per core.
        on_step: function called with each step.

    Returns:
        The number of persons in ``out``, or in this part of an array job.

    Raises:
        ConfigError: ``out`` contains shards of the other format.
        HeadModelError: ``ict`` is not ICT-FaceKit.
        OutputError: ``out`` or ``sheet`` cannot be written.
    """
    place = (execution or Execution()).place(alone=True)
    work = _population(Path(out), settings or PopulationSettings(), None if sheet is None else Path(sheet), place)
    return finish(work, on_step)


def _population(out: Path, settings: PopulationSettings, sheet: Path | None, place: Executor) -> Steps[int]:
    check_folder(out)
    check_file(sheet, (".png",))

    from omote.datasets.population import PopulationConfig, make_population
    from omote.geometry.rig import rig_of
    from omote.head.shipped import population_heads

    config = PopulationConfig(
        seed=settings.seed,
        split=settings.split,
        size=settings.size,
        num_images=settings.images,
        ict=settings.ict,
        rig=rig_of(settings.views) if settings.views else None,
        pose_deg=settings.pose_deg,
        pose_mm=settings.pose_mm,
    )
    tars = settings.format == "webdataset"
    if any(out.glob("shard_*[0-9]" if tars else "shard_*.tar")):
        raise ConfigError(f"format: {out} holds shards of the other format; give another --out, or --format as it was")
    heads = population_heads(config.ict)
    yield Step(stage="render", done=0, total=settings.persons)
    count = 0
    for count in make_population(
        config,
        heads,
        out,
        num_persons=settings.persons,
        persons_per_shard=max(1, min(MOST_PERSONS_IN_SHARD, settings.persons // FEWEST_SHARDS)),
        executor=place,
        tars=tars,
    ):
        yield Step(stage="render", done=count, total=settings.persons)
    if sheet is not None:
        from PIL import Image

        picture = yield from _contact_sheet(config, heads, min(settings.persons, SHEET_PERSONS))
        with atomic_path(sheet) as temporary:
            Image.fromarray(as_bytes(picture)).save(temporary, format="PNG")
    return count


def _contact_sheet(
    config: PopulationConfig, heads: Sequence[HeadModel], num_persons: int
) -> Steps[Float[np.ndarray, "height width 3"]]:
    """A picture of the seven expressions (columns) of a population's first persons (rows)."""
    from omote.datasets.population import SPLITS, draw_person, render_person
    from omote.head.expressions import CATEGORIES, draw_expression

    rows = []
    for index in range(num_persons):
        yield Step(stage="sheet", done=index, total=num_persons)
        person = draw_person(config, index, heads)
        rng = np.random.default_rng([config.seed, SPLITS.index(config.split), index, 1])
        expressions = [draw_expression(category, rng) for category in CATEGORIES]
        rows.append(np.concatenate([image.rgb for image, _, _ in render_person(person, heads, expressions)], axis=1))
    return np.concatenate(rows, axis=0)
