"""Headspace (Liverpool-York head model): ``00001/…/*.obj`` with ``.bmp`` and ``subject.txt``; every scan is neutral."""

from __future__ import annotations

from pathlib import Path

from omote.datasets.layouts.layout import Listing, Problem, ScanItem, sorted_items


def _subjects(folder: Path) -> list[Path]:
    places = [folder] if folder.name.isdigit() else []
    places += sorted(p for p in folder.iterdir() if p.is_dir() and p.name.isdigit())
    return [p for p in places if next(p.rglob("subject.txt"), None) is not None]


class Headspace:
    """`Layout` of Headspace."""

    name = "headspace"
    title = "Headspace / LYHM"

    def matches(self, folder: Path) -> bool:
        """Whether a numbered folder contains a ``subject.txt``."""
        return bool(_subjects(folder))

    def items(self, folder: Path) -> Listing:
        """List the scan meshes."""
        items: list[ScanItem] = []
        problems: list[Problem] = []
        for subject in _subjects(folder):
            meshes = sorted(subject.rglob("*.obj"))
            if not meshes:
                problems.append(Problem(path=subject, reason="expected an .obj beside subject.txt, found none"))
            for mesh in meshes:
                textures = sorted(p for p in mesh.parent.iterdir() if p.suffix.lower() == ".bmp")
                same = [p for p in textures if p.stem == mesh.stem]
                texture = same[0] if same else textures[0] if len(textures) == 1 else None
                items.append(
                    ScanItem(
                        subject=subject.name,
                        label="neutral",
                        category="neutral",
                        intensity=0.0,
                        arkit={},
                        geometry=mesh,
                        texture=texture,
                        is_neutral=True,
                    )
                )
        return Listing(items=sorted_items(items), problems=tuple(problems))
