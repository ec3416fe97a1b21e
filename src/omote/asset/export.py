"""An avatar as plain meshes in millimetres, all in correspondence."""

from __future__ import annotations

import numpy as np

from omote.asset.atlas import skin_atlas
from omote.asset.materials import Materials
from omote.head.model import PARTS, HeadModel
from omote.lift.points import sample_image
from omote.types import Avatar, Mesh


def avatar_mesh(avatar: Avatar, model: HeadModel, target: str | None, *, materials: Materials) -> Mesh:
    """The head at rest or at a morph target, with a colour per vertex.

    Vertices keep the head model's order, so that meshes of one avatar are in correspondence.

    Args:
        avatar: neutral, morphs and skin texture.
        model: the head model that ``avatar.neutral`` belongs to.
        target: name of a morph target; None is rest.
        materials: materials of eyes, teeth, tongue and mouth.
    """
    vertices = avatar.neutral.vertices_mm.astype(np.float64)
    if target is not None:
        vertices = vertices + avatar.morphs_mm[target]
    atlas = skin_atlas(model)
    colors = np.ones((model.num_vertices, 3))
    for name, parts in (("teeth", ("teeth_upper", "teeth_lower")), ("tongue", ("tongue",)), ("mouth", ("mouth",))):
        colors[model.part_vertices(*parts)] = materials.color(name)
    eyes = np.isin(model.face_part, [PARTS.index("eye_left"), PARTS.index("eye_right")])
    for ids, corner_uv, picture in (
        (model.faces[eyes], model.uv[model.faces_uv[eyes]], materials.eye_texture),
        (model.faces[atlas.face_ids], atlas.uv[atlas.faces_uv], avatar.texture),
    ):
        uv = corner_uv.reshape(-1, 2).astype(np.float64)
        pixel = np.stack([uv[:, 0] * picture.shape[1], (1 - uv[:, 1]) * picture.shape[0]], axis=1)
        colors[ids.ravel()] = sample_image(picture, pixel)
    return Mesh(vertices=vertices, faces=model.faces.astype(np.int64), vertex_colors=np.clip(colors, 0, 1))
