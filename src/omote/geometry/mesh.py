"""Operations on triangle meshes: normals, edges, subdivision."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int


def face_normals(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> Float[np.ndarray, "f 3"]:
    """Area-weighted face normals: length is twice the area."""
    a, b, c = vertices[faces[:, 0]], vertices[faces[:, 1]], vertices[faces[:, 2]]
    return np.cross(b - a, c - a)


def vertex_normals(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> Float[np.ndarray, "v 3"]:
    """Unit vertex normals, the area-weighted mean of the incident faces'; (0, 0, 1) where no face is incident."""
    normal = face_normals(vertices, faces)
    out = np.stack(
        [np.bincount(faces.ravel(), np.repeat(normal[:, k], 3), minlength=len(vertices)) for k in range(3)], axis=1
    )
    length = np.linalg.norm(out, axis=1, keepdims=True)
    out = np.where(length > 1e-12, out / np.maximum(length, 1e-12), np.array([0.0, 0.0, 1.0]))
    return out.astype(vertices.dtype)


def unique_edges(faces: Int[np.ndarray, "f 3"]) -> Int[np.ndarray, "e 2"]:
    """Undirected edges, each once, with the smaller vertex id first."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    if not len(edges):
        return edges.astype(faces.dtype)
    # One integer per edge sorts an order of magnitude faster than rows do.
    count = int(edges.max()) + 1
    code = np.unique(edges.min(axis=1) * count + edges.max(axis=1))
    return np.stack([code // count, code % count], axis=1).astype(faces.dtype)
