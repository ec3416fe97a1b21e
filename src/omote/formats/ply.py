"""PLY: ascii and binary of both byte orders, meshes and points, any extra properties and elements.

Format: Greg Turk, "The PLY Polygon File Format" (1994), with the customs of MeshLab and CloudCompare: per-vertex
(``s t``, ``u v``, ``texture_u texture_v``) and per-corner (``texcoord``) UVs and ``comment TextureFile name``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float, Int

from omote.errors import ScanError
from omote.formats.images import read_texture_beside
from omote.formats.limits import MAX_FACES, MAX_POINTS, RawScan, check_claim, check_faces, fan, unit_colors
from omote.formats.numbers import LineBlocks, number_rows, table
from omote.formats.ply_binary import read_binary_element
from omote.formats.ply_header import Element, Header, List, read_header

_UV_NAMES = (("texture_u", "texture_v"), ("s", "t"), ("u", "v"))
_CORNER_NAMES = ("vertex_indices", "vertex_index")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """An element's data: one array per scalar property, one `List` per list property."""

    scalars: dict[str, np.ndarray]
    lists: dict[str, List]


def read_ply(file: BinaryIO, path: Path, size: int) -> RawScan:
    """Read a PLY file.

    Args:
        file: open at the start.
        path: for messages and for the texture beside it.
        size: of the file in bytes.

    Raises:
        ScanError: the header is damaged, claims more than the file holds, or the data does not fit it.
    """
    header = read_header(file, path)
    columns: dict[str, Columns] = {}
    blocks = LineBlocks(file, path)
    wanted = [i for i, e in enumerate(header.elements) if e.name in ("vertex", "face")]
    for element in header.elements[: max(wanted, default=-1) + 1]:
        limit = MAX_POINTS if element.name == "vertex" else MAX_FACES
        check_claim(
            path,
            what=f"rows of {element.name!r}",
            count=element.count,
            bytes_each=element.least_bytes(ascii=header.order is None),
            available=size - header.num_bytes if header.order is None else size - file.tell(),
            limit=limit,
        )
        if header.order is None:
            columns[element.name] = _read_ascii_element(blocks, element)
        else:
            scalars, lists = read_binary_element(file, path, element, header.order, available=size - file.tell())
            columns[element.name] = Columns(scalars=scalars, lists=lists)
    if "vertex" not in columns or not {"x", "y", "z"} <= columns["vertex"].scalars.keys():
        raise ScanError(f"{path.name}: expected a vertex element with x, y and z, found none; export with positions")
    return _scan(columns, header, path)


def _read_ascii_element(blocks: LineBlocks, element: Element) -> Columns:
    what = f"rows of {element.name!r}"
    if not any(p.is_list for p in element.properties):
        values = table(blocks, num_columns=len(element.properties), num_rows=element.count, what=what)
        return Columns(
            scalars={p.name: _cast(values[:, i], p.dtype) for i, p in enumerate(element.properties)}, lists={}
        )
    parts = list(number_rows(blocks, num_rows=element.count, what=what))
    values = np.concatenate([v for v, _ in parts]) if parts else np.empty(0)
    row_lengths = np.concatenate([c for _, c in parts]) if parts else np.empty(0, np.int64)
    end = np.cumsum(row_lengths)
    cursor = end - row_lengths  # where each row's next value is, moved along property by property
    bad = ScanError(f"{blocks.path.name}: expected {what} to be as long as their list counts say; export it again")
    scalars: dict[str, np.ndarray] = {}
    lists: dict[str, List] = {}
    for item in element.properties:
        if (cursor >= end).any():
            raise bad
        head = values[cursor]
        cursor = cursor + 1
        if not item.is_list:
            scalars[item.name] = _cast(head, item.dtype)
            continue
        if not ((head >= 0) & (head <= end - cursor) & (head == np.floor(head))).all():
            raise bad
        counts = head.astype(np.int64)
        picks = np.repeat(cursor - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
        lists[item.name] = List(counts=counts, values=_cast(values[picks], item.dtype))
        cursor = cursor + counts
    if (cursor != end).any():
        raise bad
    return Columns(scalars=scalars, lists=lists)


def _cast(values: Float[np.ndarray, " n"], dtype: np.dtype) -> np.ndarray:
    """Values in a property's type; out-of-range integers are clipped, so that indices fail later as out of range."""
    if dtype.kind == "f":
        return values
    limits = np.iinfo(dtype)
    clipped = np.clip(np.nan_to_num(values, nan=0.0), limits.min, limits.max)
    return clipped.astype(np.int64).astype(dtype)


def _scan(columns: dict[str, Columns], header: Header, path: Path) -> RawScan:
    vertex = columns["vertex"].scalars
    points = _stack(vertex, ("x", "y", "z")).astype(np.float64)
    colors = normals = None
    for names in (("red", "green", "blue"), ("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue")):
        if colors is None and set(names) <= vertex.keys():
            colors = unit_colors(_stack(vertex, names))
    if {"nx", "ny", "nz"} <= vertex.keys():
        normals = _stack(vertex, ("nx", "ny", "nz")).astype(np.float64)
    face = columns.get("face")
    corners = next((face.lists[n] for n in _CORNER_NAMES if n in face.lists), None) if face else None
    if face is None or corners is None:
        return RawScan(points=points, colors=colors, normals=normals)
    check_claim(path, what="face corners", count=len(corners.values), bytes_each=0, available=0, limit=3 * MAX_FACES)
    triangles, _ = fan(corners.counts)
    values = check_faces(path, corners.values.astype(np.int64), len(points))
    faces = values[triangles] if len(triangles) else np.empty((0, 3), np.int64)
    uv, faces_uv = _texture_coordinates(vertex, face, faces, corners)
    texture: Float[np.ndarray, "tex_height tex_width 3"] | None = None
    notes: tuple[str, ...] = ()
    if uv is not None and header.texture is not None:
        texture, notes = read_texture_beside(path, header.texture)
    return RawScan(
        points=points,
        faces=faces,
        colors=colors,
        normals=normals,
        uv=uv,
        faces_uv=faces_uv,
        texture=texture,
        notes=notes,
    )


def _texture_coordinates(
    vertex: dict[str, np.ndarray], face: Columns, faces: np.ndarray, corners: List
) -> tuple[Float[np.ndarray, "num_uv 2"] | None, Int[np.ndarray, "num_faces 3"] | None]:
    wedge = face.lists.get("texcoord")
    if wedge is not None and (wedge.counts == 2 * corners.counts).all():
        triangles, _ = fan(corners.counts)
        return wedge.values.reshape(-1, 2).astype(np.float64), triangles
    for names in _UV_NAMES:
        if set(names) <= vertex.keys():
            return _stack(vertex, names).astype(np.float64), faces.copy()
    return None, None


def _stack(scalars: dict[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray:
    return np.stack([scalars[name] for name in names], axis=1)
