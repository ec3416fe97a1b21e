"""Several materials → one texture: `Mesh` carries a single image, scans often come with one per part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from omote.formats.images import MAX_TEXTURE_SIZE

_SWATCH = 8  # pixels a side of a material that is a colour without an image


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a face looks like: an image, or a plain colour in [0, 1] where there is none."""

    color: tuple[float, float, float] = (1.0, 1.0, 1.0)
    texture: Float[np.ndarray, "tex_height tex_width 3"] | None = None


def merge_materials(
    materials: list[Material],
    face_material: Int[np.ndarray, " num_faces"],
    uv: Float[np.ndarray, "num_uv 2"],
    faces_uv: Int[np.ndarray, "num_faces 3"],
) -> tuple[
    Float[np.ndarray, "num_uv2 2"], Int[np.ndarray, "num_faces 3"], Float[np.ndarray, "tex_height tex_width 3"] | None
]:
    """Put the images side by side and move the texture coordinates there.

    Coordinates that tile are wrapped a whole face at a time; a face that itself spans several tiles is clamped.

    Args:
        materials: by number.
        face_material: the number of each face's material.
        uv: origin at the lower left.
        faces_uv: ids into ``uv``; −1 where a corner has none, and the face then takes its material's plain colour.

    Returns:
        ``uv``, ``faces_uv`` and the texture; the first two as they were, where one image and no gap is used.
    """
    used = np.unique(face_material)
    textured = [int(i) for i in used if materials[i].texture is not None]
    mapped = (faces_uv >= 0).all(axis=1)
    if not textured:
        return uv, faces_uv, None
    if len(textured) == 1 and len(used) == 1 and mapped.all():
        return uv, faces_uv, materials[textured[0]].texture

    # One tile per image, then one swatch per material, each with a border of its own edge so that filters don't bleed.
    tiles = [np.pad(_fit(materials[i].texture, len(textured)), ((1, 1), (1, 1), (0, 0)), "edge") for i in textured]
    tiles += [np.ones((_SWATCH, _SWATCH, 3), np.float32) * np.float32(materials[i].color) for i in used]
    height = max(t.shape[0] for t in tiles)
    left = np.cumsum([0] + [t.shape[1] for t in tiles])
    atlas = np.zeros((height, left[-1], 3), np.float32)
    for tile, x in zip(tiles, left, strict=False):
        atlas[: tile.shape[0], x : x + tile.shape[1]] = tile

    corners = np.zeros((*faces_uv.shape, 2))
    if len(uv):
        corners = np.nan_to_num(uv[np.maximum(faces_uv, 0)], nan=0.0, posinf=0.0, neginf=0.0)
    corners = np.clip(corners - np.floor(corners.mean(axis=1, keepdims=True)), 0.0, 1.0)
    tile_of = {material: number for number, material in enumerate(textured)}
    for k, material in enumerate(used):
        own = face_material == material
        plain = own & ~mapped
        if int(material) in tile_of:
            number = tile_of[int(material)]
            _place(corners, own & mapped, int(left[number]), tiles[number].shape, atlas.shape, border=1)
        else:
            plain = own
        corners[plain] = 0.5
        swatch = len(textured) + k
        _place(corners, plain, int(left[swatch]), tiles[swatch].shape, atlas.shape, border=1)
    return corners.reshape(-1, 2), np.arange(corners.shape[0] * 3).reshape(-1, 3), atlas


def _fit(texture: Float[np.ndarray, "h w 3"] | None, num_tiles: int) -> Float[np.ndarray, "h2 w2 3"]:
    """Thinned by a whole factor so that all tiles together stay near the largest texture size kept."""
    assert texture is not None
    side = max(256, int(MAX_TEXTURE_SIZE / np.ceil(np.sqrt(num_tiles))))
    step = max(1, -(-max(texture.shape[:2]) // side))
    return texture[::step, ::step]


def _place(
    corners: Float[np.ndarray, "f 3 2"],
    where: np.ndarray,
    left: int,
    tile: tuple[int, ...],
    atlas: tuple[int, ...],
    *,
    border: int,
) -> None:
    """Move [0, 1] coordinates into a tile that touches the atlas's top edge; v points up."""
    inner_height, inner_width = tile[0] - 2 * border, tile[1] - 2 * border
    corners[where, :, 0] = (left + border + corners[where, :, 0] * inner_width) / atlas[1]
    top = border + (1.0 - corners[where, :, 1]) * inner_height
    corners[where, :, 1] = 1.0 - top / atlas[0]
