"""Operations on point clouds: normals, thinning, spacing, and exact distances to a triangle mesh."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

from omote.compiled import kernel
from omote.cores import num_cores


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


def in_sight(
    points_mm: Float[np.ndarray, "n 3"], directions: Float[np.ndarray, "k 3"], *, cell_mm: float, depth_mm: float
) -> Bool[np.ndarray, " n"]:
    """Mask of points that a parallel view sees, from at least one direction; others lie inside, such as a mouth's.

    Args:
        points_mm: the points.
        directions: unit vectors towards the viewer.
        cell_mm: side of the views' cells, which must not be finer than the points' spacing.
        depth_mm: how far behind the foremost point of its cell a point may lie.
    """
    found = np.zeros(len(points_mm), bool)
    for toward in directions:
        aside = np.cross(toward, [0.0, 1.0, 0.0] if abs(toward[1]) < 0.9 else [1.0, 0.0, 0.0])
        aside /= np.linalg.norm(aside)
        plane = np.stack([points_mm @ aside, points_mm @ np.cross(toward, aside)], axis=1)
        cell = np.floor((plane - plane.min(axis=0)) / cell_mm).astype(np.int64)
        index = cell[:, 0] * (cell[:, 1].max() + 1) + cell[:, 1]
        height = points_mm @ toward
        foremost = np.full(index.max() + 1, -np.inf)
        np.maximum.at(foremost, index, height)
        found |= height > foremost[index] - depth_mm
    return found


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
    _, near = cKDTree(vertices[used]).query(points, k=nearest_vertices, workers=num_cores())
    near = near.reshape(len(points), nearest_vertices)
    candidates = incident[used[near]].reshape(len(points), nearest_vertices * incident.shape[1])
    best = np.full(len(points), np.inf)
    where = np.zeros((len(points), 3))
    face = np.zeros(len(points), np.int64)
    _closest_of(
        points.astype(np.float64), vertices.astype(np.float64), faces.astype(np.int64), candidates, best, where, face
    )
    return best, where, face


def barycentric(points: Float[np.ndarray, "n 3"], corners: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, "n 3"]:
    """Barycentric weights of points in the planes of triangles (Ericson, *Real-Time Collision Detection*, 2005, 3.4)."""
    u, v, w = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], points - corners[:, 0]
    uu, uv, vv, wu, wv = (np.einsum("kc,kc->k", a, b) for a, b in ((u, u), (u, v), (v, v), (w, u), (w, v)))
    area = np.maximum(uu * vv - uv**2, 1e-12)
    second, third = (vv * wu - uv * wv) / area, (uu * wv - uv * wu) / area
    return np.stack([1.0 - second - third, second, third], axis=1)


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
    out = np.zeros((len(p), 3))
    _closest_to_each(p.astype(np.float64), tri.astype(np.float64), out)
    return out


@kernel()
def _closest_to_each(points: np.ndarray, triangles: np.ndarray, out: np.ndarray) -> None:
    for i in range(len(points)):
        _closest(points[i], triangles[i, 0], triangles[i, 1], triangles[i, 2], out[i])


@kernel()
def _closest_of(
    points: np.ndarray,
    vertices: np.ndarray,
    faces: np.ndarray,
    candidates: np.ndarray,
    best: np.ndarray,
    where: np.ndarray,
    face: np.ndarray,
) -> None:
    """Write the distance, closest point and face of each point's candidate faces (-1 is none)."""
    at = np.zeros(3)
    for i in range(len(points)):
        for j in range(candidates.shape[1]):
            f = candidates[i, j]
            if f < 0:
                continue
            _closest(points[i], vertices[faces[f, 0]], vertices[faces[f, 1]], vertices[faces[f, 2]], at)
            distance = np.sqrt((at[0] - points[i, 0]) ** 2 + (at[1] - points[i, 1]) ** 2 + (at[2] - points[i, 2]) ** 2)
            if distance < best[i]:
                best[i], face[i] = distance, f
                where[i] = at


@kernel()
def _closest(p: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray, out: np.ndarray) -> None:
    """Write the closest point of a triangle: its projection, or the nearest point of an edge."""
    d00 = d01 = d11 = d20 = d21 = 0.0
    for k in range(3):
        ab, ac, ap = b[k] - a[k], c[k] - a[k], p[k] - a[k]
        d00 += ab * ab
        d01 += ab * ac
        d11 += ac * ac
        d20 += ap * ab
        d21 += ap * ac
    denominator = max(d00 * d11 - d01 * d01, 1e-20)
    v, w = (d11 * d20 - d01 * d21) / denominator, (d00 * d21 - d01 * d20) / denominator
    if v >= 0 and w >= 0 and v + w <= 1:
        for k in range(3):
            out[k] = a[k] + v * (b[k] - a[k]) + w * (c[k] - a[k])
        return
    best = np.inf
    for edge in range(3):
        start, end = (b, c) if edge == 2 else (a, b if edge == 0 else c)
        along = square = 0.0
        for k in range(3):
            along += (p[k] - start[k]) * (end[k] - start[k])
            square += (end[k] - start[k]) ** 2
        t = min(max(along / max(square, 1e-20), 0.0), 1.0)
        distance = 0.0
        for k in range(3):
            distance += (start[k] + t * (end[k] - start[k]) - p[k]) ** 2
        if distance < best:
            best = distance
            for k in range(3):
                out[k] = start[k] + t * (end[k] - start[k])
