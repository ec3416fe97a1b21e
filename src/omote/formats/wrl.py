"""VRML 2.0 (VRML97) as 3D scanners write it: indexed face sets and point sets with colours or one image each.

Read are ``Coordinate``, ``IndexedFaceSet``, ``PointSet``, ``TextureCoordinate``, ``Color`` per vertex and ``ImageTexture``; node
and field names as in ISO/IEC 14772-1. Everything else is passed over. Transforms are not applied, ``USE`` is not followed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float, Int

from omote.errors import ScanError
from omote.formats.images import read_texture_beside
from omote.formats.limits import MAX_FACES, MAX_POINTS, RawScan, check_faces, fan, unit_colors
from omote.formats.materials import Material, merge_materials
from omote.formats.numbers import LineBlocks, parse_numbers

_SIGNATURE = b"#VRML V2.0"
_MAX_SHAPES = 64
_MAX_DEPTH = 200
_CARRY_BYTES = 4096  # of text between arrays that may belong to what the next block begins with
_COMMENT = re.compile(rb'("(?:[^"\\\n]|\\.)*")|#[^\n]*')
_COMMAS = bytes.maketrans(b",", b" ")
_EVENT = re.compile(
    rb"(?P<node>[A-Za-z_]\w*)\s*\{|(?P<close>\})|(?P<array>[A-Za-z]\w*)\s*\[(?=\s*[-+.\d\]])"
    rb'|url\s*\[?\s*"(?P<url>[^"]*)"|"[^"]*"'
)
# What each array holds, and how many numbers of it are read at most.
_ARRAYS = {
    (b"Coordinate", b"point"): ("points", 3 * MAX_POINTS),
    (b"TextureCoordinate", b"point"): ("uv", 2 * 3 * MAX_FACES),
    (b"Color", b"color"): ("colors", 3 * MAX_POINTS),
    (b"IndexedFaceSet", b"coordIndex"): ("corners", 4 * MAX_FACES),
    (b"IndexedFaceSet", b"texCoordIndex"): ("corners_uv", 4 * MAX_FACES),
}
_INTEGERS = ("corners", "corners_uv")


@dataclass(kw_only=True)
class _Shape:
    """One ``Shape``: flat arrays in chunks, by the names of `_ARRAYS`."""

    chunks: dict[str, list[np.ndarray]] = field(default_factory=dict)
    image: str | None = None

    def numbers(self, name: str) -> np.ndarray | None:
        return np.concatenate(self.chunks[name]) if self.chunks.get(name) else None


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A shape as triangles; ``faces`` is None for points, ``uv`` where it has no texture coordinates."""

    points: Float[np.ndarray, "n 3"]
    colors: Float[np.ndarray, "n 3"] | None
    faces: Int[np.ndarray, "f 3"] | None
    uv: Float[np.ndarray, "t 2"] | None
    faces_uv: Int[np.ndarray, "f 3"] | None
    image: str | None


def read_wrl(file: BinaryIO, path: Path, size: int) -> RawScan:
    """Read a VRML 2.0 file and the images that it names in its own folder.

    Args:
        file: open at the start.
        path: for messages, and its folder for textures.
        size: of the file in bytes.

    Raises:
        ScanError: VRML 1.0, truncated, a number or an index is wrong, or a texture is damaged or too large.
    """
    if not file.read(len(_SIGNATURE)) == _SIGNATURE:
        raise ScanError(f"{path.name}: expected VRML 2.0 ('#VRML V2.0 utf8'); export the scan as one, or as PLY")
    file.readline(_CARRY_BYTES)
    shapes, transformed = _Parser(path).shapes(LineBlocks(file, path))
    parts = [part for shape in shapes if (part := _part(shape, path)) is not None]
    if not parts:
        raise ScanError(f"{path.name}: expected an IndexedFaceSet or PointSet with points, found none; export it again")
    notes = ("transforms in the file are not applied",) if transformed else ()
    return _joined(parts, path, notes)


class _Parser:
    """Walks through nodes and arrays, block by block."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.nodes: list[bytes] = []
        self.done: list[_Shape] = []
        self.shape = _Shape()
        self.array: str | None = None  # being read
        self.left = 0  # numbers that it may still hold
        self.transformed = False

    def shapes(self, blocks: LineBlocks) -> tuple[list[_Shape], bool]:
        """All shapes, and whether some lie in a transform."""
        rest = b""
        for block in blocks:
            rest = self._read(rest + _COMMENT.sub(rb"\1", block))
        if self.array is not None or self.nodes:
            what = "an array" if self.array is not None else f"{self.nodes[-1].decode('ascii', 'replace')[:40]!r}"
            raise ScanError(f"{self.path.name}: the file ends inside {what}; it is truncated, copy or export it again")
        self._end_shape()
        return self.done, self.transformed

    def _read(self, text: bytes) -> bytes:
        """Read what is whole; the end that may not be is given back."""
        place = 0
        while True:
            if self.array is not None:
                end = text.find(b"]", place)
                self._add_numbers(text[place : end if end >= 0 else len(text)])
                if end < 0:
                    return b""
                self.array, place = None, end + 1
            event = _EVENT.search(text, place)
            if event is None:
                return text[max(place, len(text) - _CARRY_BYTES) :]
            place = event.end()
            self._follow(event)

    def _follow(self, event: re.Match[bytes]) -> None:
        if event["node"] is not None:
            if len(self.nodes) >= _MAX_DEPTH:
                raise ScanError(f"{self.path.name}: expected at most {_MAX_DEPTH} nested nodes; export the scan again")
            self.nodes.append(event["node"])
            self.transformed |= event["node"] == b"Transform"
        elif event["close"] is not None:
            if not self.nodes:
                raise ScanError(f"{self.path.name}: a '}}' closes nothing; the file is damaged, export it again")
            if self.nodes.pop() == b"Shape":
                self._end_shape()
        elif event["array"] is not None and self.nodes:
            known = _ARRAYS.get((self.nodes[-1], event["array"]))
            if known is not None:
                self.array, self.left = known
                if self.array in self.shape.chunks:  # faces without a Shape around them
                    image = self.shape.image
                    self._end_shape()
                    self.shape.image = image
                self.shape.chunks[self.array] = []
        elif event["url"] is not None and self.nodes and self.nodes[-1] == b"ImageTexture":
            self.shape.image = event["url"].decode("utf-8", "replace")

    def _add_numbers(self, text: bytes) -> None:
        assert self.array is not None
        text = text.translate(_COMMAS)
        count = len(text.split())
        self.left -= count
        if self.left < 0:
            raise ScanError(
                f"{self.path.name}: expected at most {MAX_POINTS:,} vertices and {MAX_FACES:,} triangles, got more; "
                "crop or simplify the scan first"
            )
        kind = np.int64 if self.array in _INTEGERS else np.float64
        self.shape.chunks[self.array].append(parse_numbers(text, count, self.path, dtype=kind))

    def _end_shape(self) -> None:
        if "points" in self.shape.chunks:
            if len(self.done) == _MAX_SHAPES:
                raise ScanError(f"{self.path.name}: expected at most {_MAX_SHAPES} shapes; merge them first")
            self.done.append(self.shape)
        self.shape = _Shape()


def _part(shape: _Shape, path: Path) -> _Part | None:
    points = _rows(shape.numbers("points"), 3, "point", path)
    if points is None:
        return None
    colors = _rows(shape.numbers("colors"), 3, "color", path)
    if colors is not None and len(colors) != len(points):  # per face or by an index of its own
        colors = None
    corners = shape.numbers("corners")
    if corners is None:
        return _Part(points=points, colors=colors, faces=None, uv=None, faces_uv=None, image=None)
    ids, counts = _polygons(corners)
    triangles, _ = fan(counts)
    faces = check_faces(path, ids, len(points))[triangles]
    uv, faces_uv = _rows(shape.numbers("uv"), 2, "texture coordinate", path), None
    if uv is not None:
        corners_uv = shape.numbers("corners_uv")
        ids_uv, counts_uv = (ids, counts) if corners_uv is None else _polygons(corners_uv)
        if not np.array_equal(counts, counts_uv):
            raise ScanError(
                f"{path.name}: expected texCoordIndex to have the polygons of coordIndex, got other ones; export it again"
            )
        faces_uv = check_faces(path, ids_uv, len(uv), what="texture coordinate")[triangles]
    return _Part(points=points, colors=colors, faces=faces, uv=uv, faces_uv=faces_uv, image=shape.image)


def _rows(values: np.ndarray | None, width: int, what: str, path: Path) -> Float[np.ndarray, "n width"] | None:
    if values is None:
        return None
    if len(values) % width:
        raise ScanError(
            f"{path.name}: expected {width} numbers for each {what}, got {len(values):,} in all; export again"
        )
    return values.reshape(-1, width)


def _polygons(corners: Int[np.ndarray, " n"]) -> tuple[Int[np.ndarray, " c"], Int[np.ndarray, " p"]]:
    """Corner ids without the −1 that ends each polygon, and how many corners each has."""
    ends = np.flatnonzero(corners == -1)
    if not len(ends) or ends[-1] != len(corners) - 1:  # the last −1 may be left out
        ends = np.append(ends, len(corners))
    return corners[corners != -1], np.diff(ends, prepend=-1) - 1


def _joined(parts: list[_Part], path: Path, notes: tuple[str, ...]) -> RawScan:
    points = np.concatenate([p.points for p in parts])
    if len(points) > MAX_POINTS:
        raise ScanError(
            f"{path.name}: expected at most {MAX_POINTS:,} vertices, got {len(points):,}; thin the scan first"
        )
    own = [p.colors for p in parts]
    colors = unit_colors(np.concatenate([c for c in own if c is not None])) if all(c is not None for c in own) else None
    solid = [(p, start) for p, start in zip(parts, _starts(parts), strict=True) if p.faces is not None]
    if not solid:
        return RawScan(points=points, colors=colors, notes=notes)
    faces = np.concatenate([p.faces + start for p, start in solid])
    if len(faces) > MAX_FACES:
        raise ScanError(f"{path.name}: expected at most {MAX_FACES:,} triangles, got {len(faces):,}; simplify the scan")
    if all(p.uv is None for p, _ in solid):
        return RawScan(points=points, faces=faces, colors=colors, notes=notes)
    materials, uvs, faces_uvs, owner, count = [], [], [], [], 0
    for k, (p, _) in enumerate(solid):
        texture = None
        if p.image is not None and p.uv is not None:
            texture, missing = read_texture_beside(path, p.image)
            notes += missing
        materials.append(Material(color=(0.8, 0.8, 0.8), texture=texture))
        assert p.faces is not None
        faces_uvs.append(np.full_like(p.faces, -1) if p.faces_uv is None else p.faces_uv + count)
        owner.append(np.full(len(p.faces), k))
        if p.uv is not None:
            uvs.append(p.uv)
            count += len(p.uv)
    uv, faces_uv, texture = merge_materials(
        materials, np.concatenate(owner), np.concatenate(uvs), np.concatenate(faces_uvs)
    )
    if (faces_uv < 0).any():
        return RawScan(points=points, faces=faces, colors=colors, notes=notes)
    return RawScan(points=points, faces=faces, colors=colors, uv=uv, faces_uv=faces_uv, texture=texture, notes=notes)


def _starts(parts: list[_Part]) -> Int[np.ndarray, " p"]:
    sizes = np.array([len(p.points) for p in parts])
    return np.cumsum(sizes) - sizes
