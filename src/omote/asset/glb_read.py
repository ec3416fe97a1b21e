"""Read an avatar GLB back, for pictures and tests made from the file itself."""

from __future__ import annotations

import io
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from omote.asset.primitives import UNCERTAINTY
from omote.errors import OmoteError
from omote.formats.gltf_document import Document
from omote.formats.source import Source


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
        targets: position offsets per morph target; none in parts that never move.
        target_normals: normal offsets per morph target.
        color: base colour factor, in linear light.
        texture: sRGB texture in [0, 1] with row 0 at the top, or None.
        roughness: roughness factor in [0, 1].
        sigma_mm: standard deviation of each vertex's error, mm, or None.
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
    sigma_mm: Float[np.ndarray, " n"] | None = None

    def posed(self, weights: Float[np.ndarray, "k"]) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
        """Positions and unit normals at given morph weights (glTF 2.0 §3.7.2.2); a part without targets rests."""
        used = np.flatnonzero(weights[: len(self.targets)])
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
    """Read a GLB or VRM written by omote, quantised and compressed ones too.

    Args:
        source: path or bytes of the file.

    Raises:
        OmoteError: not a GLB with one morphable mesh.
    """
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    if data[:4] != b"glTF":
        raise OmoteError("expected a binary glTF file (it begins with 'glTF')")
    path = Path("avatar.glb") if isinstance(source, bytes) else Path(source)
    (length,) = struct.unpack("<I", data[12:16])
    root = json.loads(data[20 : 20 + length])
    opened = Source(path=path, file=io.BytesIO(data), size=len(data), paid_bytes=len(data))
    document = Document(root=root, data=data[28 + length :], source=opened)
    meshes = root.get("meshes", [])
    if not meshes or not meshes[0]["primitives"]:
        raise OmoteError("expected a glTF file with a mesh; got none")
    names = tuple(meshes[0].get("extras", {}).get("targetNames", ()))
    primitives = tuple(
        _read_primitive(document, p, _scale(root, k)) for k, mesh in enumerate(meshes) for p in mesh["primitives"]
    )
    if any(len(p.targets) != len(names) for p in primitives[: len(meshes[0]["primitives"])]):
        raise OmoteError(f"expected {len(names)} morph targets in every primitive of the head")
    return GlbAvatar(target_names=names, primitives=primitives, extras=dict(root["asset"].get("extras", {})))


def _scale(root: dict[str, Any], mesh: int) -> float:
    """Metres per unit of a mesh: the scale of its node."""
    return float(next((n.get("scale", [1.0])[0] for n in root["nodes"] if n.get("mesh") == mesh), 1.0))


def _read_primitive(document: Document, p: dict[str, Any], scale: float) -> GlbPrimitive:
    def values(index: int) -> np.ndarray:
        return document.accessor(index).astype(np.float32)

    attributes, targets = p["attributes"], p.get("targets", [])
    positions = values(attributes["POSITION"]) * np.float32(scale)
    normals = values(attributes["NORMAL"])
    material = document.root["materials"][p["material"]]
    surface = material["pbrMetallicRoughness"]
    texture = None
    if "baseColorTexture" in surface:
        picture = document.image(surface["baseColorTexture"]["index"])
        assert isinstance(picture, bytes)
        with Image.open(io.BytesIO(picture)) as image:
            texture = np.asarray(image.convert("RGB"), np.float32) / 255
    empty = np.zeros((0, *positions.shape), np.float32)
    return GlbPrimitive(
        name=material["name"],
        positions=positions,
        normals=normals,
        uv=values(attributes["TEXCOORD_0"]) if "TEXCOORD_0" in attributes else None,
        shade=values(attributes["COLOR_0"])[:, :3] if "COLOR_0" in attributes else np.ones_like(positions),
        triangles=document.accessor(p["indices"]).reshape(-1, 3).astype(np.int32),
        targets=np.stack([values(t["POSITION"]) for t in targets]) * np.float32(scale) if targets else empty,
        target_normals=np.stack([values(t["NORMAL"]) for t in targets]) if targets else empty,
        color=np.array(surface.get("baseColorFactor", [1, 1, 1, 1])[:3]),
        texture=texture,
        roughness=float(surface.get("roughnessFactor", 1.0)),
        sigma_mm=values(attributes[UNCERTAINTY]).ravel() if UNCERTAINTY in attributes else None,
    )
