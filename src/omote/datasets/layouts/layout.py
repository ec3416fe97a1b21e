"""The interface of a dataset layout and its result: scans with subjects and labels, and the problems found in the folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from omote.errors import OmoteError


@dataclass(frozen=True, kw_only=True)
class ScanItem:
    """One scan of a dataset, before it is read.

    Attributes:
        subject: the dataset's identifier of the person.
        label: the dataset's label of the expression.
        category: one of `omote.head.expressions.CATEGORIES`, or None if the label belongs to none of them.
        intensity: intensity of the expression in [0, 1]; 1 if the dataset gives none, 0 for a neutral face.
        arkit: ARKit weights of the label at full intensity, or None if it names no units.
        geometry: path of the geometry file.
        texture: path of the texture image, or None.
        is_neutral: True if the scan shows the person at rest.
    """

    subject: str
    label: str
    category: str | None
    intensity: float
    arkit: Mapping[str, float] | None
    geometry: Path
    texture: Path | None = None
    is_neutral: bool = False


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A part of a dataset that is not used, and the reason."""

    path: Path
    reason: str


def problem_of(path: Path, error: OmoteError) -> Problem:
    """Convert an error about a file to a problem, without repeating the file's name."""
    return Problem(path=path, reason=str(error).removeprefix(f"{path.name}: "))


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The scans that a layout finds in a folder from the file names alone.

    Attributes:
        items: scan items, sorted by subject and file.
        problems: files that seem to belong to the dataset but cannot be used.
        left_out: files that the layout ignores by design, with reasons.
    """

    items: tuple[ScanItem, ...]
    problems: tuple[Problem, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)


@runtime_checkable
class Layout(Protocol):
    """The folder layout of a dataset."""

    name: str
    title: str

    def matches(self, folder: Path) -> bool:
        """Whether a folder appears to have this layout."""
        ...

    def items(self, folder: Path) -> Listing:
        """List the scans in a folder of this layout; only label lists are opened."""
        ...


def sorted_items(items: list[ScanItem]) -> tuple[ScanItem, ...]:
    """Scan items sorted by subject, then the neutral scan first, then by file."""
    return tuple(sorted(items, key=lambda item: (item.subject, not item.is_neutral, str(item.geometry))))


def usable(items: Sequence[ScanItem], folder: Path) -> tuple[list[list[ScanItem]], list[Problem]]:
    """Scan items grouped by subject, without subjects that lack a neutral scan, from which every edit starts."""
    subjects: dict[str, list[ScanItem]] = {}
    for item in items:
        subjects.setdefault(item.subject, []).append(item)
    lone = [name for name, own in subjects.items() if not any(item.is_neutral for item in own)]
    problems = [
        Problem(path=folder, reason=f"subject {name}: no neutral scan, {len(subjects[name])} scans are not used")
        for name in lone
    ]
    return [own for name, own in subjects.items() if name not in lone], problems
