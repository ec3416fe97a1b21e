"""Deformation transfer: how one mesh deforms, done to another of the same topology.

Sumner & Popović, "Deformation Transfer for Triangle Meshes", SIGGRAPH 2004. A triangle's deformation is the 3 × 3 matrix
S = Ṽ V⁻¹ (equation 4) of its two edges and its normal before and after (equation 1); the target is the mesh whose own matrices T
differ least from these (equation 8). Each triangle's fourth vertex occurs in its own term alone, where it can make the normal's
part of S − T vanish, so it is eliminated in advance: what remains are the gradients within the target's triangles, and one matrix
of the target's vertices for the three coordinates of all deformations. Terms count by area, which makes it Poisson's equation
(Botsch, Sumner, Pauly & Gross, "Deformation Transfer for Detail-Preserving Surface Editing", VMV 2006): the paper's equal terms
let the smallest triangles decide.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from omote.evaluation.baselines import SurfaceEdit
from omote.geometry.mesh import face_normals, unique_edges

ANCHOR_MM = 0.01  # what moves by less fixes the translation of what moves


class DeformationTransfer(SurfaceEdit):
    """The head model's deformations by ARKit weights, transferred to the surface found on the source.

    Like `HeadEdit` it is given the true landmarks and weights; unlike it, a larger jaw opens wider.
    """

    def deformed(
        self, neutral_mm: Float[np.ndarray, "v 3"], weights: Float[np.ndarray, "n 52"]
    ) -> Float[np.ndarray, "n v 3"]:
        """The surface per expression; eyes, lower teeth and tongue, which hang on nothing that rests, move as the model's do."""
        mean = self.model.template_mm.astype(np.float64)
        deformed = mean + np.tensordot(weights, self.model.expression_mm, 1)
        return transfer(mean, deformed, neutral_mm, self.model.faces)


def transfer(
    reference_mm: Float[np.ndarray, "v 3"],
    deformed_mm: Float[np.ndarray, "n v 3"],
    target_mm: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "f 3"],
) -> Float[np.ndarray, "n v 3"]:
    """Deform ``target_mm`` as ``reference_mm`` is.

    Args:
        reference_mm: the source mesh at rest, without triangles of no area.
        deformed_mm: its deformations.
        target_mm: vertices in correspondence and in the same pose: a rotation of the target alone does not turn the transfer.
        faces: triangles of both.

    Returns:
        The target's deformations. A vertex that rests (`ANCHOR_MM`), and a part without any that does, moves as the reference's.
    """
    offset = deformed_mm - reference_mm
    out = target_mm + offset
    unknown = _unknown(np.abs(offset).max(axis=(0, 2)) > ANCHOR_MM, faces)
    if not unknown.any():
        return out
    touched = faces[unknown[faces].any(axis=1)]
    wanted = gradients(reference_mm, deformed_mm, touched)  # S
    rows, area = _gradient_rows(target_mm, touched)
    free, fixed = rows[:, unknown], rows[:, ~unknown]
    weighted = free.multiply(np.repeat(area, 3)[:, None]).T.tocsr()
    # A row per component of a triangle's gradient, a column per deformation and coordinate: S transposed.
    asked = np.moveaxis(wanted, (1, 3), (0, 1)).reshape(3 * len(touched), -1)
    known = np.moveaxis(out[:, ~unknown], 1, 0).reshape(int((~unknown).sum()), -1)
    # Positive definite, so no pivoting: half the time.
    factor = splu(
        (weighted @ free).tocsc(),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    solved = factor.solve(weighted @ (asked - fixed @ known))
    out[:, unknown] = np.moveaxis(solved.reshape(len(solved), len(out), 3), 0, 1)
    return out


def gradients(
    reference_mm: Float[np.ndarray, "v 3"], deformed_mm: Float[np.ndarray, "n v 3"], faces: Int[np.ndarray, "f 3"]
) -> Float[np.ndarray, "n f 3 3"]:
    """S = Ṽ V⁻¹ of each triangle (equations 1 to 4)."""
    before = np.linalg.inv(_frames(reference_mm, faces))
    return np.stack([_frames(vertices, faces) @ before for vertices in deformed_mm])


def _frames(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> Float[np.ndarray, "f 3 3"]:
    """Columns: two edges, and the way to the fourth vertex, whose length goes with the edges'."""
    edges = _edges(vertices, faces)
    normal = face_normals(vertices, faces)
    fourth = normal / np.sqrt(np.linalg.norm(normal, axis=1, keepdims=True))
    return np.concatenate([edges, fourth[:, :, None]], axis=2)


def _edges(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> Float[np.ndarray, "f 3 2"]:
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return np.stack([b - a, c - a], axis=2)


def _gradient_rows(
    vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]
) -> tuple[sp.csr_matrix, Float[np.ndarray, " f"]]:
    """A matrix from a function's values at the vertices to its gradient in each triangle (three rows each), and areas."""
    inverse = np.linalg.pinv(_edges(vertices, faces))
    corners = np.stack([-inverse.sum(axis=1), inverse[:, 0], inverse[:, 1]], axis=2)  # f × component × corner
    rows = np.repeat(np.arange(3 * len(faces)), 3)
    columns = np.repeat(faces[:, None, :], 3, axis=1).ravel()
    matrix = sp.csr_matrix((corners.ravel(), (rows, columns)), shape=(3 * len(faces), len(vertices)))
    return matrix, np.linalg.norm(face_normals(vertices, faces), axis=1) / 2


def _unknown(moved: Bool[np.ndarray, " v"], faces: Int[np.ndarray, "f 3"]) -> Bool[np.ndarray, " v"]:
    """Vertices that move and hang, over edges, on one that rests."""
    edges = unique_edges(faces)
    size = len(moved)
    graph = sp.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(size, size))
    count, part = connected_components(graph, directed=False)
    rests = np.bincount(part, ~moved, minlength=count) > 0
    unknown: Bool[np.ndarray, " v"] = moved & rests[part]
    return unknown
