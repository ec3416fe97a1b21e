"""The supported dataset layouts, and detection of a folder's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

from omote.datasets.layouts.bu3dfe import Bu3dfe
from omote.datasets.layouts.facescape import FaceScape
from omote.datasets.layouts.generic import Generic
from omote.datasets.layouts.headspace import Headspace
from omote.datasets.layouts.layout import Layout, Listing
from omote.datasets.layouts.sequences import Coma, Florence4d
from omote.errors import DatasetError

LayoutName = Literal["auto", "generic", "facescape", "bu3dfe", "coma", "headspace", "florence4d"]

# A user's own label list takes precedence; Florence 4D, recognised only by its two folder levels, is tried last.
LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in cast("tuple[Layout, ...]", (Generic(), FaceScape(), Bu3dfe(), Coma(), Headspace(), Florence4d()))
}


def find_layout(folder: Path, name: LayoutName = "auto") -> Layout:
    """The layout of that name, or for "auto" the first layout that matches the folder.

    Raises:
        DatasetError: the folder does not exist, or it matches no layout.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: expected a folder of scans, found none; check the path")
    try:
        if name != "auto":
            return LAYOUTS[name]
        for layout in LAYOUTS.values():
            if layout.matches(folder):
                return layout
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be read ({error.strerror or error}); check its permissions") from error
    titles = ", ".join(layout.title for layout in LAYOUTS.values())
    raise DatasetError(
        f"{folder}: expected the layout of a known dataset ({titles}), found none; add a labels.csv, see docs/datasets.md"
    )


def list_items(folder: Path, name: LayoutName = "auto") -> tuple[Layout, Listing]:
    """A folder's layout and the scans in it.

    Raises:
        DatasetError: no layout matches, or the folder has no usable scan.
    """
    layout = find_layout(folder, name)
    try:
        listing = layout.items(folder)
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be read ({error.strerror or error}); check its permissions") from error
    if not listing.items:
        why = f"; the first problem: {listing.problems[0].reason}" if listing.problems else ""
        raise DatasetError(
            f"{folder}: expected scans in the layout of {layout.title}, found none that can be used{why}"
        )
    return layout, listing
