"""BU-3DFE: ``F0001/F0001_HA03WH_F3D.wrl`` with ``.bmp``; names give sex, number, expression, level, ethnicity and file type."""

from __future__ import annotations

import re
from pathlib import Path

from omote.datasets.layouts.labels import BU3DFE, BU3DFE_LEVELS
from omote.datasets.layouts.layout import Listing, Problem, ScanItem, sorted_items

_NAME = re.compile(
    r"(?P<subject>[FM]\d{4})_(?P<label>[A-Z]{2})(?P<level>\d\d)(?P<origin>[A-Z]{2})_(?P<kind>F3D|RAW)", re.I
)
_PLACES = ("*.wrl", "*/*.wrl", "*/*/*.wrl", "*.WRL", "*/*.WRL", "*/*/*.WRL")


def _files(folder: Path) -> list[Path]:
    return sorted({p for place in _PLACES for p in folder.glob(place)})


class Bu3dfe:
    """`Layout` of BU-3DFE."""

    name = "bu3dfe"
    title = "BU-3DFE"

    def matches(self, folder: Path) -> bool:
        """Whether the folder has a mesh with a BU-3DFE file name."""
        return any(_NAME.fullmatch(p.stem) for p in _files(folder))

    def items(self, folder: Path) -> Listing:
        """List the cropped face meshes (F3D); the raw meshes are duplicates of the same captures."""
        items: list[ScanItem] = []
        problems: list[Problem] = []
        num_raw = 0
        for path in _files(folder):
            found = _item(path)
            if isinstance(found, ScanItem):
                items.append(found)
            elif found:
                problems.append(Problem(path=path, reason=found))
            else:
                num_raw += 1
        left_out = {"raw scans (the cropped ones are used)": num_raw} if num_raw else {}
        return Listing(items=sorted_items(items), problems=tuple(problems), left_out=left_out)


def _item(path: Path) -> ScanItem | str:
    """The scan item of a file, or the reason why it cannot be used; an empty string for a raw scan."""
    match = _NAME.fullmatch(path.stem)
    label = "" if match is None else match["label"].upper()
    if match is None or label not in BU3DFE:
        return "expected a name such as F0001_HA03WH_F3D.wrl (NE AN DI FE HA SA SU, level 00-04)"
    if match["kind"].upper() == "RAW":
        return ""
    level, neutral = int(match["level"]), label == "NE"
    if level != 0 if neutral else not 1 <= level <= BU3DFE_LEVELS:
        return f"expected level {'00' if neutral else f'01 to {BU3DFE_LEVELS:02d}'}, got {level:02d}"
    textures = [p for s in (".bmp", ".BMP") if (p := path.with_suffix(s)).is_file()]
    return ScanItem(
        subject=match["subject"].upper(),
        label=f"{label}{level:02d}",
        category=BU3DFE[label].category,
        intensity=level / BU3DFE_LEVELS,
        arkit=BU3DFE[label].units,
        geometry=path,
        texture=textures[0] if textures else None,
        is_neutral=neutral,
    )
