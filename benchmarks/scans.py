"""The real scans as they are, in the 24 rotations of a cube and in three units.

    make bench BENCH=scans OUT=dir

Is the same face found every time? Each of the 72 copies of a scan is aligned without any hint. It counts as aligned within
5 degrees and 3 mm of the upright scan in its own unit, which is judged by its fit to the face region (`fit_median_mm`,
`fit_p90_mm`: distance of the scan's face from the refined head). Scans lie in ``shared/data/scans`` beside the repository,
or where OMOTE_SHARED says.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from omote.align.align import MM_PER_UNIT, Alignment, align
from omote.errors import OmoteError
from omote.formats import read
from omote.geometry.camera import transform
from omote.head.shipped import shipped_head
from omote.types import Mesh, PointCloud

UNITS = ("mm", "cm", "m")


def cube_rotations() -> list[np.ndarray]:
    """The 24 rotations that carry the axes onto axes."""
    out = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            matrix = np.zeros((3, 3))
            matrix[range(3), order] = signs
            if np.linalg.det(matrix) > 0:
                out.append(matrix)
    return out


def turned(scan: Mesh | PointCloud, rotation: np.ndarray, scale: float) -> tuple[Mesh | PointCloud, np.ndarray]:
    """A copy in another pose and unit, and the matrix that moves the original to it."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * scale
    if isinstance(scan, Mesh):
        return replace(scan, vertices=transform(matrix, scan.vertices)), matrix
    normals = None if scan.normals is None else scan.normals @ rotation.T
    return replace(scan, points=transform(matrix, scan.points), normals=normals), matrix


def off(found: Alignment, upright: Alignment, matrix: np.ndarray) -> tuple[float, float]:
    """Degrees and mm between two alignments of the same face."""
    error = found.canonical_from_scan @ matrix @ np.linalg.inv(upright.canonical_from_scan)
    size = np.cbrt(np.linalg.det(error[:3, :3]))
    cosine = np.clip((np.trace(error[:3, :3] / size) - 1) / 2, -1, 1)
    return float(np.rad2deg(np.arccos(cosine))), float(np.linalg.norm(error[:3, 3]))


def run() -> dict[str, float | int | str]:
    """For ``make bench``."""
    shared = Path(os.environ.get("OMOTE_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    head = shipped_head()
    result: dict[str, float | int | str] = {}
    for path in sorted((shared / "data/scans").glob("*.obj")):
        scan = read(path)
        assert isinstance(scan, Mesh | PointCloud)
        upright = align(scan, head=head)
        own = MM_PER_UNIT[upright.unit]
        medians, p90s, angles, offsets, good, wrong = [], [], [], [], 0, []
        for number, rotation in enumerate(cube_rotations()):
            for unit in UNITS:
                copy, matrix = turned(scan, rotation, own / MM_PER_UNIT[unit])
                try:
                    found = align(copy, head=head)
                except OmoteError as error:
                    wrong.append(f"rotation {number} {unit}: {error}")
                    continue
                angle, offset = off(found, upright, matrix)
                angles.append(angle)
                offsets.append(offset)
                medians.append(found.median_mm)
                p90s.append(found.p90_mm)
                if angle <= 5 and offset <= 3 and found.unit == unit:
                    good += 1
                else:
                    wrong.append(f"rotation {number} {unit}: {angle:.1f} degrees, {offset:.1f} mm, unit {found.unit}")
                print(f"{path.stem} {number} {unit}: {angle:.2f} degrees, {offset:.2f} mm, fit {found.median_mm:.2f} / "
                      f"{found.p90_mm:.2f} mm", flush=True)  # fmt: skip
        result |= {
            f"scans/aligned/{path.stem}": good,
            f"scans/copies/{path.stem}": 24 * len(UNITS),
            f"scans/angle_deg_max/{path.stem}": max(angles),
            f"scans/offset_mm_max/{path.stem}": max(offsets),
            f"scans/fit_median_mm_max/{path.stem}": max(medians),
            f"scans/fit_p90_mm_max/{path.stem}": max(p90s),
            f"scans/linear_fit_median_mm/{path.stem}": upright.fit.median_mm,
            f"scans/linear_fit_p90_mm/{path.stem}": upright.fit.p90_mm,
            f"scans/not_aligned/{path.stem}": "; ".join(wrong) or "none",
        }
    return result
