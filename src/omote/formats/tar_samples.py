"""Scans in the tars of a WebDataset: the files of a sample share everything before the first dot of their names.

anna.obj  anna.mtl  anna.png  anna.json        one scan with its material and texture
ben.color.png  ben.depth.png  ben.intrinsics.json        one RGB-D frame
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from omote.errors import ScanError
from omote.files import reading
from omote.formats.limits import MAX_FILE_BYTES

# Suffixes of scans, the likeliest first; any other file of a sample is a texture, a label or a description.
SCANS = (
    ".glb", ".gltf", ".obj", ".ply", ".wrl", ".stl", ".off", ".coff", ".usdz", ".zip", ".r3d", ".npz", ".pcd", ".xyz", ".pts",
    ".asc",
)  # fmt: skip
FRAMES = ("intrinsics.json", "camera.json")
MOST_FILES = 64  # of a sample


@lru_cache(maxsize=4)
def samples(tar: Path) -> Mapping[str, Sequence[tarfile.TarInfo]]:
    """The samples of a tar with a scan: their members by key, in the order of the tar.

    Raises:
        ScanError: it is no tar.
    """
    with (
        reading(tar, ScanError, "no whole tar", "fetch it or pack it again"),
        tarfile.open(tar, errors="surrogateescape") as archive,
    ):
        found: dict[str, list[tarfile.TarInfo]] = {}
        for member in archive:
            if member.isreg() and not any(part.startswith(".") for part in PurePosixPath(member.name).parts):
                found.setdefault(_key(member.name), []).append(member)
    return {key: members for key, members in found.items() if _scan_of(key, members) is not None}


@contextmanager
def unpacked_sample(tar: Path, key: str, folder: Path) -> Iterator[Path]:
    """Unpack a sample while the context is open, and yield the path of its scan.

    Args:
        tar: path of the tar.
        key: key of the sample.
        folder: folder in which a temporary one is made.

    Raises:
        ScanError: there is no such sample, it is damaged, or larger than a scan may be.
    """
    members = samples(tar).get(key)
    if members is None:
        raise ScanError(f"{tar.name}: expected the scan {key[-80:]!r}, found none; the tar has changed")
    if len(members) > MOST_FILES or sum(member.size for member in members) > MAX_FILE_BYTES:
        raise ScanError(
            f"{tar.name}: expected at most {MOST_FILES} files of {MAX_FILE_BYTES:,} bytes in {key[-80:]!r}, got "
            f"{len(members)} of {sum(member.size for member in members):,}; thin the scan first"
        )
    names = {member.name: _file_name(key, member.name, members) for member in members}
    with TemporaryDirectory(dir=folder, prefix=".sample-") as place:
        for member in members:
            with Path(place, names[member.name]).open("wb") as file:
                for block in _blocks(tar, member):
                    file.write(block)
        scan = _scan_of(key, members)
        assert scan is not None
        yield Path(place, names[scan])


def _blocks(tar: Path, member: tarfile.TarInfo) -> Iterator[bytes]:
    with tar.open("rb") as file:
        file.seek(member.offset_data)
        left = member.size
        while left:
            block = file.read(min(left, 1 << 20))
            if not block:
                raise ScanError(f"{tar.name}: not a whole tar; fetch it or pack it again")
            yield block
            left -= len(block)


def _key(name: str) -> str:
    folder, _, file = name.rpartition("/")
    return f"{folder}/{file.partition('.')[0]}".removeprefix("./").lstrip("/")


def _extension(name: str) -> str:
    return name.rpartition("/")[2].partition(".")[2]


def _scan_of(key: str, members: Sequence[tarfile.TarInfo]) -> str | None:
    """Name of the member that is read as the scan."""
    names = [member.name for member in members]
    for wanted in (*SCANS, *FRAMES):
        for name in names:
            if f".{_extension(name)}".lower().endswith(wanted):
                return name
    return None


def _file_name(key: str, name: str, members: Sequence[tarfile.TarInfo]) -> str:
    """Name of a member's file: its own, or without the key for frames, whose images are found by their names."""
    if any(_extension(member.name) in FRAMES for member in members):
        return _extension(name)
    return name.rpartition("/")[2].replace("\\", "_")
