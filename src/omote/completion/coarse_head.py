"""The vertices at which completions are predicted: evenly spread over the head, in parts, and from them to all others.

A completion is a smooth displacement of a fitted head. Some two thousand vertices carry it, 5 mm apart on the face and 10 mm
elsewhere; all others follow the nearest of them, by fixed weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse
from scipy.spatial import cKDTree

from omote.geometry.mesh import vertex_normals
from omote.head.model import HeadModel, once_per_head
from omote.head.region import head_region

NUM_FACE, NUM_OTHERS = 1200, 848
NUM_COARSE = NUM_FACE + NUM_OTHERS
# The forehead includes the skull, the jaw the neck.
FACE_PARTS = ("eyes", "nose", "mouth", "cheeks", "forehead", "jaw", "ears")
PART_LANDMARKS = {"eyes": (*range(17, 27), *range(36, 48)), "nose": range(27, 36), "mouth": range(48, 68)}
PART_MM = 13.0  # reach of eyes, nose and mouth around their landmarks
# Closed lips touch and lids lie on eyes: opposite normals count as this distance.
OPPOSITE_MM = 20.0
FOLLOWED = 6


@dataclass(frozen=True, kw_only=True, eq=False)
class CoarseHead:
    """Vertices of a head model at which completions are predicted.

    Attributes:
        ids: their indices in the head model, ordered by part.
        part: index of each one's part in `FACE_PARTS`.
        place: position and scaled normal on the template, whose distances tell touching surfaces apart, mm.
        outer: indices of all vertices on the head's outer surface.
        within: position of each of ``ids`` in ``outer``.
        spread: weights with which all vertices of the head follow ``ids``; rows sum to 1.
    """

    ids: Int[np.ndarray, " n"]
    part: Int[np.ndarray, " n"]
    place: Float[np.ndarray, "n 6"]
    outer: Int[np.ndarray, " s"]
    within: Int[np.ndarray, " n"]
    spread: sparse.csr_matrix

    def surface_faces(self, head: HeadModel) -> Int[np.ndarray, "f 3"]:
        """Triangles of the head's outer surface."""
        on_surface = np.zeros(head.num_vertices, bool)
        on_surface[self.outer] = True
        return head.faces[on_surface[head.faces].all(axis=1)]

    def normals_of(self, vertices_mm: Float[np.ndarray, "v 3"], head: HeadModel) -> Float[np.ndarray, "n 3"]:
        """Outward unit normals of ``ids`` on a head in the head model's topology."""
        return vertex_normals(vertices_mm.astype(np.float64), head.faces)[self.ids]


@once_per_head
def coarse_head(head: HeadModel) -> CoarseHead:
    """The coarse vertices of a head model; always the same."""
    region = head_region(head)
    on_surface = region.exterior | region.ear
    outer = np.flatnonzero(on_surface)
    template = head.template_mm.astype(np.float64)
    everywhere = np.hstack([template, OPPOSITE_MM / 2 * vertex_normals(template, head.faces)])
    place = everywhere[outer]

    away = np.full(len(outer), np.inf)
    on_face = farthest(place, NUM_FACE, away, region.face[outer])
    chosen = np.concatenate([on_face, farthest(place, NUM_OTHERS, away, np.ones(len(outer), bool))])
    part = _parts(head, template)[outer[chosen]]
    order = np.lexsort((chosen, part))
    within = chosen[order]
    return CoarseHead(
        ids=outer[within],
        part=part[order],
        place=place[within],
        outer=outer,
        within=within,
        spread=_following(everywhere, place[within]),
    )


def farthest(
    place: Float[np.ndarray, "s d"], count: int, away: Float[np.ndarray, " s"], among: Bool[np.ndarray, " s"]
) -> Int[np.ndarray, " c"]:
    """Points chosen one by one, each the farthest from those before (Gonzalez, 1985).

    Args:
        place: positions of all points.
        count: number of points to choose.
        away: distance of each point to those chosen before; updated in place.
        among: points that may be chosen.
    """
    chosen = np.empty(count, np.int64)
    for k in range(count):
        distance = np.where(among, away, -1.0)
        chosen[k] = int(distance.argmax())
        np.minimum(away, np.linalg.norm(place - place[chosen[k]], axis=1), out=away)
    return chosen


def _parts(head: HeadModel, template: Float[np.ndarray, "v 3"]) -> Int[np.ndarray, " v"]:
    """Part of every vertex on the outer surface."""
    landmarks = head.landmarks(template)
    distance = np.stack([cKDTree(landmarks[list(ids)]).query(template)[0] for ids in PART_LANDMARKS.values()])
    inner = np.array([FACE_PARTS.index(name) for name in PART_LANDMARKS])[distance.argmin(axis=0)]
    side_z = landmarks[[0, 16], 2].mean()
    brow_y, nose_y, mouth_y = landmarks[17:27, 1].mean(), landmarks[33, 1], landmarks[57, 1]
    behind = template[:, 2] < side_z
    forehead = (template[:, 1] > brow_y) | (behind & (template[:, 1] > nose_y))
    jaw = ~forehead & (behind | (template[:, 1] < mouth_y))
    outer = np.select(
        [forehead, jaw], [FACE_PARTS.index("forehead"), FACE_PARTS.index("jaw")], FACE_PARTS.index("cheeks")
    )
    out = np.where(distance.min(axis=0) < PART_MM, inner, outer)
    out[head_region(head).ear] = FACE_PARTS.index("ears")
    return out


def _following(everywhere: Float[np.ndarray, "v 6"], place: Float[np.ndarray, "n 6"]) -> sparse.csr_matrix:
    """Weights ((r - d) / (r d))² of the nearest vertices, r the distance of the first that no longer counts.

    They change without a jump where one neighbour gives way to another (Franke and Nielson, 1980).
    """
    distance, index = cKDTree(place).query(everywhere, k=FOLLOWED + 1)
    reach = distance[:, -1:]
    near = np.maximum(distance[:, :-1], 1e-6)
    weight = (np.maximum(reach - near, 1e-9) / (reach * near)) ** 2
    weight /= weight.sum(axis=1, keepdims=True)
    rows = np.repeat(np.arange(len(everywhere)), FOLLOWED)
    shape = (len(everywhere), len(place))
    return sparse.csr_matrix((weight.ravel().astype(np.float32), (rows, index[:, :-1].ravel())), shape=shape)
