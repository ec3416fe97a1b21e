"""Movable and rigid parts of a head, derived from the head model's expression units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

from omote.geometry.mesh import adjacency, vertex_normals
from omote.head.expressions import ARKIT_NAMES
from omote.head.model import HeadModel, once_per_head

RIGID_MM = 0.75  # a vertex that no unit moves farther than this belongs to the skull
RIGID_CAP_MM = 0.8
FREE_CAP = 1.6  # limit of any combination of units, as a multiple of the largest unit


@dataclass(frozen=True, kw_only=True)
class MotionLimits:
    """Per-vertex limits of movement.

    Attributes:
        mobility_mm: largest movement of each vertex by a single unit.
        reach_mm: the same by a unit of either style (`HeadModel.units_mm`).
        rigid: mask of the skull's vertices: crown, top of the forehead, nose bridge, ears, back.
        skin: mask of the vertices of the skin and of the mouth's connected lining.
        mirror: id of the vertex mirrored in x, or the vertex itself if there is none.
        laplacian: uniform graph Laplacian, rows sum to zero.
    """

    mobility_mm: Float[np.ndarray, "v"]
    reach_mm: Float[np.ndarray, "v"]
    rigid: Bool[np.ndarray, "v"]
    skin: Bool[np.ndarray, "v"]
    mirror: Int[np.ndarray, "v"]
    laplacian: sp.csr_matrix


@once_per_head
def motion_limits(model: HeadModel) -> MotionLimits:
    """The limits of a head model."""
    # The jaw's units carry the whole neck in some rigs; they count all the same.
    mobility, styled = (np.linalg.norm(model.units_mm(share), axis=2).max(axis=0) for share in (0.0, 1.0))
    skin = np.zeros(model.num_vertices, bool)
    skin[model.part_vertices("skin", "mouth")] = True
    only_skin = np.zeros(model.num_vertices, bool)
    only_skin[model.part_vertices("skin")] = True
    rigid = only_skin & (mobility < RIGID_MM)
    return MotionLimits(
        mobility_mm=mobility,
        reach_mm=np.maximum(mobility, styled),
        rigid=rigid,
        skin=skin,
        mirror=_mirror(model),
        laplacian=graph_laplacian(model),
    )


def rigid_vertices(model: HeadModel) -> Bool[np.ndarray, "v"]:
    """Skin vertices that carry identity and must stay (≤ 1 mm) in every expression."""
    return motion_limits(model).rigid


def graph_laplacian(model: HeadModel) -> sp.csr_matrix:
    """I − D⁻¹A over the mesh's edges."""
    links, degree = adjacency(model.faces, model.num_vertices)
    return (sp.identity(len(degree)) - sp.diags(1.0 / np.maximum(degree, 1.0)) @ links).tocsr()


def _mirror(model: HeadModel) -> Int[np.ndarray, "v"]:
    points = model.template_mm.astype(np.float64)
    normals = vertex_normals(points, model.faces)
    # Normals tell the two sides of a thin fold (lips, lids) apart.
    key = np.concatenate([points, 3.0 * normals], axis=1)
    flip = np.array([-1.0, 1, 1, -1, 1, 1])
    distance, index = cKDTree(key).query(key * flip)
    return np.where(distance < 1.5, index, np.arange(len(points)))


def cap_motion(model: HeadModel, offsets_mm: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "v 3"]:
    """Limit offsets: the skull stays still, and no other vertex exceeds the reach of its units."""
    motion = motion_limits(model)
    cap = np.where(motion.mobility_mm < RIGID_MM, RIGID_CAP_MM, RIGID_CAP_MM + FREE_CAP * (motion.reach_mm - RIGID_MM))
    length = np.linalg.norm(offsets_mm, axis=1)
    return offsets_mm * np.minimum(1.0, cap / np.maximum(length, 1e-9))[:, None]


def antisymmetric_units() -> Int[np.ndarray, "p 2"]:
    """Unit ids of the (left, right) pairs."""
    pairs = [
        (i, ARKIT_NAMES.index(n.removesuffix("Left") + "Right"))
        for i, n in enumerate(ARKIT_NAMES)
        if n.endswith("Left") and n not in ("jawLeft", "mouthLeft")
    ]
    return np.array(pairs)
