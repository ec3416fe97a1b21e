"""The skin cage: crop along an edge loop, UV islands, rings around the openings, and smooth subdivision as a matrix."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components

from head_build.makehuman import BaseMesh

NECK_LOOP = (815, None)  # a vertex on the front of the neck loop where the head is cut
NOSE_TIP = 201
SOCKET_MAX_FACES = 300  # the closed bags behind the lids are UV islands of 293 quads


@dataclass(frozen=True, kw_only=True)
class Cage:
    """The cropped skin before subdivision.

    Attributes:
        ids: base vertex id per cage vertex.
        quads: cage vertex ids.
        quads_uv: ids into ``uv``.
        uv: packed into [0, 1].
        quad_is_mouth: True for the mouth's inside.
        mirror: cage vertex id of the other side.
    """

    ids: np.ndarray
    quads: np.ndarray
    quads_uv: np.ndarray
    uv: np.ndarray
    quad_is_mouth: np.ndarray
    mirror: np.ndarray


def _edges(quads: np.ndarray) -> np.ndarray:
    return np.sort(np.concatenate([quads[:, [k, (k + 1) % 4]] for k in range(4)]), axis=1)


def _loop_through(quads: np.ndarray, vertices: np.ndarray, start: int) -> set[tuple[int, int]]:
    """Edges of the quad edge loop that runs sideways through ``start``."""
    faces_of: dict[tuple[int, int], set[int]] = {}
    neighbours: dict[int, set[int]] = {}
    for i, quad in enumerate(quads.tolist()):
        for k in range(4):
            a, b = quad[k], quad[(k + 1) % 4]
            faces_of.setdefault((min(a, b), max(a, b)), set()).add(i)
            neighbours.setdefault(a, set()).add(b)
            neighbours.setdefault(b, set()).add(a)
    sideways = max(neighbours[start], key=lambda n: vertices[n, 0])
    loop = [start, sideways]
    while loop[-1] != start:
        before, here = loop[-2], loop[-1]
        used = faces_of[min(before, here), max(before, here)]
        ahead = [n for n in neighbours[here] if n != before and not used & faces_of[min(n, here), max(n, here)]]
        if len(ahead) != 1:
            raise ValueError(f"edge loop through {start} meets a pole at {here}")
        loop.append(ahead[0])
    return {(min(a, b), max(a, b)) for a, b in itertools.pairwise(loop)}


def _components(num: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    graph = coo_matrix((np.ones(len(first)), (first, second)), shape=(num, num))
    return connected_components(graph, directed=False)[1]


def crop(base: BaseMesh) -> Cage:
    """Head and neck without the bags behind the eyeballs, cut along `NECK_LOOP`."""
    cut = _loop_through(base.quads, base.vertices_mm, NECK_LOOP[0])
    edges = _edges(base.quads)
    order = np.lexsort(edges.T)
    same = np.all(edges[order][1:] == edges[order][:-1], axis=1)
    face = np.tile(np.arange(len(base.quads)), 4)[order]
    kept = np.array([tuple(e) not in cut for e in edges[order][1:].tolist()])
    part = _components(len(base.quads), face[:-1][same & kept], face[1:][same & kept])
    head = part == part[np.flatnonzero((base.quads == NOSE_TIP).any(axis=1))[0]]
    quads, quads_uv = base.quads[head], base.quads_uv[head]

    corner = _components(len(base.uv), quads_uv[:, [0, 1, 2]].ravel(), quads_uv[:, [1, 2, 3]].ravel())
    island = corner[quads_uv[:, 0]]
    names = {}
    for label in np.unique(island):
        size = int((island == label).sum())
        center = base.vertices_mm[np.unique(quads[island == label])].mean(axis=0)
        if size > 2000:
            names[label] = "face"
        elif center[1] < 625:
            names[label] = "neck"
        elif abs(center[0]) > 10:
            names[label] = "socket"
        else:
            names[label] = "mouth"
    name = np.array([names[i] for i in island])
    seen = name != "socket"
    quads, quads_uv, name = quads[seen], quads_uv[seen], name[seen]

    ids, flat = np.unique(quads, return_inverse=True)
    uv_ids, flat_uv = np.unique(quads_uv, return_inverse=True)
    quads_uv = flat_uv.reshape(-1, 4)
    index = np.full(len(base.vertices_mm), -1)
    index[ids] = np.arange(len(ids))
    return Cage(
        ids=ids,
        quads=flat.reshape(-1, 4),
        quads_uv=quads_uv,
        uv=_pack(base.uv[uv_ids], quads_uv, name),
        quad_is_mouth=name == "mouth",
        mirror=index[base.mirror[ids]],
    )


def _pack(uv: np.ndarray, quads_uv: np.ndarray, name: np.ndarray) -> np.ndarray:
    """Lay the islands into the unit square: the face gets the left 56 %, neck and mouth the rest."""
    boxes = {"face": (0.008, 0.008, 0.56, 0.992), "neck": (0.575, 0.42, 0.992, 0.992), "mouth": (0.6, 0.01, 0.992, 0.4)}
    out = uv.copy()
    for key, (u0, v0, u1, v1) in boxes.items():
        used = np.unique(quads_uv[name == key])
        low, high = uv[used].min(axis=0), uv[used].max(axis=0)
        out[used] = (uv[used] - low) / (high - low) * (np.array([u1, v1]) - (u0, v0)) + (u0, v0)
    return out


def rings(quads: np.ndarray, start: np.ndarray, count: int) -> list[np.ndarray]:
    """``count`` rings of vertices over faces ``quads``, the first being ``start``."""
    out, seen = [start], set(start.tolist())
    for _ in range(count - 1):
        near = np.unique(quads[np.isin(quads, out[-1]).any(axis=1)])
        out.append(np.array([i for i in near.tolist() if i not in seen], dtype=int))
        seen.update(out[-1].tolist())
    return out


def boundary_vertices(quads: np.ndarray) -> np.ndarray:
    """Vertices on edges with one face."""
    edge, count = np.unique(_edges(quads), axis=0, return_counts=True)
    return np.unique(edge[count == 1])


def catmull_clark(quads: np.ndarray, num_vertices: int, *, smooth: bool = True) -> tuple[csr_matrix, np.ndarray]:
    """One Catmull-Clark step as (matrix, fine quads); fine vertices = old vertices, then edges, then faces.

    Args:
        quads: cage faces.
        num_vertices: of the cage.
        smooth: False keeps the old vertices and takes midpoints (for UVs).

    Reference: Catmull & Clark, "Recursively generated B-spline surfaces on arbitrary topological meshes", 1978.
    """
    num_faces = len(quads)
    all_edges = np.sort(np.stack([quads, np.roll(quads, -1, axis=1)], axis=-1), axis=-1).reshape(-1, 2)
    edge, inverse, count = np.unique(all_edges, axis=0, return_inverse=True, return_counts=True)
    face_edge = inverse.reshape(-1, 4)
    num_edges = len(edge)
    interior = count == 2

    def matrix(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> csr_matrix:
        return csr_matrix((np.ones(rows.size), (rows.ravel(), columns.ravel())), shape=shape)

    face_of = matrix(np.repeat(np.arange(num_faces), 4), quads, (num_faces, num_vertices)) / 4
    edge_mean = matrix(np.repeat(np.arange(num_edges), 2), edge, (num_edges, num_vertices)) / 2
    if smooth:
        touching = matrix(face_edge, np.repeat(np.arange(num_faces), 4), (num_edges, num_faces))
        weight = np.where(interior, 0.5, 1.0)
        edge_point = _scale(edge_mean, weight) + _scale(touching @ face_of, np.where(interior, 0.25, 0.0))
        on_vertex_edge = matrix(edge, np.repeat(np.arange(num_edges), 2), (num_vertices, num_edges))
        on_vertex_face = matrix(quads, np.repeat(np.arange(num_faces), 4), (num_vertices, num_faces))
        valence = np.asarray(on_vertex_edge.sum(axis=1)).ravel()
        faces_at = np.asarray(on_vertex_face.sum(axis=1)).ravel()
        border = np.zeros(num_vertices, bool)
        border[edge[~interior]] = True
        eye = csr_matrix((np.ones(num_vertices), (np.arange(num_vertices),) * 2), shape=(num_vertices,) * 2)
        inside = (
            _scale(on_vertex_face @ face_of, 1 / faces_at / valence)
            + _scale(on_vertex_edge @ edge_mean, 2 / valence / valence)
            + _scale(eye, (valence - 3) / valence)
        )
        border_edges = _scale(on_vertex_edge.T.tocsr(), (~interior).astype(float)).T.tocsr()
        outside = _scale(border_edges @ edge_mean, np.full(num_vertices, 0.25)) + 0.5 * eye
        vertex_point = _scale(inside, (~border).astype(float)) + _scale(outside, border.astype(float))
    else:
        edge_point = edge_mean
        vertex_point = csr_matrix(
            (np.ones(num_vertices), (np.arange(num_vertices),) * 2), shape=(num_vertices, num_vertices)
        )
    from scipy.sparse import vstack

    operator = vstack([vertex_point, edge_point, face_of]).tocsr()
    operator.eliminate_zeros()
    center = num_vertices + num_edges + np.arange(num_faces)
    after = num_vertices + face_edge
    before = np.roll(after, 1, axis=1)
    fine = np.stack([np.stack([quads[:, k], after[:, k], center, before[:, k]], axis=1) for k in range(4)], axis=1)
    return operator, fine.reshape(-1, 4)


def _scale(matrix: csr_matrix, weight: np.ndarray) -> csr_matrix:
    return csr_matrix(matrix.multiply(weight[:, None]))
