"""Partial scans as the networks take them: points, the fitted head, and what the points say at each of its coarse vertices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from omote.completion.base import PartialScan
from omote.completion.coarse_head import CoarseHead
from omote.geometry.mesh import vertex_normals
from omote.head.model import HeadModel

MOST_POINTS = 8192
# Points around a vertex that are compared with the fitted surface there, and how far away they may be.
NEAREST, REACH_MM = 16, 20.0
SCALES_MM = (3.0, 9.0)
# Farther from the fitted surface, along its normal, lies another one.
DEPARTURE_MM = 15.0
SEEN_MM = 4.0
UNIT_MM = 5.0  # of lengths inside the networks
SHAPE_MM = 20.0
NUM_MEASURED = 17


@dataclass(frozen=True, kw_only=True)
class ScanBatch:
    """A batch of partial scans.

    Attributes:
        points_mm, normals, colors: points of all scans; colours are -1 without any.
        item: index of the scan that each point belongs to.
        surface_mm, surface_normals: outer surface of each fitted head.
        fitted_mm, normals_fitted: its coarse vertices and their normals.
        measured: at each coarse vertex (`measured_at`).
        seen: coarse vertices that points support.
    """

    points_mm: Float[Tensor, "p 3"]
    normals: Float[Tensor, "p 3"]
    colors: Float[Tensor, "p 3"]
    item: Int[Tensor, " p"]
    surface_mm: Float[Tensor, "b s 3"]
    surface_normals: Float[Tensor, "b s 3"]
    fitted_mm: Float[Tensor, "b n 3"]
    normals_fitted: Float[Tensor, "b n 3"]
    measured: Float[Tensor, "b n 17"]
    seen: Bool[Tensor, "b n"]

    @property
    def count(self) -> int:
        """Number of scans."""
        return len(self.surface_mm)

    def to(self, device: torch.device) -> ScanBatch:
        """The batch on another device."""
        return ScanBatch(**{name: getattr(self, name).to(device) for name in ScanBatch.__dataclass_fields__})


def scan_batch(partials: Sequence[PartialScan], head: HeadModel, coarse: CoarseHead) -> ScanBatch:
    """Partial scans as a batch. Of a dense scan, an even share of the points is taken."""
    rows = [_arrays(partial, head, coarse) for partial in partials]
    item = np.repeat(np.arange(len(rows)), [len(row["points_mm"]) for row in rows])
    joined = {name: np.concatenate([row[name] for row in rows]) for name in ("points_mm", "normals", "colors")}
    each = {name: np.stack([row[name] for row in rows]) for name in rows[0] if name not in joined}
    tensors = {name: torch.from_numpy(value.astype(np.float32)) for name, value in {**joined, **each}.items()}
    return ScanBatch(**{**tensors, "item": torch.from_numpy(item), "seen": torch.from_numpy(each["seen"])})


def _arrays(partial: PartialScan, head: HeadModel, coarse: CoarseHead) -> dict[str, np.ndarray]:
    kept = np.arange(len(partial.points_mm))
    if len(kept) > MOST_POINTS:
        # By a fixed seed: a scan is always completed the same.
        kept = np.sort(np.random.default_rng(0).choice(kept, MOST_POINTS, replace=False))
    points, normals = partial.points_mm[kept], partial.normals[kept]
    colors = np.full_like(points, -1.0) if partial.colors is None else partial.colors[kept]
    fitted = partial.fitted_mm.astype(np.float64)
    outward = vertex_normals(fitted, head.faces)
    at, out = fitted[coarse.ids], outward[coarse.ids]
    shape = at - head.template_mm[coarse.ids]
    measured, seen = measured_at(at, out, shape, points, normals, colors)
    return {
        "points_mm": points,
        "normals": normals,
        "colors": colors,
        "surface_mm": fitted[coarse.outer],
        "surface_normals": outward[coarse.outer],
        "fitted_mm": at,
        "normals_fitted": out,
        "measured": measured,
        "seen": seen,
    }


def measured_at(
    vertices_mm: Float[np.ndarray, "n 3"],
    outward: Float[np.ndarray, "n 3"],
    shape_mm: Float[np.ndarray, "n 3"],
    points_mm: Float[np.ndarray, "p 3"],
    normals: Float[np.ndarray, "p 3"],
    colors: Float[np.ndarray, "p 3"],
) -> tuple[Float[np.ndarray, "n 17"], Bool[np.ndarray, " n"]]:
    """What the points near each fitted vertex say, and whether any support it.

    For two widths: signed distance of the points from the vertex along its normal, in `UNIT_MM`, and confidence in [0, 1]; then
    the distances' deviation, the distance of the nearest point, the points' normals less the vertex's own, their colour,
    whether they have one, and the distance of the nearest aside from the normal: all 0, and the distances 1, where nothing is
    near. Last, the fitted vertex's departure from the mean head (``shape_mm``), in `SHAPE_MM`.
    """
    out = np.zeros((len(vertices_mm), NUM_MEASURED))
    out[:, 14:] = shape_mm / SHAPE_MM
    if not len(points_mm):
        out[:, [5, 13]] = 1.0
        return out, np.zeros(len(vertices_mm), bool)
    distance, index = cKDTree(points_mm).query(vertices_mm, k=NEAREST, distance_upper_bound=REACH_MM)
    near = np.isfinite(distance)
    index = np.where(near, index, 0)
    away = points_mm[index] - vertices_mm[:, None]
    along = np.einsum("nkc,nc->nk", away, outward)
    aside = np.maximum((away**2).sum(axis=2) - along**2, 0.0)
    # A surface that faces the other way is another one: the other lip, the ear's back.
    facing = np.einsum("nkc,nc->nk", normals[index], outward)
    agreeing = near & (np.abs(along) < DEPARTURE_MM) & (facing > 0)
    total = np.zeros(len(vertices_mm))
    for place, scale in enumerate(SCALES_MM):
        weight = np.where(agreeing, np.exp(-aside / (2 * scale**2)) * np.minimum(2 * facing, 1.0), 0.0)
        total = weight.sum(axis=1)
        share = weight / np.maximum(total, 1e-6)[:, None]
        mean = (share * along).sum(axis=1)
        out[:, place] = mean / UNIT_MM
        out[:, 2 + place] = total / (total + 1.0)
    spread = np.sqrt((share * (along - mean[:, None]) ** 2).sum(axis=1))
    known = out[:, 3]
    out[:, 4] = spread / UNIT_MM
    out[:, 5] = np.minimum(np.where(agreeing, distance, REACH_MM).min(axis=1) / REACH_MM, 1.0)
    out[:, 6:9] = known[:, None] * (np.einsum("nk,nkc->nc", share, normals[index]) - outward)
    colored = colors[index][..., :1] >= 0
    out[:, 9:12] = known[:, None] * np.einsum("nk,nkc->nc", share, np.where(colored, colors[index] - 0.5, 0.0))
    out[:, 12] = known * (share * colored[..., 0]).sum(axis=1)
    out[:, 13] = np.minimum(np.where(agreeing, np.sqrt(aside), REACH_MM).min(axis=1) / REACH_MM, 1.0)
    seen = (agreeing & (aside < SEEN_MM**2)).any(axis=1)
    return out, seen
