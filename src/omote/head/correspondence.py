"""Transfer of expression units to a head model that has none, through correspondence with a donor model.

The donor is fitted to the head's template so that both surfaces coincide, and every vertex takes the offsets of the donor's
nearest vertices. This is deformation transfer (Sumner & Popović, SIGGRAPH 2004), which reduces to a lookup for coincident
meshes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from omote.geometry.camera import transform
from omote.geometry.cloud import closest_on_triangles
from omote.geometry.mesh import vertex_normals
from omote.head.fit import fit_head
from omote.head.model import PARTS, HeadModel
from omote.head.nicp import refine
from omote.head.region import head_region

# Closed lips touch, and only their normals tell the upper from the lower: opposite normals count as this distance.
OPPOSITE_MM = 20.0
NEIGHBORS = 4
# Number of candidate triangles per vertex, and the largest distance at which a vertex is projected onto the surface.
CANDIDATES, ON_SURFACE_MM = 12, 1.5


def with_units_of(head: HeadModel, donor: HeadModel) -> HeadModel:
    """Copy of a head model with the ARKit units of another head model.

    Args:
        head: head model of any topology; parts that the donor lacks do not move.
        donor: head model with ARKit units.

    Raises:
        AlignmentError: the donor cannot be fitted, with fewer than six landmarks near the skin.
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
    # The skin comes last, so that its offsets win at vertices shared with the mouth's lining.
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


def in_topology_of(head: HeadModel, model: HeadModel) -> HeadModel:
    """Resample a head model in another model's topology, which gives ground truth in correspondence for both.

    ``model`` is registered to the template of ``head`` once. Each of its vertices then follows the triangle on which it lies,
    in every identity and expression, since all modes are linear. Parts that ``head`` lacks do not move.

    Args:
        head: head model of any topology, whose modes are resampled.
        model: head model with the new topology.

    Raises:
        AlignmentError: ``model`` cannot be fitted.
    """
    if head is model:
        return head
    rest = head.template_mm.astype(np.float64)
    normals = vertex_normals(rest, head.faces)
    region = head_region(head)
    skin = np.flatnonzero(region.exterior | region.ear)
    fit = fit_head(model, rest[skin], landmarks=head.landmarks(rest), normals=normals[skin], fixed_scale=1.0)
    # Back into the frame of `head`, in which its cameras are defined.
    back = np.linalg.inv(fit.canonical_from_scan)
    fitted = transform(back, fit.vertices_mm.astype(np.float64))
    found, _ = refine(model, fitted, rest[skin], normals=normals[skin], whole=True)
    template = found.astype(np.float32)
    modes = {
        name: np.zeros((len(values), model.num_vertices, 3), np.float32)
        for name, values in (("identity_mm", head.identity_mm), ("expression_mm", head.expression_mm))
    }
    for part in reversed(PARTS):
        ids = model.part_vertices(part)
        faces = head.faces[head.face_part == PARTS.index(part)]
        if not len(ids) or not len(faces):
            continue
        face, weights = _riding(rest, faces, found[ids], vertex_normals(found, model.faces)[ids], normals)
        corners = faces[face]
        for name, out in modes.items():
            out[:, ids] = np.einsum("mnkc,nk->mnc", getattr(head, name)[:, corners], weights.astype(np.float32))
        if part == "skin":
            # Vertices near the surface are placed exactly on it.
            lying = np.einsum("nkc,nk->nc", rest[corners], weights)
            near = np.linalg.norm(lying - found[ids], axis=1) < ON_SURFACE_MM
            template[ids[near]] = lying[near]
    return replace(model, name=head.name, template_mm=template, **modes, unit_style=None, arch_width=head.arch_width)


def _riding(
    rest: Float[np.ndarray, "v 3"],
    faces: Int[np.ndarray, "f 3"],
    points: Float[np.ndarray, "n 3"],
    normals: Float[np.ndarray, "n 3"],
    rest_normals: Float[np.ndarray, "v 3"],
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, "n 3"]]:
    """The nearest triangle of each point and its barycentric weights; touching lips are told apart by their normals."""
    there = np.hstack([rest[faces].mean(axis=1), OPPOSITE_MM / 2 * rest_normals[faces].mean(axis=1)])
    here = np.hstack([points, OPPOSITE_MM / 2 * normals])
    _, near = cKDTree(there).query(here, k=min(CANDIDATES, len(faces)))
    near = near.reshape(len(points), -1)
    closest = np.stack([closest_on_triangles(points, rest[faces[column]]) for column in near.T], axis=1)
    best = np.argmin(np.linalg.norm(closest - points[:, None], axis=2), axis=1)
    rows = np.arange(len(points))
    face, point = near[rows, best], closest[rows, best]
    a, b, c = rest[faces[face]].transpose(1, 0, 2)
    area = np.cross(b - a, c - a)
    scale = np.maximum(np.sum(area**2, axis=1), 1e-12)
    u = np.sum(np.cross(c - b, point - b) * area, axis=1) / scale
    v = np.sum(np.cross(a - c, point - c) * area, axis=1) / scale
    return face, np.stack([u, v, 1 - u - v], axis=1)
