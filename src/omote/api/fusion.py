"""``omote.fuse``: several depth frames of one head → one scan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from omote.api.scans import MadeMesh, load_head
from omote.config import Range, check_ranges
from omote.progress import NOTE, Step, Steps, finish
from omote.runs import Stopwatch, Value, prefixed, run_facts
from omote.types import Mesh


@dataclass(frozen=True, kw_only=True)
class FuseSettings:
    """Settings of the fusion.

    Attributes:
        voxel_mm: edge of the fused volume's voxels, in mm.
        poses: poses that the frames' files give are used where they agree with the surfaces (auto), or not at all (find).
        max_depth_mm: greatest depth that is kept, in mm; without it, walls and furniture are removed automatically.
    """

    voxel_mm: Annotated[float, Range(1, 10)] = 1.5
    poses: Literal["auto", "find"] = "auto"
    max_depth_mm: Annotated[float | None, Range(1), arg(metavar="MM", help_behavior_hint="")] = None

    def __post_init__(self) -> None:
        check_ranges(self)


class FusedScan(MadeMesh):
    """A scan made of several frames: a coloured surface, about upright and facing +z."""

    def summary(self) -> str:
        """Say in one line what was fused."""
        used, found = self.facts["scan/num_frames"], self.facts["scan/num_frames_found"]
        return f"{used} of {found} frames, {len(self.mesh.vertices):,} vertices, poses {self.facts['scan/poses']}"


def fuse(
    frames: Path | str, settings: FuseSettings | None = None, *, on_step: Callable[[Step], None] | None = None
) -> FusedScan:
    """Fuse several depth frames of one head.

    Args:
        frames: folder of frames (`omote.formats.frames`), or a Record3D recording.
        settings: settings of the fusion; the defaults of `FuseSettings` if None.
        on_step: called with progress.

    Raises:
        ScanError: fewer than two frames can be read.
        AlignmentError: no face in any frame, or no two frames that fit each other.
    """
    return finish(_fuse(Path(frames), settings or FuseSettings()), on_step)


def _fuse(path: Path, settings: FuseSettings) -> Steps[FusedScan]:
    watch = Stopwatch()
    mesh, found = yield from fusing(path, settings, watch)
    return FusedScan(mesh=mesh, facts={**prefixed("settings", vars(settings)), **found, **run_facts(watch)})


def fusing(path: Path, settings: FuseSettings, watch: Stopwatch) -> Steps[tuple[Mesh, dict[str, Value]]]:
    """Read and fuse frames; yields a step of stage `omote.progress.NOTE` for each note.

    Returns:
        The scan, and ``scan/...`` facts for the report.

    Raises:
        ScanError, AlignmentError: as in `fuse`.
    """
    from omote.formats.frames import read_frames
    from omote.geometry.foreground import nearer_than

    yield Step(stage="read", note=path.name)
    with watch("read"):
        read = read_frames(path)
    for note in read.notes:
        yield Step(stage=NOTE, note=note)
    frames = read.frames
    if settings.max_depth_mm is not None:
        frames = {name: nearer_than(frame, settings.max_depth_mm) for name, frame in frames.items()}
    with watch("load"):
        from omote.align.turn import fuse_turn, posed_turn

        head = load_head(None)
    with watch("pose"):
        given = read.cam_from_world if settings.poses == "auto" else None
        turn = yield from posed_turn(frames, head, given=given)
    for note in (told := turn.notes()):
        yield Step(stage=NOTE, note=note)
    yield Step(stage="fuse", note=f"{len(turn.canonical_from_camera)} frames")
    with watch("fuse"):
        mesh = fuse_turn(frames, turn, voxel_mm=settings.voxel_mm)
    facts: dict[str, Value] = {
        "format": "frames",
        "kind": "mesh",
        "num_points": len(mesh.vertices),
        "num_faces": len(mesh.faces),
        "has_color": True,
        "num_frames": len(turn.canonical_from_camera),
        "num_frames_found": read.found,
        "poses": turn.source,
        "frames_left_out": ", ".join(turn.left_out),
        "mouth_between_frames_mm": round(turn.mouth_mm, 3),
        "notes": "; ".join((*read.notes, *told)),
    }
    return mesh, prefixed("scan", facts)
