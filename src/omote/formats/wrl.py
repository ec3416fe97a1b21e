"""VRML 2.0 (VRML97) from 3D scanners: indexed face sets and point sets, each with colours or one image.

The nodes ``Coordinate``, ``IndexedFaceSet``, ``PointSet``, ``TextureCoordinate``, ``Color`` (per vertex, corner or face),
``Material`` and ``ImageTexture`` are read (names as in ISO/IEC 14772-1) and all others ignored. Transforms are not applied, and
``USE`` is not followed. The text is scanned once, in time linear in its length.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from omote.errors import ScanError
from omote.formats.colors import corners_to_vertices, unit_colors
from omote.formats.limits import MAX_FACES, MAX_POINTS, RawScan, check_faces, fan
from omote.formats.materials import Material, Named, Surface, merged
from omote.formats.numbers import LineBlocks, parse_numbers, token_lines
from omote.formats.source import Source

_SIGNATURE = b"#VRML V2.0"
_MAX_SHAPES = 512
_MAX_DEPTH = 200
_MAX_STRING_BYTES = 4 << 20
_TOKEN = re.compile(rb'[{}\[\]"#]|[^\s,{}\[\]"#]+')
_ARRAY_END = re.compile(rb'[\]"#]')
_NUMBER_NEXT = re.compile(rb"\s*[-+.\d]")
_NUMBER = re.compile(rb"[-+]?(\d{1,18}\.?\d{0,18}|\.\d{1,18})([eE][-+]?\d{1,3})?")
_COMMAS = bytes.maketrans(b",", b" ")
# Arrays that are read: their content, and the largest number of values.
_ARRAYS = {
    (b"Coordinate", b"point"): ("points", 3 * MAX_POINTS),
    (b"TextureCoordinate", b"point"): ("uv", 2 * 3 * MAX_FACES),
    (b"Color", b"color"): ("colors", 3 * MAX_POINTS),
    (b"IndexedFaceSet", b"coordIndex"): ("corners", 4 * MAX_FACES),
    (b"IndexedFaceSet", b"texCoordIndex"): ("corners_uv", 4 * MAX_FACES),
    (b"IndexedFaceSet", b"colorIndex"): ("corners_color", 4 * MAX_FACES),
}
_INTEGERS = ("corners", "corners_uv", "corners_color")
_DEFAULT_COLOR = (0.8, 0.8, 0.8)
_MATERIAL_COLORS = (b"emissiveColor", b"diffuseColor")  # the last one wins unless it is black
_MAX_IMAGES = 8


@dataclass(kw_only=True)
class _Shape:
    """One ``Shape``: chunks of flat arrays by the names in `_ARRAYS`."""

    chunks: dict[str, list[np.ndarray]] = field(default_factory=dict)
    images: list[bytes] = field(default_factory=list)  # alternatives; the first existing one is used
    colors: dict[bytes, list[float]] = field(default_factory=dict)
    color_per_vertex: bool = True

    def numbers(self, name: str) -> np.ndarray | None:
        return np.concatenate(self.chunks[name]) if self.chunks.get(name) else None

    def material(self, source: Source) -> Material:
        color = _DEFAULT_COLOR
        for name in _MATERIAL_COLORS:
            values = np.clip(np.nan_to_num(self.colors.get(name, [])), 0.0, 1.0).tolist()
            if len(values) == 3 and any(values):
                color = values[0], values[1], values[2]
        here = [name for name in self.images if source.beside(name)[0] is not None]
        return Material(color=color, image=Named(name=(here or self.images)[0]) if self.images else None)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A shape as triangles; ``faces`` is None for points, and ``uv`` if there are no texture coordinates."""

    points: Float[np.ndarray, "n 3"]
    colors: Float[np.ndarray, "n 3"] | None
    faces: Int[np.ndarray, "f 3"] | None
    uv: Float[np.ndarray, "t 2"] | None
    faces_uv: Int[np.ndarray, "f 3"] | None
    material: Material


def read_wrl(source: Source) -> RawScan:
    """Read a VRML 2.0 file and the images that it names in its own folder.

    Raises:
        ScanError: the file is VRML 1.0 or truncated, or a number or an index is invalid.
    """
    path = source.path
    if not source.file.read(len(_SIGNATURE)) == _SIGNATURE:
        raise ScanError(f"{path.name}: expected VRML 2.0 ('#VRML V2.0 utf8'); export the scan as one, or as PLY")
    source.file.readline(4096)
    parts = [part for shape in _Parser(source).shapes() if (part := _part(shape, source)) is not None]
    if not parts:
        raise ScanError(f"{path.name}: expected an IndexedFaceSet or PointSet with points, found none; export it again")
    return _joined(parts, source)


class _Parser:
    """Walks through nodes and arrays, block by block."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.path = source.path
        self.nodes: list[bytes] = []
        self.done: list[_Shape] = []
        self.shape = _Shape()
        self.word = b""  # last word read: the name of a field or node
        self.array: str | None = None  # name of the array being read
        self.left = 0  # how many more numbers the array may hold
        self.skipped = False  # whether the array being read is ignored

    def shapes(self) -> list[_Shape]:
        rest = b""
        for block in LineBlocks(self.source.file, self.path):
            rest = self._read(rest + block)
            if len(rest) > _MAX_STRING_BYTES:
                raise ScanError(
                    f"{self.path.name}: a text in quotes does not end; the file is damaged, export it again"
                )
        if rest or self.array is not None or self.skipped or self.nodes:
            what = "an array" if self.array is not None or self.skipped else "a text in quotes"
            if self.nodes and not rest and self.array is None and not self.skipped:
                what = repr(self.nodes[-1][:40].decode("ascii", "replace"))
            raise ScanError(f"{self.path.name}: the file ends inside {what}; it is truncated, copy or export it again")
        self._end_shape()
        return self.done

    def _read(self, text: bytes) -> bytes:
        """Read whole lines; return the rest if it is an unfinished quoted string."""
        place = 0
        while place < len(text):
            if self.array is not None or self.skipped:
                place = self._numbers(text, place)
                continue

            token = _TOKEN.search(text, place)
            if token is None:
                break
            place, what = token.end(), token[0]

            if what == b'"':
                end = _string_end(text, place)
                if end < 0:
                    return text[token.start() :]
                if (
                    self.word == b"url"
                    and self.nodes[-1:] == [b"ImageTexture"]
                    and len(self.shape.images) < _MAX_IMAGES
                ):
                    self.shape.images.append(text[place:end][:1024])
                place = end + 1
            elif what == b"#":
                place = _line_end(text, place)
            elif what == b"{":
                self._open_node()
            elif what == b"}":
                self._close_node()
            elif what == b"[":
                self._open_array(_NUMBER_NEXT.match(text, place) is not None)
            elif what != b"]":
                self._take_word(what)

        return b""

    def _take_word(self, word: bytes) -> None:
        node = self.nodes[-1] if self.nodes else b""
        if node == b"Material" and self.word in _MATERIAL_COLORS:
            color = self.shape.colors.setdefault(self.word, [])
            if len(color) < 3 and _NUMBER.fullmatch(word):
                color.append(float(word))
                return
        if self.word == b"colorPerVertex":
            self.shape.color_per_vertex = word != b"FALSE"
        if self.word == b"USE":
            self.source.note(f"'USE {word[:40].decode('utf-8', 'replace')}' is not followed")
        self.word = word

    def _open_node(self) -> None:
        if len(self.nodes) >= _MAX_DEPTH:
            raise ScanError(f"{self.path.name}: expected at most {_MAX_DEPTH} nested nodes; export the scan again")
        self.nodes.append(self.word)
        if self.word == b"Transform":
            self.source.note("transforms in the file are not applied")

    def _close_node(self) -> None:
        if not self.nodes:
            raise ScanError(f"{self.path.name}: a '}}' closes nothing; the file is damaged, export it again")
        if self.nodes.pop() == b"Shape":
            self._end_shape()

    def _open_array(self, holds_numbers: bool) -> None:
        known = _ARRAYS.get((self.nodes[-1] if self.nodes else b"", self.word))
        if known is None:
            self.skipped = holds_numbers
            return
        self.array, self.left = known
        if self.array in self.shape.chunks:  # faces outside of a Shape
            images, colors = self.shape.images, self.shape.colors
            self._end_shape()
            self.shape.images, self.shape.colors = images, colors
        self.shape.chunks[self.array] = []

    def _numbers(self, text: bytes, place: int) -> int:
        """Read an array up to its end, a comment or the block's end; return that position."""
        end = _ARRAY_END.search(text, place)
        stop = len(text) if end is None else end.start()
        if self.array is not None:
            self._add_numbers(text[place:stop])
        if end is None:
            return stop
        if end[0] == b"#":
            return _line_end(text, stop)
        if end[0] == b'"' and self.array is not None:
            raise ScanError(f"{self.path.name}: expected numbers, got a text in quotes; the file is damaged")
        self.array, self.skipped = None, end[0] == b'"' and self.skipped
        return stop + 1

    def _add_numbers(self, text: bytes) -> None:
        assert self.array is not None
        text = text.translate(_COMMAS)
        count = len(token_lines(text)[1]) if text else 0
        if not count:
            return
        self.left -= count
        if self.left < 0:
            raise ScanError(
                f"{self.path.name}: expected at most {MAX_POINTS:,} vertices and {MAX_FACES:,} triangles, got more; "
                "crop or simplify the scan first"
            )
        self.source.claim("bytes", 8 * count, because="of numbers")
        kind = np.int64 if self.array in _INTEGERS else np.float64
        self.shape.chunks[self.array].append(parse_numbers(text, count, self.path, dtype=kind))

    def _end_shape(self) -> None:
        if "points" in self.shape.chunks:
            if len(self.done) == _MAX_SHAPES:
                raise ScanError(f"{self.path.name}: expected at most {_MAX_SHAPES} shapes; merge them first")
            self.done.append(self.shape)
        self.shape = _Shape()


def _string_end(text: bytes, place: int) -> int:
    """Position of a string's closing quote; −1 if it is not in the text. A backslash escapes the next character."""
    while (end := text.find(b'"', place)) >= 0:
        back = end
        while back > place and text[back - 1] == ord("\\"):
            back -= 1
        if (end - back) % 2 == 0:
            return end
        place = end + 1
    return -1


def _line_end(text: bytes, place: int) -> int:
    end = text.find(b"\n", place)
    return len(text) if end < 0 else end + 1


def _part(shape: _Shape, source: Source) -> _Part | None:
    path = source.path
    points = _rows(shape.numbers("points"), 3, "point", source)
    if points is None:
        return None
    source.claim("points", len(points))
    colors = _rows(shape.numbers("colors"), 3, "color", source)
    corners = shape.numbers("corners")
    if corners is None:
        if colors is not None and len(colors) != len(points):
            colors = None
        return _Part(points=points, colors=colors, faces=None, uv=None, faces_uv=None, material=shape.material(source))
    ids, counts = _polygons(corners)
    source.claim("faces", int(np.maximum(counts - 2, 0).sum()))
    triangles, polygon = fan(counts)
    faces = check_faces(path, ids, len(points))[triangles]
    if colors is not None:
        colors = _shape_colors(shape, colors, faces, triangles, polygon, counts, len(points), source)
    uv, faces_uv = _rows(shape.numbers("uv"), 2, "texture coordinate", source), None
    if uv is not None:
        corners_uv = shape.numbers("corners_uv")
        ids_uv, counts_uv = (ids, counts) if corners_uv is None else _polygons(corners_uv)
        if not np.array_equal(counts, counts_uv):
            raise ScanError(
                f"{path.name}: expected texCoordIndex to have the polygons of coordIndex, got other ones; export it again"
            )
        faces_uv = check_faces(path, ids_uv, len(uv), what="texture coordinate")[triangles]
    return _Part(points=points, colors=colors, faces=faces, uv=uv, faces_uv=faces_uv, material=shape.material(source))


def _shape_colors(
    shape: _Shape,
    colors: Float[np.ndarray, "c 3"],
    faces: Int[np.ndarray, "f 3"],
    triangles: Int[np.ndarray, "f 3"],
    polygon: Int[np.ndarray, " f"],
    counts: Int[np.ndarray, " p"],
    num_points: int,
    source: Source,
) -> Float[np.ndarray, "n 3"] | None:
    """Colours per vertex from colours per vertex, corner or face; None with a note if their number fits none of them."""
    index = shape.numbers("corners_color")
    if index is None and shape.color_per_vertex and len(colors) == num_points:
        return colors
    per_corner = shape.color_per_vertex
    if index is None:
        picked = faces if per_corner else polygon[:, None]
    elif per_corner:
        ids, own_counts = _polygons(index)
        picked = ids[triangles] if np.array_equal(counts, own_counts) else np.empty((0, 3), np.int64)
    else:
        index = index[index != -1]
        picked = index[polygon][:, None] if len(index) == len(counts) else np.empty((0, 1), np.int64)
    if len(picked) != len(faces) or (len(picked) and (picked.min() < 0 or picked.max() >= len(colors))):
        source.note(f"{len(colors):,} colours fit neither the points nor the faces: not read")
        return None
    return corners_to_vertices(num_points, faces, colors[picked])


def _rows(values: np.ndarray | None, width: int, what: str, source: Source) -> Float[np.ndarray, "n width"] | None:
    if values is None:
        return None
    if len(values) % width:
        raise ScanError(
            f"{source.path.name}: expected {width} numbers for each {what}, got {len(values):,} in all; export again"
        )
    return values.reshape(-1, width)


def _polygons(corners: Int[np.ndarray, " n"]) -> tuple[Int[np.ndarray, " c"], Int[np.ndarray, " p"]]:
    """Corner ids without the −1 that ends each polygon, and the number of corners of each polygon."""
    ends = np.flatnonzero(corners == -1)
    if not len(ends) or ends[-1] != len(corners) - 1:  # the last −1 is optional
        ends = np.append(ends, len(corners))
    return corners[corners != -1], np.diff(ends, prepend=-1) - 1


def _joined(parts: list[_Part], source: Source) -> RawScan:
    points = np.concatenate([p.points for p in parts])
    colors = None
    if any(p.colors is not None for p in parts):
        own = [np.full((len(p.points), 3), np.nan) if p.colors is None else p.colors for p in parts]
        colors = np.concatenate(own)
        known = ~np.isnan(colors).any(axis=1)
        colors[known] = unit_colors(colors[known], source.note)
        colors = colors.astype(np.float32)
    solid = [(p, start) for p, start in zip(parts, _starts(parts), strict=True) if p.faces is not None]
    if not solid:
        return RawScan(points=points, colors=None if colors is None else np.nan_to_num(colors, nan=1.0))
    faces_uv, uvs, owner, count = [], [], [], 0
    for k, (p, _) in enumerate(solid):
        assert p.faces is not None
        faces_uv.append(np.full_like(p.faces, -1) if p.faces_uv is None else p.faces_uv + count)
        owner.append(np.full(len(p.faces), k))
        if p.uv is not None:
            uvs.append(p.uv)
            count += len(p.uv)
    surface = Surface(
        points=points,
        faces=np.concatenate([p.faces + start for p, start in solid if p.faces is not None]),
        colors=colors,
        uv=np.concatenate(uvs) if uvs else np.empty((0, 2)),
        faces_uv=np.concatenate(faces_uv),
        materials=[p.material for p, _ in solid],
        face_material=np.concatenate(owner),
    )
    return merged(surface, source)


def _starts(parts: list[_Part]) -> Int[np.ndarray, " p"]:
    sizes = np.array([len(p.points) for p in parts])
    return np.cumsum(sizes) - sizes
