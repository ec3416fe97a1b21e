"""Colours of a scan at given surface points, from its texture, vertices or points."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from omote.compiled import kernel
from omote.cores import num_cores
from omote.geometry.cloud import spacing
from omote.geometry.mesh import vertex_normals
from omote.lift.points import sample_image
from omote.types import Mesh, PointCloud

# Scan surface this far from the fitted head is hair or cloth, not this skin.
MAX_DISTANCE_MM = 5.0
CROP_MM = 12.0
MIN_COSINE = 0.25
POINT_NEIGHBORS = 4


def scan_color(
    scan: Mesh | PointCloud, points_mm: Float[np.ndarray, "n 3"], normals: Float[np.ndarray, "n 3"]
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n"]]:
    """Colour and confidence in [0, 1] at points of the fitted head.

    The confidence falls with the distance to the scan's surface and with the angle between the two surfaces.

    Args:
        scan: coloured scan (`has_color`) in the canonical frame, in mm.
        points_mm: points on the head's surface.
        normals: unit normals at the points.
    """
    if isinstance(scan, PointCloud):
        return _from_points(scan, points_mm, normals)
    return _from_mesh(scan, points_mm, normals)


def _belief(distance: Float[np.ndarray, "n"], cosine: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    near = np.clip((MAX_DISTANCE_MM - distance) / 2.0, 0.0, 1.0)
    return near * np.clip((cosine - MIN_COSINE) / 0.25, 0.0, 1.0)


def _from_points(
    scan: PointCloud, points: Float[np.ndarray, "n 3"], normals: Float[np.ndarray, "n 3"]
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n"]]:
    assert scan.colors is not None
    kept = _near_box(scan.points, points)
    if len(kept) < POINT_NEIGHBORS:
        return np.zeros((len(points), 3)), np.zeros(len(points))
    cloud, colors = scan.points[kept], scan.colors[kept]
    gap = max(spacing(cloud), 0.1)
    distance, index = cKDTree(cloud).query(
        points, k=POINT_NEIGHBORS, distance_upper_bound=MAX_DISTANCE_MM + 2 * gap, workers=num_cores()
    )
    found = np.isfinite(distance)
    index = np.where(found, index, 0)
    weight = np.where(
        found, np.exp(-0.5 * (np.minimum(distance, 1e6) - distance[:, :1].clip(max=1e6)) ** 2 / gap**2), 0
    )
    total = np.maximum(weight.sum(axis=1, keepdims=True), 1e-9)
    color = np.einsum("nk,nkc->nc", weight / total, colors[index])
    cosine = np.ones(len(points))
    if scan.normals is not None:
        cosine = np.einsum("nc,nc->n", scan.normals[kept][index[:, 0]], normals)
    nearest = np.where(found[:, 0], distance[:, 0], np.inf)
    # A point between samples is half a spacing away from the nearest one.
    return color, np.where(found[:, 0], _belief(np.maximum(nearest - gap, 0.0), cosine), 0.0)


def _from_mesh(
    scan: Mesh, points: Float[np.ndarray, "n 3"], normals: Float[np.ndarray, "n 3"]
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n"]]:
    near = np.zeros(len(scan.vertices), bool)
    near[_near_box(scan.vertices, points)] = True
    face_ids = np.flatnonzero(near[scan.faces].any(axis=1))
    if not len(face_ids):
        return np.zeros((len(points), 3)), np.zeros(len(points))
    used, faces = np.unique(scan.faces[face_ids], return_inverse=True)
    faces = np.ascontiguousarray(faces.reshape(-1, 3), dtype=np.int64)
    vertices = np.ascontiguousarray(scan.vertices[used], dtype=np.float64)
    _, start = cKDTree(vertices).query(points, workers=num_cores())
    first, incident = _incident(faces, len(vertices))
    face, weights, squared = np.zeros(len(points), np.int64), np.zeros((len(points), 3)), np.full(len(points), np.inf)
    _closest(np.ascontiguousarray(points, np.float64), start, first, incident, vertices, faces, face, weights, squared)
    distance = np.sqrt(squared)
    surface_normal = np.einsum("nkc,nk->nc", vertex_normals(vertices, faces)[faces[face]], weights)
    cosine = np.einsum("nc,nc->n", surface_normal, normals)
    if scan.texture is not None and scan.uv is not None:
        corner = scan.faces if scan.faces_uv is None else scan.faces_uv
        uv = np.einsum("nkc,nk->nc", scan.uv[corner[face_ids[face]]], weights)
        height, width = scan.texture.shape[:2]
        pixel = np.stack([(uv[:, 0] % 1.0) * width, (1 - uv[:, 1] % 1.0) * height], axis=1)
        color = sample_image(scan.texture, pixel)
    else:
        assert scan.vertex_colors is not None
        color = np.einsum("nkc,nk->nc", scan.vertex_colors[used][faces[face]], weights)
    return color, _belief(distance, cosine)


def _near_box(candidates: Float[np.ndarray, "m 3"], points: Float[np.ndarray, "n 3"]) -> Int[np.ndarray, "k"]:
    low, high = points.min(axis=0) - CROP_MM, points.max(axis=0) + CROP_MM
    return np.flatnonzero(((candidates > low) & (candidates < high)).all(axis=1))


def _incident(faces: Int[np.ndarray, "f 3"], num_vertices: int) -> tuple[Int[np.ndarray, "w"], Int[np.ndarray, "c"]]:
    """Faces of each vertex in compressed rows: those of vertex i are ``incident[first[i]:first[i + 1]]``."""
    corner = faces.ravel()
    order = np.argsort(corner, kind="stable")
    first = np.concatenate([[0], np.cumsum(np.bincount(corner, minlength=num_vertices))])
    return first, order // 3


@kernel()
def _closest(
    points: np.ndarray, start: np.ndarray, first: np.ndarray, incident: np.ndarray, vertices: np.ndarray,
    faces: np.ndarray, best_face: np.ndarray, best_weight: np.ndarray, best: np.ndarray,
) -> None:  # fmt: skip
    """Fill the last three arguments: nearest triangle around the nearest vertex, barycentric weights, squared distance."""
    for i in range(len(points)):
        px, py, pz = points[i, 0], points[i, 1], points[i, 2]
        for row in range(first[start[i]], first[start[i] + 1]):
            f = incident[row]
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            ax, ay, az = vertices[a, 0], vertices[a, 1], vertices[a, 2]
            abx, aby, abz = vertices[b, 0] - ax, vertices[b, 1] - ay, vertices[b, 2] - az
            acx, acy, acz = vertices[c, 0] - ax, vertices[c, 1] - ay, vertices[c, 2] - az
            apx, apy, apz = px - ax, py - ay, pz - az
            d00 = abx * abx + aby * aby + abz * abz
            d01 = abx * acx + aby * acy + abz * acz
            d11 = acx * acx + acy * acy + acz * acz
            d20 = apx * abx + apy * aby + apz * abz
            d21 = apx * acx + apy * acy + apz * acz
            det = max(d00 * d11 - d01 * d01, 1e-20)
            w1 = (d11 * d20 - d01 * d21) / det
            w2 = (d00 * d21 - d01 * d20) / det
            w0 = 1 - w1 - w2
            # Clamped to the triangle: exact inside, and close enough beyond an edge, where a neighbour is nearer.
            w0, w1, w2 = max(w0, 0.0), max(w1, 0.0), max(w2, 0.0)
            total = w0 + w1 + w2
            w0, w1, w2 = w0 / total, w1 / total, w2 / total
            dx = apx - w1 * abx - w2 * acx
            dy = apy - w1 * aby - w2 * acy
            dz = apz - w1 * abz - w2 * acz
            distance = dx * dx + dy * dy + dz * dz
            if distance < best[i]:
                best[i] = distance
                best_face[i] = f
                best_weight[i, 0], best_weight[i, 1], best_weight[i, 2] = w0, w1, w2
