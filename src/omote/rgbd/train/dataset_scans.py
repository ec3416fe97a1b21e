"""The scans of a dataset, read."""

from __future__ import annotations

from dataclasses import replace

from omote.datasets.layouts.layout import ScanItem
from omote.formats.images import MAX_TEXTURE_SIZE, read_rgb
from omote.formats.read import read
from omote.types import Mesh, PointCloud, Rgbd


def read_item(item: ScanItem) -> PointCloud | Mesh | Rgbd:
    """Read a scan of a dataset; the item's texture is put on a mesh that names none itself.

    Raises:
        ScanError: the scan or its texture cannot be read.
    """
    scan = read(item.geometry)
    if not isinstance(scan, Mesh) or item.texture is None or scan.uv is None or scan.faces_uv is None:
        return scan
    if scan.texture is None and scan.vertex_colors is None:
        return replace(scan, texture=read_rgb(item.texture, item.texture.name, max_size=MAX_TEXTURE_SIZE))
    return scan
