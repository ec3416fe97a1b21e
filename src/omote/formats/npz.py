"""NPZ with documented keys; nothing is unpickled or executed, and sizes are checked before memory is allocated.

Keys, in any case: ``points``, ``vertices``, ``verts``, ``xyz`` or ``positions`` (n, 3), any real type; optional ``faces`` or
``triangles`` (m, 3) integers, ``colors``, ``rgb`` or ``vertex_colors`` (n, 1, 3 or 4) as bytes, wider integers or floats, and
``normals`` (n, 3). Six columns of points are a position and a colour or normal. The report names other keys.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from math import prod
from pathlib import Path
from typing import IO

import numpy as np

from omote.errors import ScanError
from omote.formats.colors import unit_colors
from omote.formats.limits import RawScan, check_faces
from omote.formats.source import Source

_KEYS = {
    "points": ("points", "vertices", "verts", "xyz", "positions", "pos", "pointcloud", "pc"),
    "faces": ("faces", "triangles", "tris", "f"),
    "colors": ("colors", "colours", "color", "rgb", "rgba", "vertex_colors", "vertexcolors"),
    "normals": ("normals", "vertex_normals"),
}
_MAX_ENTRIES = 1000
Opened = IO[bytes] | io.BufferedIOBase  # zipfile's files are not declared as IO
_MAX_HEADER_BYTES = 10_000
# Exceptions that zipfile raises on damaged archives.
DAMAGED = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError, KeyError, struct.error,
    IndexError, UnicodeError, OverflowError,
)  # fmt: skip
_DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")
_HEADER = re.compile(
    r"\s*\{\s*(?P<items>(?:'(?:descr|fortran_order|shape)'\s*:\s*(?:'[^']{0,8}'|True|False|\([0-9L, ]*\))\s*(?:,\s*)?){3})\}\s*"
)
_ITEM = re.compile(r"'(descr|fortran_order|shape)'\s*:\s*('[^']{0,8}'|True|False|\([0-9L, ]*\))")


def read_npz(source: Source) -> RawScan:
    """Read an NPZ file.

    Raises:
        ScanError: the file is damaged, a key is missing or has a wrong shape, or an array is too large.
    """
    path = source.path
    archive = open_zip(source)
    names = {n.removesuffix(".npy"): n for n in archive.namelist() if n.endswith(".npy")}

    found: dict[str, str] = {}
    for kind, keys in _KEYS.items():
        match = [name for key in keys for name in names if name.lower() == key]
        if match:
            found[kind] = match[0]

    if "points" not in found:
        listed = ", ".join(sorted(archive.namelist())[:8])
        raise ScanError(f"{path.name}: expected an array named 'points' or 'vertices', found {listed[:200] or 'none'}")
    if left := sorted(set(names) - set(found.values())):
        source.note(f"arrays not read: {', '.join(left)[:200]}")

    arrays = {kind: read_member(archive, name, source) for kind, name in found.items()}
    points = arrays["points"]
    if points.ndim == 2 and points.shape[1] in (4, 6, 7, 9) and "colors" not in arrays and points.dtype.kind in "iuf":
        return _columns(points.astype(np.float64), arrays.get("faces"), source)

    for kind, array in arrays.items():
        widths = (1, 3, 4) if kind == "colors" else (3,)
        if kind == "colors" and array.ndim == 1:
            array = arrays["colors"] = array[:, None]
        rows = None if kind in ("points", "faces") else len(points)
        if array.ndim != 2 or array.shape[1] not in widths or rows not in (None, len(array)):
            wanted = f"({'n' if rows is None else rows}, {' or '.join(map(str, widths))})"
            raise ScanError(f"{path.name}: expected {found[kind]!r} of shape {wanted}, got {array.shape}")
        if array.dtype.kind not in ("iu" if kind == "faces" else "iuf"):
            raise ScanError(f"{path.name}: expected {found[kind]!r} to hold numbers, got {array.dtype}")

    source.claim("points", len(points))
    colors, normals = arrays.get("colors"), arrays.get("normals")
    return RawScan(
        points=points.astype(np.float64),
        faces=_faces(arrays.get("faces"), len(points), source),
        colors=None if colors is None else unit_colors(colors, source.note),
        normals=None if normals is None else normals.astype(np.float64),
    )


def _faces(faces: np.ndarray | None, num_points: int, source: Source) -> np.ndarray | None:
    if faces is None:
        return None
    source.claim("faces", len(faces))
    if faces.dtype == np.uint64:
        faces = np.minimum(faces, np.uint64(1 << 62))
    return check_faces(source.path, faces.astype(np.int64), num_points)


def _columns(rows: np.ndarray, faces: np.ndarray | None, source: Source) -> RawScan:
    """Points with more columns than a position, interpreted like the columns of a text table."""
    from dataclasses import replace

    from omote.formats.tables import guessed

    source.claim("points", len(rows))
    if faces is not None and (faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu"):
        raise ScanError(f"{source.path.name}: expected faces of shape (m, 3), got {faces.shape} of {faces.dtype}")
    return replace(guessed(rows, source), faces=_faces(faces, len(rows), source))


def open_zip(source: Source, *, most: int = _MAX_ENTRIES) -> zipfile.ZipFile:
    """Open the scan's file as a zip archive with a limited number of entries.

    Raises:
        ScanError: the archive is damaged, or has too many entries.
    """
    try:
        archive = zipfile.ZipFile(source.file)
        count = len(archive.infolist())
    except DAMAGED as error:
        raise ScanError(f"{source.path.name}: the zip is damaged ({_one_line(error)}); save it again") from None
    if count > most:
        raise ScanError(f"{source.path.name}: expected at most {most:,} entries in the zip, got {count:,}")
    return archive


def open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Opened:
    """Open an entry that is stored or deflated; other compressions use unlimited memory.

    Raises:
        ValueError: the entry has another compression.
    """
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{info.filename[:40]!r} is neither stored nor deflated")
    return archive.open(info)


def read_member(archive: zipfile.ZipFile, key: str, source: Source) -> np.ndarray:
    """Read one array of an NPZ file, claimed from the scan's budget before it is allocated.

    Raises:
        ScanError: the array is damaged, too large, or made of pickled objects.
    """
    path = source.path
    try:
        info = archive.getinfo(f"{key}.npy")
        source.claim("bytes", min(info.file_size, 1 << 50), because=f"in the array {key!r}")
        with open_member(archive, info) as member:
            return read_array(member, info.file_size, key, path)
    except DAMAGED as error:
        raise ScanError(
            f"{path.name}: the array {key!r} is damaged ({_one_line(error)}); save the file again"
        ) from None


def read_array(file: Opened, size: int, key: str, path: Path) -> np.ndarray:
    """Read an array in NPY format of at most ``size`` bytes.

    Raises:
        ScanError: the array is too large, truncated, or made of pickled objects.
        ValueError: the header is damaged.
    """
    shape, fortran, dtype = _read_header(file, key, path)
    count = prod(shape)
    if count * dtype.itemsize > size:
        raise ScanError(
            f"{path.name}: {key!r} claims {count:,} numbers, its {size:,} bytes hold {size // dtype.itemsize:,} at most; "
            "save the file again"
        )
    data = file.read(count * dtype.itemsize)
    if len(data) < count * dtype.itemsize:
        raise ScanError(f"{path.name}: {key!r} is truncated; copy or save the file again")
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    return array.astype(dtype.newbyteorder("="))


def _read_header(file: Opened, key: str, path: Path) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read the header of an NPY file: shape, Fortran order and type. Only the literals that NumPy writes are understood.

    Source: numpy/lib/format.py, format versions 1.0 to 3.0.
    """
    magic = file.read(8)
    if magic[:6] != b"\x93NUMPY" or len(magic) < 8 or magic[6] not in (1, 2, 3):
        raise ValueError("no NPY header")
    length = int.from_bytes(file.read(2 if magic[6] == 1 else 4), "little")
    if length > _MAX_HEADER_BYTES:
        raise ValueError(f"a header of {length:,} bytes")
    text = file.read(length).decode("latin-1")
    match = _HEADER.fullmatch(text)
    items = dict(_ITEM.findall(match["items"])) if match else {}
    descr, order, shape = items.get("descr", ""), items.get("fortran_order", ""), items.get("shape", "")
    if "'|O'" in text or (descr and not _DTYPE.fullmatch(descr.strip("'"))):
        raise ScanError(
            f"{path.name}: expected {key!r} to hold plain numbers, got {descr or 'objects'}; save it without objects"
        )
    if not descr or order not in ("True", "False") or not shape.startswith("("):
        raise ValueError(f"header {text[:40]!r}")
    dimensions = tuple(int(n.strip().rstrip("L")) for n in shape[1:-1].split(",") if n.strip())
    if len(dimensions) > 8 or any(n >= 1 << 40 for n in dimensions):
        raise ValueError(f"shape {shape[:40]}")
    return dimensions, order == "True", np.dtype(descr.strip("'"))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:100] or type(error).__name__
