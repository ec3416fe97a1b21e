"""Read an avatar GLB back, for pictures and tests made from the file itself."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pygltflib as gltf
from jaxtyping import Float, Int
from PIL import Image

from omote.errors import OmoteError

DTYPES: Mapping[int, np.dtype[Any]] = {
    gltf.FLOAT: np.dtype("<f4"),
    gltf.UNSIGNED_BYTE: np.dtype("u1"),
    gltf.UNSIGNED_SHORT: np.dtype("<u2"),
    gltf.UNSIGNED_INT: np.dtype("<u4"),
}
WIDTH = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}


@dataclass(frozen=True, kw_only=True)
class GlbPrimitive:
    """One primitive as stored: metres, glTF UVs (v from the top), colours as in its material.

    Attributes:
        name: name of the material.
        positions: vertex positions at rest.
        normals: unit normals of the vertices.
        uv: texture coordinates, or None.
        shade: vertex colours in [0, 1], linear light.
        triangles: vertex ids of the triangles.
        targets: position offsets per morph target.
        target_normals: normal offsets per morph target.
        color: base colour factor, in linear light.
        texture: sRGB texture in [0, 1] with row 0 at the top, or None.
        roughness: roughness factor in [0, 1].
    """

    name: str
    positions: Float[np.ndarray, "n 3"]
    normals: Float[np.ndarray, "n 3"]
    uv: Float[np.ndarray, "n 2"] | None
    shade: Float[np.ndarray, "n 3"]
    triangles: Int[np.ndarray, "f 3"]
    targets: Float[np.ndarray, "k n 3"]
    target_normals: Float[np.ndarray, "k n 3"]
    color: Float[np.ndarray, "3"]
    texture: Float[np.ndarray, "height width 3"] | None
    roughness: float

    def posed(self, weights: Float[np.ndarray, "k"]) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
        """Positions and unit normals at given morph weights (glTF 2.0 §3.7.2.2)."""
        used = np.flatnonzero(weights)
        positions = self.positions + np.tensordot(weights[used], self.targets[used], 1)
        normals = self.normals + np.tensordot(weights[used], self.target_normals[used], 1)
        return positions, normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)


@dataclass(frozen=True, kw_only=True)
class GlbAvatar:
    """A GLB's primitives and the names of their morph targets."""

    target_names: tuple[str, ...]
    primitives: tuple[GlbPrimitive, ...]
    extras: dict[str, object]

    def weights(self, **targets: float) -> Float[np.ndarray, "k"]:
        """A weight vector from weights by target name."""
        out = np.zeros(len(self.target_names))
        for name, value in targets.items():
            if name not in self.target_names:
                raise OmoteError(f"no morph target {name!r}; the file has {', '.join(self.target_names)}")
            out[self.target_names.index(name)] = value
        return out


def read_avatar(source: Path | str | bytes) -> GlbAvatar:
    """Read a GLB written by `omote.asset.glb`.

    Args:
        source: path or bytes of the file.

    Raises:
        OmoteError: not a GLB with one morphable mesh.
    """
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    if data[:4] != b"glTF":
        raise OmoteError("expected a binary glTF file (it begins with 'glTF')")
    document = gltf.GLTF2.load_from_bytes(data)
    blob = document.binary_blob() or b""
    if not document.meshes or not document.meshes[0].primitives:
        raise OmoteError("expected a glTF file with a mesh; got none")
    mesh = document.meshes[0]
    names = tuple((mesh.extras or {}).get("targetNames", ()))
    primitives = tuple(_read_primitive(document, blob, p, len(names)) for p in mesh.primitives)
    return GlbAvatar(target_names=names, primitives=primitives, extras=dict(document.asset.extras or {}))


def _view(document: gltf.GLTF2, blob: bytes, view: int) -> bytes:
    v = document.bufferViews[view]
    start = v.byteOffset or 0
    return blob[start : start + v.byteLength]


def _accessor(document: gltf.GLTF2, blob: bytes, index: int) -> np.ndarray:
    a = document.accessors[index]
    width, dtype = WIDTH[a.type], DTYPES[a.componentType]
    if a.bufferView is None:
        out = np.zeros((a.count, width), dtype)
    else:
        raw = _view(document, blob, a.bufferView)
        out = np.frombuffer(raw, dtype, a.count * width, a.byteOffset or 0).reshape(-1, width).copy()
    if a.sparse is not None:
        s = a.sparse
        ids = np.frombuffer(_view(document, blob, s.indices.bufferView), DTYPES[s.indices.componentType], s.count)
        values = np.frombuffer(_view(document, blob, s.values.bufferView), dtype, s.count * width)
        out[ids] = values.reshape(-1, width)
    return out


def _read_primitive(document: gltf.GLTF2, blob: bytes, p: gltf.Primitive, num_targets: int) -> GlbPrimitive:
    positions = _accessor(document, blob, p.attributes.POSITION)
    material = document.materials[p.material]
    pbr = material.pbrMetallicRoughness
    texture = None
    if pbr.baseColorTexture is not None:
        image = document.images[document.textures[pbr.baseColorTexture.index].source]
        with Image.open(io.BytesIO(_view(document, blob, image.bufferView))) as picture:
            texture = np.asarray(picture.convert("RGB"), np.float32) / 255
    shade = np.ones_like(positions)
    if p.attributes.COLOR_0 is not None:
        shade = _accessor(document, blob, p.attributes.COLOR_0)[:, :3].astype(np.float32) / 255
    targets = p.targets or []
    if len(targets) != num_targets:
        raise OmoteError(f"expected {num_targets} morph targets in every primitive, got {len(targets)}")
    empty = np.zeros((0, *positions.shape), np.float32)
    return GlbPrimitive(
        name=material.name,
        positions=positions,
        normals=_accessor(document, blob, p.attributes.NORMAL),
        uv=None if p.attributes.TEXCOORD_0 is None else _accessor(document, blob, p.attributes.TEXCOORD_0),
        shade=shade,
        triangles=_accessor(document, blob, p.indices).reshape(-1, 3).astype(np.int32),
        targets=np.stack([_accessor(document, blob, _get(t, "POSITION")) for t in targets]) if targets else empty,
        target_normals=np.stack([_accessor(document, blob, _get(t, "NORMAL")) for t in targets]) if targets else empty,
        color=np.array((pbr.baseColorFactor or [1, 1, 1, 1])[:3]),
        texture=texture,
        roughness=float(pbr.roughnessFactor if pbr.roughnessFactor is not None else 1.0),
    )


def _get(target: object, name: str) -> int:
    # pygltflib gives targets as dicts or Attributes, by version.
    return int(target[name] if isinstance(target, dict) else getattr(target, name))
