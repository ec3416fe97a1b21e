"""Avatar → binary glTF 2.0: one mesh, a primitive per part, named morph targets with positions and normals.

Units are metres with y up and the face towards +z: the canonical frame divided by 1000. Nothing is quantised unless that is asked
for (`omote.asset.gltf_file`). What the scan has around the head (hair, collar) is a mesh of its own under the same node.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from omote.asset.file_settings import Compression
from omote.asset.gltf_file import CLAMP_TO_EDGE, GltfFile
from omote.asset.materials import Materials, materials_of
from omote.asset.primitives import MM_PER_M, UNCERTAINTY, Primitive, split_primitives
from omote.errors import ConfigError
from omote.files import atomic_path
from omote.geometry.mesh import vertex_normals
from omote.head.model import HeadModel
from omote.rendering.shade import to_linear
from omote.types import Avatar, Mesh

TEXTURED = ("skin", "eyes")
SURROUNDINGS = "surroundings"
SURROUNDINGS_ROUGHNESS = 0.75


def omote_version() -> str:
    """The installed version, or "unknown" when run from a source tree."""
    try:
        return version("omote")
    except PackageNotFoundError:
        return "unknown"


def write_glb(
    avatar: Avatar,
    model: HeadModel,
    path: Path | str,
    *,
    materials: Materials | None = None,
    compression: Compression = "none",
    keep_neutral: bool = False,
) -> int:
    """Write an avatar as GLB and return its size in bytes.

    Args:
        avatar: avatar with its rest shape, morph targets and skin texture.
        model: head model that ``avatar.neutral`` belongs to.
        path: file name; written atomically.
        materials: materials of eyes, teeth, tongue and mouth; if None, those of the default appearance.
        compression: see `GltfFile`.
        keep_neutral: keep morph targets that move nothing, such as ``neutral``.

    Raises:
        OutputError: the file cannot be written.
        ConfigError: compression by a library that is not installed.
    """
    data = glb_bytes(avatar, model, materials=materials, compression=compression, keep_neutral=keep_neutral)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return len(data)


def glb_bytes(
    avatar: Avatar,
    model: HeadModel,
    *,
    materials: Materials | None = None,
    compression: Compression = "none",
    keep_neutral: bool = False,
) -> bytes:
    """An avatar as the bytes of a GLB file; see `write_glb`."""
    check_compression(compression)
    materials = materials_of() if materials is None else materials
    names, primitives = split_primitives(model, avatar.neutral.vertices_mm, avatar.morphs_mm, keep_still=keep_neutral)
    file = GltfFile(compression)
    scale = None if file.scale == 1 else [file.scale] * 3
    head = file.add(
        "nodes", {"name": "head", "mesh": head_mesh(file, names, primitives, materials, avatar), "scale": scale}
    )
    children = [head]
    if avatar.surroundings is not None:
        mesh = surroundings_mesh(file, avatar.surroundings)
        children.append(file.add("nodes", {"name": SURROUNDINGS, "mesh": mesh, "scale": scale}))
    root = file.add("nodes", {"name": "omote_head", "children": children})
    file.add("scenes", {"name": "omote", "nodes": [root]})
    sign(file, avatar)
    return file.to_bytes()


def check_compression(compression: Compression) -> None:
    """Check that a compression can be written.

    Raises:
        ConfigError: its library is not installed.
    """
    if compression == "meshopt":
        try:
            import meshopt  # noqa: F401
        except ImportError:
            raise ConfigError(
                "compress: expected the library meshopt, which is not installed: pip install 'omote[formats]' "
                "(Python 3.11 or newer), or --compress quantized"
            ) from None


def sign(file: GltfFile, avatar: Avatar) -> None:
    """Name the program and the head model in a file."""
    file.root["asset"] |= {
        "generator": f"omote {omote_version()}",
        "extras": {"omote_version": omote_version(), "head_model": avatar.neutral.model_name},
    }


def head_mesh(
    file: GltfFile,
    names: list[str],
    primitives: list[Primitive],
    materials: Materials,
    avatar: Avatar,
    *,
    attributes: dict[str, dict[str, int]] | None = None,
) -> int:
    """Add the head's mesh with its materials; its index.

    Args:
        file: the file.
        names: names of the morph targets.
        primitives: the head's parts.
        materials: their materials.
        avatar: the avatar, for its skin.
        attributes: further accessors by primitive name and attribute.
    """
    drawn = []
    for p in primitives:
        further = {} if attributes is None else dict(attributes[p.name])
        if avatar.neutral.sigma_mm is not None and p.name == "skin":
            further[UNCERTAINTY] = file.accessor(avatar.neutral.sigma_mm[p.ids].astype(np.float32), "SCALAR")
        drawn.append(_primitive(file, p, further, _material(file, p.name, materials, avatar.texture)))
    mesh: dict[str, Any] = {"name": "head", "primitives": drawn}
    if names:
        mesh |= {"weights": [0.0] * len(names), "extras": {"targetNames": names}}
    return file.add("meshes", mesh)


def surroundings_mesh(file: GltfFile, piece: Mesh, *, name: str = SURROUNDINGS) -> int:
    """Add the mesh of what is around the head, or another mesh in mm that has no morph targets; its index."""
    # Normals before vertices are split at the texture's seams: shading has none.
    normals = vertex_normals(piece.vertices, piece.faces)
    corner_uv = piece.faces if piece.faces_uv is None else piece.faces_uv
    corners, triangles = np.unique(
        np.stack([piece.faces.ravel(), corner_uv.ravel()], axis=1), axis=0, return_inverse=True
    )
    vertex, of_uv = corners.T
    attributes = {
        "POSITION": file.positions(piece.vertices[vertex] / MM_PER_M),
        "NORMAL": file.normals(normals[vertex]),
    }
    texture = None
    if piece.texture is not None and piece.uv is not None:
        uv = piece.uv[of_uv]
        attributes["TEXCOORD_0"] = file.uv(np.stack([uv[:, 0], 1 - uv[:, 1]], axis=1))
        texture = file.texture(piece.texture, name, lossless=False, wrap=CLAMP_TO_EDGE)
    elif piece.vertex_colors is not None:
        attributes["COLOR_0"] = file.colors(to_linear(piece.vertex_colors[vertex]))
    material = _plain_material(file, name, (1.0, 1.0, 1.0), SURROUNDINGS_ROUGHNESS, texture, double_sided=True)
    indices = file.triangles(triangles.reshape(-1, 3), len(vertex))
    primitive = {"attributes": attributes, "indices": indices, "material": material}
    return file.add("meshes", {"name": name, "primitives": [primitive]})


def _primitive(file: GltfFile, p: Primitive, further: dict[str, int], material: int) -> dict[str, Any]:
    attributes = {"POSITION": file.positions(p.positions), "NORMAL": file.normals(p.normals)}
    if p.name in TEXTURED:
        # The lower left of our UVs is the lower left of the picture; glTF counts v from the top.
        attributes["TEXCOORD_0"] = file.uv(np.stack([p.uv[:, 0], 1 - p.uv[:, 1]], axis=1))
    if p.name != "skin":
        attributes["COLOR_0"] = file.colors(np.repeat(p.shade[:, None], 3, axis=1))
    primitive: dict[str, Any] = {
        "attributes": attributes | further,
        "indices": file.triangles(p.triangles, len(p.positions)),
        "material": material,
    }
    if len(p.targets):
        pairs = zip(p.targets, p.target_normals, strict=True)
        primitive["targets"] = [
            {"POSITION": file.offsets(move), "NORMAL": file.turns(turn, p.normals)} for move, turn in pairs
        ]
    return primitive


def _material(file: GltfFile, name: str, materials: Materials, skin: Float[np.ndarray, "height width 3"]) -> int:
    texture = None
    if name == "skin":
        texture = file.texture(skin, "skin", lossless=False, wrap=CLAMP_TO_EDGE)
    elif name == "eyes":
        texture = file.texture(materials.eye_texture, "eyes", lossless=True, wrap=CLAMP_TO_EDGE)
    r, g, b = (float(x) for x in to_linear(np.array(materials.color(name))))
    # Seen from below, the neck and the mouth show their inside.
    return _plain_material(
        file, name, (r, g, b), materials.roughness[name], texture, double_sided=name in ("skin", "mouth")
    )


def _plain_material(
    file: GltfFile,
    name: str,
    linear: tuple[float, float, float],
    roughness: float,
    texture: int | None,
    *,
    double_sided: bool,
) -> int:
    surface: dict[str, Any] = {"baseColorFactor": [*linear, 1.0], "metallicFactor": 0.0, "roughnessFactor": roughness}
    if texture is not None:
        surface["baseColorTexture"] = {"index": texture}
    return file.add("materials", {"name": name, "pbrMetallicRoughness": surface, "doubleSided": double_sided or None})
