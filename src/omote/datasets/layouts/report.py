"""Report on a dataset's contents, its problems and its usable scans, as text and JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omote.datasets.layouts.layout import Layout, Listing, Problem, ScanItem
from omote.datasets.layouts.splits import DATASET_SPLITS, split_of
from omote.head.expressions import CATEGORIES

SHOWN_PROBLEMS = 20


@dataclass(frozen=True, kw_only=True)
class DatasetReport:
    """Counts and problems of a dataset.

    Attributes:
        folder: folder of the dataset.
        layout: name of the layout.
        title: title of the dataset.
        opened: True if every scan was read, False if only file names were checked.
        num_used: number of usable scans.
        num_skipped: number of scans that are skipped.
        num_subjects: number of subjects with at least one usable scan.
        categories: number of usable scans per category; "none" counts labels without a category.
        labels: number of usable scans per label of the dataset.
        splits: numbers of (subjects, scans) per split.
        left_out: files that the layout ignores by design.
        problems: unusable files, with reasons.
        notes: parts of scans that the reader left out or changed, by scan.
    """

    folder: Path
    layout: str
    title: str
    opened: bool
    num_used: int
    num_skipped: int
    num_subjects: int
    categories: Mapping[str, int]
    labels: Mapping[str, int]
    splits: Mapping[str, tuple[int, int]]
    left_out: Mapping[str, int]
    problems: tuple[Problem, ...]
    notes: tuple[Problem, ...] = ()

    def text(self) -> str:
        """The report as readable text."""
        looked = "all opened" if self.opened else "names only, not opened"
        lines = [
            f"{self.folder}: {self.title} (layout {self.layout})",
            f"  used      {self.num_used:,} scans of {self.num_subjects:,} subjects ({looked})",
            f"  skipped   {self.num_skipped:,} scans, {len(self.problems):,} problems",
            "  category  " + ", ".join(f"{name} {count:,}" for name, count in self.categories.items() if count),
            "  splits    "
            + ", ".join(
                f"{name} {subjects:,} subjects, {scans:,} scans" for name, (subjects, scans) in self.splits.items()
            ),
            *(f"  left out  {count:,} {what}" for what, count in self.left_out.items()),
            *(f"  problem   {self._name(p.path)}: {p.reason}" for p in self.problems[:SHOWN_PROBLEMS]),
        ]
        if len(self.problems) > SHOWN_PROBLEMS:
            lines.append(f"  problem   … and {len(self.problems) - SHOWN_PROBLEMS:,} more; --report lists them all")
        lines += [f"  note      {line}" for line in note_lines(self.notes, self.folder)]
        return "\n".join(lines)

    def to_json(self) -> dict[str, object]:
        """The report as a JSON object."""
        return {
            "folder": str(self.folder),
            "layout": self.layout,
            "opened": self.opened,
            "used": self.num_used,
            "skipped": self.num_skipped,
            "subjects": self.num_subjects,
            "categories": dict(self.categories),
            "labels": dict(self.labels),
            "splits": {name: {"subjects": a, "scans": b} for name, (a, b) in self.splits.items()},
            "left_out": dict(self.left_out),
            "problems": [{"path": self._name(p.path), "reason": p.reason} for p in self.problems],
            "notes": [{"path": self._name(n.path), "note": n.reason} for n in self.notes],
        }

    def _name(self, path: Path) -> str:
        return _within(path, self.folder)


def _within(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def note_lines(notes: Sequence[Problem], folder: Path) -> list[str]:
    """One line per distinct note, with its scan, or with the first of several scans and their number."""
    about: dict[str, list[Path]] = {}
    for note in notes:
        about.setdefault(note.reason, []).append(note.path)
    return [
        f"{_within(paths[0], folder)}{f' and {len(paths) - 1:,} more' if len(paths) > 1 else ''}: {text}"
        for text, paths in about.items()
    ]


def report_on(
    folder: Path,
    layout: Layout,
    listing: Listing,
    *,
    used: Sequence[ScanItem],
    problems: Sequence[Problem],
    notes: Sequence[Problem],
    opened: bool,
    seed: int,
) -> DatasetReport:
    """Build the report on a dataset.

    Args:
        folder: folder of the dataset.
        layout: layout of the dataset.
        listing: scans that the layout found.
        used: usable scan items.
        problems: further problems, in addition to those in the listing.
        notes: notes of the scan reader.
        opened: True if the scans were read.
        seed: random seed of the splits.
    """
    subjects = {item.subject for item in used}
    categories = Counter(item.category or "none" for item in used)
    return DatasetReport(
        folder=folder,
        layout=layout.name,
        title=layout.title,
        opened=opened,
        num_used=len(used),
        num_skipped=len(listing.items) - len(used),
        num_subjects=len(subjects),
        categories={name: categories[name] for name in (*CATEGORIES, "none")},
        labels=dict(sorted(Counter(item.label for item in used).items())),
        splits={
            split: (
                sum(split_of(s, seed) == split for s in subjects),
                sum(split_of(item.subject, seed) == split for item in used),
            )
            for split in DATASET_SPLITS
        },
        left_out=listing.left_out,
        problems=(*listing.problems, *problems),
        notes=tuple(notes),
    )
