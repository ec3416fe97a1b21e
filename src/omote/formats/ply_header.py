"""The header of a PLY file: its elements and their properties, read within fixed limits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from jaxtyping import Int

from omote.errors import ScanError

_MAX_LINES, _MAX_LINE_BYTES, _MAX_PROPERTIES, _MAX_TEXTURES = 2000, 4096, 256, 64
_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
_ORDERS: dict[str, Literal["<", ">"] | None] = {"ascii": None, "binary_little_endian": "<", "binary_big_endian": ">"}


@dataclass(frozen=True, kw_only=True)
class List:
    """A list property's values, concatenated over all rows."""

    counts: Int[np.ndarray, " rows"]
    values: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Property:
    """A scalar property, or a list property if ``count_dtype`` is given."""

    name: str
    dtype: np.dtype
    count_dtype: np.dtype | None = None

    @property
    def is_list(self) -> bool:
        """Whether each row has a list of values."""
        return self.count_dtype is not None


@dataclass(frozen=True, kw_only=True)
class Element:
    """A run of ``count`` rows with the same properties."""

    name: str
    count: int
    properties: tuple[Property, ...]

    def least_bytes(self, *, ascii: bool) -> int:
        """Return the smallest size of a row in bytes: a digit and a space per value in ascii, empty lists."""
        if ascii:
            return 2 * len(self.properties) - (1 if len(self.properties) == 1 else 0) or 1
        return sum((p.count_dtype or p.dtype).itemsize for p in self.properties)


@dataclass(frozen=True, kw_only=True)
class Header:
    """The header of a PLY file.

    Attributes:
        order: byte order, or None for ascii.
        elements: the elements in file order.
        textures: names of image files in ``comment TextureFile`` lines.
        num_bytes: size of the header; the data starts there.
    """

    order: Literal["<", ">"] | None
    elements: tuple[Element, ...]
    textures: tuple[bytes, ...]
    num_bytes: int


def read_header(file: BinaryIO, path: Path) -> Header:
    """Read up to and including ``end_header``.

    Raises:
        ScanError: a line is not understood, or the header does not end.
    """
    order: Literal["<", ">"] | None = None
    format_name: object = None
    textures: list[bytes] = []
    names: list[tuple[str, int]] = []
    properties: list[list[Property]] = []
    num_properties = 0

    for _ in range(_MAX_LINES):
        line = file.readline(_MAX_LINE_BYTES)
        words = line.decode("latin-1").split()
        try:
            match words:
                case ["ply"] | ["obj_info", *_]:
                    pass
                case ["comment", *rest]:
                    if rest[:1] == ["TextureFile"] and len(textures) < _MAX_TEXTURES:
                        textures.append(line.split(None, 2)[2:][0].strip() if len(rest) > 1 else b"")
                case ["format", format_name, _]:
                    order = _ORDERS[str(format_name)]
                case ["element", name, count]:
                    names.append((name.lower(), int(count)))
                    properties.append([])
                case ["property", "list", count_type, item_type, name]:
                    count_dtype = np.dtype(_TYPES[count_type])
                    if count_dtype.kind == "f":
                        raise KeyError(count_type)
                    properties[-1].append(
                        Property(name=name.lower(), dtype=np.dtype(_TYPES[item_type]), count_dtype=count_dtype)
                    )
                    num_properties += 1
                case ["property", item_type, name]:
                    properties[-1].append(Property(name=name.lower(), dtype=np.dtype(_TYPES[item_type])))
                    num_properties += 1
                case ["end_header"]:
                    break
                case []:
                    if not line:
                        raise ScanError(f"{path.name}: the PLY header has no 'end_header'; the file is truncated")
                case _:
                    raise ValueError
        except (ValueError, KeyError, IndexError):
            shown = line.decode("latin-1").strip()[:60]
            raise ScanError(f"{path.name}: expected a PLY header line, got {shown!r}; export the scan again") from None
    else:
        raise ScanError(f"{path.name}: expected a PLY header of at most {_MAX_LINES} lines; export the scan again")

    if format_name is None or num_properties > _MAX_PROPERTIES:
        raise ScanError(
            f"{path.name}: expected a PLY header with a format line and at most {_MAX_PROPERTIES} properties; "
            "export the scan again"
        )

    elements = tuple(
        Element(name=name, count=count, properties=tuple(own))
        for (name, count), own in zip(names, properties, strict=True)
    )
    for element in elements:
        distinct = {p.name for p in element.properties}
        if not element.properties or len(distinct) != len(element.properties):
            raise ScanError(f"{path.name}: element {element.name!r} has no or repeated properties; export it again")
    if len({e.name for e in elements}) != len(elements):
        raise ScanError(f"{path.name}: the PLY header names an element twice; export it again")
    return Header(order=order, elements=elements, textures=tuple(filter(None, textures)), num_bytes=file.tell())
