"""``omote.read``, ``omote.fit`` and ``omote.render``: functions without a trained editor."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from jaxtyping import Float
from tyro.conf import arg

from omote.config import Range
from omote.errors import ScanError
from omote.files import all_or_nothing, check_distinct, check_file
from omote.formats.landmarks import read_landmarks
from omote.head.model import HeadModel
from omote.pipelines.settings import OptionalHead, ScanSettings
from omote.progress import NOTE, Step, Steps, finish
from omote.runs import Stopwatch, Value, doubts, prefixed, run_facts, write_json
from omote.types import Camera, Mesh, Rgbd, Scan


def read(path: Path | str) -> Scan:
    """Read a scan file, an archive of one, or an RGB-D frame; see `omote.formats.read.read` for the formats.

    Raises:
        ScanError: the file cannot be read.
    """
    from omote.formats.read import read as read_scan

    return read_scan(path)


def reading(scan: Path | str | Scan, *, max_depth_mm: float | None = None) -> Steps[tuple[Scan, dict[str, Value]]]:
    """Read a scan, unless it is read already, or fuse a folder of frames; yields a step of stage `NOTE` for each note.

    Args:
        scan: path of a scan, or the result of `read`.
        max_depth_mm: greatest depth that is kept of a depth frame; None keeps all.

    Returns:
        The scan, and ``scan/...`` facts for the report.

    Raises:
        ScanError: as in `read`; or no depth frame, or no part of it is that near.
        AlignmentError: frames of a folder that do not fit each other.
    """
    from omote.formats.frames import holds_frames

    facts: dict[str, Value] = {}
    if isinstance(scan, Path | str) and holds_frames(Path(scan)):
        from omote.api.fusion import FuseSettings, fusing

        watch = Stopwatch()
        mesh, facts = yield from fusing(Path(scan), FuseSettings(max_depth_mm=max_depth_mm), watch)
        return mesh, {**facts, **{f"time_s/read_{stage}": time for stage, time in watch.stages_s.items()}}
    if isinstance(scan, Path | str):
        from omote.formats.read import read_with_report

        scan, report = read_with_report(scan)
        for note in report.notes:
            yield Step(stage=NOTE, note=note)
        facts = prefixed("scan", vars(report))
    if max_depth_mm is None:
        return scan, facts
    if not isinstance(scan, Rgbd):
        raise ScanError(f"max depth: expected a depth frame, got a {type(scan).__name__}; leave --max-depth-mm out")
    from omote.geometry.foreground import nearer_than

    return nearer_than(scan, max_depth_mm), facts


def opened_landmarks(landmarks: Path | str | np.ndarray | None) -> Float[np.ndarray, "68 3"] | None:
    """Landmarks as an array; a path is read with `read_landmarks`."""
    return read_landmarks(landmarks) if isinstance(landmarks, Path | str) else landmarks


def load_head(head: HeadModel | Path | str | None) -> HeadModel:
    """A head model for an avatar: with its own expression units, or with units transferred by correspondence.

    Args:
        head: a head model, a path of ICT-FaceKit, or None for the shipped head.

    Raises:
        HeadModelError: it is missing or of an unknown layout.
    """
    from omote.head.shipped import shipped_head

    if head is None:
        return shipped_head()
    if not isinstance(head, HeadModel):
        from omote.head.ict import ict_head

        head = ict_head(Path(head))
    if head.has_units:
        return head
    from omote.head.correspondence import with_units_of

    return with_units_of(head, shipped_head())


@dataclass(frozen=True, kw_only=True)
class FitSettings(ScanSettings):
    """Settings of the fit.

    Attributes:
        head: ICT-FaceKit checkout or .npz file of a head model to use instead of the shipped one.
    """

    head: OptionalHead = None


@dataclass(frozen=True, kw_only=True)
class RenderSettings(ScanSettings):
    """Settings of the rendered image.

    Attributes:
        size: side of the image in pixels; the shipped networks use 128.
        yaw_deg: rotation of the camera to the person's left, in degrees.
        pitch_deg: rotation of the camera upwards, in degrees.
    """

    size: Annotated[int, Range(16, 4096)] = 512
    yaw_deg: Annotated[float, Range(-180, 180)] = 0.0
    pitch_deg: Annotated[float, Range(-85, 85)] = 0.0


@dataclass(frozen=True, kw_only=True)
class MeshOutputs:
    """Paths of the output files.

    Attributes:
        mesh: path of the mesh.
        report: path of the report of every estimate, time, memory and version.
    """

    mesh: Annotated[Path, arg(name="out", metavar="FILE.ply|.obj")]
    report: Annotated[Path | None, arg(metavar="FILE.json", help_behavior_hint="")] = None

    def checked(self, source: Path | None = None) -> MeshOutputs:
        """Return itself if all outputs can be written.

        Raises:
            OutputError: a wrong suffix, a missing or read-only folder, or two outputs of the same name.
        """
        check_file(self.mesh, (".ply", ".obj"))
        check_file(self.report, (".json",))
        check_distinct(source, self.mesh, self.report)
        return self


@dataclass(frozen=True, kw_only=True)
class MadeMesh:
    """A mesh and how it was made.

    Attributes:
        mesh: the mesh, mm.
        facts: flat report.
    """

    mesh: Mesh
    facts: dict[str, Value]

    def save(self, path: Path | str) -> None:
        """Write the mesh as PLY or OBJ.

        Raises:
            OutputError: another suffix, or it cannot be written.
        """
        self.save_all(MeshOutputs(mesh=Path(path)).checked())

    def save_all(self, outputs: MeshOutputs) -> None:
        """Write the mesh and the report.

        Raises:
            OutputError: one of the files cannot be written; then none is there.
        """
        from omote.formats.write import save_obj, save_ply

        files = [p for p in (outputs.mesh, outputs.report) if p is not None]
        with all_or_nothing(*files) as temporary:
            save = save_obj if outputs.mesh.suffix.lower() == ".obj" else save_ply
            save(self.mesh, temporary[outputs.mesh])
            if outputs.report is not None:
                write_json(self.facts, temporary[outputs.report])


class FittedHead(MadeMesh):
    """A head model fitted to a scan: its mesh is in the head model's vertex order and the canonical frame."""

    def summary(self) -> str:
        """Say in one line how well it fits."""
        fits = [f"{name} {self.facts[f'fit/{name}_mm']:.2f} mm" for name in ("median", "p90")]
        return ", ".join([f"{len(self.mesh.vertices):,} vertices", *fits, *doubts(self.facts)])


def fit(
    scan: Path | str | Scan, settings: FitSettings | None = None, *, on_step: Callable[[Step], None] | None = None
) -> FittedHead:
    """Find the face in a scan and fit the head model to it.

    Args:
        scan: a file, or what `omote.read` returns.
        settings: settings of the fit; the defaults of `FitSettings` if None.
        on_step: called with progress.

    Raises:
        ScanError: the file cannot be read.
        AlignmentError: no face was found with confidence.
        HeadModelError: a head that does not load.
    """
    return finish(_fit(scan, settings or FitSettings()), on_step)


def _fit(scan: Path | str | Scan, settings: FitSettings) -> Steps[FittedHead]:
    watch = Stopwatch()
    yield Step(stage="read")
    with watch("read"):
        points = opened_landmarks(settings.landmarks)
        scan, about = yield from reading(scan, max_depth_mm=settings.max_depth_mm)
    # A scan that cannot be read is refused before anything slow is imported.
    with watch("load"):
        from omote.align.align import align

        model = load_head(settings.head)
    yield Step(stage="align")
    with watch("align"):
        found = align(scan, head=model, unit=settings.unit, landmarks=points)
    mesh = Mesh(vertices=found.vertices_mm, faces=model.faces, uv=model.uv, faces_uv=model.faces_uv)
    asked = {"unit": settings.unit, "landmarks": "estimated" if points is None else "given", "head": model.name}
    facts = {**prefixed("settings", asked), **about, **found.report(), **run_facts(watch)}
    return FittedHead(mesh=mesh, facts=facts)


def render(
    scan: Path | str | Scan, settings: RenderSettings | None = None, *, on_step: Callable[[Step], None] | None = None
) -> Rgbd:
    """Render a scan, aligned to the canonical frame, as the input of the networks.

    Args:
        scan: path of a scan, or the result of `omote.read`.
        settings: settings of the image; if None, the defaults of `RenderSettings`.
        on_step: function called with each step.

    Raises:
        ScanError, AlignmentError: as `fit`.
    """
    return finish(rendered(scan, settings or RenderSettings()), on_step)


def rendered(scan: Path | str | Scan, settings: RenderSettings) -> Steps[Rgbd]:
    """`render` as a generator of its steps."""
    yield Step(stage="read")
    points = opened_landmarks(settings.landmarks)
    scan, _ = yield from reading(scan, max_depth_mm=settings.max_depth_mm)
    from omote.align.align import align
    from omote.geometry.camera import orbit_camera

    yield Step(stage="align")
    alignment = align(scan, head=load_head(None), unit=settings.unit, landmarks=points)
    yield Step(stage="render")
    yaw_rad, pitch_rad = math.radians(settings.yaw_deg), math.radians(settings.pitch_deg)
    camera = orbit_camera(size=settings.size, yaw_rad=yaw_rad, pitch_rad=pitch_rad)
    return render_aligned(scan, alignment.canonical_from_scan, camera)


def render_aligned(scan: Scan, canonical_from_scan: Float[np.ndarray, "4 4"], camera: Camera) -> Rgbd:
    """Render an aligned scan.

    Args:
        scan: scan in its own coordinates.
        canonical_from_scan: similarity from the scan's coordinates to the canonical frame, in mm.
        camera: camera in the canonical frame.
    """
    from omote.align.align import transformed
    from omote.rendering.scans import render_mesh, render_points

    seen = transformed(scan, canonical_from_scan)
    return render_mesh(seen, camera) if isinstance(seen, Mesh) else render_points(seen, camera)
