"""``omote.read``, ``omote.fit`` and ``omote.render``: a scan file, the head model fitted to it, and its RGB-D image."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float

from omote.api.outputs import FitOutputs, all_or_nothing
from omote.api.report import Value, write_json
from omote.errors import ScanError
from omote.types import Mesh, PointCloud, Rgbd

if TYPE_CHECKING:
    from omote.head.model import HeadModel

Scan = PointCloud | Mesh | Rgbd
Unit = Literal["auto", "mm", "cm", "m", "in"]
MAX_LANDMARK_BYTES = 1 << 20


def read(path: Path | str) -> Scan:
    """Read a scan file: PLY, OBJ, GLB/glTF, STL, OFF, PCD, XYZ, NPZ, or an RGB-D frame.

    Raises:
        ScanError: it cannot be read; the message says why and what to do.
    """
    from omote.scan.reading import read as read_scan

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
            rows = data.get("landmarks") if isinstance(data, dict) else data
            values = np.array([[math.nan if v is None else v for v in row] for row in rows], np.float64)
        else:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
            rows = [line.replace(",", " ").split() for line in lines if line.strip() and not line.startswith("#")]
            values = np.array([[float(v) for v in row] for row in rows], np.float64)
        values = np.asarray(values, np.float64)
    except OSError as error:
        raise ScanError(f"{path}: the landmarks cannot be read ({error.strerror or error}); check the path") from error
    except (ValueError, TypeError, RecursionError) as error:
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
        from omote.scan.write import save_obj, save_ply

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
        return ", ".join([f"{len(self.mesh.vertices):,} vertices", *parts])
