"""Operations on point clouds: normals, thinning, spacing, and exact distances to a triangle mesh."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree


def estimate_normals(
    points: Float[np.ndarray, "n 3"], *, neighbors: int = 12, towards: Float[np.ndarray, "3"] | None = None
) -> Float[np.ndarray, "n 3"]:
    """Unit normals by local principal components; signs are arbitrary unless the normals shall face a point ``towards``."""
    neighbors = min(neighbors, len(points))
    _, index = cKDTree(points).query(points, k=neighbors)
    local = points[index.reshape(len(points), -1)]
    local = local - local.mean(axis=1, keepdims=True)
    _, axes = np.linalg.eigh(np.einsum("nki,nkj->nij", local, local))
    normals = axes[:, :, 0]
    if towards is not None:
        flip = np.einsum("nc,nc->n", normals, towards - points) < 0
        normals = np.where(flip[:, None], -normals, normals)
    return normals


def spacing(points: Float[np.ndarray, "n 3"], *, sample: int = 2000) -> float:
    """Median distance to the nearest other point."""
    step = max(1, len(points) // sample)
    distance, _ = cKDTree(points).query(points[::step], k=2)
    return float(np.median(distance[:, 1]))


def sample_surface(
    vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"], count: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"], Int[np.ndarray, " n"], Float[np.ndarray, "n 3"]]:
    """Points uniform on a mesh's area: (points, unit normals, face ids, barycentric weights)."""
    corners = vertices[faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(cross, axis=1)
    # Stratified: one draw per equal slice of the cumulative area leaves no clumps.
    total = np.cumsum(area)
    slices = (np.arange(count) + rng.uniform(size=count)) / count * total[-1]
    face = np.minimum(np.searchsorted(total, slices), len(faces) - 1)
    r1, r2 = np.sqrt(rng.uniform(size=count)), rng.uniform(size=count)
    weights = np.stack([1 - r1, r1 * (1 - r2), r1 * r2], axis=1)
    points = np.einsum("nkc,nk->nc", corners[face], weights)
    return points, cross[face] / np.maximum(area[face, None], 1e-12), face, weights


def closest_on_mesh(
    points: Float[np.ndarray, "n 3"],
    vertices: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "f 3"],
    *,
    nearest_vertices: int = 2,
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n 3"], Int[np.ndarray, " n"]]:
    """Distance to a mesh, closest surface point and its face, over the triangles around each point's nearest vertices.

    Exact where triangles are well shaped, which a head model's are; Ericson, *Real-Time Collision Detection* (2005), 5.1.5.
    """
    used = np.unique(faces)
    incident = _incident_faces(faces, len(vertices))
    _, near = cKDTree(vertices[used]).query(points, k=nearest_vertices)
    candidates = incident[used[near.reshape(len(points), -1)]].reshape(len(points), -1)
    best = np.full(len(points), np.inf)
    where = np.zeros((len(points), 3))
    face = np.zeros(len(points), np.int64)
    for column in range(candidates.shape[1]):
        rows = np.flatnonzero(candidates[:, column] >= 0)
        if not len(rows):
            continue
        ids = candidates[rows, column]
        closest = closest_on_triangles(points[rows], vertices[faces[ids]])
        distance = np.linalg.norm(closest - points[rows], axis=1)
        better = distance < best[rows]
        best[rows[better]] = distance[better]
        where[rows[better]] = closest[better]
        face[rows[better]] = ids[better]
    return best, where, face


def _incident_faces(faces: Int[np.ndarray, "f 3"], num_vertices: int) -> Int[np.ndarray, "v k"]:
    """Ids of each vertex's faces, padded with -1."""
    corner = faces.ravel()
    order = np.argsort(corner, kind="stable")
    count = np.bincount(corner, minlength=num_vertices)
    start = np.concatenate([[0], np.cumsum(count)[:-1]])
    out = np.full((num_vertices, count.max()), -1, np.int64)
    sorted_corner = corner[order]
    out[sorted_corner, np.arange(len(corner)) - start[sorted_corner]] = order // 3
    return out


def closest_on_triangles(p: Float[np.ndarray, "n 3"], tri: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, "n 3"]:
    """Closest point of triangle i to point i."""
    a, b, c = tri[:, 0], tri[:, 1], tri[:, 2]
    ab, ac, ap = b - a, c - a, p - a

    def dot(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.einsum("nc,nc->n", x, y)

    d00, d01, d11, d20, d21 = dot(ab, ab), dot(ab, ac), dot(ac, ac), dot(ap, ab), dot(ap, ac)
    denominator = np.maximum(d00 * d11 - d01 * d01, 1e-20)
    v = (d11 * d20 - d01 * d21) / denominator
    w = (d00 * d21 - d01 * d20) / denominator
    inside = (v >= 0) & (w >= 0) & (v + w <= 1)
    out = a + v[:, None] * ab + w[:, None] * ac
    # Outside the triangle the closest point lies on one of the three edges.
    best = np.where(inside, 0.0, np.inf)
    for start, edge in ((a, ab), (a, ac), (b, c - b)):
        t = np.clip(dot(p - start, edge) / np.maximum(dot(edge, edge), 1e-20), 0, 1)
        candidate = start + t[:, None] * edge
        distance = dot(candidate - p, candidate - p)
        better = distance < best
        out = np.where(better[:, None], candidate, out)
        best = np.minimum(best, distance)
    return out
