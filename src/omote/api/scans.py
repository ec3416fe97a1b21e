"""``omote.read``, ``omote.fit`` and ``omote.render``: jobs that need no trained editor."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from omote.errors import ConfigError
from omote.files import all_or_nothing, check_distinct, check_file
from omote.formats.landmarks import read_landmarks
from omote.head.model import HeadModel
from omote.progress import NOTE, Step, Steps, finish
from omote.runs import Stopwatch, Value, doubts, prefixed, run_facts, write_json
from omote.types import Camera, Mesh, Rgbd, Scan, Unit


def read(path: Path | str) -> Scan:
    """Read a scan file, an archive of one, or an RGB-D frame; see `omote.formats.read.read` for the formats.

    Raises:
        ScanError: it cannot be read.
    """
    from omote.formats.read import read as read_scan

    return read_scan(path)


def reading(scan: Path | str | Scan) -> Steps[tuple[Scan, dict[str, Value]]]:
    """Read a scan, unless it is one already; a step of the stage `omote.progress.NOTE` for each note of the reader.

    Returns:
        The scan, and ``scan/...`` facts for the report.

    Raises:
        ScanError: as `read`.
    """
    if not isinstance(scan, Path | str):
        return scan, {}
    from omote.formats.read import read_with_report

    scan, report = read_with_report(scan)
    for note in report.notes:
        yield Step(stage=NOTE, note=note)
    return scan, prefixed("scan", vars(report))


def opened_landmarks(landmarks: Path | str | np.ndarray | None) -> Float[np.ndarray, "68 3"] | None:
    """Landmarks as an array: `read_landmarks` of a path."""
    return read_landmarks(landmarks) if isinstance(landmarks, Path | str) else landmarks


def load_head(head: HeadModel | Path | str | None) -> HeadModel:
    """A head model that can be an avatar's: with expression units, of its own or through correspondence.

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
class FitOutputs:
    """Files of `omote fit`.

    Attributes:
        mesh: PLY or OBJ.
        report: JSON, or None.
    """

    mesh: Path
    report: Path | None = None

    def checked(self, scan: Path | None = None) -> FitOutputs:
        """Return itself if all of it can be written.

        Raises:
            OutputError: a wrong suffix, a folder that is missing or not writable, or two outputs of one name.
        """
        check_file(self.mesh, (".ply", ".obj"))
        check_file(self.report, (".json",))
        check_distinct(scan, self.mesh, self.report)
        return self


@dataclass(frozen=True, kw_only=True)
class FittedHead:
    """A head model fitted to a scan.

    Attributes:
        mesh: the fitted head in its own vertex order, canonical frame, mm.
        facts: the report, flat.
    """

    mesh: Mesh
    facts: dict[str, Value]

    def save(self, path: Path | str) -> None:
        """Write the mesh as PLY or OBJ.

        Raises:
            OutputError: another suffix, or it cannot be written.
        """
        self.save_all(FitOutputs(mesh=Path(path)).checked())

    def save_all(self, outputs: FitOutputs) -> None:
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

    def summary(self) -> str:
        """Say in one line how well it fits."""
        fits = [f"{name} {self.facts[f'fit/{name}_mm']:.2f} mm" for name in ("median", "p90")]
        return ", ".join([f"{len(self.mesh.vertices):,} vertices", *fits, *doubts(self.facts)])


def fit(
    scan: Path | str | Scan,
    *,
    unit: Unit = "auto",
    landmarks: Path | str | np.ndarray | None = None,
    head: HeadModel | Path | str | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> FittedHead:
    """Find the face in a scan and fit the head model to it.

    Args:
        scan: a file, or what `omote.read` returns.
        unit: unit of the scan's coordinates; "auto" estimates it.
        landmarks: 68 × 3 in the scan's coordinates, or a file of them; detected if None.
        head: a head model, or ICT-FaceKit by path; the shipped head if None.
        on_step: called with progress.

    Raises:
        ScanError: the file cannot be read.
        AlignmentError: no face was found with confidence.
        HeadModelError: a head that does not load.
    """
    return finish(_fit(scan, unit, landmarks, head), on_step)


def _fit(
    scan: Path | str | Scan,
    unit: Unit,
    landmarks: Path | str | np.ndarray | None,
    head: HeadModel | Path | str | None,
) -> Steps[FittedHead]:
    watch = Stopwatch()
    with watch("read"):
        points = opened_landmarks(landmarks)
        scan, about = yield from reading(scan)
    # A scan that does not read is refused before anything slow is imported.
    with watch("load"):
        from omote.align.align import align

        model = load_head(head)
    yield Step(stage="align")
    with watch("align"):
        found = align(scan, head=model, unit=unit, landmarks=points)
    mesh = Mesh(vertices=found.vertices_mm, faces=model.faces, uv=model.uv, faces_uv=model.faces_uv)
    settings = {"unit": unit, "landmarks": "estimated" if points is None else "given", "head": model.name}
    facts = {**prefixed("settings", settings), **about, **found.report(), **run_facts(watch)}
    return FittedHead(mesh=mesh, facts=facts)


def render(
    scan: Path | str | Scan,
    *,
    size: int = 512,
    yaw_deg: float = 0.0,
    pitch_deg: float = 0.0,
    unit: Unit = "auto",
    landmarks: Path | str | np.ndarray | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> Rgbd:
    """Render a scan, aligned to the canonical frame, as the networks see it.

    Args:
        scan: a file, or what `omote.read` returns.
        size: pixels of a side.
        yaw_deg: moves the camera to the person's left.
        pitch_deg: moves the camera up.
        unit: unit of the scan's coordinates; "auto" estimates it.
        landmarks: 68 × 3 in the scan's coordinates, or a file of them; detected if None.
        on_step: called with progress.

    Raises:
        ScanError, AlignmentError: as `fit`.
        ConfigError: a size or angle out of range.
    """
    if not 16 <= size <= 4096:
        raise ConfigError(f"size: expected 16 to 4096, got {size}")
    if not (abs(yaw_deg) <= 180 and abs(pitch_deg) <= 85):
        raise ConfigError(f"yaw-deg, pitch-deg: expected within 180 and 85 degrees, got {yaw_deg} and {pitch_deg}")
    from omote.geometry.camera import orbit_camera

    camera = orbit_camera(size=size, yaw_rad=math.radians(yaw_deg), pitch_rad=math.radians(pitch_deg))
    return finish(rendered(scan, camera, unit, landmarks), on_step)


def rendered(
    scan: Path | str | Scan, camera: Camera, unit: Unit, landmarks: Path | str | np.ndarray | None
) -> Steps[Rgbd]:
    """`render` from any camera in the canonical frame, a step at a time."""
    points = opened_landmarks(landmarks)
    scan, _ = yield from reading(scan)
    from omote.align.align import align

    yield Step(stage="align")
    alignment = align(scan, head=load_head(None), unit=unit, landmarks=points)
    yield Step(stage="render")
    return render_aligned(scan, alignment.canonical_from_scan, camera)


def render_aligned(scan: Scan, canonical_from_scan: Float[np.ndarray, "4 4"], camera: Camera) -> Rgbd:
    """Render a scan that was aligned.

    Args:
        scan: a scan in its own coordinates.
        canonical_from_scan: similarity transform of the scan's coordinates into the canonical frame, mm.
        camera: camera in the canonical frame.
    """
    from omote.align.align import transformed
    from omote.rendering.scans import render_mesh, render_points

    seen = transformed(scan, canonical_from_scan)
    return render_mesh(seen, camera) if isinstance(seen, Mesh) else render_points(seen, camera)
