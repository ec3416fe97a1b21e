"""FaceScape, topologically uniform models: ``{subject}/models_reg/{number}_{label}.obj`` with ``.jpg`` and ``.mtl``.

Flat exports that put the subject first, ``models_reg/{subject}_{number or label}.obj``, are also read. Displacement maps and
multi-view photographs are not scans and are ignored.
"""

from __future__ import annotations

import re
from pathlib import Path

from omote.datasets.layouts.labels import FACESCAPE, FACESCAPE_LABELS
from omote.datasets.layouts.layout import Listing, Problem, ScanItem, sorted_items

_NAME = re.compile(r"(?P<first>[A-Za-z0-9]+)_(?P<rest>\w+)$")
_PLACES = ("models_reg/*.obj", "*/models_reg/*.obj", "*/*/models_reg/*.obj")  # one subject, all, parts of 100 subjects


class FaceScape:
    """`Layout` of FaceScape TU."""

    name = "facescape"
    title = "FaceScape TU models"

    def matches(self, folder: Path) -> bool:
        """Whether the folder has a ``models_reg`` folder with meshes."""
        return any(True for place in _PLACES for _ in folder.glob(place))

    def items(self, folder: Path) -> Listing:
        """List the registered meshes."""
        items: list[ScanItem] = []
        problems: list[Problem] = []
        for path in sorted(p for place in _PLACES for p in folder.glob(place)):
            parsed = _parse(path)
            if parsed is None:
                reason = "expected a name {number}_{label}.obj with one of FaceScape's twenty labels"
                problems.append(Problem(path=path, reason=reason))
                continue
            subject, label = parsed
            meaning = FACESCAPE[label]
            texture = path.with_suffix(".jpg")
            items.append(
                ScanItem(
                    subject=subject,
                    label=label,
                    category=meaning.category,
                    intensity=0.0 if label == "neutral" else 1.0,
                    arkit=meaning.units,
                    geometry=path,
                    texture=texture if texture.is_file() else None,
                    is_neutral=label == "neutral",
                )
            )
        maps = sum(1 for place in _PLACES for _ in folder.glob(place.replace("models_reg/*.obj", "dpmap/*.png")))
        left_out = {"displacement maps": maps} if maps else {}
        return Listing(items=sorted_items(items), problems=tuple(problems), left_out=left_out)


def _parse(path: Path) -> tuple[str, str] | None:
    """(subject, label) of a file, or None if its name has another form."""
    match = _NAME.match(path.stem)
    if match is None:
        return None
    first, rest = match["first"], match["rest"].lower()
    if rest in FACESCAPE and first.isdigit() and int(first) == FACESCAPE_LABELS.index(rest) + 1:
        # The number is that of the expression; the subject is the folder that contains models_reg.
        return path.resolve().parent.parent.name, rest
    if rest in FACESCAPE:
        return first, rest
    if rest.isdigit() and 1 <= int(rest) <= len(FACESCAPE_LABELS):
        return first, FACESCAPE_LABELS[int(rest) - 1]
    return None
