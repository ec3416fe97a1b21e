"""A result folder as read back: every person's numbers, what was asked for, and what it ran on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from omote.errors import ConfigError
from omote.head.expressions import CATEGORIES

JUDGES = ("both", "faceapi", "fer")
CEILING, FLOOR = "ceiling", "copy_source"
BOUNDS = (CEILING, "autoencoder_ceiling")
MODEL = "model"

ROW_TITLES: Mapping[str, str] = {
    "model": "model",
    "model_category": "model, category only",
    "model_token": "model, token only",
    "copy_source": "copy of the source",
    "head_edit": "3DMM edit",
    "deformation_transfer": "deformation transfer",
    "regression": "regression",
    "pixel_diffusion": "pixel diffusion",
    "autoencoder_ceiling": "autoencoder of the truth",
    "ceiling": "true render",
}


@dataclass(frozen=True, kw_only=True)
class Results:
    """A finished result folder.

    Attributes:
        folder: where.
        name: what it is called in tables.
        persons: per person, rows with and without networks together.
        metrics: flat keys ``<metric>/<row>``.
        config: what was asked for.
        run: versions, machine, seeds, counts; empty for folders of earlier versions.
    """

    folder: Path
    name: str
    persons: tuple[Mapping[str, Any], ...]
    metrics: Mapping[str, float]
    config: Mapping[str, Any]
    run: Mapping[str, Any]

    @property
    def rows(self) -> list[str]:
        """Rows of its tables: models, then baselines, then bounds."""
        named = {key.partition("/")[2] for key in self.persons[0] if key.startswith("identity/")}
        return sorted(named, key=place)

    @property
    def baselines(self) -> list[str]:
        """The rows that a model must beat."""
        return [row for row in self.rows if row not in BOUNDS and not is_model(row)]

    @property
    def category(self) -> Int[np.ndarray, "p k"]:
        """Of each person's images."""
        return self.column("category").astype(int)

    @property
    def moved(self) -> np.ndarray:
        """Images that are not neutral."""
        return self.category != CATEGORIES.index("neutral")

    def has(self, measure: str, row: str) -> bool:
        """Whether every person has it."""
        return all(f"{measure}/{row}" in person for person in self.persons)

    def column(self, key: str) -> Float[np.ndarray, "p k"]:
        """A person's value per image."""
        return np.array([person[key] for person in self.persons], dtype=np.float64)

    def heads(self) -> Mapping[str, np.ndarray]:
        """Which persons are of which head family."""
        names = np.array([str(person["head"]) for person in self.persons])
        return {name: names == name for name in sorted(set(names.tolist()))}

    def turns(self) -> Mapping[str, np.ndarray]:
        """Which persons' cameras stand how far to the side; nothing where all stand before the face."""
        if not all("yaw_deg" in person for person in self.persons):
            return {}
        degrees = np.array([int(person["yaw_deg"]) for person in self.persons])
        return {f"{turn}°": degrees == turn for turn in sorted(set(degrees.tolist()))}


def is_model(row: str) -> bool:
    """Whether a row is made by the networks that are measured."""
    return row == MODEL or row.startswith("model_")


def title(row: str) -> str:
    """What a row is called in a table."""
    return ROW_TITLES.get(row, row.replace("_", " "))


def place(row: str) -> tuple[int, int, str]:
    """Sorts rows: models, baselines, bounds."""
    known = list(ROW_TITLES)
    group = 0 if is_model(row) else 2 if row in BOUNDS else 1
    return group, known.index(row) if row in known else len(known), row


def load_results(folder: Path, name: str | None = None) -> Results:
    """Read a result folder.

    Args:
        folder: of `omote evaluate release`, finished.
        name: in tables; the folder's own if None.

    Raises:
        ConfigError: not such a folder, unfinished, or damaged.
    """
    try:
        metrics: dict[str, float] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        # The first version kept all rows in one file.
        has_rivals = (folder / "rivals").is_dir()
        persons = [_person(folder, index, has_rivals) for index in range(int(metrics["count/persons"]))]
        run = _read(folder / "run.json") if (folder / "run.json").exists() else {}
        results = Results(
            folder=folder,
            name=name or folder.resolve().name,
            persons=tuple(persons),
            metrics={k: math.nan if v is None else float(v) for k, v in metrics.items()},
            config=config,
            run=run,
        )
        if not persons or "identity/model" not in persons[0]:
            raise KeyError("identity/model")
        if "identity/copy_source" not in persons[0]:
            raise ConfigError(
                f"{folder}: its rows without networks lie elsewhere; run it again with --rivals, which takes them over"
            )
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        what = (
            f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else f"{type(error).__name__} {error}"
        )
        raise ConfigError(
            f"{folder}: expected the finished result folder of `omote evaluate release` ({what}); run it to its end"
        ) from None
    return results


def _person(folder: Path, index: int, has_rivals: bool) -> dict[str, Any]:
    """All rows of a person; those of other networks have files of their own."""
    person = _read(folder / "persons" / f"{index:06d}.json")
    for path in sorted((folder / "rivals").glob(f"{index:06d}*.json")):
        person |= _read(path)
    if has_rivals and f"judged_both/{FLOOR}" not in person:
        raise KeyError(f"rivals of person {index}")
    return person


def names_of(folders: Sequence[Path]) -> list[str]:
    """A name per folder, as short as tells them apart."""
    paths = [folder.resolve() for folder in folders]
    for depth in range(1, max(len(p.parts) for p in paths) + 1):
        names = ["/".join(p.parts[-depth:]) for p in paths]
        if len(set(names)) == len(names):
            return names
    raise ConfigError("a result folder is given twice; give different ones")


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
