"""What a glTF document refers to: buffers, accessors and images, each checked before it is read."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import numpy as np
from jaxtyping import Float, Shaped

from omote.errors import ScanError
from omote.formats.images import MAX_TEXTURE_SIZE, read_rgb
from omote.formats.limits import MAX_FACES, MAX_FILE_BYTES, sibling

_T = TypeVar("_T")
_COMPONENTS = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}


def get(parent: object, key: str, kind: type[_T], path: Path, default: _T | None = None) -> _T:
    """Return a value of the expected type.

    Raises:
        ScanError: it is absent without a default, or of another type.
    """
    value = parent.get(key, default) if isinstance(parent, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ScanError(f"{path.name}: expected {key!r} ({kind.__name__}) in the glTF, got {str(value)[:40]!r}")
    return value


def get_list(parent: object, key: str, path: Path) -> list[Any]:
    """Return a list, empty where absent.

    Raises:
        ScanError: it is something else.
    """
    return get(parent, key, list, path, [])


def item(values: list[_T], index: object, what: str, path: Path) -> _T:
    """Return the entry that an index of the file refers to.

    Raises:
        ScanError: out of range.
    """
    if type(index) is not int or not 0 <= index < len(values):
        raise ScanError(f"{path.name}: refers to {what} {str(index)[:20]}, the file has {len(values)}; export it again")
    return values[index]


def entry(values: list[Any], index: object, what: str, path: Path) -> dict[str, Any]:
    """Return the JSON object that an index of the file refers to.

    Raises:
        ScanError: out of range, or not an object.
    """
    return get({what: item(values, index, what, path)}, what, dict, path)


@dataclass(kw_only=True)
class Document:
    """A parsed glTF file.

    Attributes:
        root: the JSON.
        data: the binary chunk of a GLB, else empty.
        path: the file.
        notes: what was left out.
    """

    root: dict[str, Any]
    data: bytes
    path: Path
    notes: list[str] = field(default_factory=list)
    _buffers: dict[int, bytes] = field(default_factory=dict)
    _images: dict[int, Any] = field(default_factory=dict)

    def accessor(self, index: object) -> Shaped[np.ndarray, "count width"]:
        """Read an accessor; normalised integers become floats.

        Raises:
            ScanError: it reaches past its buffer, or has an unknown or unsupported type.
        """
        path = self.path
        accessor = entry(get_list(self.root, "accessors", path), index, "accessor", path)
        if "sparse" in accessor or "bufferView" not in accessor:
            raise ScanError(f"{path.name}: sparse or compressed vertex data is not read; export without compression")
        component = _COMPONENTS.get(get(accessor, "componentType", int, path))
        width = _WIDTHS.get(get(accessor, "type", str, path))
        if component is None or width is None:
            raise ScanError(f"{path.name}: an accessor has an unknown type; export the scan again")
        dtype = np.dtype(component)
        count, offset = get(accessor, "count", int, path), get(accessor, "byteOffset", int, path, 0)
        view = entry(get_list(self.root, "bufferViews", path), accessor["bufferView"], "buffer view", path)
        stride = get(view, "byteStride", int, path, 0) or width * dtype.itemsize
        data = self.view_bytes(accessor["bufferView"])
        last = offset + (count - 1) * stride + width * dtype.itemsize
        if count < 1 or offset < 0 or stride < width * dtype.itemsize or last > len(data) or count > 3 * MAX_FACES:
            raise ScanError(
                f"{path.name}: an accessor claims {count:,} items, its buffer view has {len(data):,} bytes; "
                "the file is truncated or damaged, copy or export it again"
            )
        values = np.ndarray((count, width), dtype, data, offset, (stride, dtype.itemsize)).astype(
            dtype.newbyteorder("=")
        )
        if accessor.get("normalized") and dtype.kind in "iu":
            return np.maximum(values.astype(np.float64) / np.iinfo(dtype).max, -1.0)
        return values

    def view_bytes(self, index: object) -> memoryview:
        """Return the bytes of a buffer view.

        Raises:
            ScanError: it reaches past its buffer, or is compressed.
        """
        path = self.path
        view = entry(get_list(self.root, "bufferViews", path), index, "buffer view", path)
        extensions = get(view, "extensions", dict, path, {})
        if any("meshopt" in name.lower() for name in extensions):
            raise ScanError(f"{path.name}: compressed with meshopt, which is not read; export without compression")
        data = self._buffer(get(view, "buffer", int, path))
        start, length = get(view, "byteOffset", int, path, 0), get(view, "byteLength", int, path)
        if start < 0 or length < 0 or start + length > len(data):
            raise ScanError(
                f"{path.name}: a buffer view claims bytes {start:,} to {start + length:,} of {len(data):,}; "
                "the file is truncated or damaged, copy or export it again"
            )
        return memoryview(data)[start : start + length]

    def _buffer(self, index: int) -> bytes:
        if index not in self._buffers:
            buffer = entry(get_list(self.root, "buffers", self.path), index, "buffer", self.path)
            uri = buffer.get("uri") if isinstance(buffer, dict) else None
            if uri is None:
                self._buffers[index] = self.data
            else:
                data = self._uri_bytes(uri, MAX_FILE_BYTES)
                if data is None:
                    raise ScanError(f"{self.path.name}: its buffer {str(uri)[:80]!r} is not beside it; put it there")
                self._buffers[index] = data
        return self._buffers[index]

    def _uri_bytes(self, uri: object, limit: int) -> bytes | None:
        """Return the content of a ``data:`` URI or of a file beside the scan; None where the file is absent."""
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
        found = sibling(self.path, unquote(uri))
        if found is None:
            return None
        try:
            size = found.stat().st_size
            if size > limit:
                raise ScanError(f"{found.name}: expected at most {limit:,} bytes, got {size:,}; simplify the scan")
            with found.open("rb") as file:
                return file.read(limit)
        except OSError as error:
            raise ScanError(f"{found.name}: cannot be read ({error.strerror}); check its permissions") from error

    def texture_info(self, material: int) -> dict[str, Any] | None:
        """Return a material's reference to its base colour texture, or None."""
        materials = get_list(self.root, "materials", self.path)
        if material == len(materials):  # the default one
            return None
        shading = entry(materials, material, "material", self.path).get("pbrMetallicRoughness")
        info = shading.get("baseColorTexture") if isinstance(shading, dict) else None
        return info if isinstance(info, dict) else None

    def base_color(self, material: dict[str, Any]) -> Float[np.ndarray, "tex_height tex_width 3"] | None:
        """Decode a material's base colour image, or None with a note where it is absent or of a format not read.

        Raises:
            ScanError: the image is damaged or too large, or its name leads outside the folder.
        """
        path = self.path
        shading = material.get("pbrMetallicRoughness")
        info = shading.get("baseColorTexture") if isinstance(shading, dict) else None
        if not isinstance(info, dict):
            return None
        texture = entry(get_list(self.root, "textures", path), info.get("index"), "texture", path)
        index = texture.get("source") if isinstance(texture, dict) else None
        for extension in get(texture, "extensions", dict, path, {}).values():
            if index is None and isinstance(extension, dict):
                index = extension.get("source")
        if index is None:
            return None
        if type(index) is not int or index not in self._images:
            image = entry(get_list(self.root, "images", path), index, "image", path)
            self._images[index] = self._read_image(image)
        return self._images[index]

    def _read_image(self, image: object) -> Float[np.ndarray, "tex_height tex_width 3"] | None:
        if not isinstance(image, dict):
            raise ScanError(f"{self.path.name}: expected an image to be an object; export the scan again")
        name = f"{self.path.name} (texture)"
        if "bufferView" in image:
            data: bytes | None = bytes(self.view_bytes(image["bufferView"]))
        else:
            data = self._uri_bytes(image.get("uri"), MAX_FILE_BYTES)
        if data is None:
            self.notes.append(f"texture {str(image.get('uri'))[:80]!r} is not beside {self.path.name}: read without it")
            return None
        if data[:12] == b"\xabKTX 20\xbb\r\n\x1a\n":
            self.notes.append("texture in KTX2 is not read: read without it; export with PNG or JPEG")
            return None
        return read_rgb(data, name, max_size=MAX_TEXTURE_SIZE)
