"""An avatar as plain meshes: one PLY or OBJ per expression, in millimetres, all in correspondence."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from omote.asset.atlas import skin_atlas
from omote.asset.materials import Materials, materials_of
from omote.errors import OutputError
from omote.formats.write import save_obj, save_ply
from omote.head.model import PARTS, HeadModel
from omote.lift.points import sample_image
from omote.types import Avatar, Mesh

FORMATS = ("ply", "obj")


def avatar_mesh(
    avatar: Avatar, model: HeadModel, target: str | None = None, *, materials: Materials | None = None
) -> Mesh:
    """The skin at rest (``target`` None) or at a morph target, with its texture, and the other parts in flat colours.

    Vertices keep the head model's order, so that meshes of one avatar are in correspondence. The texture covers the
    skin; vertex colours cover everything.
    """
    materials = materials_of() if materials is None else materials
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


def export_meshes(
    avatar: Avatar,
    model: HeadModel,
    folder: Path | str,
    *,
    file_format: str = "ply",
    targets: Iterable[str] | None = None,
    materials: Materials | None = None,
) -> list[Path]:
    """Write rest and morph targets as ``folder/rest.ply``, ``folder/happy.ply``, …; the paths.

    Args:
        avatar: what to write.
        model: its head model.
        folder: made if it isn't there.
        file_format: "ply" or "obj".
        targets: which morph targets; all if None.
        materials: of eyes, teeth, tongue and mouth.

    Raises:
        OutputError: unknown format, or the files cannot be written.
    """
    if file_format not in FORMATS:
        raise OutputError(f"expected a mesh format of {', '.join(FORMATS)}, got {file_format!r}")
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}; choose another one") from None
    save = save_ply if file_format == "ply" else save_obj
    written = []
    for target in [None, *(avatar.morphs_mm if targets is None else targets)]:
        path = folder / f"{target or 'rest'}.{file_format}"
        save(avatar_mesh(avatar, model, target, materials=materials), path)
        written.append(path)
    return written
