"""Buffers, accessors and images of a glTF document, each checked and claimed from the scan's budget before it is read.

Source: Khronos glTF 2.0 specification, sections 3.6 (binary data, sparse accessors) and 3.8; EXT_meshopt_compression,
KHR_materials_pbrSpecularGlossiness.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import numpy as np
from jaxtyping import Shaped

from omote.errors import ScanError
from omote.formats.materials import Named
from omote.formats.source import Source

_T = TypeVar("_T")
_COMPONENTS = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
_MAX_COUNT = 1 << 40
_MESHOPT = ("EXT_meshopt_compression", "KHR_meshopt_compression")


def get(parent: object, key: str, kind: type[_T], path: Path, default: _T | None = None) -> _T:
    """Return a value of the expected type.

    Raises:
        ScanError: the value is absent without a default, or of another type.
    """
    value = parent.get(key, default) if isinstance(parent, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ScanError(f"{path.name}: expected {key!r} ({kind.__name__}) in the glTF, got {str(value)[:40]!r}")
    return value


def get_list(parent: object, key: str, path: Path) -> list[Any]:
    """Return a list, empty if absent.

    Raises:
        ScanError: the value is no list.
    """
    return get(parent, key, list, path, [])


def item(values: list[_T], index: object, what: str, path: Path) -> _T:
    """Return the entry that an index of the file refers to.

    Raises:
        ScanError: the index is out of range.
    """
    if type(index) is not int or not 0 <= index < len(values):
        raise ScanError(f"{path.name}: refers to {what} {str(index)[:20]}, the file has {len(values)}; export it again")
    return values[index]


def entry(values: list[Any], index: object, what: str, path: Path) -> dict[str, Any]:
    """Return the JSON object that an index of the file refers to.

    Raises:
        ScanError: the index is out of range, or the entry is no object.
    """
    return get({what: item(values, index, what, path)}, what, dict, path)


@dataclass(kw_only=True)
class Document:
    """A parsed glTF file.

    Attributes:
        root: root object of the JSON.
        data: binary chunk of a GLB, otherwise empty.
        source: the scan that is read.
    """

    root: dict[str, Any]
    data: bytes
    source: Source
    _buffers: dict[int, bytes] = field(default_factory=dict)
    _files: dict[str, bytes] = field(default_factory=dict)
    _unpacked: dict[int, bytes] = field(default_factory=dict)
    _images: dict[int, bytes] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """Path of the file."""
        return self.source.path

    def accessor(self, index: object) -> Shaped[np.ndarray, "count width"]:
        """Read an accessor; normalised integers become floats.

        Raises:
            ScanError: the accessor reaches past its buffer, or has an unknown or unsupported type.
        """
        path = self.path
        accessor = entry(get_list(self.root, "accessors", path), index, "accessor", path)
        component = _COMPONENTS.get(get(accessor, "componentType", int, path))
        width = _WIDTHS.get(get(accessor, "type", str, path))
        if component is None or width is None:
            raise ScanError(f"{path.name}: an accessor has an unknown type; export the scan again")
        dtype, count = np.dtype(component), self._count(accessor)
        if "bufferView" in accessor:
            values = self._items(accessor, count, width, dtype)
        else:
            self.source.claim("bytes", count * width * dtype.itemsize, because="of zeros")
            values = np.zeros((count, width), dtype.newbyteorder("="))
        if "sparse" in accessor:
            self._substitute(values, get(accessor, "sparse", dict, path), dtype)
        if accessor.get("normalized") and dtype.kind in "iu":
            return np.maximum(values.astype(np.float64) / np.iinfo(dtype).max, -1.0)
        return values

    def _count(self, parent: dict[str, Any]) -> int:
        count = get(parent, "count", int, self.path)
        if not 1 <= count < _MAX_COUNT:
            raise ScanError(f"{self.path.name}: an accessor claims {str(count)[:20]} items; export the scan again")
        return count

    def _items(self, reference: dict[str, Any], count: int, width: int, dtype: np.dtype) -> np.ndarray:
        """Copy ``count`` items out of a buffer view."""
        path = self.path
        offset = get(reference, "byteOffset", int, path, 0)
        view = entry(get_list(self.root, "bufferViews", path), reference.get("bufferView"), "buffer view", path)
        data = self.view_bytes(reference["bufferView"])
        size = width * dtype.itemsize
        stride = get(view, "byteStride", int, path, 0) or size
        last = offset + (count - 1) * stride + size
        if offset < 0 or not size <= stride <= max(len(data), size) or last > len(data):
            raise ScanError(
                f"{path.name}: an accessor claims {count:,} items, its buffer view has {len(data):,} bytes; "
                "the file is truncated or damaged, copy or export it again"
            )
        strided = np.ndarray((count, width), dtype, data, offset, (stride, dtype.itemsize))
        return strided.astype(dtype.newbyteorder("="))

    def _substitute(self, values: np.ndarray, sparse: dict[str, Any], dtype: np.dtype) -> None:
        """Overwrite the values that a sparse accessor replaces."""
        path = self.path
        count = self._count(sparse)
        indices = get(sparse, "indices", dict, path)
        component = _COMPONENTS.get(get(indices, "componentType", int, path))
        if component not in ("u1", "<u2", "<u4") or count > len(values):
            raise ScanError(f"{path.name}: expected a sparse accessor of up to {len(values):,} places; export it again")
        places = self._items(indices, count, 1, np.dtype(component))[:, 0]
        if int(places.max()) >= len(values):
            raise ScanError(f"{path.name}: a sparse accessor sets item {int(places.max()):,} of {len(values):,}")
        values[places] = self._items(get(sparse, "values", dict, path), count, values.shape[1], dtype)

    def view_bytes(self, index: object) -> memoryview:
        """Return the bytes of a buffer view, decompressed if necessary.

        Raises:
            ScanError: the view reaches past its buffer, or the library that decompresses it is not installed.
        """
        path = self.path
        view = entry(get_list(self.root, "bufferViews", path), index, "buffer view", path)
        extensions = get(view, "extensions", dict, path, {})
        for name in _MESHOPT:
            if name in extensions:
                assert type(index) is int
                if index not in self._unpacked:
                    self._unpacked[index] = self._meshopt(get(extensions, name, dict, path))
                return memoryview(self._unpacked[index])
        return self._range(view)

    def _range(self, view: dict[str, Any]) -> memoryview:
        data = self._buffer(get(view, "buffer", int, self.path))
        start, length = get(view, "byteOffset", int, self.path, 0), get(view, "byteLength", int, self.path)
        if start < 0 or length < 0 or start + length > len(data):
            raise ScanError(
                f"{self.path.name}: a buffer view claims {str(length)[:20]} bytes from {str(start)[:20]} of {len(data):,}; "
                "the file is truncated or damaged, copy or export it again"
            )
        return memoryview(data)[start : start + length]

    def _meshopt(self, packed: dict[str, Any]) -> bytes:
        from omote.formats.foreign import unpack_meshopt

        path = self.path
        count, stride = self._count(packed), get(packed, "byteStride", int, path)
        mode, filtered = get(packed, "mode", str, path), get(packed, "filter", str, path, "NONE")
        if not 1 <= stride <= 256:
            raise ScanError(f"{path.name}: expected a stride of 1 to 256 in compressed data, got {str(stride)[:20]}")
        self.source.claim("bytes", count * stride, because="of compressed data")
        return unpack_meshopt(bytes(self._range(packed)), count, stride, mode, filtered, self.source)

    def _buffer(self, index: int) -> bytes:
        if index not in self._buffers:
            buffer = entry(get_list(self.root, "buffers", self.path), index, "buffer", self.path)
            uri = buffer.get("uri")
            self._buffers[index] = self.data if uri is None else self._uri_bytes(uri)
        return self._buffers[index]

    def _uri_bytes(self, uri: object) -> bytes:
        """Return the content of a ``data:`` URI or of a file beside the scan; each file is read once."""
        if not isinstance(uri, str):
            raise ScanError(f"{self.path.name}: expected a URI to be text, got {str(uri)[:40]!r}; export it again")
        if uri.startswith("data:"):
            head, _, body = uri.partition(",")
            try:
                if not head.endswith(";base64"):
                    raise ValueError("not base64")
                return base64.b64decode(body, validate=True)
            except (ValueError, binascii.Error) as error:
                raise ScanError(f"{self.path.name}: a data URI is damaged ({error}); export the scan again") from None
        found, _ = self.source.beside(unquote(uri))
        key = uri if found is None else str(found.resolve())
        if key not in self._files:
            self._files[key] = self.source.read_beside(unquote(uri))
        return self._files[key]

    def image(self, texture_index: object) -> Named | bytes | None:
        """Return a texture's image, as a name or as an image file's bytes.

        Raises:
            ScanError: an index or the image's byte range is out of range.
        """
        path = self.path
        texture = entry(get_list(self.root, "textures", path), texture_index, "texture", path)
        index = texture.get("source")
        for extension in get(texture, "extensions", dict, path, {}).values():
            if index is None and isinstance(extension, dict):
                index = extension.get("source")
        if index is None:
            return None
        image = entry(get_list(self.root, "images", path), index, "image", path)
        uri = image.get("uri")
        if "bufferView" not in image and isinstance(uri, str) and not uri.startswith("data:"):
            return Named(name=unquote(uri))
        if index not in self._images:
            view = self.view_bytes(image["bufferView"]) if "bufferView" in image else self._uri_bytes(uri)
            self.source.claim("bytes", len(view), because="of images")
            self._images[index] = bytes(view)
        return self._images[index]
