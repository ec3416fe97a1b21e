"""A head model's parts as drawable primitives with vertices of their own, split at UV seams, with every morph target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from omote.asset.atlas import skin_atlas
from omote.geometry.mesh import adjacency
from omote.head.expressions import ARKIT_NAMES, CATEGORIES
from omote.head.model import PARTS, HeadModel
from omote.rendering.paint_regions import line_distance, outline_distance
from omote.rendering.shade import fast_normals

# Parts of the model by primitive name, in the file's order.
PRIMITIVES: Mapping[str, tuple[str, ...]] = {
    "skin": ("skin",),
    "eyes": ("eye_left", "eye_right"),
    "teeth": ("teeth_upper", "teeth_lower"),
    "tongue": ("tongue",),
    "mouth": ("mouth",),
}
MM_PER_M = 1000.0
# Standard deviation of each vertex's error, mm; glTF leaves names that begin with an underscore to applications.
UNCERTAINTY = "_UNCERTAINTY_MM"
LEAST_MM = 0.002  # a target whose largest move is smaller moves nothing
TEETH_SHADE, TEETH_SHADE_MM = (
    1.0,
    32.0,
)  # light on the incisors, and the distance behind them at which it falls to a third
LINE_SHADE = 0.55  # darkness of the lines between teeth
HOLLOW = 0.05, 0.4  # slopes up to the second highest neighbour where such a line begins and is darkest
# Brow, lashes and upper lid shade the eyeball over this distance from its edge, by this share there; so does the lower lid.
UPPER_SHADE_MM, UPPER_SHADE = 5.0, 0.5
LOWER_SHADE_MM, LOWER_SHADE = 3.5, 0.35


@dataclass(frozen=True, kw_only=True)
class Primitive:
    """Geometry of one part in metres, with the model's UV convention (origin at the lower left).

    Attributes:
        name: a key of `PRIMITIVES`.
        ids: vertex of the model that each vertex is.
        positions: vertex positions at rest.
        normals: unit normals of the vertices.
        uv: texture coordinates per vertex.
        shade: baked ambient light per vertex in [0, 1], since a viewer does not know that a mouth is dark.
        triangles: vertex ids of the triangles, counter-clockwise seen from outside.
        targets: position offsets of each morph target.
        target_normals: normal offsets of each morph target.
    """

    name: str
    ids: Int[np.ndarray, "n"]
    positions: Float[np.ndarray, "n 3"]
    normals: Float[np.ndarray, "n 3"]
    uv: Float[np.ndarray, "n 2"]
    shade: Float[np.ndarray, "n"]
    triangles: Int[np.ndarray, "f 3"]
    targets: Float[np.ndarray, "k n 3"]
    target_normals: Float[np.ndarray, "k n 3"]


def target_order(names: Mapping[str, object]) -> list[str]:
    """Names of the morph targets in the file's order: categories, ARKit units, then any others in the given order."""
    known = [n for n in (*CATEGORIES, *ARKIT_NAMES) if n in names]
    return known + [n for n in names if n not in known]


def split_primitives(
    model: HeadModel,
    neutral_mm: Float[np.ndarray, "v 3"],
    morphs_mm: Mapping[str, Float[np.ndarray, "v 3"]],
    *,
    keep_still: bool = False,
) -> tuple[list[str], list[Primitive]]:
    """Target names and primitives of a head and its morph targets; empty parts are left out.

    Args:
        model: head model with topology, parts and UVs.
        neutral_mm: vertices at rest.
        morphs_mm: offsets at weight 1 by target name.
        keep_still: keep the targets that move nothing.
    """
    names = [n for n in target_order(morphs_mm) if keep_still or np.abs(morphs_mm[n]).max() > LEAST_MM]
    faces = np.ascontiguousarray(model.faces, np.int32)
    rest = np.ascontiguousarray(neutral_mm, np.float32)
    normals = fast_normals(rest, faces)
    deltas = np.stack([np.asarray(morphs_mm[n], np.float32) for n in names]) if names else np.zeros((0, *rest.shape))
    delta_normals = np.stack([fast_normals(rest + d, faces) - normals for d in deltas]) if names else deltas
    shade = _ambient(model, rest)

    atlas = skin_atlas(model)
    out = []
    for name, parts in PRIMITIVES.items():
        face_ids = np.flatnonzero(np.isin(model.face_part, [PARTS.index(p) for p in parts]))
        if not len(face_ids):
            continue
        corner_uv, uv = (atlas.faces_uv, atlas.uv) if name == "skin" else (model.faces_uv[face_ids], model.uv)
        if name == "eyes":
            uv = np.clip(uv, 0.0, 1.0)
        pair = np.stack([faces[face_ids].ravel(), corner_uv.ravel()], axis=1)
        unique, triangles = np.unique(pair, axis=0, return_inverse=True)
        vertex = unique[:, 0]
        out.append(
            Primitive(
                name=name,
                ids=vertex,
                positions=rest[vertex] / MM_PER_M,
                normals=normals[vertex],
                uv=uv[unique[:, 1]].astype(np.float32),
                shade=shade[vertex],
                triangles=triangles.reshape(-1, 3).astype(np.int32),
                targets=deltas[:, vertex] / np.float32(MM_PER_M),
                target_normals=delta_normals[:, vertex],
            )
        )
    return names, out


def _ambient(model: HeadModel, rest_mm: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "v"]:
    """Ambient light: 1 on the skin, less deep in the mouth and towards the upper lids."""
    landmarks = model.landmarks(rest_mm)
    shade = np.ones(len(rest_mm), np.float32)
    mouth = model.part_vertices("teeth_upper", "teeth_lower", "tongue", "mouth")
    inner = np.setdiff1d(mouth, model.part_vertices("skin"))
    behind = np.clip(float(landmarks[[60, 62, 64, 66], 2].mean()) - rest_mm[inner, 2], 0.0, None)
    shade[inner] = np.clip(np.exp(-behind / 22.0), 0.06, 1.0)
    # Enamel lies in front of the cavity and catches most of the light, also at its sides.
    teeth = model.part_vertices("teeth_upper", "teeth_lower")
    if len(teeth):
        behind = float(rest_mm[teeth, 2].max()) - rest_mm[teeth, 2]
        lines = 1 - LINE_SHADE * _hollow(model, rest_mm, teeth)
        shade[teeth] = np.clip(TEETH_SHADE * np.exp(-behind / TEETH_SHADE_MM) * lines, 0.15, 1.0)
    for part, first in (("eye_right", 36), ("eye_left", 42)):
        ids = model.part_vertices(part)
        if len(ids):
            shade[ids] = _between_lids(rest_mm[ids, :2], landmarks[first : first + 6, :2])
    return shade


def _between_lids(points: Float[np.ndarray, "n 2"], contour: Float[np.ndarray, "6 2"]) -> Float[np.ndarray, "n"]:
    """Light on an eyeball, seen from the front: less along the lids, above all the upper one, and least in the corners.

    Args:
        points: vertices of the eyeball.
        contour: landmarks of the eye, the upper lid first.
    """
    covered = outline_distance(points, contour) >= 0
    upper, lower = line_distance(points, contour[:4])[0], line_distance(points, contour[[3, 4, 5, 0]])[0]
    upper, lower = np.where(covered & (upper < lower), 0.0, upper), np.where(covered & (lower < upper), 0.0, lower)
    light = 1 - UPPER_SHADE * np.clip(1 - upper / UPPER_SHADE_MM, 0, 1) ** 2
    return np.asarray(light * (1 - LOWER_SHADE * np.clip(1 - lower / LOWER_SHADE_MM, 0, 1) ** 2))


def _hollow(
    model: HeadModel, rest_mm: Float[np.ndarray, "v 3"], vertices: Int[np.ndarray, "n"]
) -> Float[np.ndarray, "n"]:
    """How hollow a surface is at some of its vertices, 0 to 1: in a groove, neighbours on two sides lie above the vertex."""
    links, _ = adjacency(model.faces, len(rest_mm))
    normals = fast_normals(np.ascontiguousarray(rest_mm, np.float32), np.ascontiguousarray(model.faces, np.int32))
    rows = links[vertices].tocoo()
    way = rest_mm[rows.col] - rest_mm[vertices][rows.row]
    slope = np.einsum("nc,nc->n", way, normals[vertices][rows.row]) / np.maximum(np.linalg.norm(way, axis=1), 1e-6)
    order = np.lexsort((slope, rows.row))
    last = np.searchsorted(rows.row[order], np.arange(len(vertices)), side="right")
    low, high = HOLLOW
    return np.clip((slope[order][np.maximum(last - 2, 0)] - low) / (high - low), 0.0, 1.0)
