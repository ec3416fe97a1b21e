"""The result of every dataset layout: scans with a subject and a label, and problems of the folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from omote.errors import OmoteError


@dataclass(frozen=True, kw_only=True)
class ScanItem:
    """One scan of a dataset, not read yet.

    Attributes:
        subject: the person, as the dataset names them.
        label: the expression as the dataset writes it.
        category: one of `omote.head.expressions.CATEGORIES`, or None where the label is none of them.
        intensity: [0, 1]; 1 where the dataset does not say, 0 for neutral.
        arkit: ARKit weights that the label names at its full strength, or None where it names no units.
        geometry: the file of the shape.
        texture: the image that belongs to it, or None.
        is_neutral: the person at rest.
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
    """Something of a dataset that is not used, and why."""

    path: Path
    reason: str


def problem_of(path: Path, error: OmoteError) -> Problem:
    """An error about a file as a problem; the file's name is said once."""
    return Problem(path=path, reason=str(error).removeprefix(f"{path.name}: "))


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files of a folder as a layout finds them, by names alone.

    Attributes:
        items: sorted by subject and file.
        problems: files that look like a part of the dataset and cannot be used.
        left_out: files that a layout passes over by design, and why.
    """

    items: tuple[ScanItem, ...]
    problems: tuple[Problem, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)


@runtime_checkable
class Layout(Protocol):
    """How a dataset lies on disk."""

    name: str
    title: str

    def matches(self, folder: Path) -> bool:
        """Whether a folder looks like this dataset."""
        ...

    def items(self, folder: Path) -> Listing:
        """List a folder of this layout; nothing is opened but lists of labels."""
        ...


def sorted_items(items: list[ScanItem]) -> tuple[ScanItem, ...]:
    """Items by subject, the one at rest first, then by file."""
    return tuple(sorted(items, key=lambda item: (item.subject, not item.is_neutral, str(item.geometry))))


def usable(items: Sequence[ScanItem], folder: Path) -> tuple[list[list[ScanItem]], list[Problem]]:
    """Items by subject, without the subjects that have no scan at rest: an edit starts from one."""
    subjects: dict[str, list[ScanItem]] = {}
    for item in items:
        subjects.setdefault(item.subject, []).append(item)
    lone = [name for name, own in subjects.items() if not any(item.is_neutral for item in own)]
    problems = [
        Problem(path=folder, reason=f"subject {name}: no neutral scan, {len(subjects[name])} scans are not used")
        for name in lone
    ]
    return [own for name, own in subjects.items() if name not in lone], problems
