"""GLB and glTF 2.0: all meshes of the scene in world coordinates, textures merged into one.

Skins and morph targets are ignored: a skinned mesh is read in its bind pose (as the specification says, its node's transform
does not apply). Buffers and images come from the file, from ``data:`` URIs or from files beside it. Colour is the base
colour, the diffuse colour of older material models, or, where the base is black or absent, the emissive colour.

Source: Khronos glTF 2.0 specification, sections 2.7 (GLB: chapter 4), 3.5-3.9; KHR_mesh_quantization,
KHR_texture_transform, KHR_draco_mesh_compression, KHR_materials_pbrSpecularGlossiness, KHR_materials_common.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from omote.errors import ScanError
from omote.formats.colors import srgb, unit_colors
from omote.formats.gltf_document import Document, entry, get, get_list, item
from omote.formats.limits import RawScan, check_faces
from omote.formats.materials import Material, Surface, merged
from omote.formats.source import Source

_MAX_DEPTH, _MAX_NODES, _MAX_PRIMITIVES = 128, 20_000, 20_000
_MAX_JSON_BYTES = 64 << 20
_POINTS, _TRIANGLES, _STRIP, _FAN = 0, 4, 5, 6
_DRACO = "KHR_draco_mesh_compression"
# Keys of base colours in the material models of any extension (not those of other layers).
_COLOR_KEY = re.compile(r"base|diffuse|albedo|colou?r", re.IGNORECASE)
_OTHER_KEY = re.compile(
    r"specular|sheen|emissi|coat|attenuation|iridescence|transmission|rim|outline|ambient", re.IGNORECASE
)
# Required extensions that can be accepted: they are supported, or don't change anything that is read.
_UNDERSTOOD = re.compile(
    r"KHR_(mesh_quantization|texture_transform|draco_mesh_compression|meshopt_compression|materials_\w+|lights_\w+|techniques_webgl)"
    r"|EXT_(meshopt_compression|texture_webp|texture_avif)|MSFT_texture_dds|VRMC?_\w+"
)


def read_glb(source: Source) -> RawScan:
    """Read a GLB file: a header, a chunk of JSON and a chunk of binary data.

    Raises:
        ScanError: the file is truncated or damaged, needs an unsupported extension, or holds no mesh.
    """
    file, path, size = source.file, source.path, source.size
    header = np.frombuffer(file.read(20).ljust(20, b"\0"), "<u4")
    version, json_bytes, kind = int(header[1]), int(header[3]), int(header[4])
    if version != 2 or kind != 0x4E4F534A:
        raise ScanError(
            f"{path.name}: expected GLB version 2 with JSON first, got version {version}; export it as glTF 2.0"
        )
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
    return _scene(_document(text, data, source))


def read_gltf(source: Source) -> RawScan:
    """Read a glTF file and the buffers and images beside it.

    Raises:
        ScanError: as for `read_glb`, or a buffer's file is missing.
    """
    return _scene(_document(source.file.read(min(source.size, _MAX_JSON_BYTES + 1)), b"", source))


def _document(text: bytes, data: bytes, source: Source) -> Document:
    path = source.path
    if len(text) > _MAX_JSON_BYTES:
        raise ScanError(f"{path.name}: expected at most {_MAX_JSON_BYTES:,} bytes of JSON; export the scan as GLB")
    try:
        root = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ScanError(f"{path.name}: expected glTF JSON, got a syntax error ({str(error)[:80]})") from None
    if not isinstance(root, dict) or not isinstance(root.get("asset"), dict):
        raise ScanError(f"{path.name}: expected glTF JSON with an 'asset', got something else; export the scan again")
    if isinstance(root.get("meshes", []), dict):
        raise ScanError(f"{path.name}: expected glTF 2.0, got 1.0; export the scan again")
    return Document(root=root, data=data, source=source)


class _Parts:
    """Primitives read so far, one entry each."""

    def __init__(self) -> None:
        self.points: list[np.ndarray] = []
        self.colors: list[np.ndarray | None] = []
        self.normals: list[np.ndarray | None] = []
        self.faces: list[np.ndarray] = []
        self.uv: list[np.ndarray] = []
        self.faces_uv: list[np.ndarray] = []
        self.face_material: list[np.ndarray] = []
        self.num_points = self.num_uv = self.num_primitives = 0


def _scene(document: Document) -> RawScan:
    path, source = document.path, document.source
    parts = _Parts()
    materials = get_list(document.root, "materials", path)
    draco = _unpack_draco(document)

    for index, matrix in _mesh_nodes(document, get_list(document.root, "nodes", path)):
        mesh = entry(get_list(document.root, "meshes", path), index, "mesh", path)
        for primitive in get_list(mesh, "primitives", path):
            parts.num_primitives += 1
            if parts.num_primitives > _MAX_PRIMITIVES:
                raise ScanError(f"{path.name}: expected at most {_MAX_PRIMITIVES:,} primitives; merge the meshes first")
            _add_primitive(document, get({"primitive": primitive}, "primitive", dict, path), matrix, draco, parts)
    if not parts.num_points:
        raise ScanError(f"{path.name}: expected a scene with a mesh or points, found none; export the scan again")

    points = np.concatenate(parts.points)
    colors = None
    if any(c is not None for c in parts.colors):
        pairs = zip(parts.colors, parts.points, strict=True)
        colors = np.concatenate([np.full((len(p), 3), np.nan, np.float32) if c is None else c for c, p in pairs])

    if not parts.faces:
        normals = None
        if all(n is not None for n in parts.normals):
            normals = np.concatenate([n for n in parts.normals if n is not None])
        colors = None if colors is None else np.where(np.isnan(colors), np.float32(1.0), colors)
        return RawScan(points=points, colors=colors, normals=normals)

    for name in get_list(document.root, "extensionsRequired", path):
        if not _UNDERSTOOD.fullmatch(str(name)[:80]):
            source.note(f"the extension {str(name)[:80]!r}, which the file requires, is not read")

    face_material = np.concatenate(parts.face_material)
    used = set(np.unique(face_material).tolist())
    surface = Surface(
        points=points,
        faces=np.concatenate(parts.faces),
        colors=colors,
        uv=np.concatenate(parts.uv) if parts.uv else np.empty((0, 2)),
        faces_uv=np.concatenate(parts.faces_uv),
        materials=[_material(document, m) if k in used else Material() for k, m in enumerate(materials)] + [Material()],
        face_material=face_material,
    )
    if get_list(document.root, "images", path) and all(m.image is None for m in surface.materials):
        source.note("the file's images are no material's colour: not read")
    return merged(surface, source)


def _unpack_draco(document: Document) -> dict[int, dict[str, np.ndarray]]:
    """Unpack all Draco meshes at once: buffer view → arrays; empty if there is none."""
    path = document.path
    views: dict[int, bytes] = {}
    for mesh in get_list(document.root, "meshes", path):
        for primitive in get_list(mesh, "primitives", path):
            packed = get(primitive, "extensions", dict, path, {}).get(_DRACO)
            if packed is not None:
                view = get(packed, "bufferView", int, path)
                if view not in views:
                    data = bytes(document.view_bytes(view))
                    document.source.claim("bytes", len(data))
                    views[view] = data
    if not views:
        return {}
    from omote.formats.foreign import unpack_draco

    return dict(zip(views, unpack_draco(list(views.values()), document.source), strict=True))


def _mesh_nodes(document: Document, nodes: list) -> list[tuple[int, Float[np.ndarray, "4 4"]]]:
    """Mesh index and world transform of every node with a mesh; each node is visited once, even in a cyclic graph."""
    path = document.path
    if len(nodes) > _MAX_NODES:
        raise ScanError(
            f"{path.name}: expected at most {_MAX_NODES:,} nodes, got {len(nodes):,}; merge the meshes first"
        )
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
        if index in seen or depth > _MAX_DEPTH:
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


class _Attributes:
    """A primitive's arrays by attribute name, from its Draco mesh or from accessors."""

    def __init__(self, document: Document, primitive: dict[str, Any], draco: dict[int, dict[str, np.ndarray]]) -> None:
        path = document.path
        self.document, self.names = document, get(primitive, "attributes", dict, path)
        packed = get(primitive, "extensions", dict, path, {}).get(_DRACO)
        self.unpacked = draco[packed["bufferView"]] if packed is not None else {}
        self.numbers = get(packed, "attributes", dict, path) if packed is not None else {}
        self.indices = primitive.get("indices")

    def __contains__(self, key: str) -> bool:
        return key in self.names or key in self.numbers

    def raw(self, key: str) -> np.ndarray:
        values = self.unpacked.get(str(self.numbers.get(key)))
        if values is None:
            return self.document.accessor(self.names[key])
        values = values.reshape(len(values), -1)
        index = self.names.get(key)
        accessors = get_list(self.document.root, "accessors", self.document.path)
        described = accessors[index] if type(index) is int and 0 <= index < len(accessors) else {}
        if isinstance(described, dict) and described.get("normalized") and values.dtype.kind in "iu":
            return np.maximum(values.astype(np.float64) / np.iinfo(values.dtype).max, -1.0)
        return values

    def rows(self, key: str, width: int, num_points: int) -> Float[np.ndarray, "n width"] | None:
        """Return ``width`` columns for every point, or None if the primitive lacks the attribute."""
        if key not in self:
            return None
        values = _columns(self.raw(key), width, key, self.document.path)
        if len(values) != num_points:
            raise ScanError(f"{self.document.path.name}: expected {num_points:,} values in {key}, got {len(values):,}")
        return values

    def corners(self, num_points: int) -> Int[np.ndarray, " n"]:
        path = self.document.path
        if "faces" in self.unpacked:
            return check_faces(path, self.unpacked["faces"].reshape(-1).astype(np.int64), num_points)
        if self.indices is None:
            return np.arange(num_points)
        indices = self.document.accessor(self.indices)
        if indices.shape[1] != 1 or indices.dtype.kind != "u":
            raise ScanError(f"{path.name}: expected whole-number indices of faces, got another type; export it again")
        return check_faces(path, indices[:, 0].astype(np.int64), num_points)


def _add_primitive(
    document: Document,
    primitive: dict[str, Any],
    matrix: Float[np.ndarray, "4 4"],
    draco: dict[int, dict[str, np.ndarray]],
    parts: _Parts,
) -> None:
    path, source = document.path, document.source
    mode = primitive.get("mode", _TRIANGLES)
    if mode not in (_POINTS, _TRIANGLES, _STRIP, _FAN):
        return  # lines
    attributes = _Attributes(document, primitive, draco)
    if "POSITION" not in attributes:
        return

    local = _columns(attributes.raw("POSITION"), 3, "POSITION", path)
    source.claim("points", len(local), because="in its nodes")
    points = local @ matrix[:3, :3].T + matrix[:3, 3]

    base = parts.num_points
    parts.num_points += len(points)
    parts.points.append(points)
    parts.colors.append(_vertex_colors(attributes, len(points), source))
    parts.normals.append(_normals(attributes, matrix, len(points)))
    if mode == _POINTS:
        return

    corners = attributes.corners(len(points))
    source.claim("faces", len(corners) // 3 if mode == _TRIANGLES else len(corners), because="in its nodes")
    triangles = _triangles(corners, mode if "faces" not in attributes.unpacked else _TRIANGLES)
    if np.linalg.det(matrix[:3, :3]) < 0.0:  # a mirror turns faces inside out
        triangles = triangles[:, [0, 2, 1]]
    parts.faces.append(triangles + base)

    materials = get_list(document.root, "materials", path)
    material = primitive.get("material", len(materials))
    if material != len(materials):
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
    strip[1::2] = strip[1::2][:, [1, 0, 2]]  # every second triangle has the opposite winding
    return strip


def _columns(values: np.ndarray, count: int, what: str, path: Path) -> Float[np.ndarray, "n count"]:
    if values.shape[1] < count:
        raise ScanError(f"{path.name}: expected {what} with {count} components, got {values.shape[1]}; export it again")
    return values[:, :count].astype(np.float64)


def _vertex_colors(attributes: _Attributes, num_points: int, source: Source) -> Float[np.ndarray, "n 3"] | None:
    keys = sorted(k for k in {*attributes.names, *attributes.numbers} if isinstance(k, str))
    key = next((k for k in keys if k.upper().startswith("COLOR")), None)
    if key is None:
        key = next((k for k in keys if k.endswith("SH_DEGREE_0_COEF_0")), None)  # KHR_gaussian_splatting
        if key is not None and (harmonics := attributes.rows(key, 3, num_points)) is not None:
            source.note(
                "Gaussian splats: their centres are read as points, in the colour that their harmonics have all round"
            )
            return np.clip(0.5 + 0.28209479177387814 * np.nan_to_num(harmonics), 0.0, 1.0).astype(np.float32)
        if other := [k for k in keys if k.startswith("_") and "col" in k.lower()]:
            source.note(f"the attribute {other[0][:40]!r} is not read as a colour")
        return None
    raw = attributes.raw(key)
    if raw.dtype.kind in "iu":  # not marked as normalised to [0, 1]
        raw = unit_colors(raw, source.note)
    linear = _columns(raw, 3, key, source.path)
    if len(linear) != num_points:
        raise ScanError(f"{source.path.name}: expected {num_points:,} values in {key}, got {len(linear):,}")
    if (linear > 1.0 + 1e-3).any():
        colors = unit_colors(linear, source.note)
        if float(np.nanmax(linear)) > 4.0:  # against the specification: sRGB bytes
            source.note(f"the values of {key} exceed 1: taken as bytes, not as linear light")
            return colors
        linear = colors.astype(np.float64)
    return srgb(linear)


def _normals(
    attributes: _Attributes, matrix: Float[np.ndarray, "4 4"], num_points: int
) -> Float[np.ndarray, "n 3"] | None:
    normals = attributes.rows("NORMAL", 3, num_points)
    if normals is None or abs(np.linalg.det(matrix[:3, :3])) < 1e-30:
        return None
    return normals @ np.linalg.inv(matrix[:3, :3])


def _uv(document: Document, attributes: _Attributes, material: int, num_points: int) -> Float[np.ndarray, "n 2"] | None:
    """Texture coordinates with the origin moved from glTF's upper left to the lower left."""
    path = document.path
    materials = get_list(document.root, "materials", path)
    info = _look(document, materials[material]).texture if material < len(materials) else None
    info = {} if info is None else info
    transform = get(get(info, "extensions", dict, path, {}), "KHR_texture_transform", dict, path, {})
    uv = attributes.rows(f"TEXCOORD_{transform.get('texCoord', info.get('texCoord', 0))}", 2, num_points)
    if uv is None:
        return None
    if transform:
        scale = _floats(transform.get("scale", [1, 1]), 2, path)
        offset = _floats(transform.get("offset", [0, 0]), 2, path)
        angle = float(_floats([transform.get("rotation", 0)], 1, path)[0])
        c, s = np.cos(angle), np.sin(angle)
        uv = (uv * scale) @ np.array([[c, s], [-s, c]]).T + offset
    return np.stack([uv[:, 0], 1.0 - uv[:, 1]], axis=1)


class _Look:
    """A material's colour: a reference to a texture, or None, and a factor in linear light."""

    def __init__(self, texture: dict[str, Any] | None, factor: Float[np.ndarray, "3"]) -> None:
        self.texture, self.factor = texture, factor


def _look(document: Document, material: object) -> _Look:
    """Find a material's colour in any of the supported material models."""
    path = document.path
    if not isinstance(material, dict):
        raise ScanError(f"{path.name}: expected a material to be an object; export the scan again")
    extensions = material.get("extensions")
    extensions = extensions if isinstance(extensions, dict) else {}
    models: list[object] = [material.get("pbrMetallicRoughness")]
    for extension in extensions.values():
        models += [extension.get("values"), extension] if isinstance(extension, dict) else []
    looks = [_model_look(model, path) for model in models if isinstance(model, dict)]
    texture, found = next((look for look in looks if look[0] is not None), (None, None))
    if texture is None:
        found = next((look[1] for look in looks if look[1] is not None), None)
    factor = np.ones(3) if found is None else found
    emitted = material.get("emissiveTexture")
    emission = material.get("emissiveFactor")
    if (texture is None or not (factor > 0.01).any()) and emission is not None:
        light = _floats(emission, 3, path)
        if (light > 0.01).any() and (isinstance(emitted, dict) or not (factor > 0.01).any()):
            document.source.note("a material's emission is read as its colour: it has no other")
            return _Look(emitted if isinstance(emitted, dict) else None, light)
    return _Look(texture, factor)


def _model_look(model: dict[str, Any], path: Path) -> tuple[dict[str, Any] | None, Float[np.ndarray, "3"] | None]:
    """Colour of one material model: a reference to a texture and a factor in linear light, or None."""
    texture: dict[str, Any] | None = None
    factor: Float[np.ndarray, "3"] | None = None
    for key, value in model.items():
        if not _COLOR_KEY.search(key) or _OTHER_KEY.search(key):
            continue
        if texture is None and isinstance(value, dict) and type(value.get("index")) is int:
            texture = value
        elif factor is None and isinstance(value, list) and (key == "baseColorFactor" or len(value) in (3, 4)):
            factor = _floats(value, 3 if len(value) == 3 else 4, path)[:3]
    return texture, factor


def _material(document: Document, material: object) -> Material:
    look = _look(document, material)
    red, green, blue = srgb(look.factor).tolist()
    color = (red, green, blue)
    if look.texture is None:
        return Material(color=color)
    image = document.image(look.texture.get("index"))
    # Close enough: the product of two sRGB-encoded values approximates that of the linear ones.
    return Material(color=color, tint=color if (look.factor < 1.0).any() else (1.0, 1.0, 1.0), image=image)
