"""Expression units for a head model that has none: another model's, through correspondence.

The other model is fitted to the head's template, so that both have the same surface, and every vertex takes the offsets of what
lies there: deformation transfer (Sumner & Popović, SIGGRAPH 2004) between meshes that coincide, where it is a lookup.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree

from omote.geometry.camera import transform
from omote.geometry.mesh import vertex_normals
from omote.head.fit import fit_head
from omote.head.model import PARTS, HeadModel
from omote.head.nicp import refine
from omote.head.region import head_region

# Lips lie on each other, and only their normals tell the upper from the lower: opposite ones count as this far apart.
OPPOSITE_MM = 20.0
NEIGHBORS = 4


def with_units_of(head: HeadModel, donor: HeadModel) -> HeadModel:
    """A head model with the ARKit units of another.

    Args:
        head: head model of any topology; parts that the donor lacks do not move.
        donor: head model with units.

    Raises:
        AlignmentError: the donor does not fit: fewer than six landmarks near the skin.
    """
    rest = head.template_mm.astype(np.float64)
    normals = vertex_normals(rest, head.faces)
    skin = np.flatnonzero(head_region(head).exterior)
    fit = fit_head(donor, rest[skin], landmarks=head.landmarks(rest), normals=normals[skin], fixed_scale=1.0)
    rotation = fit.canonical_from_scan[:3, :3]
    rest, normals = transform(fit.canonical_from_scan, rest), normals @ rotation.T
    found, _ = refine(donor, fit.vertices_mm, rest[skin], normals=normals[skin])
    here = np.hstack([rest, OPPOSITE_MM / 2 * normals])
    there = np.hstack([found, OPPOSITE_MM / 2 * vertex_normals(found, donor.faces)])
    units = np.zeros((len(donor.expression_mm), len(rest), 3), np.float32)
    # Skin last: it owns the vertices that it shares with the mouth's lining.
    for part in reversed(PARTS):
        ids, known = head.part_vertices(part), donor.part_vertices(part)
        if len(ids) and len(known):
            units[:, ids] = _offsets(here[ids], there[known], donor.expression_mm[:, known])
    return replace(head, expression_mm=units @ rotation.astype(np.float32))


def _offsets(
    here: Float[np.ndarray, "n 6"], there: Float[np.ndarray, "m 6"], offsets: Float[np.ndarray, "52 m 3"]
) -> Float[np.ndarray, "52 n 3"]:
    """Offsets of the nearest vertices, weighted by the inverse of their squared distance."""
    distance, index = cKDTree(there).query(here, k=min(NEIGHBORS, len(there)))
    weight = 1 / (distance.reshape(len(here), -1) ** 2 + 1e-6)
    weight /= weight.sum(axis=1, keepdims=True)
    return np.einsum("unkc,nk->unc", offsets[:, index.reshape(len(here), -1)], weight.astype(np.float32))
