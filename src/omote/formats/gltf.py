"""GLB and glTF 2.0: all meshes of the scene in world coordinates, textures merged into one.

Skins and morph targets are ignored: a skinned mesh is read as it was modelled (its node's transform does not apply, as
the specification says). Buffers and images come from the file, from ``data:`` URIs or from files beside it.

Source: Khronos glTF 2.0 specification, sections 2.7 (GLB: chapter 4), 3.5-3.9; KHR_mesh_quantization,
KHR_texture_transform.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float, Int

from omote.errors import ScanError
from omote.formats.gltf_document import Document, entry, get, get_list, item
from omote.formats.limits import MAX_FACES, MAX_POINTS, RawScan, check_faces
from omote.formats.materials import Material, merge_materials

_MAX_DEPTH, _MAX_NODES = 128, 20_000
_MAX_JSON_BYTES = 64 << 20
_POINTS, _TRIANGLES, _STRIP, _FAN = 0, 4, 5, 6


def read_glb(file: BinaryIO, path: Path, size: int) -> RawScan:
    """Read a GLB file: a header, a chunk of JSON and a chunk of binary data.

    Args:
        file: open at the start.
        path: for messages, and its folder for images beside it.
        size: of the file in bytes.

    Raises:
        ScanError: truncated, damaged, compressed with an extension that is not supported, or without a mesh.
    """
    header = np.frombuffer(file.read(20).ljust(20, b"\0"), "<u4")
    version, json_bytes, kind = int(header[1]), int(header[3]), int(header[4])
    if version != 2 or kind != 0x4E4F534A:
        raise ScanError(f"{path.name}: expected GLB version 2 with JSON first, got version {version}")
    if json_bytes > size - 20:
        raise ScanError(
            f"{path.name}: the header claims {json_bytes:,} bytes of JSON, got {size - 20:,}; it is truncated"
        )
    text = file.read(min(json_bytes, _MAX_JSON_BYTES + 1))
    chunk = np.frombuffer(file.read(8).ljust(8, b"\0"), "<u4")
    if int(chunk[0]) > size - 28 - json_bytes and int(chunk[0]):
        raise ScanError(
            f"{path.name}: the header claims {int(chunk[0]):,} bytes of data, the file holds "
            f"{max(size - 28 - json_bytes, 0):,}; it is truncated, copy or export it again"
        )
    data = file.read(int(chunk[0])) if int(chunk[1]) == 0x004E4942 else b""
    return _scene(_document(text, data, path))


def read_gltf(file: BinaryIO, path: Path, size: int) -> RawScan:
    """Read a glTF file and the buffers and images beside it.

    Args:
        file: open at the start.
        path: for messages, and its folder for what the file names.
        size: of the file in bytes.

    Raises:
        ScanError: as `read_glb`, or a name leads outside the folder.
    """
    return _scene(_document(file.read(min(size, _MAX_JSON_BYTES + 1)), b"", path))


def _document(text: bytes, data: bytes, path: Path) -> Document:
    if len(text) > _MAX_JSON_BYTES:
        raise ScanError(f"{path.name}: expected at most {_MAX_JSON_BYTES:,} bytes of JSON; export the scan as GLB")
    try:
        root = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ScanError(f"{path.name}: expected glTF JSON, got a syntax error ({str(error)[:80]})") from None
    if not isinstance(root, dict) or not isinstance(root.get("asset"), dict):
        raise ScanError(f"{path.name}: expected glTF JSON with an 'asset', got something else; export the scan again")
    return Document(root=root, data=data, path=path)


class _Parts:
    """What has been read so far, one entry per primitive."""

    def __init__(self) -> None:
        self.points: list[np.ndarray] = []
        self.colors: list[np.ndarray | None] = []
        self.normals: list[np.ndarray | None] = []
        self.faces: list[np.ndarray] = []
        self.uv: list[np.ndarray] = []
        self.faces_uv: list[np.ndarray] = []
        self.face_material: list[np.ndarray] = []
        self.num_points = self.num_uv = self.num_faces = 0


def _scene(document: Document) -> RawScan:
    path = document.path
    parts = _Parts()
    materials = [_material(document, m) for m in get_list(document.root, "materials", path)]
    materials.append(Material())  # for primitives without one
    nodes = get_list(document.root, "nodes", path)
    for index, matrix in _mesh_nodes(document, nodes):
        mesh = entry(get_list(document.root, "meshes", path), index, "mesh", path)
        for primitive in get_list(mesh, "primitives", path):
            _add_primitive(document, get({"primitive": primitive}, "primitive", dict, path), matrix, materials, parts)
    if not parts.num_points:
        raise ScanError(f"{path.name}: expected a scene with a mesh or points, found none; export the scan again")
    points = np.concatenate(parts.points)
    colors = None
    if any(c is not None for c in parts.colors):
        pairs = zip(parts.colors, parts.points, strict=True)
        colors = np.concatenate([np.ones((len(p), 3), np.float32) if c is None else c for c, p in pairs])
    if not parts.num_faces:
        normals = None
        if all(n is not None for n in parts.normals):
            normals = np.concatenate([n for n in parts.normals if n is not None])
        return RawScan(points=points, colors=colors, normals=normals, notes=tuple(document.notes))
    faces, faces_uv = np.concatenate(parts.faces), np.concatenate(parts.faces_uv)
    uv = np.concatenate(parts.uv) if parts.uv else np.empty((0, 2))
    uv, faces_uv, texture = merge_materials(materials, np.concatenate(parts.face_material), uv, faces_uv)
    mapped = not (faces_uv < 0).any()
    return RawScan(
        points=points,
        faces=faces,
        colors=colors,
        uv=uv if mapped else None,
        faces_uv=faces_uv if mapped else None,
        texture=texture,
        notes=tuple(document.notes),
    )


def _mesh_nodes(document: Document, nodes: list) -> list[tuple[int, Float[np.ndarray, "4 4"]]]:
    """Mesh index and world transform of every node of the scene with a mesh; each node once, whatever the graph."""
    path = document.path
    scenes = get_list(document.root, "scenes", path)
    if scenes:
        scene = entry(scenes, document.root.get("scene", 0), "scene", path)
        roots = get_list(scene, "nodes", path)
    else:
        children = {c for n in nodes if isinstance(n, dict) for c in get_list(n, "children", path) if type(c) is int}
        roots = [i for i in range(len(nodes)) if i not in children]
    out = []
    seen: set[int] = set()
    stack = [(root, np.eye(4), 0) for root in reversed(roots)]
    while stack:
        index, parent, depth = stack.pop()
        node = entry(nodes, index, "node", path)
        if index in seen or depth > _MAX_DEPTH or len(seen) > _MAX_NODES:
            raise ScanError(f"{path.name}: expected a tree of nodes, got a loop or too deep a one; export it again")
        seen.add(index)
        matrix = parent @ _local(node, path)
        if "mesh" in node:
            out.append((get(node, "mesh", int, path), np.eye(4) if "skin" in node else matrix))
        stack += [(child, matrix, depth + 1) for child in reversed(get_list(node, "children", path))]
    return out


def _local(node: dict, path: Path) -> Float[np.ndarray, "4 4"]:
    if "matrix" in node:
        return _floats(node["matrix"], 16, path).reshape(4, 4).T
    matrix = np.eye(4)
    if "rotation" in node:
        x, y, z, w = _floats(node["rotation"], 4, path)
        norm = x * x + y * y + z * z + w * w
        s = 2.0 / norm if norm > 0.0 else 0.0
        matrix[:3, :3] = [
            [1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w)],
            [s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w)],
            [s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y)],
        ]
    if "scale" in node:
        matrix[:3, :3] *= _floats(node["scale"], 3, path)
    if "translation" in node:
        matrix[:3, 3] = _floats(node["translation"], 3, path)
    return matrix


def _floats(values: object, count: int, path: Path) -> Float[np.ndarray, " count"]:
    try:
        out = np.array(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        out = np.empty(0)
    if out.shape != (count,) or not (np.abs(out) < 1e12).all():
        raise ScanError(f"{path.name}: expected {count} numbers in a transform or colour, got {str(values)[:60]!r}")
    return out


def _add_primitive(
    document: Document, primitive: dict, matrix: Float[np.ndarray, "4 4"], materials: list[Material], parts: _Parts
) -> None:
    path = document.path
    attributes = get(primitive, "attributes", dict, path)
    if "KHR_draco_mesh_compression" in get(primitive, "extensions", dict, path, {}):
        raise ScanError(f"{path.name}: compressed with Draco, which is not read; export without compression")
    mode = primitive.get("mode", _TRIANGLES)
    if mode not in (_POINTS, _TRIANGLES, _STRIP, _FAN):
        return  # lines
    if "POSITION" not in attributes:
        return
    local = _columns(document.accessor(attributes["POSITION"]), 3, "POSITION", path)
    points = local @ matrix[:3, :3].T + matrix[:3, 3]
    parts.num_points += len(points)
    if parts.num_points > MAX_POINTS:
        raise ScanError(f"{path.name}: expected at most {MAX_POINTS:,} vertices, got more; simplify the scan first")
    base = parts.num_points - len(points)
    parts.points.append(points)
    parts.colors.append(_vertex_colors(document, attributes, len(points)))
    parts.normals.append(_normals(document, attributes, matrix, len(points)))
    if mode == _POINTS:
        return
    if "indices" in primitive:
        indices = document.accessor(primitive["indices"])
        if indices.shape[1] != 1 or indices.dtype.kind != "u":
            raise ScanError(f"{path.name}: expected whole-number indices of faces, got another type; export it again")
        corners = check_faces(path, indices[:, 0].astype(np.int64), len(points))
    else:
        corners = np.arange(len(points))
    triangles = _triangles(corners, mode)
    if np.linalg.det(matrix[:3, :3]) < 0.0:  # a mirror turns faces inside out
        triangles = triangles[:, [0, 2, 1]]
    parts.num_faces += len(triangles)
    if parts.num_faces > MAX_FACES:
        raise ScanError(f"{path.name}: expected at most {MAX_FACES:,} triangles, got more; simplify the scan first")
    parts.faces.append(triangles + base)
    material = primitive.get("material", len(materials) - 1)
    item(materials, material, "material", path)
    parts.face_material.append(np.full(len(triangles), material))
    uv = _uv(document, attributes, material, len(points))
    parts.faces_uv.append(np.full_like(triangles, -1) if uv is None else triangles + parts.num_uv)
    if uv is not None:
        parts.uv.append(uv)
        parts.num_uv += len(uv)


def _triangles(corners: Int[np.ndarray, " n"], mode: int) -> Int[np.ndarray, "m 3"]:
    count = max(len(corners) - 2, 0)
    if mode == _TRIANGLES:
        return corners[: len(corners) // 3 * 3].reshape(-1, 3)
    if mode == _FAN:
        first = np.repeat(corners[:1], count)
        return np.stack([first, corners[1 : count + 1], corners[2 : count + 2]], axis=1)
    strip = np.stack([corners[:count], corners[1 : count + 1], corners[2 : count + 2]], axis=1)
    strip[1::2] = strip[1::2][:, [1, 0, 2]]  # every second triangle is wound the other way
    return strip


def _columns(values: np.ndarray, count: int, what: str, path: Path) -> Float[np.ndarray, "n count"]:
    if values.shape[1] < count:
        raise ScanError(f"{path.name}: expected {what} with {count} components, got {values.shape[1]}; export it again")
    return values[:, :count].astype(np.float64)


def _per_vertex(document: Document, attributes: dict, key: str, count: int, num_points: int) -> np.ndarray | None:
    if key not in attributes:
        return None
    values = _columns(document.accessor(attributes[key]), count, key, document.path)
    if len(values) != num_points:
        raise ScanError(f"{document.path.name}: expected {num_points:,} values in {key}, got {len(values):,}")
    return values


def _vertex_colors(document: Document, attributes: dict, num_points: int) -> Float[np.ndarray, "n 3"] | None:
    linear = _per_vertex(document, attributes, "COLOR_0", 3, num_points)
    return None if linear is None else _srgb(linear)


def _srgb(linear: np.ndarray) -> np.ndarray:
    """Encode linear light, which glTF's factors and vertex colours are, as sRGB."""
    linear = np.clip(np.nan_to_num(linear), 0.0, 1.0)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055).astype(np.float32)


def _normals(
    document: Document, attributes: dict, matrix: Float[np.ndarray, "4 4"], num_points: int
) -> Float[np.ndarray, "n 3"] | None:
    normals = _per_vertex(document, attributes, "NORMAL", 3, num_points)
    if normals is None or abs(np.linalg.det(matrix[:3, :3])) < 1e-30:
        return None
    return normals @ np.linalg.inv(matrix[:3, :3])


def _uv(document: Document, attributes: dict, material: int, num_points: int) -> Float[np.ndarray, "n 2"] | None:
    """Texture coordinates with the origin moved from glTF's upper left to the lower left."""
    info = document.texture_info(material)
    transform = get(
        get(info or {}, "extensions", dict, document.path, {}), "KHR_texture_transform", dict, document.path, {}
    )
    channel = transform.get("texCoord", info.get("texCoord", 0) if info else 0)
    uv = _per_vertex(document, attributes, f"TEXCOORD_{channel}", 2, num_points)
    if uv is None:
        return None
    if transform:
        scale = _floats(transform.get("scale", [1, 1]), 2, document.path)
        offset = _floats(transform.get("offset", [0, 0]), 2, document.path)
        angle = float(_floats([transform.get("rotation", 0)], 1, document.path)[0])
        c, s = np.cos(angle), np.sin(angle)
        uv = (uv * scale) @ np.array([[c, s], [-s, c]]).T + offset
    return np.stack([uv[:, 0], 1.0 - uv[:, 1]], axis=1)


def _material(document: Document, material: object) -> Material:
    if not isinstance(material, dict):
        raise ScanError(f"{document.path.name}: expected a material to be an object; export the scan again")
    shading = material.get("pbrMetallicRoughness") or {}
    factor = shading.get("baseColorFactor") if isinstance(shading, dict) else None
    linear = _floats(factor, 4, document.path)[:3] if factor is not None else np.ones(3)
    color = _srgb(linear)
    texture = document.base_color(material)
    if texture is not None and (linear < 1.0).any():
        texture = texture * color  # near enough: both are sRGB-encoded
    return Material(color=(float(color[0]), float(color[1]), float(color[2])), texture=texture)
