"""CoMA and Florence 4D: ``{subject}/{expression}/*.ply``, one folder per sequence from neutral to the extreme and back.

Frames have no labels of their own. The first frame of a subject's first sequence is taken as the neutral scan, and the
middle frame of every sequence as its expression. Both follow the datasets' papers; neither has been checked visually.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from omote.datasets.layouts.labels import COMA, Meaning, meaning_of_word
from omote.datasets.layouts.layout import Listing, Problem, ScanItem, sorted_items

MIN_FRAMES = 3
_SUFFIXES = (".ply", ".obj")


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _frames(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES and p.is_file())


class _Sequences:
    """Shared code of both layouts."""

    def is_subject(self, name: str) -> bool:
        raise NotImplementedError

    def meaning(self, label: str) -> Meaning:
        raise NotImplementedError

    def subjects(self, folder: Path) -> Iterator[Path]:
        if self.is_subject(folder.name) and any(_frames(p) for p in _folders(folder)):
            yield folder
            return
        for child in _folders(folder):
            if self.is_subject(child.name):
                yield child

    def matches(self, folder: Path) -> bool:
        """Whether the folder has a subject with a sequence."""
        return any(
            len(_frames(sequence)) >= MIN_FRAMES for subject in self.subjects(folder) for sequence in _folders(subject)
        )

    def items(self, folder: Path) -> Listing:
        """List a neutral frame for each subject and the middle frame of each sequence."""
        items: list[ScanItem] = []
        problems: list[Problem] = []
        num_frames = num_mixed = 0
        for subject in self.subjects(folder):
            whole: list[tuple[str, list[Path]]] = []
            for sequence in _folders(subject):
                frames = _frames(sequence)
                num_frames += len(frames)
                if len(frames) < MIN_FRAMES:
                    reason = f"expected a sequence of at least {MIN_FRAMES} frames, got {len(frames)}"
                    problems.append(Problem(path=sequence, reason=reason))
                elif "_to_" in sequence.name.lower():  # a transition between expressions: frames show neither
                    num_mixed += 1
                else:
                    whole.append((sequence.name, frames))
            items += self._items_of(subject.name, whole)
        left_out = {"other frames of the sequences": num_frames - len(items)}
        if num_mixed:
            left_out["sequences from one expression to another"] = num_mixed
        return Listing(items=sorted_items(items), problems=tuple(problems), left_out=left_out)

    def _items_of(self, subject: str, sequences: list[tuple[str, list[Path]]]) -> Iterator[ScanItem]:
        """The subject's neutral scan, then one frame per expression."""
        for number, (label, frames) in enumerate(sequences):
            if number == 0:
                yield ScanItem(
                    subject=subject,
                    label=f"{label} (first frame)",
                    category="neutral",
                    intensity=0.0,
                    arkit={},
                    geometry=frames[0],
                    is_neutral=True,
                )
            meaning = self.meaning(label)
            if meaning.category != "neutral":
                yield ScanItem(
                    subject=subject,
                    label=label,
                    category=meaning.category,
                    intensity=1.0,
                    arkit=meaning.units,
                    geometry=frames[len(frames) // 2],
                )


class Coma(_Sequences):
    """`Layout` of CoMA."""

    name = "coma"
    title = "CoMA"

    def is_subject(self, name: str) -> bool:
        """Whether the name has the form ``FaceTalk_170725_00137_TA``."""
        return name.startswith("FaceTalk_")

    def meaning(self, label: str) -> Meaning:
        """The label's entry in the table of CoMA's twelve expressions."""
        return COMA.get(label.lower(), Meaning())


class Florence4d(_Sequences):
    """`Layout` of Florence 4D."""

    name = "florence4d"
    title = "Florence 4D"

    def is_subject(self, name: str) -> bool:
        """Accept any name; the layout is recognised by its two folder levels."""
        return True

    def meaning(self, label: str) -> Meaning:
        """The label's meaning in plain words."""
        return meaning_of_word(label)
