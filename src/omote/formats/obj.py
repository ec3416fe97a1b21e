"""Wavefront OBJ with MTL and textures: polygons, negative indices, vertex colours, several materials.

A missing texture or material library is left out with a note in the report; the shape alone can still be aligned. File names
match in any case and code page. ZBrush's polypaint (``#MRGB`` lines) is read as vertex colours.

Source: Alias/Wavefront, "Object Files (.obj)" and "MTL material format" (1995).
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from omote.errors import ScanError
from omote.formats.colors import unit_colors
from omote.formats.limits import RawScan, check_faces, fan
from omote.formats.materials import Material, Named, Surface, merged
from omote.formats.numbers import LineBlocks, after_mark, parse_numbers, token_lines
from omote.formats.source import Source, read_bounded, shown

_MAX_MATERIALS, _MAX_LIBRARIES = 512, 16
_MAX_MATERIAL_BYTES = 1 << 20
_SLASH, _SPACE = ord("/"), 32
_LIBRARY = re.compile(rb"\S[^\n]*?\.mtl(?=\s|$)", re.IGNORECASE)
_DEFAULT_COLOR = (0.8, 0.8, 0.8)
# Keywords of images, in order of preference.
_IMAGES = (b"map_kd", b"map_basecolor", b"map_ka", b"map_ke")


@dataclass(kw_only=True)
class _Parts:
    """Content read so far; lists hold one array per block."""

    points: list[np.ndarray] = field(default_factory=list)
    colors: list[np.ndarray] = field(default_factory=list)  # NaN where a vertex has none
    polypaint: list[bytes] = field(default_factory=list)
    uv: list[np.ndarray] = field(default_factory=list)
    faces: list[np.ndarray] = field(default_factory=list)
    faces_uv: list[np.ndarray] = field(default_factory=list)
    face_material: list[np.ndarray] = field(default_factory=list)
    num_points: int = 0
    num_uv: int = 0
    libraries: list[bytes] = field(default_factory=list)
    material_names: list[bytes] = field(default_factory=lambda: [b""])
    material: int = 0


@dataclass(kw_only=True)
class _Library:
    """Content of material libraries, by material name as bytes."""

    names: dict[bytes, None] = field(default_factory=dict)
    colors: dict[bytes, tuple[float, float, float]] = field(default_factory=dict)
    images: dict[bytes, tuple[int, Named]] = field(default_factory=dict)

    def material(self, name: bytes) -> Material:
        image = self.images.get(name)
        return Material(color=self.colors.get(name, _DEFAULT_COLOR), image=image[1] if image else None)


def read_obj(source: Source) -> RawScan:
    """Read an OBJ file, and the material libraries and images that it names in its own folder.

    Raises:
        ScanError: a number or an index is invalid, or there are too many.
    """
    path = source.path
    parts = _Parts()
    for block in LineBlocks(after_mark(source.file), path):
        _read_block(block.replace(b"\\\n", b" "), parts, source)
    if parts.num_points == 0:
        raise ScanError(f"{path.name}: expected vertices ('v x y z'), found none; check that it is a Wavefront OBJ")
    points = np.concatenate(parts.points)
    colors = _colors(parts, source)
    if not parts.faces:
        if colors is not None and np.isnan(colors).any():
            source.note(f"{int(np.isnan(colors[:, 0]).sum()):,} points have no colour: read as white")
            colors = np.where(np.isnan(colors), np.float32(1.0), colors)
        return RawScan(points=points, colors=colors)
    faces = check_faces(path, np.concatenate(parts.faces), len(points))
    faces_uv = np.concatenate(parts.faces_uv)
    uv = np.concatenate(parts.uv) if parts.uv else np.empty((0, 2))
    check_faces(path, np.maximum(faces_uv, 0) if len(uv) else faces_uv + 1, max(len(uv), 1), what="texture coordinate")
    surface = Surface(
        points=points,
        faces=faces,
        colors=colors,
        uv=uv,
        faces_uv=faces_uv,
        materials=_materials(source, parts, mapped=bool((faces_uv >= 0).any())),
        face_material=np.concatenate(parts.face_material),
    )
    return merged(surface, source)


def _colors(parts: _Parts, source: Source) -> Float[np.ndarray, "n 3"] | None:
    if parts.polypaint:
        painted = b"".join(parts.polypaint)
        if len(painted) == 8 * parts.num_points:
            try:
                values = np.frombuffer(bytes.fromhex(painted.decode("ascii", "replace")), np.uint8).reshape(-1, 4)
                return unit_colors(values[:, 1:])  # a mask, then red, green and blue
            except ValueError:
                pass
        source.note(f"polypaint of {len(painted) // 8:,} vertices does not fit {parts.num_points:,}: not read")
    colors = np.concatenate(parts.colors)
    known = ~np.isnan(colors).any(axis=1)
    if not known.any():
        return None
    if known.all():
        return unit_colors(colors, source.note)
    out = np.full(colors.shape, np.nan, np.float32)
    out[known] = unit_colors(colors[known], source.note)
    return out


def _read_block(block: bytes, parts: _Parts, source: Source) -> None:
    path = source.path
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
        source.claim("points", int(is_v.sum()))
        values, lengths = _numbers(data, head, is_v, counts, path, keyword=1)
        _add_vertices(values, lengths, parts, path)
    if is_vt.any():
        source.claim("bytes", 16 * int(is_vt.sum()), because="of texture coordinates")
        values, lengths = _numbers(data, head, is_vt, counts, path, keyword=2)
        first_value = np.cumsum(lengths) - lengths
        v = np.where(lengths > 1, values[np.minimum(first_value + 1, len(values) - 1)], 0.0)
        parts.uv.append(np.stack([values[first_value], v], axis=1))
    face_rows = np.flatnonzero(is_f)
    lower, after = first | 0x20, second | 0x20
    is_name = ((lower == ord("u")) & (after == ord("s"))) | ((lower == ord("m")) & (after == ord("t")))
    is_name |= (first == ord("#")) & (second == ord("M")) & (third == ord("R"))
    switches = _read_names(block, head[is_name], parts, path)
    if len(face_rows):
        points_before = parts.num_points + np.cumsum(is_v)[face_rows]
        uv_before = parts.num_uv + np.cumsum(is_vt)[face_rows]
        vertex, uv, num_corners = _corners(_select(data, head, is_f, keyword=1), path)
        if len(num_corners) != len(face_rows):
            raise ScanError(f"{path.name}: expected faces as 'f v/vt/vn …', got an empty one; export the scan again")
        polygons = _Polygons(vertex, uv, num_corners, points_before, uv_before)
        current = np.array([material for material, _ in switches])
        places = np.array([place for _, place in switches])
        _add_faces(polygons, current[np.searchsorted(places, head[face_rows], side="right") - 1], parts, source)
    parts.num_points += int(is_v.sum())
    parts.num_uv += int(is_vt.sum())


def _select(data: np.ndarray, head: np.ndarray, wanted: np.ndarray, *, keyword: int) -> np.ndarray:
    """Return the bytes of the wanted lines, with their keywords blanked."""
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
    if (lengths == 6).all():
        parts.colors.append(np.stack([values[first + k] for k in range(3, 6)], axis=1).astype(np.float32))
        return
    colors = np.full((len(lengths), 3), np.nan, np.float32)
    colored = np.flatnonzero((lengths >= 6) & (lengths <= 8))
    if len(colored):
        start, length = first[colored] + 3, lengths[colored]
        if (seven := length == 7).any():  # x y z r g b a, or x y z w r g b: a weight is 1
            is_alpha = _is_opaque(values[start[seven] + 3]) and not (values[start[seven]] == 1.0).all()
            start = start + (seven & ~np.bool_(is_alpha))
        start = start + (length == 8)
        colors[colored] = np.stack([values[start + k] for k in range(3)], axis=1)
    parts.colors.append(colors)


def _is_opaque(alpha: np.ndarray) -> bool:
    return bool((alpha == 1.0).all() or (alpha == 255.0).all())


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
    first = np.searchsorted(number, starts)  # the token of each corner's vertex index
    fields = np.diff(np.append(first, len(number)))
    if (fields < 1).any() or (number[first] != starts).any():
        raise ScanError(f"{path.name}: expected faces as 'f v/vt/vn …', got a corner without a vertex; export it again")
    uv = np.where(fields > 1, values[np.minimum(first + 1, len(values) - 1)], 0) if len(values) else values
    return values[first], uv, counts[counts > 0]


def _add_faces(polygons: _Polygons, material: np.ndarray, parts: _Parts, source: Source) -> None:
    path = source.path
    if (polygons.vertex == 0).any():
        raise ScanError(f"{path.name}: a face refers to vertex 0, OBJ counts from 1; export the scan again")
    vertex = _absolute(polygons.vertex, polygons.counts, polygons.points_before)
    uv = _absolute(polygons.uv, polygons.counts, polygons.uv_before)
    if vertex.size and vertex.min() < 0:
        raise ScanError(f"{path.name}: a face counts back past the first vertex; export the scan again")
    if ((polygons.uv < 0) & (uv < 0)).any():
        raise ScanError(f"{path.name}: a face counts back past the first texture coordinate; export the scan again")
    source.claim("faces", int(np.maximum(polygons.counts - 2, 0).sum()))
    triangles, polygon = fan(polygons.counts)
    if not len(triangles):
        return
    parts.faces.append(vertex[triangles])
    parts.faces_uv.append(uv[triangles])
    parts.face_material.append(material[polygon])


def _absolute(index: np.ndarray, counts: np.ndarray, before: np.ndarray) -> np.ndarray:
    """0-based; a negative index counts back from the last entry read before its face; 0 (none) becomes −1."""
    return np.where(index < 0, index + np.repeat(before, counts), index - 1)


def _read_names(block: bytes, heads: np.ndarray, parts: _Parts, path: Path) -> list[tuple[int, int]]:
    """Follow ``usemtl`` and ``mtllib`` lines: each material in force with the place where it starts."""
    switches = [(parts.material, -1)]
    known = {name: i for i, name in enumerate(parts.material_names)}
    for head in heads.tolist():
        end = block.find(b"\n", head)
        words = block[head : end if end >= 0 else len(block)].split(None, 1)
        if len(words) < 2:
            continue
        keyword = words[0].lower()
        if keyword == b"mtllib" and len(parts.libraries) < _MAX_LIBRARIES:
            parts.libraries.append(words[1][:1024].strip())
        elif keyword == b"#mrgb":
            parts.polypaint.append(words[1].strip())
        elif keyword == b"usemtl":
            name = words[1][:1024].strip()
            if name not in known:
                if len(known) > _MAX_MATERIALS:
                    raise ScanError(f"{path.name}: expected at most {_MAX_MATERIALS} materials; merge them first")
                known[name] = len(parts.material_names)
                parts.material_names.append(name)
            parts.material = known[name]
            switches.append((parts.material, head))
    return switches


def _materials(source: Source, parts: _Parts, *, mapped: bool) -> list[Material]:
    library = _Library()
    for line in dict.fromkeys(parts.libraries):
        names = [line]
        if source.beside(line)[0] is None:  # several names on a line, or a name with spaces
            names = _LIBRARY.findall(line) or line.split()
        for name in names[:_MAX_LIBRARIES]:
            found, why = source.beside(name)
            if found is None:
                source.note(f"material library {shown(name)} {why}: read without it")
            else:
                _read_library(found, library, source)
    own = source.path.with_suffix(".mtl").name
    if not library.names and mapped and (found := source.beside(own)[0]) is not None:
        source.note(f"{shown(own)} is taken as the material library: the OBJ names none that is here")
        _read_library(found, library, source)
    by_folded = {name.lower(): name for name in library.names}
    materials = []
    for number, name in enumerate(parts.material_names):
        known: bytes | None = name if name in library.names else by_folded.get(name.lower())
        if known is None and len(library.names) == 1 and (number == 0 or len(parts.material_names) == 2):
            known = next(iter(library.names))  # a single material applies even if faces name another
        if known is None and number and library.names:
            source.note(f"material {shown(name)} is in no library: read in its default colour")
        materials.append(Material(color=_DEFAULT_COLOR) if known is None else library.material(known))
    if len(parts.material_names) == 1 and len(library.names) > 1:
        source.note(f"no 'usemtl' says which of {len(library.names)} materials is meant: none is used")
    return materials


def _read_library(path: Path, library: _Library, source: Source) -> None:
    try:
        text = read_bounded(path, _MAX_MATERIAL_BYTES)
    except ScanError as error:
        source.note(f"{error}: read without it")
        return
    name = b""
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = text.decode("utf-16", "replace").encode()
    for line in text.removeprefix(b"\xef\xbb\xbf").splitlines():
        words = line.split()
        keyword = words[0].lower() if words else b""
        if keyword == b"newmtl":
            name = line.split(None, 1)[1].strip() if len(words) > 1 else b""
            library.names[name] = None
        elif keyword in (b"kd", b"ke") and len(words) >= 4:
            try:
                rgb = np.clip(np.nan_to_num([float(w) for w in words[1:4]]), 0.0, 1.0)
            except ValueError:
                continue
            if keyword == b"kd" or (rgb.any() and library.colors.get(name) == (0.0, 0.0, 0.0)):  # an emissive material
                library.colors[name] = (float(rgb[0]), float(rgb[1]), float(rgb[2]))
        elif keyword in _IMAGES and len(words) > 1:
            rank = _IMAGES.index(keyword)
            if name not in library.images or library.images[name][0] > rank:
                library.images[name] = rank, Named(name=_image_name(line, words[1:]), folder=path.parent)


def _image_name(line: bytes, words: list[bytes]) -> bytes:
    """Parse the file name after ``map_Kd`` and its options (``-s 1 1 1 -clamp on`` …); names may hold spaces."""
    if not words[0].startswith(b"-"):
        return line.split(None, 1)[1].strip()
    k = 0
    while k < len(words) - 1 and words[k].startswith(b"-"):
        option, k = words[k].lower(), k + 1
        if option in (b"-o", b"-s", b"-t", b"-mm"):
            while k < len(words) - 1 and _is_number(words[k]):
                k += 1
        else:
            k += 1
    return b" ".join(words[min(k, len(words) - 1) :])


def _is_number(word: bytes) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
