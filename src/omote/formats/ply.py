"""PLY: ascii and binary of both byte orders, meshes and points, any extra properties and elements.

Format: Greg Turk, "The PLY Polygon File Format" (1994), with the customs of MeshLab, CloudCompare and others: per-vertex
(``s t``, ``u v``, ``texture_u texture_v``) and per-corner (``texcoord``) UVs, ``comment TextureFile name`` lines and
``texnumber``, colours of vertices and faces, triangle strips, and the harmonics of Gaussian splats (``f_dc_0`` …).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from omote.errors import ScanError
from omote.formats.colors import corners_to_vertices, packed_colors, unit_colors
from omote.formats.limits import MAX_FACES, MAX_POINTS, RawScan, check_claim, check_faces, fan
from omote.formats.materials import Material, Named, Surface, merged
from omote.formats.numbers import LineBlocks, number_rows, table
from omote.formats.ply_binary import read_binary_element
from omote.formats.ply_header import Element, Header, List, read_header
from omote.formats.source import Source

_UV_NAMES = (("texture_u", "texture_v"), ("s", "t"), ("u", "v"))
_CORNER_NAMES = ("vertex_indices", "vertex_index", "vertex_indexes")
_COLOR_NAMES = (
    ("red", "green", "blue"), ("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue"), ("gray",), ("grey",),
    ("luminance",),
)  # fmt: skip
_OTHER_COLORS = ("intensity", "scalar_intensity", "ambient_red", "quality", "scalar_red", "vertex_color", "colors")
_SPLAT = ("f_dc_0", "f_dc_1", "f_dc_2")
_HARMONIC = 0.28209479177387814  # of degree 0: 1 / (2 √π)


@dataclass(frozen=True, kw_only=True)
class Columns:
    """An element's data: one array per scalar property, one `List` per list property."""

    scalars: dict[str, np.ndarray]
    lists: dict[str, List]


def read_ply(source: Source) -> RawScan:
    """Read a PLY file.

    Raises:
        ScanError: the header is damaged or claims more than the file holds, or the data doesn't match the header.
    """
    file, path, size = source.file, source.path, source.size
    header = read_header(file, path)
    columns: dict[str, Columns] = {}
    blocks = LineBlocks(file, path)
    wanted = [i for i, e in enumerate(header.elements) if e.name in ("vertex", "face", "tristrips")]
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
        if element.name == "vertex":
            source.claim("points", element.count)
        if header.order is None:
            columns[element.name] = _read_ascii_element(blocks, element)
        else:
            scalars, lists = read_binary_element(file, path, element, header.order, available=size - file.tell())
            columns[element.name] = Columns(scalars=scalars, lists=lists)
    if "vertex" not in columns or not {"x", "y", "z"} <= columns["vertex"].scalars.keys():
        raise ScanError(f"{path.name}: expected a vertex element with x, y and z, found none; export with positions")
    for element in header.elements:
        if element.name not in ("vertex", "face", "tristrips", "camera") and element.count:
            source.note(f"the PLY's {element.count:,} rows of {element.name!r} are not read")
    return _scan(columns, header, source)


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
    cursor = end - row_lengths  # position of each row's next value, advanced property by property
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
    """Values in a property's type; integers are clipped to its range, so that bad indices are still found to be out of range."""
    if dtype.kind == "f":
        return values
    limits = np.iinfo(dtype)
    clipped = np.clip(np.nan_to_num(values, nan=0.0), limits.min, limits.max)
    return clipped.astype(np.int64).astype(dtype)


def _scan(columns: dict[str, Columns], header: Header, source: Source) -> RawScan:
    vertex = columns["vertex"].scalars
    points = _stack(vertex, ("x", "y", "z")).astype(np.float64)
    colors = _colors(vertex, source)
    normals = _stack(vertex, ("nx", "ny", "nz")).astype(np.float64) if {"nx", "ny", "nz"} <= vertex.keys() else None
    face = columns.get("face")
    corners = next((face.lists[n] for n in _CORNER_NAMES if n in face.lists), None) if face else None
    strips = columns["tristrips"].lists if "tristrips" in columns else {}
    if face is None or corners is None:
        strip = next((strips[n] for n in _CORNER_NAMES if n in strips), None)
        faces = None if strip is None else _strips(strip, len(points), source)
        return RawScan(points=points, colors=colors, normals=normals, faces=faces)
    triangles = np.maximum(corners.counts.astype(np.int64) - 2, 0).sum()
    source.claim("faces", int(triangles))
    picks, polygon = fan(corners.counts)
    values = check_faces(source.path, corners.values.astype(np.int64), len(points))
    faces = values[picks] if len(picks) else np.empty((0, 3), np.int64)
    if colors is None:
        of_faces = _colors(face.scalars, source)
        if of_faces is not None:
            colors = corners_to_vertices(len(points), faces, of_faces[polygon][:, None])
            colors = np.where(np.isnan(colors), np.float32(1.0), colors)
    uv, faces_uv = _texture_coordinates(vertex, face, faces, corners)
    if uv is None or faces_uv is None or not header.textures:
        if header.textures:
            source.note(
                f"texture {header.textures[0].decode('utf-8', 'replace')!r} without texture coordinates is not read"
            )
        return RawScan(points=points, faces=faces, colors=colors, normals=normals, uv=uv, faces_uv=faces_uv)
    return _textured(points, faces, colors, uv, faces_uv, face.scalars.get("texnumber"), polygon, header, source)


def _textured(
    points: Float[np.ndarray, "n 3"],
    faces: Int[np.ndarray, "f 3"],
    colors: Float[np.ndarray, "n 3"] | None,
    uv: Float[np.ndarray, "t 2"],
    faces_uv: Int[np.ndarray, "f 3"],
    texture_numbers: np.ndarray | None,
    polygon: Int[np.ndarray, " f"],
    header: Header,
    source: Source,
) -> RawScan:
    if texture_numbers is None:
        if len(header.textures) > 1:
            source.note(f"of {len(header.textures)} textures the first is used: the faces have no texnumber")
        number = np.zeros(len(faces), np.int64)
    else:
        number = np.nan_to_num(texture_numbers[polygon].astype(np.float64)).astype(np.int64)
        number = np.where((number < 0) | (number >= len(header.textures)), len(header.textures), number)
    materials = [Material(image=Named(name=name)) for name in header.textures]
    surface = Surface(
        points=points, faces=faces, colors=colors, uv=uv, faces_uv=faces_uv, materials=[*materials, Material()],
        face_material=number,
    )  # fmt: skip
    return merged(surface, source)


def _colors(scalars: dict[str, np.ndarray], source: Source) -> Float[np.ndarray, "n 3"] | None:
    """Colours of an element's rows under any of their usual names; None if it has none."""
    for names in _COLOR_NAMES:
        if set(names) <= scalars.keys():
            return unit_colors(_stack(scalars, names), source.note)
    if set(_SPLAT) <= scalars.keys():
        source.note(
            "Gaussian splats: their centres are read as points, in the colour that their harmonics have all round"
        )
        return np.clip(0.5 + _HARMONIC * np.nan_to_num(_stack(scalars, _SPLAT)), 0.0, 1.0).astype(np.float32)
    for name in ("rgb", "rgba"):
        if name in scalars:
            packed = scalars[name]
            return packed_colors(packed.astype(np.float32).view(np.uint32) if packed.dtype.kind == "f" else packed)
    if other := [name for name in _OTHER_COLORS if name in scalars]:
        source.note(f"{other[0]!r} is not read as a colour")
    return None


def _strips(strips: List, num_points: int, source: Source) -> Int[np.ndarray, "f 3"]:
    """Triangles of strips that end with −1; every second triangle is flipped, and cleaning drops degenerate ones."""
    ids = strips.values.astype(np.int64)
    source.claim("faces", len(ids))
    ends = np.concatenate([ids, [-1, -1]])
    whole = (ends[:-2] >= 0) & (ends[1:-1] >= 0) & (ends[2:] >= 0)
    bounds = np.cumsum(strips.counts)[:-1]
    for back in (1, 2):  # a strip ends with its row
        whole[bounds[bounds >= back] - back] = False
    starts = np.flatnonzero(whole)
    first = np.flatnonzero(np.concatenate([[True], ends[:-1] < 0]))
    first = np.union1d(first, bounds)
    odd = (starts - first[np.searchsorted(first, starts, side="right") - 1]) % 2 == 1
    faces = np.stack([starts + odd, starts + ~odd, starts + 2], axis=1)
    return check_faces(source.path, ends[faces], num_points)


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
