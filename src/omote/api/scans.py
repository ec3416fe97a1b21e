"""``omote.read``, ``omote.fit`` and ``omote.render``: a scan file, the head model fitted to it, and its RGB-D image."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from omote.api.outputs import FitOutputs
from omote.errors import ConfigError, ScanError
from omote.files import all_or_nothing
from omote.head.model import HeadModel
from omote.progress import Step, finish
from omote.runs import Stopwatch, Value, doubts, prefixed, run_facts, write_json
from omote.types import Camera, Mesh, PointCloud, Rgbd

Scan = PointCloud | Mesh | Rgbd
Unit = Literal["auto", "mm", "cm", "m", "in"]
MAX_LANDMARK_BYTES = 1 << 20


def read(path: Path | str) -> Scan:
    """Read a scan file: PLY, OBJ, GLB/glTF, STL, OFF, PCD, XYZ, NPZ, WRL, or an RGB-D frame.

    Raises:
        ScanError: it cannot be read; the message says why and what to do.
    """
    from omote.formats.read import read as read_scan

    return read_scan(path)


def read_landmarks(path: Path | str) -> Float[np.ndarray, "68 3"]:
    """Read 68 landmarks (Multi-PIE order) in the scan's own coordinates; a row of NaN or nulls is an unknown one.

    Args:
        path: JSON (68 rows, or an object with the key "landmarks"), NPY of shape (68, 3), or text with three numbers a
            line (commas or spaces; lines that begin with # are skipped).

    Raises:
        ScanError: missing, unreadable, or not 68 × 3 numbers with at least 12 known.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_LANDMARK_BYTES:
            raise ScanError(f"{path}: expected 68 landmarks, got a file of {path.stat().st_size:,} bytes")
        if path.suffix.lower() == ".npy":
            values = np.load(path, allow_pickle=False)
        elif path.suffix.lower() == ".json":
            data = json.loads(path.read_text(encoding="utf-8-sig"))
            rows = data["landmarks"] if isinstance(data, dict) else data
            values = np.array([[math.nan if v is None else v for v in row] for row in rows], np.float64)
        else:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
            rows = [line.replace(",", " ").split() for line in lines if line.strip() and not line.startswith("#")]
            values = np.array([[float(v) for v in row] for row in rows], np.float64)
        values = np.asarray(values, np.float64)
    except OSError as error:
        raise ScanError(f"{path}: the landmarks cannot be read ({error.strerror or error}); check the path") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ScanError(f"{path}: expected 68 rows of x y z, got {str(error)[:80]}; see docs/scan-input.md") from error
    if values.shape != (68, 3):
        raise ScanError(f"{path}: expected 68 rows of x y z, got an array of shape {values.shape}")
    values[~np.isfinite(values).all(axis=1)] = np.nan
    if np.isfinite(values[:, 0]).sum() < 12:
        raise ScanError(f"{path}: expected at least 12 known landmarks, got {np.isfinite(values[:, 0]).sum()}")
    return values


def load_head(path: Path | str | None) -> HeadModel:
    """Load the shipped head, or ICT-FaceKit from a path.

    Raises:
        HeadModelError: it is missing or of an unknown layout.
    """
    if path is None:
        from omote.head.shipped import shipped_head

        return shipped_head()
    from omote.head.ict import ict_head

    return ict_head(Path(path))


@dataclass(frozen=True, kw_only=True)
class FitMade:
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
        keys = ("fit/median_mm", "fit/p90_mm")
        parts = [
            f"{k.removeprefix('fit/').removesuffix('_mm')} {self.facts[k]:.2f} mm" for k in keys if k in self.facts
        ]
        return ", ".join([f"{len(self.mesh.vertices):,} vertices", *parts, *doubts(self.facts)])


def fit(
    scan: Path | str | Scan,
    *,
    unit: Unit = "auto",
    landmarks: Path | str | np.ndarray | None = None,
    head: Path | str | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> FitMade:
    """Find the face in a scan and fit the head model to it.

    Args:
        scan: a file, or what `omote.read` returns.
        unit: of the scan's coordinates; "auto" estimates it.
        landmarks: 68 × 3 in the scan's coordinates, or a file of them; found by themselves if None.
        head: ICT-FaceKit, by path; the shipped head if None.
        on_step: called with progress.

    Raises:
        ScanError: the file cannot be read.
        AlignmentError: no face was found with confidence; the message says what to give.
        HeadModelError: a head that does not load.
    """
    watch = Stopwatch()
    with watch("read"):
        points = read_landmarks(landmarks) if isinstance(landmarks, Path | str) else landmarks
        scan = read(scan) if isinstance(scan, Path | str) else scan
    # A scan that does not read is told before anything slow is imported.
    with watch("load"):
        from omote.asset.fitting import fit_scan

        model = load_head(head)
    fitted = finish(fit_scan(scan, model, unit=None if unit == "auto" else unit, landmarks=points), on_step)
    watch.stages_s.update(fitted.timings_s)
    mesh = Mesh(vertices=fitted.vertices_mm, faces=model.faces, uv=model.uv, faces_uv=model.faces_uv)
    settings = {"unit": unit, "landmarks": "estimated" if points is None else "given", "head": model.name}
    return FitMade(mesh=mesh, facts={**prefixed("settings", settings), **fitted.report, **run_facts(watch)})


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
        unit: of the scan's coordinates; "auto" estimates it.
        landmarks: 68 × 3 in the scan's coordinates, or a file of them; found by themselves if None.
        on_step: called with progress.

    Raises:
        ScanError, AlignmentError: as `fit`.
        ConfigError: a size or angle out of range.
    """
    if not 16 <= size <= 4096:
        raise ConfigError(f"size: expected 16 to 4096, got {size}")
    if not (abs(yaw_deg) <= 180 and abs(pitch_deg) <= 85):
        raise ConfigError(f"yaw-deg, pitch-deg: expected within 180 and 85 degrees, got {yaw_deg} and {pitch_deg}")
    points = read_landmarks(landmarks) if isinstance(landmarks, Path | str) else landmarks
    scan = read(scan) if isinstance(scan, Path | str) else scan

    from omote.align.align import align
    from omote.geometry.camera import orbit_camera

    if on_step is not None:
        on_step(Step(stage="align"))
    alignment = align(scan, head=load_head(None), unit=None if unit == "auto" else unit, landmarks=points)
    if on_step is not None:
        on_step(Step(stage="render"))
    camera = orbit_camera(size=size, yaw_rad=math.radians(yaw_deg), pitch_rad=math.radians(pitch_deg))
    return render_aligned(scan, alignment.canonical_from_scan, camera)


def render_aligned(scan: Scan, canonical_from_scan: Float[np.ndarray, "4 4"], camera: Camera) -> Rgbd:
    """Render a scan that was aligned.

    Args:
        scan: in its own coordinates.
        canonical_from_scan: similarity transform of the scan's coordinates into the canonical frame, mm.
        camera: in the canonical frame.
    """
    from omote.align.align import transformed
    from omote.rendering.scans import render_mesh, render_points

    seen = transformed(scan, canonical_from_scan)
    return render_mesh(seen, camera) if isinstance(seen, Mesh) else render_points(seen, camera)
