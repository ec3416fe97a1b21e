"""NPZ with documented keys; nothing is unpickled and nothing is allocated before the zip directory backs it.

Keys: ``points`` or ``vertices`` (n, 3), any real type; optional ``faces`` (m, 3) integers, ``colors`` (n, 3) as uint8
or floats in [0, 1], and ``normals`` (n, 3). Other keys are ignored.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from math import prod
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np

from omote.errors import ScanError
from omote.formats.limits import MAX_FACES, MAX_POINTS, RawScan, check_faces, unit_colors

_KEYS = ("points", "vertices", "faces", "colors", "normals")
_MAX_ENTRIES = 1000
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError, KeyError)


def read_npz(file: BinaryIO, path: Path, size: int) -> RawScan:
    """Read an NPZ file.

    Args:
        file: open at the start.
        path: for messages.
        size: of the file in bytes.

    Raises:
        ScanError: damaged, a key is missing or has another shape, or the arrays are too large.
    """
    try:
        archive = zipfile.ZipFile(file)
        names = set(archive.namelist())
    except _DAMAGED as error:
        raise ScanError(f"{path.name}: expected an NPZ file, the zip is damaged ({error}); save it again") from None
    if len(names) > _MAX_ENTRIES:
        raise ScanError(f"{path.name}: expected at most {_MAX_ENTRIES} arrays, got {len(names):,}")
    arrays = {k: read_member(archive, k, path, max_items=3 * MAX_FACES) for k in _KEYS if f"{k}.npy" in names}
    points = arrays.get("points", arrays.get("vertices"))
    if points is None:
        found = ", ".join(sorted(n.removesuffix(".npy") for n in names)[:8])
        raise ScanError(f"{path.name}: expected an array named 'points' or 'vertices', found {found[:200] or 'none'}")
    for key, array in arrays.items():
        expected = "(n, 3)" if key in ("points", "vertices", "faces") else f"({len(points)}, 3)"
        if array.ndim != 2 or array.shape[1] != 3 or (expected != "(n, 3)" and len(array) != len(points)):
            raise ScanError(f"{path.name}: expected {key!r} of shape {expected}, got {array.shape}")
        if array.dtype.kind not in ("iu" if key == "faces" else "iuf"):
            raise ScanError(f"{path.name}: expected {key!r} to hold numbers, got {array.dtype}")
    if len(points) > MAX_POINTS:
        raise ScanError(
            f"{path.name}: expected at most {MAX_POINTS:,} points, got {len(points):,}; thin the scan first"
        )
    faces = arrays.get("faces")
    if faces is not None:
        if faces.dtype == np.uint64:
            faces = np.minimum(faces, np.uint64(1 << 62))
        faces = check_faces(path, faces.astype(np.int64), len(points))
    colors, normals = arrays.get("colors"), arrays.get("normals")
    return RawScan(
        points=points.astype(np.float64),
        faces=faces,
        colors=None if colors is None else unit_colors(colors),
        normals=None if normals is None else normals.astype(np.float64),
    )


def read_member(archive: zipfile.ZipFile, key: str, path: Path, *, max_items: int) -> np.ndarray:
    """One array of an NPZ file, its claimed shape checked against its claimed size, and that against ``max_items``.

    Raises:
        ScanError: damaged, too large, or pickled objects.
    """
    try:
        info = archive.getinfo(f"{key}.npy")
        with archive.open(info) as member:
            return read_array(member, info.file_size, key, path, max_items=max_items)
    except _DAMAGED as error:
        shown = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise ScanError(f"{path.name}: the array {key!r} is damaged ({shown}); save the file again") from None


def read_array(file: IO[bytes] | io.BufferedIOBase, size: int, key: str, path: Path, *, max_items: int) -> np.ndarray:
    """Read an array in NPY format of at most ``size`` bytes.

    Raises:
        ScanError: too large, truncated, or pickled objects.
        ValueError: the header is damaged.
    """
    version = np.lib.format.read_magic(file)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read_header:
        raise ValueError(f"unknown NPY version {version}")
    try:
        shape, fortran, dtype = read_header[version](file)
    except (SyntaxError, TypeError, RecursionError, MemoryError) as error:  # its parser meets arbitrary text
        raise ValueError(f"header ({type(error).__name__})") from None
    if dtype.kind not in "iufb" or any(n < 0 for n in shape):
        raise ScanError(f"{path.name}: expected {key!r} to hold plain numbers, got {dtype}; save it without objects")
    count = prod(shape)
    if count > max_items or count * dtype.itemsize > size:
        raise ScanError(
            f"{path.name}: {key!r} claims {count:,} numbers, expected at most {max_items:,} and no more than its "
            f"{size:,} bytes hold; save the file again"
        )
    data = file.read(count * dtype.itemsize)
    if len(data) < count * dtype.itemsize:
        raise ScanError(f"{path.name}: {key!r} is truncated; copy or save the file again")
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    return array.astype(dtype.newbyteorder("="))
