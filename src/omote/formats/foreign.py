"""Formats that need third-party libraries (Draco, meshopt, USDZ, LZFSE), read if ``omote[formats]`` is installed.

These C++ libraries parse untrusted bytes. All but meshopt, which writes into a buffer of known size, therefore run in a
process of their own (`omote.formats.foreign_child`) with limited memory, output and time, so that a malicious file cannot
harm the caller.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from omote.errors import ScanError
from omote.formats.colors import srgb
from omote.formats.limits import RawScan, check_faces, fan
from omote.formats.materials import Material, Surface, merged
from omote.formats.npz import DAMAGED, open_member, open_zip, read_member
from omote.formats.source import Source

_MODULES = {"draco": "DracoPy", "meshopt": "meshopt", "usd": "pxr", "lzfse": "lzfse"}
_MEMORY_MB = 700
_SECONDS = 8  # limit of processor time, plus one second for each megabyte
_PATIENCE = 10  # limit of wall-clock time as a multiple of processor time, for busy machines
_MISSING, _REFUSED, _MEMORY = 3, 4, 5  # exit codes of the child


def need(kind: str, what: str, source: Source) -> None:
    """Refuse a scan whose library is not installed.

    Raises:
        ScanError: the library is missing.
    """
    if importlib.util.find_spec(_MODULES[kind]) is None:
        raise ScanError(
            f"{source.path.name}: {what} needs the library {_MODULES[kind]}; pip install 'omote[formats]', or export without it"
        )


def unpack_meshopt(data: bytes, count: int, stride: int, mode: str, filtered: str, source: Source) -> bytes:
    """Unpack a buffer view of EXT_meshopt_compression.

    Raises:
        ScanError: not installed, or the data is damaged.
    """
    need("meshopt", "compression with meshopt", source)
    import meshopt

    try:
        values = meshopt.decode_gltf_buffer(data, count, stride, mode, None if filtered == "NONE" else filtered)
    except (ValueError, RuntimeError, TypeError, OverflowError) as error:
        raise ScanError(
            f"{source.path.name}: the meshopt data is damaged ({str(error)[:80]}); export it again"
        ) from None
    unpacked = np.ascontiguousarray(values).tobytes()
    if len(unpacked) != count * stride:
        raise ScanError(f"{source.path.name}: expected {count * stride:,} bytes of meshopt data, got {len(unpacked):,}")
    return unpacked


def unpack_draco(streams: list[bytes], source: Source) -> list[dict[str, np.ndarray]]:
    """Unpack Draco meshes: ``faces``, and each attribute under its id.

    Raises:
        ScanError: not installed, or the data is damaged.
    """
    need("draco", "compression with Draco", source)
    with _child("draco", streams, source) as archive:
        out: list[dict[str, np.ndarray]] = [{} for _ in streams]
        for name in archive.namelist():
            number, _, key = name.removesuffix(".npy").partition(".")
            out[int(number)][key] = read_member(archive, name.removesuffix(".npy"), source)
    return out


def unpack_lzfse(data: bytes, source: Source) -> bytes:
    """Unpack LZFSE, Record3D's compression of depth.

    Raises:
        ScanError: not installed, or the data is damaged.
    """
    need("lzfse", "Record3D's depth", source)
    with _child("lzfse", [data], source) as archive:
        return read_member(archive, "0", source).tobytes()


def read_usdz(source: Source) -> RawScan:
    """Read a USDZ package: its meshes in world coordinates, display colours and diffuse textures.

    Raises:
        ScanError: the library is not installed, or the package is damaged or refers to files outside of it.
    """
    need("usd", "USDZ", source)
    path = source.path
    package = open_zip(source)

    with _child("usd", [], source) as archive:
        arrays = {
            name.removesuffix(".npy"): read_member(archive, name.removesuffix(".npy"), source)
            for name in archive.namelist()
        }
    meta = json.loads(bytes(arrays.pop("meta")))
    materials = [
        Material(color=_color(m["color"]), image=_packed_image(package, m["image"], source)) for m in meta["materials"]
    ]

    points, faces, colors, uv, faces_uv, owner = [], [], [], [], [], []
    num_points = num_uv = 0
    for k in range(meta["parts"]):
        vertices = arrays[f"{k}.points"].astype(np.float64)
        source.claim("points", len(vertices))
        counts = np.maximum(arrays[f"{k}.counts"], 0)
        source.claim("faces", int(np.maximum(counts.astype(np.int64) - 2, 0).sum()))
        indices = arrays[f"{k}.indices"].astype(np.int64)
        if int(counts.sum()) != len(indices):
            raise ScanError(f"{path.name}: expected {int(counts.sum()):,} corners of faces, got {len(indices):,}")

        picks, polygon = fan(counts)
        faces.append(check_faces(path, indices, len(vertices))[picks].reshape(-1, 3) + num_points)
        owner.append(arrays[f"{k}.material"][polygon])
        linear = np.broadcast_to(arrays[f"{k}.colors"], (len(vertices), 3))
        colors.append(np.where(np.isnan(linear), np.float32(np.nan), srgb(linear)))

        own_uv = arrays.get(f"{k}.uv")
        if own_uv is None or len(own_uv) not in (len(vertices), len(indices)):
            faces_uv.append(np.full(picks.shape, -1))
        else:
            corners = indices if len(own_uv) == len(vertices) else np.arange(len(indices))
            faces_uv.append(corners[picks] + num_uv)
            uv.append(own_uv.astype(np.float64))
            num_uv += len(own_uv)

        points.append(vertices)
        num_points += len(vertices)

    if not num_points:
        raise ScanError(f"{path.name}: expected a USDZ with a mesh, found none; export the scan again")
    all_colors = np.concatenate(colors)
    surface = Surface(
        points=np.concatenate(points),
        faces=np.concatenate(faces),
        colors=None if np.isnan(all_colors).all() else all_colors,
        uv=np.concatenate(uv) if uv else np.empty((0, 2)),
        faces_uv=np.concatenate(faces_uv),
        materials=materials,
        face_material=np.concatenate(owner),
    )
    return merged(surface, source)


def _color(linear: list[float]) -> tuple[float, float, float]:
    red, green, blue = srgb(np.array(linear, np.float64)).tolist()
    return red, green, blue


def _packed_image(package: zipfile.ZipFile, name: str, source: Source) -> bytes | None:
    if not name:
        return None
    try:
        info = package.getinfo(name)
        source.claim("bytes", info.file_size, because="of textures")
        with open_member(package, info) as member:
            return member.read(info.file_size)
    except DAMAGED as error:
        source.note(f"texture {name!r} cannot be read ({str(error)[:60]}): read without it")
        return None


@contextmanager
def _child(kind: str, inputs: list[bytes], source: Source) -> Iterator[zipfile.ZipFile]:
    """Unpack in a separate process, and yield the NPZ archive of the arrays that it wrote."""
    most = source.left("bytes")
    with tempfile.TemporaryDirectory(prefix="omote-") as folder:
        packed, out = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(packed, **{str(k): np.frombuffer(data, np.uint8) for k, data in enumerate(inputs)})  # type: ignore[arg-type]
        command = "from omote.formats.foreign_child import main; main()"
        seconds = _SECONDS + source.paid_bytes // 1_000_000
        arguments = [kind, str(source.path.resolve()), str(packed), str(out), str(_MEMORY_MB), str(most), str(seconds)]
        environment = {**os.environ, "PYTHONSAFEPATH": "1", "PXR_WORK_THREAD_LIMIT": "1"}

        name = source.path.name
        try:
            done = subprocess.run(
                [sys.executable, "-c", command, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PATIENCE * seconds,
                env=environment,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ScanError(f"{name}: unpacking it takes too long; export it without compression") from None

        if done.returncode == _REFUSED:
            # Libraries print there, too; the reason is the last line.
            why = next(reversed(done.stderr.decode("utf-8", "replace").split("\n")[:-1]), "")[-200:].strip()
            raise ScanError(f"{name}: {why or 'it is damaged'}; export it again")
        if done.returncode or not out.is_file():
            slow = done.returncode == -getattr(signal, "SIGXCPU", 0)
            why = "needs too much memory" if done.returncode == _MEMORY else "breaks the library that unpacks it"
            why = "takes too long" if slow else why
            raise ScanError(f"{name}: damaged, or too large: it {why}; export it again, without compression")

        with out.open("rb") as file, zipfile.ZipFile(file) as archive:
            yield archive
