"""Completion of an aligned scan: what the scan does not show of the head, between alignment and avatar.

The refined head stays where the scan supports it; elsewhere the completion takes its place, with a smooth passage between them.
Where the scan supports the head but is noisy, the two are averaged, weighted by the inverse of their variances.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float
from scipy.spatial import cKDTree

from omote.align.align import Alignment, background_of
from omote.completion.base import CompletedHead, Completion, PartialScan
from omote.completion.coarse_head import coarse_head
from omote.completion.names import CompletionName
from omote.cores import num_cores
from omote.errors import CheckpointError
from omote.geometry.camera import rgbd_points, transform
from omote.geometry.cloud import estimate_normals, sample_surface
from omote.geometry.mesh import adjacency, solve_spd, vertex_normals
from omote.head.model import PARTS, HeadModel, once_per_head
from omote.head.nicp import carry
from omote.head.region import head_region
from omote.quiet import LOADING
from omote.types import FusedMesh, Mesh, PointCloud, Rgbd, Scan

# A head of whose area less lies within NEAR_MM of the scan lacks depth. Whole scans of heads with hair have .88 and more, as
# meshes and as 5,000 points, frames of one camera .57 to .70, face masks .19.
WHOLE_SHARE, NEAR_MM = 0.8, 15.0
MOST_POINTS = 16_384
HAIR_MM = 18.0  # farther from the fitted head lie hair and clothing
NEIGHBORS = 24  # of the plane that gives a point's normal, as in training
# Deviation of the refined surface's error over that of the points that it was moved onto: of 0, .25, .5, 1 and 2, the best on
# frames of ten persons of the validation split (error of the face .185, .180, .172, .169 and .174 mm).
NOISE_KEPT = 1.0
DEVIATION_OF_MEDIAN = 1.4826  # of normal errors over the median of their absolute values
EYES_AND_LIPS = slice(36, 68)
FINE_MM = 6.0  # up to here from their landmarks, the refinement alone decides; from twice as far, both do
# Smoothness of the passage, pull towards the completion, and hold of the vertices that the scan supports.
SMOOTH, PULL, HOLD = 1.0, 0.3, 20.0


class AlignedCompletion:
    """Completes aligned scans by the completion that the settings name, loaded when a scan needs it.

    Args:
        name: completion; ``auto`` is a trained network for scans that lack depth, and none for others.
        head: head model of the alignment.
        weights: folder of the trained network.
    """

    def __init__(self, name: CompletionName, head: HeadModel, weights: Path) -> None:
        self.name, self.head, self.weights = name, head, weights
        self._loaded: tuple[Completion, str] | None = None

    def __call__(self, scan: Scan, alignment: Alignment) -> tuple[Alignment, str]:
        """A scan's alignment with a completed head, and the name of the completion, for the report.

        Args:
            scan: the scan in its own coordinates.
            alignment: its alignment.

        Raises:
            CheckpointError: the network's weights are missing, damaged, of another kind, or of another head model.
        """
        if self.name == "restoration" or (self.name == "auto" and not lacks_depth(self.head, alignment)):
            return alignment, "restoration"
        if self._loaded is None:
            self._loaded = _load(self.name, self.head, self.weights)
        completion, name = self._loaded
        partial = partial_of(self.head, scan, alignment)
        return completed(self.head, alignment, completion(partial)), name


def _load(name: CompletionName, head: HeadModel, weights: Path) -> tuple[Completion, str]:
    """A completion and its name, which ``auto`` leaves to the weights."""
    if name == "none":
        from omote.completion.baselines import HeadFit

        return HeadFit(head), name
    with LOADING:
        from omote.completion.trained import load_completion

        completion = load_completion(weights, head)
    if name not in ("auto", completion.kind):
        raise CheckpointError(f"{weights}: expected weights of {name}, got those of {completion.kind}")
    return completion, completion.kind


def lacks_depth(head: HeadModel, alignment: Alignment) -> bool:
    """Whether a scan shows too little of the head: less than `WHOLE_SHARE` lies within `NEAR_MM` of it, or frames were fused.

    A turn covers most of a head, but not the ears' backs, which the alignment leaves to the fit.
    """
    if isinstance(alignment.scan, FusedMesh):
        return True
    region, area = head_region(head), _areas(head)
    outer = np.flatnonzero(region.exterior | region.ear)
    distance, _ = cKDTree(_places(alignment.scan)).query(
        alignment.vertices_mm[outer], distance_upper_bound=NEAR_MM, workers=num_cores()
    )
    return bool(area[outer][np.isfinite(distance)].sum() < WHOLE_SHARE * area[outer].sum())


def _areas(head: HeadModel) -> Float[np.ndarray, " v"]:
    """Area of the template around each vertex, in any unit."""
    a, b, c = head.template_mm[head.faces].transpose(1, 0, 2)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    return np.bincount(head.faces.ravel(), np.repeat(area, 3), minlength=head.num_vertices)


def _places(scan: PointCloud | Mesh) -> Float[np.ndarray, "n 3"]:
    """Points of a scan, dense enough for `NEAR_MM`."""
    if isinstance(scan, PointCloud):
        return scan.points
    return sample_surface(scan.vertices, scan.faces.astype(np.int64), MOST_POINTS, np.random.default_rng(0))[0]


def partial_of(head: HeadModel, scan: Scan, alignment: Alignment) -> PartialScan:
    """What a scan shows of the head, for a completion; of a depth frame the pixels that were measured, holes left open.

    Args:
        head: head model of the alignment.
        scan: the scan in its own coordinates.
        alignment: its alignment.
    """
    rng = np.random.default_rng(0)
    fitted = alignment.fit.vertices_mm.astype(np.float64)
    colors: Float[np.ndarray, "n 3"] | None = None
    if isinstance(scan, Mesh):
        aligned = alignment.scan
        assert isinstance(aligned, Mesh)
        points, normals, _, _ = sample_surface(aligned.vertices, aligned.faces.astype(np.int64), MOST_POINTS, rng)
    else:
        if isinstance(scan, Rgbd):
            matrix = alignment.canonical_from_scan
            mask = scan.mask & ~background_of(scan, matrix)
            points, colors = rgbd_points(replace(scan, mask=mask))
            points = transform(matrix, points)
        else:
            assert isinstance(alignment.scan, PointCloud)
            points, colors = alignment.scan.points, alignment.scan.colors
        if len(points) > MOST_POINTS:
            kept = np.sort(rng.choice(len(points), MOST_POINTS, replace=False))
            points, colors = points[kept], None if colors is None else colors[kept]
        normals = estimate_normals(points, neighbors=NEIGHBORS)
    return near_head(head, fitted, points, normals, colors)


def near_head(
    head: HeadModel,
    fitted_mm: Float[np.ndarray, "v 3"],
    points: Float[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"],
    colors: Float[np.ndarray, "n 3"] | None,
) -> PartialScan:
    """The points of a scan that lie near a fitted head, without hair and clothing, in the canonical frame.

    Args:
        head: head model.
        fitted_mm: vertices of the fitted head, canonical frame.
        points: points of the scan, canonical frame.
        normals: their unit normals, of either sign.
        colors: their colours, or None.
    """
    outer = coarse_head(head).outer
    distance, nearest = cKDTree(fitted_mm[outer]).query(points, workers=num_cores())
    outward = vertex_normals(fitted_mm, head.faces)[outer][nearest]
    normals = np.where((normals * outward).sum(axis=1, keepdims=True) < 0, -normals, normals)
    near = distance < HAIR_MM
    return PartialScan(
        points_mm=points[near],
        normals=normals[near],
        colors=None if colors is None else colors[near],
        fitted_mm=fitted_mm.astype(np.float32),
    )


def completed(head: HeadModel, alignment: Alignment, whole: CompletedHead) -> Alignment:
    """An alignment whose head is completed where the scan does not support it.

    Args:
        head: head model of the alignment.
        alignment: alignment of a scan.
        whole: completion of the scan.
    """
    start = alignment.vertices_mm.astype(np.float64)
    wanted = whole.vertices_mm - start
    kept = share_of_completion(head, alignment, whole)[:, None] * wanted
    moved = start + _passage(head, start, wanted, kept, ~alignment.inferred)
    carry(head, start, moved, moved - start)
    offset = moved - start
    sigma = whole.sigma_mm.astype(np.float32)
    return replace(
        alignment,
        vertices_mm=moved.astype(alignment.vertices_mm.dtype),
        neutral_mm=(alignment.neutral_mm + offset).astype(alignment.neutral_mm.dtype),
        landmarks_mm=head.landmarks(moved),
        inferred=alignment.inferred & ~whole.seen,
        sigma_mm=sigma if np.isfinite(sigma).all() else None,
    )


def share_of_completion(head: HeadModel, alignment: Alignment, whole: CompletedHead) -> Float[np.ndarray, " v"]:
    """Weight of a completion at vertices that the scan supports: by the inverse of both variances, 0 at lips and lids.

    The refined surface's error is estimated by the distance of the scan's points from it. Lips and lids are finer than a
    completion.

    Args:
        head: head model of the alignment.
        alignment: alignment of a scan.
        whole: completion of the scan; one without a standard deviation has no weight.
    """
    noise = NOISE_KEPT * DEVIATION_OF_MEDIAN * alignment.median_mm
    share = noise**2 / (noise**2 + np.square(whole.sigma_mm))
    return np.where(np.isfinite(share), share, 0.0) * _coarse_enough(head)


@once_per_head
def _coarse_enough(head: HeadModel) -> Float[np.ndarray, " v"]:
    """0 on lips and lids, 1 away from them."""
    template = head.template_mm.astype(np.float64)
    distance, _ = cKDTree(head.landmarks(template)[EYES_AND_LIPS]).query(template)
    weight: Float[np.ndarray, " v"] = np.clip((distance - FINE_MM) / FINE_MM, 0.0, 1.0)
    return weight


def _passage(
    head: HeadModel,
    start: Float[np.ndarray, "v 3"],
    offset: Float[np.ndarray, "v 3"],
    kept: Float[np.ndarray, "v 3"],
    supported: Bool[np.ndarray, " v"],
) -> Float[np.ndarray, "v 3"]:
    """Offsets that are ``kept`` where the scan supports the head, ``offset`` away from there, and smooth; 0 off the skin."""
    region = head_region(head)
    skin = np.isin(head.face_part, [PARTS.index("skin"), PARTS.index("mouth")])
    links, degree = adjacency(head.faces[skin].astype(np.int64), len(start))
    on_scan = supported * region.weight
    held = on_scan + (degree == 0)
    pulled = (region.exterior | region.ear) & ~supported
    system = sp.diags(SMOOTH * degree + PULL * pulled + HOLD * held) - SMOOTH * links
    return np.asarray(solve_spd(system, (PULL * pulled)[:, None] * offset + (HOLD * on_scan)[:, None] * kept))
