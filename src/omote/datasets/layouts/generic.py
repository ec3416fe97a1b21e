"""A custom folder of scans with a ``labels.csv`` whose columns are path, subject, expression and intensity.

``expression`` is a category, a plain word for one ("smile"), an ARKit name ("jawOpen") or any other label, which then has no
category. ``intensity`` is in [0, 1] and defaults to 1 if empty or missing. A column ``texture`` is optional.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

from omote.datasets.layouts.labels import meaning_of_word
from omote.datasets.layouts.layout import Listing, Problem, ScanItem, sorted_items
from omote.errors import DatasetError

LABELS = "labels.csv"
MAX_BYTES = 64 << 20
_NEEDED = ("path", "subject", "expression")


class Generic:
    """`Layout` of a folder with ``labels.csv``."""

    name = "generic"
    title = "a folder with labels.csv"

    def matches(self, folder: Path) -> bool:
        """Whether the folder has a ``labels.csv``."""
        return (folder / LABELS).is_file()

    def items(self, folder: Path) -> Listing:
        """List the scans in the rows of ``labels.csv``.

        Raises:
            DatasetError: ``labels.csv`` is missing, unreadable, or lacks a column.
        """
        path = folder / LABELS
        try:
            if path.stat().st_size > MAX_BYTES:
                raise DatasetError(f"{path}: expected at most {MAX_BYTES:,} bytes; split the dataset")
            with path.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.DictReader(file)
                missing = [name for name in _NEEDED if name not in (reader.fieldnames or ())]
                if missing:
                    raise DatasetError(
                        f"{path}: expected the columns path,subject,expression,intensity, got none named "
                        f"{' or '.join(missing)}; add a first line with the names"
                    )
                rows = list(enumerate(reader, start=2))
        except OSError as error:
            raise DatasetError(f"{path}: cannot be read ({error.strerror or error}); see docs/datasets.md") from error
        except (csv.Error, UnicodeDecodeError) as error:
            raise DatasetError(f"{path}: expected comma-separated text in UTF-8 ({error}); save it again") from None
        items: list[ScanItem] = []
        problems: list[Problem] = []
        seen: set[Path] = set()
        for line, row in rows:
            item = _item(folder, row)
            if isinstance(item, str):
                problems.append(Problem(path=path, reason=f"line {line}: {item}"))
            elif item.geometry in seen:
                problems.append(Problem(path=path, reason=f"line {line}: {row['path']!r} is listed twice"))
            else:
                seen.add(item.geometry)
                items.append(item)
        return Listing(items=sorted_items(items), problems=tuple(problems))


def _item(folder: Path, row: dict[str, str]) -> ScanItem | str:
    """The scan item of a row, or the reason why it cannot be used."""
    values = {key: (row.get(key) or "").strip() for key in (*_NEEDED, "intensity", "texture")}
    for key in _NEEDED:
        if not values[key]:
            return f"expected a value for {key}, got none"
    geometry = _inside(folder, values["path"])
    if geometry is None:
        return f"expected a scan inside the folder, found no {values['path'][:200]!r}"
    texture = _inside(folder, values["texture"]) if values["texture"] else None
    if values["texture"] and texture is None:
        return f"expected an image inside the folder, found no {values['texture'][:200]!r}"
    meaning = meaning_of_word(values["expression"])
    neutral = meaning.category == "neutral"
    try:
        intensity = float(values["intensity"]) if values["intensity"] else 1.0
    except ValueError:
        intensity = float("nan")
    if not 0.0 <= intensity <= 1.0:
        return f"expected an intensity from 0 to 1, got {values['intensity'][:40]!r}"
    return ScanItem(
        subject=values["subject"],
        label=values["expression"],
        category=meaning.category,
        intensity=0.0 if neutral else intensity,
        arkit=meaning.units,
        geometry=geometry,
        texture=texture,
        is_neutral=neutral,
    )


def _inside(folder: Path, name: str) -> Path | None:
    """The file or RGB-D folder of that name, or None if it does not exist or lies outside the dataset's folder."""
    try:
        path = folder / name
        inside = Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
        if not inside or not path.exists():
            return None
    except (OSError, ValueError):
        return None
    return path
