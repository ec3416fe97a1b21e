"""Zip archives that hold a scan with its textures, and Record3D's recordings (``.r3d``)."""

from __future__ import annotations

import json
import stat
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from omote.errors import ScanError
from omote.formats.frame import CAMERA_FILES, MAX_FRAME_PIXELS, camera_matrix, checked_number, framed, read_color
from omote.formats.npz import DAMAGED, open_member, open_zip
from omote.formats.source import Source, open_regular
from omote.types import Rgbd

_MESHES = (".glb", ".gltf", ".obj", ".ply", ".wrl", ".stl", ".off", ".coff")
_POINTS = (".pcd", ".npz", ".xyz", ".pts", ".asc", ".csv", ".txt")
# Depth sizes of Record3D's sensors (LiDAR, TrueDepth), for recordings that do not state theirs.
_DEPTH_SIZES = ((192, 256), (480, 640), (360, 640), (144, 256), (720, 960))
_MAX_METADATA_BYTES = 16 << 20
_MAX_RECORDED = 20_000  # entries of a recording: three a frame, 60 frames a second


@contextmanager
def unpacked(source: Source) -> Iterator[Source]:
    """Unpack an archive while the context is open, and yield the scan in it.

    Raises:
        ScanError: the archive is damaged, holds no scan or several, or unpacks to far more than its own size.
    """
    archive = open_zip(source)
    entries = [info for info in archive.infolist() if _is_wanted(info)]
    chosen = _chosen([info.filename for info in entries], source)
    with tempfile.TemporaryDirectory(prefix="omote-") as folder:
        for info in entries:
            target = Path(folder, *_parts(info.filename))
            source.claim("bytes", info.file_size, because="unpacked")
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with open_member(archive, info) as member, target.open("wb") as out:
                    while block := member.read(1 << 20):
                        out.write(block)
            except DAMAGED as error:
                why = (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split())[:80]
                raise ScanError(f"{source.path.name}: {info.filename[:60]!r} cannot be unpacked ({why})") from None
        path = Path(folder, *_parts(chosen))
        with open_regular(path) as file:
            # Archives keep images in a folder of their own, beside that of the scan.
            folders = (Path(folder), *sorted(p for p in Path(folder).rglob("*") if p.is_dir()))
            yield replace(source, path=path, file=file, size=path.stat().st_size, in_archive=True, folders=folders)


def _parts(name: str) -> tuple[str, ...]:
    return PurePosixPath(name.replace("\\", "/")).parts


def _is_wanted(info: zipfile.ZipInfo) -> bool:
    """Whether an entry is a named, plain file inside the archive: no link, no path out of it, none of macOS's extra files."""
    path = PurePosixPath(*_parts(info.filename))
    kind = stat.S_IFMT(info.external_attr >> 16)
    inside = (
        not path.is_absolute() and ".." not in path.parts and ":" not in info.filename and "\0" not in info.filename
    )
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    # An entry may have no name at all, for which `ZipInfo.is_dir` raises.
    named = bool(path.parts) and not info.filename.endswith(("/", "\\")) and len(info.filename) < 1000
    return inside and not hidden and named and kind in (0, stat.S_IFREG)


def _chosen(names: Sequence[str], source: Source) -> str:
    for suffix in (*_MESHES, *CAMERA_FILES, *_POINTS):
        found = [n for n in names if n.lower().endswith(suffix)]
        if len(found) > 1:
            raise ScanError(
                f"{source.path.name}: expected one scan in the archive, got {len(found)} ({', '.join(found[:3])[:100]}); "
                "unpack it and give one"
            )
        if found:
            return found[0]
    raise ScanError(
        f"{source.path.name}: expected a scan in the archive, found {', '.join(names[:5])[:100] or 'nothing'}; "
        "pack an OBJ with its images, a GLB or a frame"
    )


def read_r3d(source: Source) -> Rgbd:
    """Read the first frame of a Record3D recording.

    Raises:
        ScanError: the recording is damaged, or holds no frame.
    """
    recording = Recording(source)
    if recording.num_frames > 1:
        source.note(f"the first of {recording.num_frames:,} frames is read; `omote fuse` makes one scan of all")
    return recording.frame(0)


class Recording:
    """A Record3D recording, whose frames are read one by one.

    Layout: a zip archive with ``metadata`` (JSON: ``w h K dw dh perFrameIntrinsicCoeffs poses`` …), ``rgbd/0.jpg`` and
    ``rgbd/0.depth`` and so on: float32 metres compressed with LZFSE; NaN and 0 mean no depth. ``K`` is stored by columns, in
    pixels of the colour image. A pose is a quaternion (x, y, z, w) and a position in metres, world from camera, in the axes of
    ARKit's cameras (y up, z backwards).

    Attributes:
        source: the recording's file.
        num_frames: number of frames.

    Raises:
        ScanError: the recording is damaged.
    """

    def __init__(self, source: Source) -> None:
        self.source, self._archive = source, open_zip(source, most=_MAX_RECORDED)
        self.num_frames = len([n for n in self._archive.namelist() if n.endswith(".depth")])
        self._metadata = self._read_metadata()

    def frame(self, number: int) -> Rgbd:
        """Read a frame, counted from 0.

        Raises:
            ScanError: it is missing or damaged.
        """
        metadata, source, name = self._metadata, self.source, self.source.path.name
        raw = _depth_bytes(self._content(f"rgbd/{number}.depth", 64 << 20), source)
        width, height = (int(checked_number(source, k, metadata.get(k))) for k in ("w", "h"))
        if width < 1 or height < 1:
            raise ScanError(f"{name}: expected a width and height over 0, got {width} × {height}")
        depth_size = _depth_size(metadata, len(raw) // 4, (width, height), source)
        depth = np.frombuffer(raw, "<f4", depth_size[0] * depth_size[1]).reshape(depth_size[1], depth_size[0])

        own = self._of_frame("perFrameIntrinsicCoeffs", number, 4)
        if own is not None:
            fx, fy, cx, cy = own[:4]
        else:
            fx, fy, cx, cy = camera_matrix(source, "K", metadata.get("K"))
        if fx <= 0.0 or fy <= 0.0:
            raise ScanError(f"{name}: expected focal lengths over 0, got {fx:g}, {fy:g}")

        image = self._content(f"rgbd/{number}.jpg", 64 << 20)
        rgb = read_color(image, f"rgbd/{number}.jpg", depth_size, source)
        scale = np.diag([depth_size[0] / width, depth_size[1] / height, 1.0])
        return framed(rgb, depth, 1000.0, scale @ np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]]), [])

    def cam_from_world(self, number: int) -> Float[np.ndarray, "4 4"] | None:
        """Pose of a frame in mm, OpenCV axes; None if the recording has none that is one."""
        own = self._of_frame("poses", number, 7)
        if own is None or len(own) != 7 or not 0.9 < float(np.linalg.norm(own[:4])) < 1.1:
            return None
        world = np.eye(4)
        world[:3, :3] = Rotation.from_quat(own[:4]).as_matrix() @ np.diag([1.0, -1.0, -1.0])
        world[:3, 3] = 1000.0 * np.array(own[4:])
        return np.asarray(np.linalg.inv(world))

    def _of_frame(self, key: str, number: int, least: int) -> list[float] | None:
        """The numbers of a frame in a list with a row a frame, or None."""
        rows = self._metadata.get(key)
        row = rows[number] if isinstance(rows, list) and number < len(rows) else None
        if not isinstance(row, list) or len(row) < least:
            return None
        return [checked_number(self.source, key, value) for value in row]

    def _read_metadata(self) -> dict[str, Any]:
        name = self.source.path.name
        try:
            metadata: Any = json.loads(self._content("metadata", _MAX_METADATA_BYTES).decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise ScanError(f"{name}: expected JSON metadata, got a syntax error ({str(error)[:80]})") from None
        if not isinstance(metadata, dict):
            raise ScanError(f"{name}: expected a JSON object as metadata, got a {type(metadata).__name__}")
        known = {
            "w", "h", "dw", "dh", "K", "perFrameIntrinsicCoeffs", "poses", "initPose", "fps", "frameTimestamps", "cameraType",
        }  # fmt: skip
        if unused := sorted(set(metadata) - known):
            self.source.note(f"keys not used: {', '.join(unused)[:200]}")
        return metadata

    def _content(self, name: str, most: int) -> bytes:
        try:
            info = self._archive.getinfo(name)
            if info.file_size > most:
                raise ValueError(f"{info.file_size:,} bytes")
            with open_member(self._archive, info) as member:
                return member.read(most)
        except DAMAGED as error:
            why = " ".join(str(error).split())[:80]
            raise ScanError(
                f"{self.source.path.name}: expected {name!r} in the recording ({why}); export it again"
            ) from None


def _depth_bytes(data: bytes, source: Source) -> bytes:
    if data[:3] != b"bvx":  # stored uncompressed
        return data
    from omote.formats.foreign import unpack_lzfse

    return unpack_lzfse(data, source)


def _depth_size(metadata: dict[str, Any], count: int, color: tuple[int, int], source: Source) -> tuple[int, int]:
    """Width and height of the depth image."""
    size: tuple[int, int] | None = None
    if metadata.get("dw") is not None and metadata.get("dh") is not None:
        size = int(checked_number(source, "dw", metadata["dw"])), int(checked_number(source, "dh", metadata["dh"]))
    else:
        for short, long in _DEPTH_SIZES:
            if short * long == count:
                size = (short, long) if color[0] < color[1] else (long, short)
    if size is None or min(size) < 1 or size[0] * size[1] != count or count > MAX_FRAME_PIXELS:
        raise ScanError(f"{source.path.name}: expected depth of the size that the metadata says, got {count:,} pixels")
    return size
