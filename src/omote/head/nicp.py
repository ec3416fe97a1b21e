"""Non-rigid refinement: move the vertices of a fitted head smoothly onto the scan while keeping correspondence.

Offsets from the fit solve a screened thin-plate problem on the mesh with decreasing stiffness (the annealing of Amberg et
al., "Optimal Step Nonrigid ICP", CVPR 2007, applied to displacements instead of affine transforms). Each vertex is pulled
only along its normal, so that vertices do not slide, and the three coordinates share one factorisation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

from omote.cores import num_cores
from omote.geometry.cloud import estimate_normals, spacing
from omote.geometry.mesh import adjacency, solve_spd, unique_edges, vertex_normals
from omote.head.model import HeadModel
from omote.head.region import head_region

# (stiffness, largest distance of a corresponding scan point in mm) of each stage, from stiff to soft.
SCHEDULE = ((20.0, 8.0), (6.0, 5.0), (2.0, 4.0), (1.0, 3.0))
MEMBRANE = 0.02  # share of first-order smoothness, which makes offsets far from data fade instead of extrapolating
SOFTNESS = 1.0 + (0.3 / 0.5) ** 2  # factor on the stiffness, for scan noise of .3 mm
ANCHOR = 2e-4  # weight of the pull towards the fit where there is no scan
SEEN_MM = 2.5  # largest distance from a vertex to an accepted scan point at which the vertex counts as seen
LID_WEIGHT = 0.03  # low, so that a scan with closed eyes does not drag the lids of an open-eyed head over its eyeballs
CARRY_RANGE_MM = 14.0
FOLLOW_MM = 45.0  # vertices farther than this from any vertex with scan weight keep their fitted position
# Parts that move rigidly with the surrounding skin.
RIGID_PARTS = (("eye_left",), ("eye_right",), ("teeth_upper",), ("teeth_lower", "tongue"))


@dataclass(frozen=True, kw_only=True)
class Ribbon:
    """Vertices with known target positions, which constrain them in all directions and not only along their normals.

    Attributes:
        vertices: indices of the vertices.
        target_mm: target positions of the vertices.
        weight: weight of the targets, relative to a scan point's weight of 1.
    """

    vertices: Int[np.ndarray, " n"]
    target_mm: Float[np.ndarray, "n 3"]
    weight: Float[np.ndarray, " n"]


def refine(
    model: HeadModel,
    vertices_mm: Float[np.ndarray, "v 3"],
    points_mm: Float[np.ndarray, "n 3"],
    *,
    normals: Float[np.ndarray, "n 3"] | None = None,
    ribbon: Ribbon | None = None,
    whole: bool = False,
) -> tuple[Float[np.ndarray, "v 3"], Bool[np.ndarray, " v"]]:
    """Refine a fitted head.

    Args:
        model: head model, which gives the topology and regions.
        vertices_mm: vertices of the fitted head, in the frame of ``points_mm``.
        points_mm: points of the scan.
        normals: unit normals of the scan points, of either sign; estimated if None.
        ribbon: vertices with known target positions.
        whole: the points are of a bare head, whose skull, neck and ears are as true as its face; hair hides those of a scan.

    Returns:
        Refined vertices, and a mask of the vertices not supported by the scan (``inferred``).
    """
    region = head_region(model)
    trusted = np.where(region.exterior | region.ear, 1.0, region.weight) if whole else region.weight
    belief = np.where(region.lid, np.minimum(trusted, LID_WEIGHT), trusted)
    start = vertices_mm.astype(np.float64)
    low, high = start[belief > 0].min(0) - 12.0, start[belief > 0].max(0) + 12.0
    near = ((points_mm > low) & (points_mm < high)).all(axis=1)
    points = points_mm[near].astype(np.float64)
    if len(points) < 50:
        return start, np.ones(len(start), bool)
    point_normals = estimate_normals(points) if normals is None else normals[near]
    tree, gap = cKDTree(points), spacing(points)

    skin = model.part_vertices("skin", "mouth")
    faces = model.faces[np.isin(model.faces, skin).all(axis=1)]
    smooth = _smoothness(faces, len(start))
    beyond, _ = cKDTree(start[belief > 0]).query(start, workers=num_cores())
    active = np.flatnonzero((np.bincount(faces.ravel(), minlength=len(start)) > 0) & (beyond < FOLLOW_MM))
    smooth = smooth[active][:, active]
    # A scan sparser than the mesh gives less evidence per vertex than the number of correspondences suggests.
    softness = SOFTNESS * max(1.0, (gap / 2.0) ** 2)

    offset = np.zeros_like(start)
    seen = np.zeros(len(start), bool)
    for stiffness, reach in SCHEDULE:
        current = start + offset
        own = vertex_normals(current, faces)
        pull, weight, close = _targets(current, own, points, point_normals, tree, gap, belief, reach)
        seen = close & (belief > 0)
        wanted = offset + own * pull[:, None]
        if ribbon is not None:
            ids, there = ribbon.vertices, ribbon.weight[:, None] * (ribbon.target_mm - start[ribbon.vertices])
            wanted[ids] = weight[ids, None] * wanted[ids] + there
            weight[ids] += ribbon.weight
            wanted[ids] /= weight[ids, None]
        w = weight[active]
        system = sp.diags(w + ANCHOR) + stiffness * softness * smooth
        offset[active] = solve_spd(system, w[:, None] * wanted[active])
    refined = start + offset
    carry(model, start, refined, offset)
    return refined, ~_grown(seen, faces)


def _targets(
    current: Float[np.ndarray, "v 3"],
    own: Float[np.ndarray, "v 3"],
    points: Float[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"],
    tree: cKDTree,
    gap: float,
    belief: Float[np.ndarray, " v"],
    reach: float,
) -> tuple[Float[np.ndarray, " v"], Float[np.ndarray, " v"], Bool[np.ndarray, " v"]]:
    """Per vertex: target offset along the normal (mm), its weight, and whether a scan point supports the vertex."""
    use = np.flatnonzero(belief > 0)
    # The mean tangent plane of three neighbours is less noisy than that of the nearest point alone.
    _, index = tree.query(current[use], k=min(3, len(points)), workers=num_cores())
    index = index.reshape(len(use), -1)
    n, q = normals[index], points[index]
    step = q - current[use][:, None]
    cosine = np.einsum("vkc,vc->vk", n, own[use])
    along = np.einsum("vkc,vkc->vk", step, n) / np.where(np.abs(cosine) > 0.3, cosine, np.inf)
    tangential = np.sqrt(np.maximum(np.sum(step**2, axis=2) - np.einsum("vkc,vkc->vk", step, n) ** 2, 0.0))
    ok = (np.abs(cosine) > 0.55) & (np.abs(along) < reach) & (tangential < max(2.0, 2.5 * gap))
    near = ok / (np.sum(step**2, axis=2) + 0.25 * gap**2 + 0.01)
    total = near.sum(axis=1)
    any_ok = total > 0
    pull, weight = np.zeros(len(current)), np.zeros(len(current))
    mean = np.sum(near * np.where(ok, along, 0.0), axis=1) / np.where(any_ok, total, 1.0)
    pull[use] = np.clip(mean, -reach, reach)
    scale = reach / 2
    weight[use] = np.where(any_ok, belief[use] / (1 + (mean / scale) ** 2) ** 2, 0.0)
    close = np.zeros(len(current), bool)
    close[use] = any_ok & (np.abs(mean) < SEEN_MM)
    return pull, weight, close


def _smoothness(faces: np.ndarray, num_vertices: int) -> sp.csr_matrix:
    """Smoothness matrix LᵀL + membrane · L, with the umbrella Laplacian L on the mesh's edges."""
    links, degree = adjacency(faces, num_vertices)
    laplacian = sp.diags(degree) - links
    averaged = sp.diags(1 / np.maximum(degree, 1)) @ laplacian
    return (averaged.T @ averaged + MEMBRANE * laplacian / 6).tocsr()


def carry(
    model: HeadModel,
    start: Float[np.ndarray, "v 3"],
    refined: Float[np.ndarray, "v 3"],
    offset: Float[np.ndarray, "v 3"],
) -> None:
    """Move eyes, teeth and tongue, each rigidly, by the mean offset of the skin around it.

    Args:
        model: head model.
        start: vertices before the skin moved.
        refined: vertices after it, whose rigid parts are moved in place.
        offset: the skin's offsets.
    """
    region = head_region(model)
    around = np.flatnonzero(region.exterior & ~region.ear)
    tree = cKDTree(start[around])
    for parts in RIGID_PARTS:
        ids = model.part_vertices(*parts)
        ids = ids[~region.exterior[ids]]
        if not len(ids):
            continue
        distance, index = tree.query(start[ids], k=4)
        w = np.exp(-((distance / CARRY_RANGE_MM) ** 2)).ravel() + 1e-9
        refined[ids] = start[ids] + (w @ offset[around[index.ravel()]]) / w.sum()


def _grown(seen: Bool[np.ndarray, " v"], faces: np.ndarray) -> Bool[np.ndarray, " v"]:
    """Close pinholes: a vertex counts as seen if most of its neighbours are seen."""
    edges = unique_edges(faces)
    both = np.concatenate([edges, edges[:, ::-1]])
    count = np.bincount(both[:, 0], minlength=len(seen))
    hits = np.bincount(both[:, 0], weights=seen[both[:, 1]], minlength=len(seen))
    return seen | ((count > 0) & (hits >= 0.75 * count))
