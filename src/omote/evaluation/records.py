"""Measurements of a person as records of row, measure and values, and the file that stores them.

A `Row` is a line of a table: a network, a baseline or a bound, under a condition. Its parts are kept apart until a key is
written, and a written key is unambiguous: ``<metric>/<name>/<axis>=<value>``, where names and values contain neither ``/`` nor
``=``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float

from omote.errors import ConfigError
from omote.evaluation.statistics import Interval
from omote.files import atomic_path, refuse_special

# Format of a person's file. Files of earlier versions encoded rows in the names of their keys.
FORMAT = 2
MOST = 1e30  # larger than any measurement, and its square is still finite


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
        name: network, baseline or bound, such as ``model``; empty for a number of the persons alone.
        at: condition, as pairs of axis and value: ``(("intensity", "0.5"),)``.

    Raises:
        ConfigError: a name, an axis or a value contains a ``/`` or a ``=``.
    """

    name: str = ""
    at: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for text in (self.name, *(part for pair in self.at for part in pair)):
            if "/" in text or "=" in text:
                raise ConfigError(f"row: expected names without / and =, got {text!r}; rename what it is named after")

    def under(self, **axes: str | int | float) -> Row:
        """The same row under a further condition."""
        values = {axis: value if isinstance(value, str) else f"{value:g}" for axis, value in axes.items()}
        return replace(self, at=(*self.at, *values.items()))

    def on(self, axis: str) -> str | None:
        """The row's value on an axis, or None."""
        return dict(self.at).get(axis)

    def __str__(self) -> str:
        """The end of a key: ``model/intensity=0.5``."""
        return "/".join([*([self.name] if self.name else []), *(f"{axis}={value}" for axis, value in self.at)])


# A value with its interval over persons, or a value that is not an average over persons.
Cell: TypeAlias = Interval | float | int
# Row → key of a metric → value.
Table: TypeAlias = Mapping[Row, Mapping[str, Cell]]


def value_of(cell: Cell) -> float | int:
    """A cell's value without its interval."""
    return cell.value if isinstance(cell, Interval) else cell


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """Measurements of one row of one person.

    Attributes:
        row: row of the table.
        measure: key of a metric (`omote.evaluation.catalogue`), or of evidence for metrics (`judged_by`, `descriptor_by`).
        values: one value per image, or one of the person; NaN if there is nothing to measure.
    """

    row: Row
    measure: str
    values: Float[np.ndarray, "n *d"]


def judged_by(judge: str) -> str:
    """The measure of a judge's top class, as an index into `omote.head.expressions.CATEGORIES`."""
    return f"judged/{judge}"


def descriptor_by(network: str) -> str:
    """The measure of identity descriptors."""
    return f"descriptor/{network}"


def is_evidence(measure: str) -> bool:
    """Whether a measure is evidence that metrics are computed from, and not a metric itself."""
    return measure.startswith((judged_by(""), descriptor_by("")))


@dataclass(frozen=True, kw_only=True, eq=False)
class PersonRecords:
    """The records of a person's file.

    Attributes:
        parts: axis → value of the subgroups that tables compare: ``{"head": "omote", "yaw_deg": "-30"}``.
        category: index of each image's category in `omote.head.expressions.CATEGORIES`.
        intensity: intensity of each image in [0, 1].
        records: records in the order of measurement.
    """

    parts: Mapping[str, str]
    category: tuple[int, ...]
    intensity: tuple[float, ...]
    records: tuple[Record, ...]

    def rows(self) -> list[Row]:
        """All rows, in the order of measurement."""
        return list(dict.fromkeys(record.row for record in self.records))

    def measures(self, row: Row) -> list[str]:
        """The measures of a row."""
        return [record.measure for record in self.records if record.row == row]

    def find(self, row: Row, measure: str) -> Float[np.ndarray, "n *d"] | None:
        """The values of a row's measure, or None if it was not measured."""
        return self._values.get((row, measure))

    @cached_property
    def _values(self) -> dict[tuple[Row, str], np.ndarray]:
        return {(record.row, record.measure): record.values for record in self.records}


def joined(parts: Sequence[PersonRecords]) -> PersonRecords:
    """The records of one person, joined from several files.

    Raises:
        ConfigError: the files are of different persons.
    """
    first = parts[0]
    if any((p.parts, p.category, p.intensity) != (first.parts, first.category, first.intensity) for p in parts):
        raise ConfigError("records: expected files of one person, got several; measure into another folder")
    return replace(first, records=tuple(record for part in parts for record in part.records))


def save_records(path: Path, person: PersonRecords) -> None:
    """Write a person's file, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    data = {
        "format": FORMAT,
        "parts": dict(person.parts),
        "category": person.category,
        "intensity": person.intensity,
        "records": [
            {"row": r.row.name, "at": dict(r.row.at), "measure": r.measure, "values": _json(r.values)}
            for r in person.records
        ],
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(data) + "\n", encoding="utf-8")


def load_records(path: Path) -> PersonRecords:
    """Read a person's file.

    Raises:
        ConfigError: no such file, not a person's file, or a file of an earlier version.
    """
    try:
        refuse_special(path)
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"{path}: expected a person's records ({why}); delete it, and measure again") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ConfigError(f"{path}: made by an older version of omote; measure into another folder")
    return PersonRecords(
        parts=data["parts"],
        category=tuple(data["category"]),
        intensity=tuple(data["intensity"]),
        records=tuple(
            Record(row=Row(r["row"], tuple(r["at"].items())), measure=r["measure"], values=_checked(r["values"], path))
            for r in data["records"]
        ),
    )


def _checked(values: list[Any], path: Path) -> Float[np.ndarray, "n *d"]:
    out = np.array(values, np.float64)
    if (np.abs(out) > MOST).any():
        raise ConfigError(f"{path}: expected values up to {MOST:g}, got {np.nanmax(np.abs(out)):g}; measure again")
    return out


def _json(values: Float[np.ndarray, "n *d"]) -> list[Any]:
    """Nested lists; NaN becomes null, since JSON has no NaN."""
    out = values.astype(object)
    out[np.isnan(values)] = None
    nested: list[Any] = out.tolist()
    return nested


def values_of(persons: Iterable[PersonRecords], row: Row, measure: str) -> list[np.ndarray] | None:
    """The values of a row's measure per person; None unless every person has them."""
    found = [person.find(row, measure) for person in persons]
    return None if not found or any(values is None for values in found) else [v for v in found if v is not None]
