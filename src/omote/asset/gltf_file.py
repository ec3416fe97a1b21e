"""A binary glTF 2.0 file as it grows: buffer views, accessors and pictures; plain, quantised or compressed.

Source: Khronos glTF 2.0 specification, sections 3.6 (sparse accessors: 3.6.2.3) and 4 (GLB); KHR_mesh_quantization;
EXT_meshopt_compression.
"""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from omote.asset.file_settings import Compression

QUANTIZED, MESHOPT = "KHR_mesh_quantization", "EXT_meshopt_compression"
STEP_M = 1e-5  # of quantised positions and offsets; 16 bits reach .32 m
# Smaller offsets are dropped: 2 µm, and a turn of the normal by .1°.
MIN_MOVE_M, MIN_TURN = 2e-6, 2e-3
JPEG_QUALITY = 95
ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963
LINEAR, LINEAR_MIPMAP_LINEAR, CLAMP_TO_EDGE = 9729, 9987, 33071
_COMPONENTS = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


class GltfFile:
    """The JSON and the binary chunk of a file.

    Args:
        compression: "none"; "quantized" (16-bit positions and offsets, in steps of `STEP_M`); "meshopt" (the same, and every
            vertex buffer compressed).
    """

    def __init__(self, compression: Compression = "none") -> None:
        self.compression = compression
        self.root: dict[str, Any] = {"asset": {"version": "2.0"}, "scene": 0}
        self._chunks: list[bytes] = []
        self._length = self._unpacked_length = 0
        self._zeros: dict[tuple[int, str], int] = {}
        if self.compression != "none":
            self.require(QUANTIZED)
        if self.compression == "meshopt":
            self.require(MESHOPT)

    @property
    def scale(self) -> float:
        """Metres per unit of the positions, for the transform of the node that shows them."""
        return 1.0 if self.compression == "none" else STEP_M

    def require(self, extension: str) -> None:
        """Name an extension that a reader must know."""
        self.root.setdefault("extensionsRequired", []).append(extension)
        self.use(extension)

    def use(self, extension: str) -> None:
        """Name an extension that the file uses."""
        self.root.setdefault("extensionsUsed", []).append(extension)

    def add(self, kind: str, entry: dict[str, Any]) -> int:
        """Append to one of the root's lists; fields that are None are left out. The entry's index."""
        entries = self.root.setdefault(kind, [])
        entries.append({key: value for key, value in entry.items() if value is not None})
        return len(entries) - 1

    def _append(self, data: bytes) -> dict[str, int]:
        padding = -self._length % 4
        self._chunks += [b"\0" * padding, data]
        self._length += padding + len(data)
        return {"buffer": 0, "byteOffset": self._length - len(data), "byteLength": len(data)}

    def _view(self, data: bytes) -> int:
        return self.add("bufferViews", self._append(data))

    def _rows(self, values: np.ndarray, target: int | None, mode: str = "ATTRIBUTES") -> int:
        """A buffer view of an array's rows, each on a 4-byte boundary unless they are indices; its index."""
        size = values.itemsize * values.shape[1]
        stride = size if target == ELEMENT_ARRAY_BUFFER else size + -size % 4
        if stride != size:
            padding = np.zeros((len(values), (stride - size) // values.itemsize), values.dtype)
            values = np.concatenate([values, padding], axis=1)
        data = np.ascontiguousarray(values)
        given = stride if target == ARRAY_BUFFER and (stride != size or self.compression == "meshopt") else None
        if self.compression != "meshopt":
            return self.add("bufferViews", {**self._append(data.tobytes()), "byteStride": given, "target": target})
        import meshopt

        if mode == "TRIANGLES":
            data = data.reshape(-1)
        packed = self._append(meshopt.encode_gltf_buffer(data, mode, 0))
        start, length = self._unpacked_length, len(values) * stride
        self._unpacked_length += length + -length % 4
        extension = {**packed, "byteStride": stride, "count": len(values), "mode": mode}
        return self.add("bufferViews", {
            "buffer": 1, "byteOffset": start, "byteLength": length, "byteStride": given, "target": target,
            "extensions": {MESHOPT: extension},
        })  # fmt: skip

    def accessor(
        self,
        values: np.ndarray,
        kind: str,
        *,
        normalized: bool = False,
        bounds: bool = False,
        target: int | None = ARRAY_BUFFER,
        mode: str = "ATTRIBUTES",
    ) -> int:
        """A dense accessor of any component type; its index."""
        rows = np.ascontiguousarray(values).reshape(-1, _WIDTHS[kind])
        low, high = _bounds(rows) if bounds else (None, None)
        view = self._view(rows.tobytes()) if target is None else self._rows(rows, target, mode)
        return self.add("accessors", {
            "bufferView": view, "componentType": _component(rows), "count": len(rows), "type": kind,
            "normalized": normalized or None, "min": low, "max": high,
        })  # fmt: skip

    def positions(self, metres: Float[np.ndarray, "n 3"]) -> int:
        """Positions; in steps of `STEP_M` where quantised."""
        return self.accessor(self._steps(metres), "VEC3", bounds=True)

    def normals(self, unit: Float[np.ndarray, "n 3"]) -> int:
        """Unit normals."""
        quantized = self.compression != "none"
        values = _levels(unit, np.dtype(np.int16)) if quantized else unit.astype(np.float32)
        return self.accessor(values, "VEC3", normalized=quantized)

    def uv(self, uv: Float[np.ndarray, "n 2"]) -> int:
        """Texture coordinates in [0, 1], v from the top."""
        quantized = self.compression != "none"
        values = _levels(uv, np.dtype(np.uint16)) if quantized else uv.astype(np.float32)
        return self.accessor(values, "VEC2", normalized=quantized)

    def colors(self, linear: Float[np.ndarray, "n 3"]) -> int:
        """Vertex colours, linear light."""
        opaque = np.concatenate([linear, np.ones((len(linear), 1))], axis=1)
        return self.accessor(_levels(opaque, np.dtype(np.uint8)), "VEC4", normalized=True)

    def triangles(self, triangles: Int[np.ndarray, "f 3"], num_vertices: int) -> int:
        """Vertex ids of triangles."""
        index = triangles.ravel().astype(np.uint16 if num_vertices < np.iinfo(np.uint16).max else np.uint32)
        return self.accessor(index, "SCALAR", target=ELEMENT_ARRAY_BUFFER, mode="TRIANGLES")

    def offsets(self, metres: Float[np.ndarray, "n 3"]) -> int:
        """A morph target's offsets of positions."""
        moved = np.where(np.abs(metres).max(axis=1, keepdims=True) > MIN_MOVE_M, metres, 0.0)
        return self._target(self._steps(moved), normalized=False)

    def turns(self, turns: Float[np.ndarray, "n 3"], normals: Float[np.ndarray, "n 3"]) -> int:
        """A morph target's offsets of normals; quantised ones reach ±1, and then end at the same direction."""
        turned = np.where(np.abs(turns).max(axis=1, keepdims=True) > MIN_TURN, turns, 0.0)
        if self.compression == "none":
            return self._target(turned.astype(np.float32), normalized=False)
        far = np.abs(turned).max(axis=1) > 1
        rest, end = normals[far], normals[far] + turned[far]
        # The longest multiple of the end whose offset from rest stays within ±1.
        room = (1 + np.sign(end) * rest) / np.maximum(np.abs(end), 1e-9)
        turned[far] = np.clip(room.min(axis=1, keepdims=True), 0.1, 1.0) * end - rest
        return self._target(_levels(turned, np.dtype(np.int8)), normalized=True)

    def _steps(self, metres: Float[np.ndarray, "n 3"]) -> np.ndarray:
        if self.compression == "none":
            return metres.astype(np.float32)
        return np.clip(np.round(metres / STEP_M), -32767, 32767).astype(np.int16)

    def _target(self, values: np.ndarray, *, normalized: bool) -> int:
        """Offsets: dense, sparse where that is smaller, or one shared accessor of zeros.

        Every accessor has a buffer view, because viewers (UniVRM, issue 1906) fail on those without; but for sparse quantised
        ones, whose rows have a stride that three.js misreads under sparse values.
        """
        moved = np.flatnonzero(np.abs(values).max(axis=1))
        key = (len(values), values.dtype.str)
        if not len(moved) and key in self._zeros:
            return self._zeros[key]
        row = 3 * values.itemsize
        sparse_is_smaller = len(moved) * (row + 4) < len(values) * (row + -row % 4)
        if self.compression == "meshopt" or not sparse_is_smaller:
            index = self.accessor(values, "VEC3", normalized=normalized, bounds=True)
        else:
            # A sparse accessor has at least one place.
            index = self._sparse(values, moved if len(moved) else np.zeros(1, int), normalized=normalized)
        if not len(moved):
            self._zeros[key] = index
        return index

    def _sparse(self, values: np.ndarray, moved: Int[np.ndarray, "m"], *, normalized: bool) -> int:
        base = None
        if self.compression == "none":
            key = (len(values), "base")
            if key not in self._zeros:
                shared = {"byteStride": 3 * values.itemsize, "target": ARRAY_BUFFER}
                self._zeros[key] = self.add("bufferViews", {**self._append(np.zeros_like(values).tobytes()), **shared})
            base = self._zeros[key]
        low, high = _bounds(values)
        ids = moved.astype(np.uint16 if len(values) <= np.iinfo(np.uint16).max else np.uint32)
        return self.add("accessors", {
            "bufferView": base, "componentType": _component(values), "count": len(values), "type": "VEC3",
            "normalized": normalized or None, "min": low, "max": high,
            "sparse": {
                "count": len(ids),
                "indices": {"bufferView": self._view(ids.tobytes()), "componentType": _component(ids)},
                "values": {"bufferView": self._view(np.ascontiguousarray(values[moved]).tobytes())},
            },
        })  # fmt: skip

    def texture(self, rgb: Float[np.ndarray, "height width 3"], name: str, *, lossless: bool, wrap: int) -> int:
        """An embedded picture with its texture; the texture's index."""
        buffer = io.BytesIO()
        picture = Image.fromarray((np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8))
        if lossless:
            picture.save(buffer, "PNG", optimize=True)
        else:
            picture.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
        mime = "image/png" if lossless else "image/jpeg"
        image = self.add("images", {"name": name, "bufferView": self._view(buffer.getvalue()), "mimeType": mime})
        sampler = {"magFilter": LINEAR, "minFilter": LINEAR_MIPMAP_LINEAR, "wrapS": wrap, "wrapT": wrap}
        samplers = self.root.setdefault("samplers", [])
        if sampler not in samplers:
            samplers.append(sampler)
        return self.add("textures", {"name": name, "source": image, "sampler": samplers.index(sampler)})

    def to_bytes(self) -> bytes:
        """The finished file."""
        blob = b"".join(self._chunks)
        blob += b"\0" * (-len(blob) % 4)
        buffers: list[dict[str, Any]] = [{"byteLength": len(blob)}]
        if self._unpacked_length:
            buffers.append({"byteLength": self._unpacked_length, "extensions": {MESHOPT: {"fallback": True}}})
        text = json.dumps({**self.root, "buffers": buffers}, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 4)
        head = struct.pack("<4sIIII", b"glTF", 2, 28 + len(text) + len(blob), len(text), 0x4E4F534A)
        return b"".join([head, text, struct.pack("<II", len(blob), 0x004E4942), blob])


def _levels(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Values in [-1, 1] (or [0, 1]) as normalised integers."""
    most = np.iinfo(dtype).max
    low = -most if dtype.kind == "i" else 0
    return np.clip(np.round(values * most), low, most).astype(dtype)


def _component(values: np.ndarray) -> int:
    return _COMPONENTS[f"{values.dtype.kind}{values.dtype.itemsize}"]


def _bounds(values: np.ndarray) -> tuple[list[float | int], list[float | int]]:
    return values.min(axis=0).tolist(), values.max(axis=0).tolist()
