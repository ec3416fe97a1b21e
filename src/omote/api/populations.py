"""``omote.population``: shards of made-up persons, and a contact sheet to look at them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from omote.errors import ConfigError
from omote.files import atomic_path, check_file, check_folder
from omote.formats.frame_write import as_bytes
from omote.progress import Step

SHEET_PERSONS = 12


def population(
    out: Path | str,
    *,
    persons: int = 100,
    images: int = 8,
    size: int = 128,
    seed: int = 0,
    split: Literal["train", "validation", "test", "tuning"] = "train",
    ict: Path | str | None = None,
    workers: int = 0,
    sheet: Path | str | None = None,
    format: Literal["npy", "webdataset"] = "npy",
    on_step: Callable[[Step], None] | None = None,
) -> int:
    """Render a population into shards under ``out``; shards that are there are kept.

    Args:
        out: folder, made if missing.
        persons: how many.
        images: of each, the first at rest.
        size: pixels of a side.
        seed: of everything drawn.
        split: which persons; splits never share one.
        ict: ICT-FaceKit, by path: half of the persons come from it.
        workers: processes; 0 means one per core.
        sheet: PNG of seven expressions × twelve persons, or None.
        format: of the shards: files that map into memory, or tars that stream (`omote.datasets.tar_shards`).
        on_step: called with progress.

    Returns:
        The number of persons in ``out``.

    Raises:
        ConfigError: a number out of range.
        HeadModelError: ``ict`` is not ICT-FaceKit.
        OutputError: ``out`` or ``sheet`` cannot be written.
    """
    for name, value, low, high in (
        ("persons", persons, 1, 10_000_000), ("images", images, 1, 1000), ("size", size, 16, 4096),
        ("workers", workers, 0, 4096), ("seed", seed, 0, 2**63 - 1),
    ):  # fmt: skip
        if not low <= value <= high:
            raise ConfigError(f"{name}: expected {low} to {high}, got {value}")
    out, sheet = Path(out), None if sheet is None else Path(sheet)
    check_folder(out)
    check_file(sheet, (".png",))

    from omote.datasets.population import PopulationConfig, make_population
    from omote.head.shipped import population_heads

    config = PopulationConfig(
        seed=seed, split=split, size=size, num_images=images, ict=None if ict is None else Path(ict)
    )
    other = "shard_*[0-9]" if format == "webdataset" else "shard_*.tar"
    if any(out.glob(other)):
        raise ConfigError(f"format: {out} holds shards of the other format; give another --out, or --format as it was")
    heads = population_heads(config.ict)
    if on_step is not None:
        on_step(Step(stage="render", done=0, total=persons))
    count = 0
    shard = max(1, min(100, persons // max(workers or os.cpu_count() or 1, 1)))
    for count in make_population(
        config,
        heads,
        out,
        num_persons=persons,
        persons_per_shard=shard,
        num_workers=workers or os.cpu_count() or 1,
        tars=format == "webdataset",
    ):
        if on_step is not None:
            on_step(Step(stage="render", done=count, total=persons))
    if sheet is not None:
        from PIL import Image

        picture = contact_sheet(config, num_persons=min(persons, SHEET_PERSONS), on_step=on_step)
        with atomic_path(sheet) as temporary:
            Image.fromarray(as_bytes(picture)).save(temporary, format="PNG")
    return count


def contact_sheet(
    config: object, *, num_persons: int = SHEET_PERSONS, on_step: Callable[[Step], None] | None = None
) -> Float[np.ndarray, "height width 3"]:
    """Draw the seven expressions (columns) of a population's first persons (rows).

    Args:
        config: an `omote.datasets.population.PopulationConfig`.
        num_persons: rows.
        on_step: called with progress.
    """
    from omote.datasets.population import SPLITS, PopulationConfig, draw_person, render_person
    from omote.head.expressions import CATEGORIES, draw_expression
    from omote.head.shipped import population_heads

    assert isinstance(config, PopulationConfig)
    heads = population_heads(config.ict)
    rows = []
    for index in range(num_persons):
        if on_step is not None:
            on_step(Step(stage="sheet", done=index, total=num_persons))
        person = draw_person(config, index, heads)
        rng = np.random.default_rng([config.seed, SPLITS.index(config.split), index, 1])
        expressions = [draw_expression(category, rng) for category in CATEGORIES]
        rows.append(np.concatenate([image.rgb for image, _, _ in render_person(person, heads, expressions)], axis=1))
    return np.concatenate(rows, axis=0)
