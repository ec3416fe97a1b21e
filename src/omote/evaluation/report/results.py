"""A result folder read back: records of persons, numbers, settings, and facts of the run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omote.errors import ConfigError
from omote.evaluation.catalogue import split
from omote.evaluation.records import MOST, PersonRecords, Row, joined, load_records
from omote.evaluation.summary import CEILING, FLOOR
from omote.files import reading

MODEL = Row("model")
AUTOENCODER = "autoencoder_ceiling"
BOUNDS = (CEILING, AUTOENCODER)
NOT_FINISHED = "expected the finished result folder of `omote evaluate release`"

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
class ReleaseResults:
    """A finished result folder of `omote evaluate release`.

    Attributes:
        folder: path of the folder.
        name: name of the folder in tables.
        persons: records of each person, with all rows together.
        numbers: number by metric's key and row; NaN if missing.
        config: config of the suite.
        weights: fingerprints by row.
        run: versions, machine, seeds and counts.
    """

    folder: Path
    name: str
    persons: tuple[PersonRecords, ...]
    numbers: Mapping[tuple[str, Row], float]
    config: Mapping[str, Any]
    weights: Mapping[str, str]
    run: Mapping[str, Any]

    @property
    def rows(self) -> list[Row]:
        """Rows of the tables: models, then baselines, then bounds."""
        return sorted(self.persons[0].rows(), key=place)

    @property
    def baselines(self) -> list[Row]:
        """The rows that a model must beat."""
        return [row for row in self.rows if kind_of(row) == "baseline"]


def is_model(row: Row) -> bool:
    """Whether a row is made by the measured networks."""
    return row.name in ("model", "model_category", "model_token")


def kind_of(row: Row) -> str:
    """CSS class of a row."""
    return "model" if is_model(row) else "bound" if row.name in BOUNDS else "baseline"


def title(row: Row) -> str:
    """Title of a row in tables."""
    return ROW_TITLES.get(row.name, row.name.replace("_", " "))


def place(row: Row) -> tuple[int, int, str]:
    """Sort key of rows: models, baselines, bounds."""
    known = list(ROW_TITLES)
    group = ("model", "baseline", "bound").index(kind_of(row))
    return group, known.index(row.name) if row.name in known else len(known), row.name


def load_results(folder: Path, name: str | None = None) -> ReleaseResults:
    """Read a result folder.

    Args:
        folder: finished folder of `omote evaluate release`.
        name: name of the folder in tables; the folder's own if None.

    Raises:
        ConfigError: not such a folder, or an unfinished or damaged one, or one made by an older version.
    """
    with reading(folder, ConfigError, NOT_FINISHED, "run it to its end"):
        metrics: dict[str, float | None] = _read(folder / "metrics.json")
        asked = _read(folder / "config.json")
        count = int(metrics["count/persons"] or 0)
        paths = [sorted((folder / "persons").glob(f"{index:06d}_*.json")) for index in range(count)]
        persons = tuple(joined([load_records(path) for path in found]) for found in paths)
        _check_alike(persons)
        if not persons or persons[0].find(MODEL, "identity/faceapi") is None:
            raise KeyError("model")
        if persons[0].find(Row(FLOOR), "identity/faceapi") is None:
            raise ConfigError(f"{folder}: its rows without networks are missing; run the evaluation again, to its end")
        numbers = {}
        for key, value in metrics.items():
            metric, row = split(key)
            if value is not None and not abs(value) < MOST:
                raise ValueError(f"{key} is {value!r}")
            numbers[metric.key, row] = math.nan if value is None else value
        config, weights = asked["config"], asked["weights"]
        run = _read(folder / "run.json") if (folder / "run.json").exists() else {}
    return ReleaseResults(
        folder=folder,
        name=name or folder.resolve().name,
        persons=persons,
        numbers=numbers,
        config=config,
        weights=weights,
        run=run,
    )


def _check_alike(persons: Sequence[PersonRecords]) -> None:
    """Check that all persons have the same number of images, and measures of the same shape."""
    shapes: dict[object, object] = {}
    for person in persons:
        found: dict[object, object] = {"images": len(person.category), "intensities": len(person.intensity)}
        for r in person.records:
            found[r.row, r.measure] = r.values.shape
        for key, shape in found.items():
            if shapes.setdefault(key, shape) != shape:
                raise ValueError(f"persons differ in {key}")


def names_of(folders: Sequence[Path]) -> list[str]:
    """A unique name per folder, as short as possible."""
    paths = [folder.resolve() for folder in folders]
    for depth in range(1, max(len(p.parts) for p in paths) + 1):
        names = ["/".join(p.parts[-depth:]) for p in paths]
        if len(set(names)) == len(names):
            return names
    raise ConfigError("a result folder is given twice; give different ones")


def _read(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{path.name}: no object")
    return content
