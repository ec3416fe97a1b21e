"""Wavefront OBJ with MTL and textures: polygons, negative indices, vertex colours, several materials.

A texture or material library that is absent is left out with a note in the report; the shape alone can be aligned.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float, Int

from omote.errors import ScanError
from omote.formats.images import read_texture_beside
from omote.formats.limits import MAX_FACES, MAX_POINTS, RawScan, check_faces, fan, sibling, unit_colors
from omote.formats.materials import Material, merge_materials
from omote.formats.numbers import LineBlocks, parse_numbers, token_lines

_MAX_MATERIALS = 64
_MAX_MATERIAL_BYTES = 1 << 20
_SLASH, _SPACE = ord("/"), 32


@dataclass(kw_only=True)
class _Parts:
    """What has been read so far; lists hold one array per block."""

    points: list[np.ndarray] = field(default_factory=list)
    colors: list[np.ndarray | None] = field(default_factory=list)
    uv: list[np.ndarray] = field(default_factory=list)
    faces: list[np.ndarray] = field(default_factory=list)
    faces_uv: list[np.ndarray] = field(default_factory=list)
    face_material: list[np.ndarray] = field(default_factory=list)
    num_points: int = 0
    num_uv: int = 0
    num_faces: int = 0
    libraries: list[str] = field(default_factory=list)
    material_names: list[str] = field(default_factory=lambda: [""])
    material: int = 0


def read_obj(file: BinaryIO, path: Path, size: int) -> RawScan:
    """Read an OBJ file and what it names in its own folder.

    Args:
        file: open at the start.
        path: for messages, and its folder for the material library and textures.
        size: of the file in bytes.

    Raises:
        ScanError: a number or an index is wrong, a name leads outside the folder, a texture is damaged or too large.
    """
    parts = _Parts()
    for block in LineBlocks(file, path):
        _read_block(block.replace(b"\\\n", b" "), parts, path)
    if parts.num_points == 0:
        raise ScanError(f"{path.name}: expected vertices ('v x y z'), found none; check that it is a Wavefront OBJ")
    points = np.concatenate(parts.points)
    colors = None
    if all(c is not None for c in parts.colors):
        colors = unit_colors(np.concatenate([c for c in parts.colors if c is not None]))
    if parts.num_faces == 0:
        return RawScan(points=points, colors=colors)
    faces = check_faces(path, np.concatenate(parts.faces), len(points))
    faces_uv = np.concatenate(parts.faces_uv)
    uv = np.concatenate(parts.uv) if parts.uv else np.empty((0, 2))
    check_faces(path, np.maximum(faces_uv, 0) if len(uv) else faces_uv + 1, max(len(uv), 1), what="texture coordinate")
    if not (faces_uv >= 0).any():
        return RawScan(points=points, faces=faces, colors=colors)
    materials, notes = _read_materials(path, parts)
    uv, faces_uv, texture = merge_materials(materials, np.concatenate(parts.face_material), uv, faces_uv)
    if (faces_uv < 0).any():  # no texture to show, and some corners unmapped
        return RawScan(points=points, faces=faces, colors=colors, notes=notes)
    return RawScan(points=points, faces=faces, colors=colors, uv=uv, faces_uv=faces_uv, texture=texture, notes=notes)


def _read_block(block: bytes, parts: _Parts, path: Path) -> None:
    data, starts, counts = token_lines(block)
    rows = np.flatnonzero(counts)
    if not len(rows):
        return
    counts = counts[rows]
    head = starts[np.cumsum(counts) - counts]  # the keyword's first byte on each filled line
    data = np.append(data, np.uint8(ord("\n")))
    first, second = data[head], data[head + 1]
    third = data[np.minimum(head + 2, len(data) - 1)]
    is_v = (first == ord("v")) & (second <= _SPACE)
    is_vt = (first == ord("v")) & (second == ord("t")) & (third <= _SPACE)
    is_f = (first == ord("f")) & (second <= _SPACE)

    if is_v.any():
        values, lengths = _numbers(data, head, is_v, counts, path, keyword=1)
        _add_vertices(values, lengths, parts, path)
    if is_vt.any():
        values, lengths = _numbers(data, head, is_vt, counts, path, keyword=2)
        first_value = np.cumsum(lengths) - lengths
        v = np.where(lengths > 1, values[np.minimum(first_value + 1, len(values) - 1)], 0.0)
        parts.uv.append(np.stack([values[first_value], v], axis=1))
    face_rows = np.flatnonzero(is_f)
    names = np.flatnonzero((first == ord("u")) | (first == ord("m")))
    switches = _read_names(block, head[names], parts, path)
    if len(face_rows):
        points_before = parts.num_points + np.cumsum(is_v)[face_rows]
        uv_before = parts.num_uv + np.cumsum(is_vt)[face_rows]
        vertex, uv, num_corners = _corners(_select(data, head, is_f, keyword=1), path)
        if len(num_corners) != len(face_rows):
            raise ScanError(f"{path.name}: expected faces as 'f v/vt/vn …', got an empty one; export the scan again")
        polygons = _Polygons(vertex, uv, num_corners, points_before, uv_before)
        current = np.array([material for material, _ in switches])
        places = np.array([place for _, place in switches])
        _add_faces(polygons, current[np.searchsorted(places, head[face_rows], side="right") - 1], parts, path)
    parts.num_points += int(is_v.sum())
    parts.num_uv += int(is_vt.sum())
    if parts.num_points > MAX_POINTS or parts.num_uv > 3 * MAX_FACES or parts.num_faces > MAX_FACES:
        raise ScanError(
            f"{path.name}: expected at most {MAX_POINTS:,} vertices and {MAX_FACES:,} triangles, got more; "
            "crop or simplify the scan first"
        )


def _select(data: np.ndarray, head: np.ndarray, wanted: np.ndarray, *, keyword: int) -> np.ndarray:
    """Return the bytes of the wanted lines, their keyword blanked."""
    data = data.copy()
    for k in range(keyword):
        data[head[wanted] + k] = _SPACE
    # From each keyword to the next one: comments between are lines of their own and thus not wanted.
    bounds = np.append(head, len(data))
    return data[head[0] :][np.repeat(wanted, np.diff(bounds))]


def _numbers(
    data: np.ndarray, head: np.ndarray, wanted: np.ndarray, counts: np.ndarray, path: Path, *, keyword: int
) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " rows"]]:
    lengths = counts[wanted] - 1
    if (lengths < 1).any():
        raise ScanError(f"{path.name}: expected numbers after 'v' or 'vt', got an empty line; export the scan again")
    text = _select(data, head, wanted, keyword=keyword).tobytes()
    try:
        return parse_numbers(text, int(lengths.sum()), path), lengths
    except ScanError:
        if b"#" not in text:
            raise
    stripped = b"\n".join(line.split(b"#", 1)[0] for line in text.splitlines()) + b"\n"  # rare: comment after numbers
    _, starts, lengths = token_lines(stripped)
    lengths = lengths[lengths > 0]
    if len(lengths) != int(wanted.sum()):
        raise ScanError(f"{path.name}: expected numbers after 'v' or 'vt', got a comment; export the scan again")
    return parse_numbers(stripped, len(starts), path), lengths


def _add_vertices(values: np.ndarray, lengths: np.ndarray, parts: _Parts, path: Path) -> None:
    if (lengths < 3).any():
        raise ScanError(f"{path.name}: expected three or more numbers after 'v', got fewer; export the scan again")
    first = np.cumsum(lengths) - lengths
    parts.points.append(np.stack([values[first + k] for k in range(3)], axis=1))
    colored = (lengths == 6) | (lengths == 7)
    if colored.all():
        skip = np.where(lengths == 7, 4, 3)  # seven: x y z w r g b
        parts.colors.append(np.stack([values[first + skip + k] for k in range(3)], axis=1))
    else:
        parts.colors.append(None)


@dataclass(frozen=True)
class _Polygons:
    """Corners of a block's faces, one after the other: raw OBJ indices (1-based, negative from the end, 0 for none)."""

    vertex: Int[np.ndarray, " corners"]
    uv: Int[np.ndarray, " corners"]
    counts: Int[np.ndarray, " polygons"]
    points_before: Int[np.ndarray, " polygons"]
    uv_before: Int[np.ndarray, " polygons"]


def _corners(data: np.ndarray, path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertex index and UV index (0 where none) of every corner in face lines, and the number of corners per line."""
    text = data.tobytes()
    if b"#" in text:
        text = b"\n".join(line.split(b"#", 1)[0] for line in text.splitlines()) + b"\n"
    while b"//" in text:
        text = text.replace(b"//", b"/0/")
    data, starts, counts = token_lines(text)
    is_break = (data <= _SPACE) | (data == _SLASH)
    number = np.flatnonzero(~is_break & np.concatenate([[True], is_break[:-1]]))
    values = parse_numbers(text.replace(b"/", b" "), len(number), path, dtype=np.int64)
    first = np.searchsorted(number, starts)  # each corner's vertex number
    fields = np.diff(np.append(first, len(number)))
    if (fields < 1).any() or (number[first] != starts).any():
        raise ScanError(f"{path.name}: expected faces as 'f v/vt/vn …', got a corner without a vertex; export it again")
    uv = np.where(fields > 1, values[np.minimum(first + 1, len(values) - 1)], 0) if len(values) else values
    return values[first], uv, counts[counts > 0]


def _add_faces(polygons: _Polygons, material: np.ndarray, parts: _Parts, path: Path) -> None:
    if (polygons.vertex == 0).any():
        raise ScanError(f"{path.name}: a face refers to vertex 0, OBJ counts from 1; export the scan again")
    vertex = _absolute(polygons.vertex, polygons.counts, polygons.points_before)
    uv = _absolute(polygons.uv, polygons.counts, polygons.uv_before)
    if vertex.size and vertex.min() < 0:
        raise ScanError(f"{path.name}: a face counts back past the first vertex; export the scan again")
    if ((polygons.uv < 0) & (uv < 0)).any():
        raise ScanError(f"{path.name}: a face counts back past the first texture coordinate; export the scan again")
    triangles, polygon = fan(polygons.counts)
    if not len(triangles):
        return
    parts.faces.append(vertex[triangles])
    parts.faces_uv.append(uv[triangles])
    parts.face_material.append(material[polygon])
    parts.num_faces += len(triangles)


def _absolute(index: np.ndarray, counts: np.ndarray, before: np.ndarray) -> np.ndarray:
    """0-based; a negative index counts back from the last entry read before its face; 0 (none) becomes −1."""
    return np.where(index < 0, index + np.repeat(before, counts), index - 1)


def _read_names(block: bytes, heads: np.ndarray, parts: _Parts, path: Path) -> list[tuple[int, int]]:
    """Follow ``usemtl`` and ``mtllib`` lines: each material in force with the place where it starts."""
    switches = [(parts.material, -1)]
    known = {name: i for i, name in enumerate(parts.material_names)}
    for head in heads.tolist():
        end = block.find(b"\n", head)
        words = block[head : end if end >= 0 else len(block)][:1024].decode("utf-8", "replace").split(None, 1)
        if len(words) < 2:
            continue
        if words[0] == "mtllib" and len(parts.libraries) < 8:
            parts.libraries.append(words[1].strip())
        elif words[0] == "usemtl":
            name = words[1].strip()
            if name not in known:
                if len(known) > _MAX_MATERIALS:
                    raise ScanError(f"{path.name}: expected at most {_MAX_MATERIALS} materials; merge them first")
                known[name] = len(parts.material_names)
                parts.material_names.append(name)
            parts.material = known[name]
            switches.append((parts.material, head))
    return switches


def _read_materials(path: Path, parts: _Parts) -> tuple[list[Material], tuple[str, ...]]:
    colors: dict[str, tuple[float, float, float]] = {}
    images: dict[str, str] = {}
    notes: list[str] = []
    for library in dict.fromkeys(parts.libraries):
        found = sibling(path, library)
        if found is None:
            notes.append(f"material library {library[:80]!r} is not beside {path.name}: read without materials")
        else:
            _read_library(found, colors, images)
    textures: dict[str, np.ndarray | None] = {}
    for name in parts.material_names:
        image = images.get(name)
        if image is not None and image not in textures:
            textures[image], missing = read_texture_beside(path, image)
            notes += missing
    materials = [
        Material(color=colors.get(name, (0.8, 0.8, 0.8)), texture=textures.get(images.get(name, "")))
        for name in parts.material_names
    ]
    return materials, tuple(notes)


def _read_library(path: Path, colors: dict[str, tuple[float, float, float]], images: dict[str, str]) -> None:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_MATERIAL_BYTES + 1)
    except OSError as error:
        raise ScanError(f"{path.name}: cannot be read ({error.strerror}); check its permissions") from error
    if len(text) > _MAX_MATERIAL_BYTES:
        raise ScanError(f"{path.name}: expected a material library under {_MAX_MATERIAL_BYTES:,} bytes; shorten it")
    name = ""
    for line in text.decode("utf-8", "replace").splitlines():
        words = line.split()
        match words:
            case ["newmtl", *rest]:
                name = " ".join(rest)
            case ["Kd", r, g, b, *_]:
                try:
                    rgb = np.clip(np.nan_to_num([float(r), float(g), float(b)]), 0.0, 1.0)
                except ValueError:
                    continue
                colors[name] = (float(rgb[0]), float(rgb[1]), float(rgb[2]))
            case ["map_Kd", *rest] if rest:
                images[name] = _image_name(line, rest)


def _image_name(line: str, words: list[str]) -> str:
    """Parse the file name after ``map_Kd`` and its options (``-s 1 1 1 -clamp on`` …); names may hold spaces."""
    if not words[0].startswith("-"):
        return line.split(None, 1)[1].strip()
    k = 0
    while k < len(words) - 1 and words[k].startswith("-"):
        option, k = words[k], k + 1
        if option in ("-o", "-s", "-t", "-mm"):
            while k < len(words) - 1 and _is_number(words[k]):
                k += 1
        else:
            k += 1
    return " ".join(words[min(k, len(words) - 1) :])


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
