"""Avatar → binary glTF 2.0: one mesh, a primitive per part, named morph targets with positions and normals.

Units are metres with y up and the face towards +z: the canonical frame divided by 1000. Offsets that move few vertices are stored
as sparse accessors (glTF 2.0 §3.6.2.3), which every major viewer reads, and nothing is quantised.
"""

from __future__ import annotations

import io
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pygltflib as gltf
from jaxtyping import Float
from PIL import Image

from omote.asset.materials import Materials, materials_of
from omote.asset.primitives import Primitive, split_primitives
from omote.files import atomic_path
from omote.head.model import HeadModel
from omote.rendering.shade import to_linear
from omote.types import Avatar

# Smaller offsets are dropped: 2 µm for positions, .1° for normals.
MIN_MOVE_M = 2e-6
MIN_TURN = 2e-3
JPEG_QUALITY = 95
TEXTURED = ("skin", "eyes")

SCALAR, VEC2, VEC3, VEC4 = "SCALAR", "VEC2", "VEC3", "VEC4"


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
) -> int:
    """Write an avatar as GLB and return its size in bytes.

    Args:
        avatar: avatar with its rest shape, morph targets and skin texture.
        model: head model that ``avatar.neutral`` belongs to.
        path: file name; written atomically.
        materials: materials of eyes, teeth, tongue and mouth; if None, those of the default appearance.

    Raises:
        OutputError: the file cannot be written.
    """
    data = glb_bytes(avatar, model, materials=materials)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return len(data)


def glb_bytes(avatar: Avatar, model: HeadModel, *, materials: Materials | None = None) -> bytes:
    """An avatar as the bytes of a GLB file; see `write_glb`."""
    materials = materials_of() if materials is None else materials
    names, primitives = split_primitives(model, avatar.neutral.vertices_mm, avatar.morphs_mm)
    file = _File()
    drawn = [_primitive(file, p, material=i) for i, p in enumerate(primitives)]
    for p in primitives:
        _material(file, p.name, materials, avatar.texture)
    file.document.meshes = [
        gltf.Mesh(name="head", primitives=drawn, weights=[0.0] * len(names), extras={"targetNames": names})
    ]
    file.document.nodes = [gltf.Node(name="omote_head", mesh=0)]
    file.document.scenes = [gltf.Scene(name="omote", nodes=[0])]
    file.document.scene = 0
    file.document.asset = gltf.Asset(
        version="2.0",
        generator=f"omote {omote_version()}",
        extras={"omote_version": omote_version(), "head_model": avatar.neutral.model_name},
    )
    return file.to_bytes()


class _File:
    """A growing binary buffer, and the document that refers to it."""

    def __init__(self) -> None:
        self.document = gltf.GLTF2()
        self.chunks: list[bytes] = []
        self.length = 0
        self._zeros: dict[int, int] = {}

    def view(self, data: bytes, target: int | None = None) -> int:
        """Append bytes on a 4-byte boundary, and return the new buffer view's id."""
        padding = -self.length % 4
        self.chunks += [b"\0" * padding, data]
        self.length += padding
        self.document.bufferViews.append(
            gltf.BufferView(buffer=0, byteOffset=self.length, byteLength=len(data), target=target)
        )
        self.length += len(data)
        return len(self.document.bufferViews) - 1

    def accessor(self, values: np.ndarray, kind: str, *, bounds: bool = False, target: int | None = None) -> int:
        """Add a dense accessor, and return its id."""
        values = np.ascontiguousarray(values)
        component = {"f": gltf.FLOAT, "u1": gltf.UNSIGNED_BYTE, "u2": gltf.UNSIGNED_SHORT, "u4": gltf.UNSIGNED_INT}
        code = component["f" if values.dtype.kind == "f" else f"u{values.dtype.itemsize}"]
        accessor = gltf.Accessor(
            bufferView=self.view(values.tobytes(), target), componentType=code, count=len(values), type=kind,
            normalized=True if code == gltf.UNSIGNED_BYTE else None,
        )  # fmt: skip
        if bounds:
            accessor.min, accessor.max = _bounds(values)
        self.document.accessors.append(accessor)
        return len(self.document.accessors) - 1

    def offsets(self, values: Float[np.ndarray, "n 3"], threshold: float) -> int:
        """Add an accessor of morph offsets, sparse if that is smaller, and return its id."""
        x, y, z = (np.abs(values[:, k]) > threshold for k in range(3))
        moved = np.flatnonzero(x | y | z).astype(np.uint32)
        if not len(moved):
            return self._zero(len(values))
        # Sparse storage needs an id and a vector per moved vertex, dense storage a vector per vertex.
        if len(moved) * 16 >= len(values) * 12:
            return self.accessor(values.astype(np.float32), VEC3, bounds=True, target=gltf.ARRAY_BUFFER)
        kept = np.ascontiguousarray(values[moved], np.float32)
        low, high = _bounds(np.concatenate([kept, np.zeros((1, 3), np.float32)]))
        ids = moved.astype(np.uint16 if len(values) <= np.iinfo(np.uint16).max else np.uint32)
        return self._sparse(len(values), ids, kept, low, high)

    def _zero(self, count: int) -> int:
        """Id of the accessor of zeros of this length, shared by all parts that a target does not move.

        The zeros are written out: viewers differ on accessors without data, and a kilobyte is cheap.
        """
        if count not in self._zeros:
            zero = [0.0] * 3
            self._zeros[count] = self._sparse(count, np.zeros(1, np.uint32), np.zeros((1, 3), np.float32), zero, zero)
        return self._zeros[count]

    def _sparse(
        self, count: int, ids: np.ndarray, values: Float[np.ndarray, "n 3"], low: list[float], high: list[float]
    ) -> int:
        """Add a sparse accessor of ``count`` vectors that are zero except at ``ids``, and return its id."""
        sparse = gltf.Sparse(
            count=len(ids),
            indices=gltf.AccessorSparseIndices(
                bufferView=self.view(ids.tobytes()),
                componentType=gltf.UNSIGNED_SHORT if ids.dtype == np.uint16 else gltf.UNSIGNED_INT,
            ),
            values=gltf.AccessorSparseValues(bufferView=self.view(values.tobytes())),
        )
        self.document.accessors.append(
            gltf.Accessor(
                byteOffset=None, componentType=gltf.FLOAT, count=count, type=VEC3, min=low, max=high, sparse=sparse
            )
        )
        return len(self.document.accessors) - 1

    def image(self, rgb: Float[np.ndarray, "height width 3"], name: str, *, lossless: bool) -> int:
        """Embed a picture with its texture, and return the texture's id."""
        buffer = io.BytesIO()
        picture = Image.fromarray((np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8))
        if lossless:
            picture.save(buffer, "PNG", optimize=True)
        else:
            picture.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
        mime = "image/png" if lossless else "image/jpeg"
        self.document.images.append(gltf.Image(name=name, bufferView=self.view(buffer.getvalue()), mimeType=mime))
        if not self.document.samplers:
            self.document.samplers.append(
                gltf.Sampler(
                    magFilter=gltf.LINEAR,
                    minFilter=gltf.LINEAR_MIPMAP_LINEAR,
                    wrapS=gltf.CLAMP_TO_EDGE,
                    wrapT=gltf.CLAMP_TO_EDGE,
                )
            )
        self.document.textures.append(gltf.Texture(name=name, source=len(self.document.images) - 1, sampler=0))
        return len(self.document.textures) - 1

    def to_bytes(self) -> bytes:
        """The finished file."""
        blob = b"".join(self.chunks)
        blob += b"\0" * (-len(blob) % 4)
        self.document.buffers = [gltf.Buffer(byteLength=len(blob))]
        self.document.set_binary_blob(blob)
        return b"".join(self.document.save_to_bytes())


def _bounds(values: np.ndarray) -> tuple[list[float], list[float]]:
    columns = [values[:, k] for k in range(values.shape[1])] if values.ndim == 2 else [values]
    return [float(c.min()) for c in columns], [float(c.max()) for c in columns]


def _primitive(file: _File, p: Primitive, *, material: int) -> gltf.Primitive:
    attributes = gltf.Attributes(
        POSITION=file.accessor(p.positions.astype(np.float32), VEC3, bounds=True, target=gltf.ARRAY_BUFFER),
        NORMAL=file.accessor(p.normals.astype(np.float32), VEC3, target=gltf.ARRAY_BUFFER),
    )
    if p.name in TEXTURED:
        # Our UVs start at the lower left of the picture; glTF counts v from the top.
        uv = np.stack([p.uv[:, 0], 1 - p.uv[:, 1]], axis=1).astype(np.float32)
        attributes.TEXCOORD_0 = file.accessor(uv, VEC2, target=gltf.ARRAY_BUFFER)
    if p.name != "skin":
        shade = np.round(np.clip(p.shade, 0, 1) * 255).astype(np.uint8)
        rgba = np.concatenate([np.repeat(shade[:, None], 3, axis=1), np.full((len(shade), 1), 255, np.uint8)], axis=1)
        attributes.COLOR_0 = file.accessor(rgba, VEC4, target=gltf.ARRAY_BUFFER)
    triangles = p.triangles.ravel()
    index = triangles.astype(np.uint16 if len(p.positions) < np.iinfo(np.uint16).max else np.uint32)
    targets = [
        {"POSITION": file.offsets(move, MIN_MOVE_M), "NORMAL": file.offsets(turn, MIN_TURN)}
        for move, turn in zip(p.targets, p.target_normals, strict=True)
    ]
    return gltf.Primitive(
        attributes=attributes,
        indices=file.accessor(index, SCALAR, target=gltf.ELEMENT_ARRAY_BUFFER),
        material=material,
        targets=targets or None,
    )


def _material(file: _File, name: str, materials: Materials, skin: Float[np.ndarray, "height width 3"]) -> None:
    texture = None
    if name == "skin":
        texture = gltf.TextureInfo(index=file.image(skin, "skin", lossless=False))
    elif name == "eyes":
        texture = gltf.TextureInfo(index=file.image(materials.eye_texture, "eyes", lossless=True))
    color = [float(x) for x in to_linear(np.array(materials.color(name)))]
    file.document.materials.append(
        gltf.Material(
            name=name,
            pbrMetallicRoughness=gltf.PbrMetallicRoughness(
                baseColorFactor=[*color, 1.0],
                baseColorTexture=texture,
                metallicFactor=0.0,
                roughnessFactor=materials.roughness[name],
            ),
            alphaMode="OPAQUE",
            alphaCutoff=None,
            # Seen from below, the insides of neck and mouth are visible.
            doubleSided=name in ("skin", "mouth"),
        )
    )
