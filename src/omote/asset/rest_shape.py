"""The avatar's rest shape: the scan's own shape, without any expression that the scan clearly shows."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float

from omote.align.align import Alignment
from omote.asset.mouth import seat_mouth
from omote.geometry.cloud import closest_on_mesh
from omote.geometry.mesh import adjacency, face_normals, solve_spd, vertex_normals
from omote.head.model import PARTS, HeadModel
from omote.head.region import head_region
from omote.lift.untangle import rest_skin, untangle
from omote.types import Mesh

# A scan's surface this near to skull or neck, facing the same way and straight above or below, is theirs.
NEAR_MM, MIN_COSINE, STRAIGHT = 14.0, 0.3, 0.7
SMOOTH, FIXED = 1.0, 20.0  # of neighbouring offsets against the scan, and of the face, which stays
INNER_MM = 8.0


def rest_shape(head: HeadModel, alignment: Alignment) -> Float[np.ndarray, "v 3"]:
    """Vertices of the person at rest in canonical mm, with teeth and tongue behind the lips.

    The fit gives some expression even to a face at rest, and removing it does more harm than good: such a scan is used as it is.
    A clearly shown expression is removed, and lips are closed as far as the skin goes without folds, measured by its strain
    from the identity's own face: an expression parts them, and so does removing one that pressed them shut.

    Args:
        head: head model of the alignment.
        alignment: alignment of the scan.
    """
    if not alignment.shown:
        return seat_mouth(head, alignment.vertices_mm)
    skin = rest_skin(head, seat_mouth(head, alignment.fit.neutral_mm))
    return untangle(skin, seat_mouth(head, alignment.neutral_mm), lips="close")


def beyond_face(head: HeadModel, scan: Mesh, vertices_mm: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "v 3"]:
    """Offsets that bring skull and neck, which the fit extrapolates, onto the scan where that is near; smooth, 0 on the face.

    Args:
        head: the head model.
        scan: the scan, aligned.
        vertices_mm: the fitted head, which lies on the scan in the face alone.
    """
    region, rest = head_region(head), vertices_mm.astype(np.float64)
    skin = head.faces[head.face_part == PARTS.index("skin")].astype(np.int64)
    used = np.unique(skin)
    inner = within(head, rest)  # ears follow the skull around them
    asked = np.zeros(len(rest), bool)
    asked[used] = True
    asked &= (region.weight < 1) & ~inner & ~region.ear
    ids = np.flatnonzero(asked)
    low, high = rest[used].min(axis=0) - NEAR_MM, rest[used].max(axis=0) + NEAR_MM
    near = ((scan.vertices > low) & (scan.vertices < high)).all(axis=1)[scan.faces].any(axis=1)
    if not near.any():
        return np.zeros_like(rest)
    normals, faces = vertex_normals(rest, skin), scan.faces[near].astype(np.int64)
    distance, closest, face = closest_on_mesh(rest[ids], scan.vertices.astype(np.float64), faces)
    outward = face_normals(scan.vertices, faces)[face]
    outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-9)
    along = np.einsum("nc,nc->n", closest - rest[ids], normals[ids])
    alike = np.einsum("nc,nc->n", outward, normals[ids]) > MIN_COSINE
    found = alike & (distance < NEAR_MM) & (np.abs(along) > STRAIGHT * distance)
    weight, wanted = np.zeros(len(rest)), np.zeros_like(rest)
    weight[ids] = found * (1 - region.weight[ids])
    wanted[ids] = (weight[ids] * along)[:, None] * normals[ids]
    links, degree = adjacency(skin, len(rest))
    fixed = region.weight + inner + (degree == 0)
    system = sp.diags(SMOOTH * degree + weight + FIXED * fixed) - SMOOTH * links
    return np.asarray(solve_spd(system, wanted))


def within(head: HeadModel, vertices_mm: Float[np.ndarray, "v 3"]) -> Bool[np.ndarray, "v"]:
    """Vertices inside sockets, nostrils and mouth: those in front of the ears that no camera in front can see.

    Args:
        head: the head model.
        vertices_mm: a person of it.
    """
    front = vertices_mm[:, 2] > head.landmarks(vertices_mm)[[0, 16], 2].mean() + INNER_MM
    return np.asarray(~head_region(head).exterior & front)
