"""Deformation transfer: the deformation of one mesh, applied to another of the same topology.

Sumner & Popović, "Deformation Transfer for Triangle Meshes", SIGGRAPH 2004. A triangle's deformation is the 3 × 3 matrix S = Ṽ
V⁻¹ (equation 4) of its two edges and its normal before and after (equation 1); the result is the target mesh whose own matrices T
differ least from these (equation 8). Each triangle's fourth vertex occurs in its own term only, where it can cancel the normal's
part of S − T, so it is eliminated in advance. What remains are the gradients within the target's triangles, and one matrix of the
target's vertices for the three coordinates of all deformations. Terms are weighted by area, which makes this Poisson's equation
(Botsch, Sumner, Pauly & Gross, "Deformation Transfer for Detail-Preserving Surface Editing", VMV 2006); with the paper's equal
weights, the smallest triangles would dominate.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from omote.evaluation.baselines import SurfaceEdit
from omote.geometry.mesh import face_normals, unique_edges

ANCHOR_MM = 0.01  # vertices that move by less fix the translation of those that move


class DeformationTransfer(SurfaceEdit):
    """The head model's deformations by ARKit weights, transferred to the surface fitted to the source.

    Like `HeadEdit`, it is given the true landmarks and weights; unlike it, a larger jaw opens wider.
    """

    def deformed(
        self, neutral_mm: Float[np.ndarray, "v 3"], weights: Float[np.ndarray, "n 52"]
    ) -> Float[np.ndarray, "n v 3"]:
        """The surface per expression; parts without a resting vertex (eyes, lower teeth, tongue) move like the model's."""
        mean = self.model.template_mm.astype(np.float64)
        deformed = mean + np.tensordot(weights, self.model.expression_mm, 1)
        return transfer(mean, deformed, neutral_mm, self.model.faces)


def transfer(
    reference_mm: Float[np.ndarray, "v 3"],
    deformed_mm: Float[np.ndarray, "n v 3"],
    target_mm: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "f 3"],
) -> Float[np.ndarray, "n v 3"]:
    """Deform ``target_mm`` in the way ``reference_mm`` is deformed.

    Args:
        reference_mm: source mesh at rest, without triangles of zero area.
        deformed_mm: deformations of the source mesh.
        target_mm: target vertices, in correspondence and in the same pose: the transfer does not follow a rotation of the target.
        faces: triangles of both meshes.

    Returns:
        The target's deformations. Resting vertices (`ANCHOR_MM`), and parts without any, move like the reference's.
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
    # Positive definite, so without pivoting, in half the time.
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
    """Frames with columns for two edges, and the direction to the fourth vertex, as long as the edges' scale."""
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
    """A matrix from vertex values of a function to its gradient in each triangle (three rows each), and the areas."""
    inverse = np.linalg.pinv(_edges(vertices, faces))
    corners = np.stack([-inverse.sum(axis=1), inverse[:, 0], inverse[:, 1]], axis=2)  # f × component × corner
    rows = np.repeat(np.arange(3 * len(faces)), 3)
    columns = np.repeat(faces[:, None, :], 3, axis=1).ravel()
    matrix = sp.csr_matrix((corners.ravel(), (rows, columns)), shape=(3 * len(faces), len(vertices)))
    return matrix, np.linalg.norm(face_normals(vertices, faces), axis=1) / 2


def _unknown(moved: Bool[np.ndarray, " v"], faces: Int[np.ndarray, "f 3"]) -> Bool[np.ndarray, " v"]:
    """Mask of the vertices that move and are connected to a resting one."""
    edges = unique_edges(faces)
    size = len(moved)
    graph = sp.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(size, size))
    count, part = connected_components(graph, directed=False)
    rests = np.bincount(part, ~moved, minlength=count) > 0
    unknown: Bool[np.ndarray, " v"] = moved & rests[part]
    return unknown
