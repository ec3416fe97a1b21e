"""Completions that nothing was trained for: what any network has to beat. They say nothing about their errors (σ is NaN)."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial import cKDTree

from omote.completion.base import CompletedHead, PartialScan
from omote.completion.coarse_head import coarse_head
from omote.completion.scan_batch import UNIT_MM, measured_at
from omote.geometry.mesh import vertex_normals
from omote.head.model import HeadModel
from omote.head.nicp import refine


class Baseline(ABC):
    """A completion by a head model alone.

    Args:
        head: head model that partial scans are fitted with.
    """

    def __init__(self, head: HeadModel) -> None:
        self.head = head

    def __call__(self, partial: PartialScan) -> CompletedHead:
        """The whole head."""
        vertices, seen = self.vertices(partial)
        return CompletedHead(vertices_mm=vertices, sigma_mm=np.full(len(vertices), np.nan), seen=seen)

    @abstractmethod
    def vertices(self, partial: PartialScan) -> tuple[Float[np.ndarray, "v 3"], Bool[np.ndarray, " v"]]:
        """Vertices, and which of them points support."""

    def measured(self, partial: PartialScan) -> tuple[Float[np.ndarray, "v 3"], Bool[np.ndarray, " v"]]:
        """Offsets of the fitted vertices to the points near them, along their normals, and which vertices have any."""
        fitted = partial.fitted_mm.astype(np.float64)
        outward = vertex_normals(fitted, self.head.faces)
        outer = coarse_head(self.head).outer
        offset, seen = np.zeros_like(fitted), np.zeros(len(fitted), bool)
        values, seen[outer] = measured_at(
            fitted[outer],
            outward[outer],
            np.zeros((len(outer), 3)),
            partial.points_mm,
            partial.normals,
            np.full((len(partial.points_mm), 3), -1.0),
        )
        offset[outer] = UNIT_MM * values[:, :1] * outward[outer]
        return offset, seen


class Nothing(Baseline):
    """Seen vertices as measured; what was not seen stays unknown (NaN)."""

    def vertices(self, partial: PartialScan) -> tuple[Float[np.ndarray, "v 3"], Bool[np.ndarray, " v"]]:
        """See `Baseline.vertices`."""
        offset, seen = self.measured(partial)
        return np.where(seen[:, None], partial.fitted_mm + offset, np.nan), seen


class HeadFit(Baseline):
    """The fitted head as it is."""

    def vertices(self, partial: PartialScan) -> tuple[Float[np.ndarray, "v 3"], Bool[np.ndarray, " v"]]:
        """See `Baseline.vertices`."""
        return partial.fitted_mm.astype(np.float64), self.measured(partial)[1]


class NearestFill(Baseline):
    """Seen vertices as measured; others are displaced as the nearest seen vertex of the fitted head is."""

    def vertices(self, partial: PartialScan) -> tuple[Float[np.ndarray, "v 3"], Bool[np.ndarray, " v"]]:
        """See `Baseline.vertices`."""
        offset, seen = self.measured(partial)
        if seen.any():
            fitted = partial.fitted_mm.astype(np.float64)
            _, nearest = cKDTree(fitted[seen]).query(fitted)
            offset = offset[seen][nearest]
        return partial.fitted_mm + offset, seen


class Restoration(Baseline):
    """The refinement of `omote avatar`'s alignment: the fitted head moved smoothly onto the points (`omote.head.nicp`)."""

    def vertices(self, partial: PartialScan) -> tuple[Float[np.ndarray, "v 3"], Bool[np.ndarray, " v"]]:
        """See `Baseline.vertices`."""
        vertices, inferred = refine(self.head, partial.fitted_mm, partial.points_mm, normals=partial.normals)
        return vertices, ~inferred
