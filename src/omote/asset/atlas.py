"""Skin UVs inside one picture, for head models whose UVs span several tiles (UDIM)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from omote.head.model import PARTS, HeadModel


@dataclass(frozen=True, kw_only=True)
class Atlas:
    """Skin UVs in [0, 1], origin at the lower left.

    Attributes:
        uv: texture coordinates of the skin.
        faces_uv: ids into ``uv`` per corner of the skin's faces.
        face_ids: ids of the skin's faces in the model, in the order of ``faces_uv``.
        num_tiles: number of square tiles side by side; the texture is that many times wider than high.
    """

    uv: Float[np.ndarray, "t 2"]
    faces_uv: Int[np.ndarray, "f 3"]
    face_ids: Int[np.ndarray, "f"]
    num_tiles: int


def skin_atlas(model: HeadModel) -> Atlas:
    """The skin's UV tiles, side by side from left to right."""
    face_ids = np.flatnonzero(model.face_part == PARTS.index("skin"))
    corner = model.faces_uv[face_ids]
    used, faces_uv = np.unique(corner, return_inverse=True)
    faces_uv = faces_uv.reshape(-1, 3)
    uv = model.uv[used].astype(np.float64)
    tile = np.floor(uv[faces_uv].mean(axis=1)).astype(int)
    columns, column = np.unique(tile, axis=0, return_inverse=True)
    column = column.ravel()
    # UDIM keeps every UV island within one tile, so a vertex belongs to one tile.
    of_uv = np.zeros(len(uv), int)
    of_uv[faces_uv.ravel()] = np.repeat(column, 3)
    local = np.clip(uv - columns[of_uv], 0.0, 1.0)
    out = np.stack([(local[:, 0] + of_uv) / len(columns), local[:, 1]], axis=1)
    return Atlas(uv=out.astype(np.float32), faces_uv=faces_uv.astype(np.int32), face_ids=face_ids,
                 num_tiles=len(columns))  # fmt: skip
