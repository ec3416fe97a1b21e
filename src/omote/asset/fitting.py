"""Scan → the fitted head alone, for `omote fit`."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from omote.align.align import align
from omote.head.model import HeadModel
from omote.progress import Step
from omote.types import Mesh, PointCloud, Rgbd


@dataclass(frozen=True, kw_only=True)
class FittedHead:
    """A head model on a scan.

    Attributes:
        vertices_mm: refined, with the scan's own expression.
        inferred: vertices that no scan point supports.
        report: estimates, flat.
        timings_s: seconds per stage.
    """

    vertices_mm: Float[np.ndarray, "v 3"]
    inferred: Bool[np.ndarray, "v"]
    report: dict[str, float | str]
    timings_s: dict[str, float]


def fit_scan(
    scan: Mesh | PointCloud | Rgbd,
    model: HeadModel,
    *,
    unit: str | None = None,
    landmarks: Float[np.ndarray, "68 3"] | None = None,
) -> Generator[Step, None, FittedHead]:
    """Align a scan and fit the head to it.

    Raises:
        AlignmentError: no face found with confidence.
    """
    yield Step(stage="align")
    start = time.perf_counter()
    found = align(scan, head=model, unit=unit, landmarks=landmarks)
    return FittedHead(
        vertices_mm=found.vertices_mm,
        inferred=found.inferred,
        report=dict(found.report()),
        timings_s={"align": time.perf_counter() - start},
    )
