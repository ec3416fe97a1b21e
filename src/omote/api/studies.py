"""``omote.study``: comparisons that train what they compare."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from omote.api.outputs import check_folder, make_folder
from omote.config import dumps, override
from omote.errors import OutputError
from omote.files import atomic_path
from omote.progress import Step


def study(
    name: Literal["f"],
    *,
    out: Path | str,
    population: Path | str,
    rows: Sequence[str] | None = None,
    minutes: float | None = None,
    size: int | None = None,
    clock: Literal["wall", "cpu"] | None = None,
    tiny: bool = False,
    changes: Sequence[str] = (),
    on_step: Callable[[Step], None] | None = None,
) -> dict[str, float | int]:
    """Train and measure into a folder that goes on where it was: ``table.csv``, ``metrics.json``, ``figure.svg``.

    Args:
        name: "f": diffusion behind first stages of f = 1 … 32 at equal time and size, and a small GAN.
        out: folder, made if missing; rows may be run by several processes at once.
        population: folder of rendered shards.
        rows: which of them now; all but VQ if None.
        minutes: that each row's generator trains.
        size: pixels of a side.
        clock: of all minutes.
        tiny: seconds instead of minutes; the results mean nothing.
        changes: single values of `omote.recipes.effect_of_f.EffectOfF`, ``["num_drawn=1000"]``.
        on_step: called with progress.

    Returns:
        Flat keys ``<metric>/<row>``, of the rows that are whole.

    Raises:
        ConfigError: an unknown row, key or value.
        JudgeError: the features' network is not installed.
        OutputError: ``out`` cannot be written, or holds a study of other settings.
    """
    out = Path(out)
    check_folder(out)

    from omote.recipes.effect_of_f import EffectOfF, study_f, tiny_study

    config = tiny_study(Path(population)) if tiny else EffectOfF(population=Path(population))
    given = {"rows": None if rows is None else json.dumps(list(rows)), "minutes": minutes, "size": size, "clock": clock}
    config = override(config, [*(f"{k}={v}" for k, v in given.items() if v is not None), *changes])
    _claim(out, dumps(override(config, [f"rows={json.dumps(list(EffectOfF(population=out).rows))}"])))
    for step in study_f(config, out):
        if on_step is not None:
            on_step(step)
    metrics: dict[str, float | int] = json.loads((out / "metrics.json").read_text())
    return metrics


def _claim(out: Path, text: str) -> None:
    """Rows of other settings would silently stand in one table; which rows are run when does not matter."""
    make_folder(out)
    path = out / "config.json"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise OutputError(f"{out}: holds a study of other settings; give another folder")
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
