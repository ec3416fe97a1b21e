"""Dental arches seated behind a person's lips.

No scan shows them, and a fitted identity moves them with the head as a whole: by the mean head's arches they end too narrow
and up to 17 mm behind the lips, and an open mouth is a dark hole at its corners. Anatomy says where they belong: the front
teeth carry the lips.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse.csgraph import connected_components

from omote.geometry.mesh import adjacency
from omote.head.model import HeadModel, once_per_head

INNER_LIPS = (61, 62, 63, 65, 66, 67)  # of the 68 landmarks
LIP_MM = 8.0  # from where closed lips meet to the teeth: room for lips that roll in
FARTHEST_MM = 8.0
TONGUE_SHARE = 0.7  # of the arches' way; its root stays


@once_per_head
def _arches(head: HeadModel) -> tuple[Int[np.ndarray, "a"], Int[np.ndarray, "t"]]:
    """Vertex ids of (teeth and gums, tongue): surfaces of their own, so each is a connected component."""
    _, component = connected_components(adjacency(head.faces, head.num_vertices)[0], directed=False)
    skin = component[head.part_vertices("skin")[0]]
    inside = head.part_vertices("teeth_upper", "teeth_lower", "mouth")
    return inside[component[inside] != skin], head.part_vertices("tongue")


def seat_mouth(head: HeadModel, vertices_mm: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "v 3"]:
    """Move arches and tongue forward to the lips, and the arches apart; every other vertex stays.

    Args:
        head: the output head.
        vertices_mm: a person at rest, canonical frame.
    """
    arches, tongue = _arches(head)
    if not len(arches):
        return vertices_mm
    out = vertices_mm.copy()
    lips = float(head.landmarks(vertices_mm)[list(INNER_LIPS), 2].mean())
    front = float(vertices_mm[head.part_vertices("teeth_upper"), 2].max())
    forward = float(np.clip(lips - LIP_MM - front, 0.0, FARTHEST_MM))
    middle = vertices_mm[arches, 0].mean()
    out[arches, 0] = middle + head.arch_width * (vertices_mm[arches, 0] - middle)
    out[arches, 2] += forward
    out[tongue, 2] += TONGUE_SHARE * forward
    return out
