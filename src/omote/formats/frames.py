"""Several depth frames of one head: a folder of frames, or a Record3D recording.

A folder holds one of::

    TURN/frame_01/, TURN/frame_02/ …                    a frame's folder each (`omote.formats.frame`)
    TURN/frame_01.json, TURN/frame_02.json …            a frame's JSON file each, which names its images
    TURN/intrinsics.json, TURN/color/*, TURN/depth/*    one camera for all; images are paired by their order

in the order of their names, numbers in them counted as numbers. A frame may bring its pose: a rigid ``cam_from_world`` or
``world_from_cam`` in millimetres, four rows of four numbers, OpenCV axes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float

from omote.errors import ScanError
from omote.formats.archive import Recording
from omote.formats.frame import CAMERA_FILES, find_frame_json, read_frame, read_pose
from omote.formats.read import MIN_POINTS, read_with_report
from omote.formats.source import Source, open_regular
from omote.types import Rgbd

# Of longer turns, as many as these are taken, evenly: more do not help a head's surface, and each takes time.
MOST_FRAMES = 24
_MOST_ENTRIES = 5_000
_COLORS, _DEPTHS = ("color", "colour", "rgb", "image"), ("depth",)

_Reader = Callable[[], tuple[Rgbd, Float[np.ndarray, "4 4"] | None, Sequence[str]]]


@dataclass(frozen=True, kw_only=True)
class ReadFrames:
    """Frames of one head, in order.

    Attributes:
        frames: depth frames by name, each in its own camera's axes.
        cam_from_world: poses that the files give, by name; empty if any frame has none.
        found: number of frames in the folder or recording.
        notes: sentences on what was left out or interpreted in an unexpected way.
    """

    frames: Mapping[str, Rgbd]
    cam_from_world: Mapping[str, Float[np.ndarray, "4 4"]]
    found: int
    notes: tuple[str, ...]


def holds_frames(path: Path) -> bool:
    """Whether a path is a folder of several frames, as far as its files' names tell."""
    return path.is_dir() and len(_listed(path)) > 1


def read_frames(path: Path | str, *, most: int = MOST_FRAMES) -> ReadFrames:
    """Read the frames of a folder or a recording (``.r3d``); frames that cannot be read are left out, with a note.

    Args:
        path: folder of frames, or a recording.
        most: largest number of frames that are read, evenly spaced.

    Raises:
        ScanError: there are fewer than two frames, or fewer than two that can be read.
    """
    path = Path(path)
    if path.is_dir():
        return _gathered(path, _listed(path), most)
    if path.suffix.lower() != ".r3d":
        what = "another file" if path.exists() else "no such file or folder"
        raise ScanError(f"{path}: expected a folder of depth frames or a Record3D recording (.r3d), got {what}")
    with open_regular(path) as file:
        size = path.stat().st_size
        recording = Recording(Source(path=path, file=file, size=size, paid_bytes=size))
        readers = {f"frame {n}": partial(_recorded, recording, n) for n in range(recording.num_frames)}
        return _gathered(path, readers, most)


def _gathered(path: Path, readers: Mapping[str, _Reader], most: int) -> ReadFrames:
    if len(readers) < 2:
        raise ScanError(
            f"{path}: expected at least 2 depth frames (a folder each, a JSON file each, or intrinsics.json with color/ and "
            f"depth/), got {len(readers)}"
        )
    names, notes = list(readers), list[str]()
    if len(names) > most:
        notes.append(f"{most} of {len(names):,} frames are taken, evenly")
        names = [names[round(k)] for k in np.linspace(0, len(names) - 1, most)]
    frames: dict[str, Rgbd] = {}
    poses: dict[str, Float[np.ndarray, "4 4"]] = {}
    refusal = ""
    for name in names:
        try:
            frames[name], pose, told = readers[name]()
        except ScanError as error:
            refusal = str(error)
            notes.append(f"{name} is left out: {error}")
            continue
        notes += [note for note in told if note not in notes]
        if pose is not None:
            poses[name] = pose
    if len(frames) < 2:
        raise ScanError(f"{path}: expected at least 2 frames that can be read, got {len(frames)} ({refusal})")
    if 0 < len(poses) < len(frames):
        notes.append(f"only {len(poses)} of {len(frames)} frames give their pose: none of these is used")
        poses = {}
    return ReadFrames(frames=frames, cam_from_world=poses, found=len(readers), notes=tuple(notes))


def _listed(folder: Path) -> dict[str, _Reader]:
    """Readers of a folder's frames by name, in order."""
    entries = [entry for entry, _ in zip(folder.iterdir(), range(_MOST_ENTRIES), strict=False)]
    entries = sorted((e for e in entries if not e.name.startswith(".")), key=_order)
    shared = find_frame_json(folder)
    if shared is None or shared.name not in CAMERA_FILES:  # another JSON file may be a report
        inside = [(e.name, found) for e in entries if e.is_dir() and (found := find_frame_json(e)) is not None]
        if inside:
            return {name: partial(_of_json, found) for name, found in inside}
    if shared is not None:
        colors, depths = (_images(entries, names) for names in (_COLORS, _DEPTHS))
        if len(colors) == len(depths):
            pairs = zip(colors, depths, strict=True)
            return {f"{d.parent.name}/{d.name}": partial(_of_images, shared, c, d) for c, d in pairs}
        return {}
    files = [e for e in entries if e.suffix.lower() == ".json" and e.is_file()]
    return {e.name: partial(_of_json, e) for e in files}


def _order(path: Path) -> list[tuple[int, int, str]]:
    """Key that sorts frame_2 before frame_10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", path.name.lower())]


def _images(entries: Sequence[Path], names: Sequence[str]) -> list[Path]:
    """Files of the first folder of one of these names."""
    folder = next((e for name in names for e in entries if e.name.lower() == name and e.is_dir()), None)
    if folder is None:
        return []
    files = [f for f, _ in zip(folder.iterdir(), range(_MOST_ENTRIES), strict=False)]
    return sorted((f for f in files if f.is_file() and not f.name.startswith(".")), key=_order)


def _of_json(path: Path) -> tuple[Rgbd, Float[np.ndarray, "4 4"] | None, Sequence[str]]:
    frame, report = read_with_report(path)
    if not isinstance(frame, Rgbd):
        raise ScanError(f"{path.name}: expected a depth frame, got a {report.kind}")
    return frame, read_pose(path), report.notes


def _of_images(path: Path, color: Path, depth: Path) -> tuple[Rgbd, Float[np.ndarray, "4 4"] | None, Sequence[str]]:
    with open_regular(path) as file:
        size = path.stat().st_size
        source = Source(path=path, file=file, size=size, paid_bytes=size)
        images = {"color": f"{color.parent.name}/{color.name}", "depth": f"{depth.parent.name}/{depth.name}"}
        frame = read_frame(source, images=images)
    return _enough(frame, depth.name), None, tuple(source.notes)


def _recorded(recording: Recording, number: int) -> tuple[Rgbd, Float[np.ndarray, "4 4"] | None, Sequence[str]]:
    frame = recording.frame(number)
    return _enough(frame, f"frame {number}"), recording.cam_from_world(number), tuple(recording.source.notes)


def _enough(frame: Rgbd, name: str) -> Rgbd:
    if (count := int(frame.mask.sum())) < MIN_POINTS:
        raise ScanError(f"{name}: expected at least {MIN_POINTS:,} pixels with depth, got {count:,}")
    return frame
