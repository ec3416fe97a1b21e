"""Dental arches, placed behind a person's lips.

No scan shows them. A fitted identity moves them with the head as a whole, so that the mean head's arches end up too narrow and up
to 17 mm behind the lips, and an open mouth shows dark holes at its corners. Anatomy determines their place: the front teeth
support the lips.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse.csgraph import connected_components

from omote.geometry.mesh import adjacency
from omote.head.model import HeadModel, once_per_head

INNER_LIPS = (61, 62, 63, 65, 66, 67)  # of the 68 landmarks
LIP_MM = 8.0  # distance from the line of the closed lips to the teeth, which leaves room for lips that roll in
FARTHEST_MM = 8.0
TONGUE_SHARE = 0.7  # share of the arches' movement that the tongue follows; its root stays in place


@once_per_head
def _arches(head: HeadModel) -> tuple[Int[np.ndarray, "a"], Int[np.ndarray, "t"]]:
    """Vertex ids of the teeth and gums, and of the tongue; each is a connected component of the mesh."""
    _, component = connected_components(adjacency(head.faces, head.num_vertices)[0], directed=False)
    skin = component[head.part_vertices("skin")[0]]
    inside = head.part_vertices("teeth_upper", "teeth_lower", "mouth")
    return inside[component[inside] != skin], head.part_vertices("tongue")


def seat_mouth(head: HeadModel, vertices_mm: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "v 3"]:
    """Move the arches and the tongue forward to the lips, and the arches apart; all other vertices stay in place.

    Args:
        head: output head model.
        vertices_mm: vertices of a person at rest, in the canonical frame.
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
