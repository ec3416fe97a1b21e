"""A mesh's materials → one texture, or one colour per vertex, since a `Mesh` holds either."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from omote.errors import ScanError
from omote.formats.colors import corners_to_vertices
from omote.formats.images import MAX_TEXTURE_SIZE, read_pixels, unit
from omote.formats.limits import RawScan
from omote.formats.source import Source, shown

_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".tga")
_SWATCH = 8  # side in pixels of the tile of a plain-colour material
_GREY = 0.02  # plain colours nearer to grey than this are an exporter's default, not skin

Color = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Named:
    """An image by its name in a file, looked up in ``folder`` and in the scan's own folder."""

    name: str | bytes
    folder: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Material:
    """Material of a face: an image times a tint, or a plain colour in [0, 1] if there is no image.

    Attributes:
        color: plain colour of faces without an image.
        tint: factor on the image's colours.
        image: name of an image file, an image file's bytes, or None.
    """

    color: Color = (1.0, 1.0, 1.0)
    tint: Color = (1.0, 1.0, 1.0)
    image: Named | bytes | None = None


@dataclass(frozen=True, kw_only=True)
class Surface:
    """A mesh before its materials are merged.

    Attributes:
        points: vertices in the file's own unit.
        faces: vertex ids.
        colors: colour of each vertex; NaN where the file gives none.
        uv: texture coordinates, origin at the lower left.
        faces_uv: ids into ``uv``; −1 for a corner without coordinates.
        materials: the mesh's materials.
        face_material: index into ``materials`` of each face.
    """

    points: Float[np.ndarray, "num_points 3"]
    faces: Int[np.ndarray, "num_faces 3"]
    colors: Float[np.ndarray, "num_points 3"] | None
    uv: Float[np.ndarray, "num_uv 2"]
    faces_uv: Int[np.ndarray, "num_faces 3"]
    materials: list[Material]
    face_material: Int[np.ndarray, " num_faces"]


def merged(surface: Surface, source: Source) -> RawScan:
    """Put all images side by side into one texture, or, if there are none, all colours onto the vertices.

    Faces without an image get their vertices' mean colour or their material's plain colour in that texture. Repeating texture
    coordinates are wrapped one whole face at a time; a face that itself spans several repeats is clamped. A missing or unreadable
    image is left out with a note.
    """
    mapped: Bool[np.ndarray, " f"] = np.asarray((surface.faces_uv >= 0).all(axis=1))
    used = [int(i) for i in np.unique(surface.face_material)]
    if surface.colors is None and mapped.any() and not any(material.image for material in surface.materials):
        surface = _with_lone_image(surface, source)
    tiles = _tiles(surface, used, mapped, source)
    if not tiles:
        return _without_images(surface, used, mapped, source)
    if len(tiles) == 1 and len(tiles[0].materials) == len(used) and mapped.all():
        texture = tiles[0].painted()
        return _scan(surface, uv=surface.uv, faces_uv=surface.faces_uv, texture=texture)
    return _atlas(surface, tiles, mapped)


def _with_lone_image(surface: Surface, source: Source) -> Surface:
    """The surface textured with an image of the scan's own name, if there is one: material files get lost."""
    for suffix in _IMAGE_SUFFIXES:
        name = source.path.stem + suffix
        if source.beside(name)[0] is not None:
            source.note(f"{name} is taken as the texture: the scan names none")
            return replace(surface, materials=[Material(image=Named(name=name)) for _ in surface.materials])
    return surface


@dataclass(frozen=True, kw_only=True)
class _Tile:
    """An image and tint, and the materials that share them."""

    pixels: UInt8[np.ndarray, "h w 3"]
    tint: Color
    materials: list[int]

    def painted(self) -> Float[np.ndarray, "h w 3"]:
        out = unit(self.pixels)
        if self.tint != (1.0, 1.0, 1.0):
            out *= np.array(self.tint, np.float32)
        return out


def _tiles(surface: Surface, used: list[int], mapped: Bool[np.ndarray, " f"], source: Source) -> list[_Tile]:
    """Decode every image once, however its name is spelled and however many materials use it."""
    found: dict[tuple[object, Color], tuple[bytes | Path, str, list[int]]] = {}
    for number in used:
        material = surface.materials[number]
        if material.image is None:
            continue
        if not (mapped & (surface.face_material == number)).any():
            source.note("a texture without texture coordinates is not read")
            continue
        image, name, key = _located(material, source)
        if image is not None:
            found.setdefault((key, material.tint), (image, name, []))[2].append(number)
    size = MAX_TEXTURE_SIZE
    if len(found) > 1:
        size = int(MAX_TEXTURE_SIZE / np.ceil(np.sqrt(len(found))))
    decoded: dict[object, UInt8[np.ndarray, "h w 3"] | None] = {}
    tiles = []
    for (key, tint), (image, name, numbers) in found.items():
        if key not in decoded:
            decoded[key] = read_texture(image, name, source, max_size=size)
        pixels = decoded[key]
        if pixels is not None:
            tiles.append(_Tile(pixels=pixels, tint=tint, materials=numbers))
    return tiles


def _located(material: Material, source: Source) -> tuple[bytes | Path | None, str, object]:
    image = material.image
    assert image is not None
    if isinstance(image, bytes):
        return image, f"{source.path.name} (texture)", hashlib.blake2b(image, digest_size=16).digest()
    path, why = source.beside(image.name, folder=image.folder)
    if path is None:
        source.note(f"texture {shown(image.name)} {why}: read without it")
        return None, "", None
    return path, path.name, str(path.resolve())


def read_texture(
    image: bytes | Path, name: str, source: Source, *, max_size: int = MAX_TEXTURE_SIZE
) -> UInt8[np.ndarray, "h w 3"] | None:
    """Decode a texture, or leave it out with a note: the shape alone can still be aligned."""
    if isinstance(image, bytes) and image[:12] == b"\xabKTX 20\xbb\r\n\x1a\n":
        source.note(f"{name}: KTX2 is not read: read without it; export with PNG or JPEG")
        return None
    try:
        if isinstance(image, Path):
            source.pay(image.stat().st_size)
        return read_pixels(image, name, max_size=max_size, claim=_claim(source), note=source.note)
    except ScanError as error:
        source.note(f"{error}: read without it")
    except OSError as error:
        source.note(f"texture {name} cannot be read ({error.strerror or error}): read without it")
    return None


def _claim(source: Source) -> Callable[[int], None]:
    return lambda pixels: source.claim("pixels", pixels, because="in its textures")


def _scan(
    surface: Surface,
    *,
    uv: np.ndarray | None,
    faces_uv: np.ndarray | None,
    texture: Float[np.ndarray, "tex_height tex_width 3"] | None,
) -> RawScan:
    colors = surface.colors
    if colors is not None and np.isnan(colors).any():
        colors = None
    return RawScan(points=surface.points, faces=surface.faces, colors=colors, uv=uv, faces_uv=faces_uv, texture=texture)


def _without_images(surface: Surface, used: list[int], mapped: Bool[np.ndarray, " f"], source: Source) -> RawScan:
    """Colours of the vertices; a vertex without one gets the plain colour of its faces' materials."""
    plain = np.array([m.color for m in surface.materials], np.float32)
    colors = surface.colors
    missing = np.ones(len(surface.points), bool) if colors is None else np.isnan(colors).any(axis=1)
    in_color = (np.ptp(plain[used], axis=1) > _GREY).any()
    if missing.any() and (in_color or not missing.all()):
        by_material = corners_to_vertices(len(surface.points), surface.faces, plain[surface.face_material][:, None])
        filled = np.where(np.isnan(by_material), np.float32(1.0), by_material)
        if colors is not None and not missing.all():
            source.note(f"{int(missing.sum()):,} of {len(missing):,} vertices have no colour: read in their material's")
            filled = np.where(missing[:, None], filled, colors)
        colors = filled
    elif missing.any():
        colors = None
    surface = replace(surface, colors=colors)
    if not mapped.all():
        return _scan(surface, uv=None, faces_uv=None, texture=None)
    return _scan(surface, uv=surface.uv, faces_uv=surface.faces_uv, texture=None)


def _atlas(surface: Surface, tiles: list[_Tile], mapped: Bool[np.ndarray, " f"]) -> RawScan:
    number_of = np.full(len(surface.materials), -1)
    for number, tile in enumerate(tiles):
        number_of[tile.materials] = number
    tile_of_face = np.where(mapped, number_of[surface.face_material], -1)
    bare = np.flatnonzero(tile_of_face < 0)
    painted = _face_colors(surface, bare)

    # A border that repeats an image's edge keeps filters from mixing tiles; a plain face maps to the centre of one pixel.
    height = max(_SWATCH, max(t.pixels.shape[0] for t in tiles) + 2)
    widths = [t.pixels.shape[1] + 2 for t in tiles]
    left = np.cumsum([0, *widths, -(-len(bare) // height)])
    atlas = np.zeros((height, max(int(left[-1]), 1), 3), np.float32)

    corners = np.zeros((*surface.faces_uv.shape, 2))
    if len(surface.uv):
        corners = np.nan_to_num(surface.uv[np.maximum(surface.faces_uv, 0)], nan=0.0, posinf=0.0, neginf=0.0)
    corners = np.clip(corners - np.floor(corners.mean(axis=1, keepdims=True)), 0.0, 1.0)

    for number, tile in enumerate(tiles):
        inner = tile.pixels.shape[:2]
        area = atlas[: inner[0] + 2, left[number] : left[number] + inner[1] + 2]
        area[1:-1, 1:-1] = tile.painted()
        area[1:-1, [0, -1]] = area[1:-1, [1, -2]]
        area[[0, -1]] = area[[1, -2]]
        own = tile_of_face == number
        corners[own, :, 0] = (left[number] + 1 + corners[own, :, 0] * inner[1]) / atlas.shape[1]
        corners[own, :, 1] = 1.0 - (1 + (1.0 - corners[own, :, 1]) * inner[0]) / height

    column, row = np.divmod(np.arange(len(bare)), height)
    atlas[row, left[len(tiles)] + column] = painted
    corners[bare, :, 0] = ((left[len(tiles)] + column + 0.5) / atlas.shape[1])[:, None]
    corners[bare, :, 1] = (1.0 - (row + 0.5) / height)[:, None]
    return _scan(
        surface, uv=corners.reshape(-1, 2), faces_uv=np.arange(corners.size // 2).reshape(-1, 3), texture=atlas
    )


def _face_colors(surface: Surface, bare: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n 3"]:
    """Mean colour of each face's vertices, or the plain colour of its material where they have none."""
    plain = np.array([m.color for m in surface.materials], np.float32)[surface.face_material[bare]]
    if surface.colors is None:
        return plain
    own = surface.colors[surface.faces[bare]].mean(axis=1)
    return np.where(np.isnan(own).any(axis=1, keepdims=True), plain, own)
