"""Bake the skin texture from the scan's own colours, and fill what no camera saw.

Each texel asks the scan for the colour at its place on the registered head. Where the scan has no answer (too far, facing
away), procedural skin takes over, shifted to the scan's own tone by a correction that spreads smoothly over the head from
where both are known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from scipy.spatial import cKDTree

from omote.avatar.atlas import Atlas, skin_atlas
from omote.geometry.camera import rgbd_points
from omote.geometry.cloud import estimate_normals
from omote.geometry.mesh import unique_edges, vertex_normals
from omote.head.model import HeadModel
from omote.render.appearance import Appearance, default_appearance, paint
from omote.render.rgbd import interpolate
from omote.render.scans import sample_texture
from omote.render.zbuffer import fill
from omote.types import Mesh, PointCloud, Rgbd

MAX_DISTANCE_MM = 4.0
MIN_NORMAL_COSINE = 0.35
SAMPLES = 400_000


@dataclass(frozen=True, kw_only=True)
class Baked:
    """A skin texture.

    Attributes:
        texture: sRGB [0, 1], row 0 at the top.
        inferred: True for texels that no camera saw.
    """

    texture: Float[np.ndarray, "h w 3"]
    inferred: Bool[np.ndarray, "h w"]


@dataclass(frozen=True, kw_only=True)
class ColoredSurface:
    """A scan as something that can be asked for colours.

    Attributes:
        points: samples of the surface, mm.
        normals: their unit normals.
        colors: their colours, or None for a scan without.
        mesh: the mesh that ``faces`` index, for exact lookups, or None.
        faces: face of each sample.
    """

    points: Float[np.ndarray, "n 3"]
    normals: Float[np.ndarray, "n 3"]
    colors: Float[np.ndarray, "n 3"] | None
    mesh: Mesh | None = None
    faces: Int[np.ndarray, "n"] | None = None


def colored_surface(scan: Mesh | PointCloud | Rgbd, seed: int = 0) -> ColoredSurface:
    """Prepare a scan in canonical millimetres; normals of clouds face the front."""
    if isinstance(scan, Rgbd):
        points, colors = rgbd_points(scan)
        eye = np.linalg.inv(scan.camera.cam_from_world)[:3, 3]
        return ColoredSurface(points=points, normals=estimate_normals(points, towards=eye), colors=colors)
    if isinstance(scan, PointCloud):
        normals = scan.normals
        if normals is None:
            normals = estimate_normals(scan.points, towards=np.array([0.0, 0.0, 1000.0]))
        return ColoredSurface(points=scan.points, normals=normals, colors=scan.colors)
    rng = np.random.default_rng(seed)
    corner = scan.vertices[scan.faces]
    area = 0.5 * np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
    face = rng.choice(len(scan.faces), SAMPLES, p=area / area.sum())
    weights = rng.dirichlet((1, 1, 1), SAMPLES)
    points = np.einsum("nk,nkc->nc", weights, corner[face])
    normals = vertex_normals(scan.vertices, scan.faces)[scan.faces[face]].mean(axis=1)
    has_color = scan.texture is not None or scan.vertex_colors is not None
    colors = face_colors(scan, face, weights) if has_color else None
    return ColoredSurface(points=points, normals=normals, colors=colors, mesh=scan, faces=face)


def face_colors(
    mesh: Mesh, face: Int[np.ndarray, "n"], weights: Float[np.ndarray, "n 3"]
) -> Float[np.ndarray, "n 3"]:
    """Colours at barycentric points of a mesh's faces."""
    if mesh.texture is not None and mesh.uv is not None and mesh.faces_uv is not None:
        return sample_texture(mesh.texture, np.einsum("nk,nkc->nc", weights, mesh.uv[mesh.faces_uv[face]]))
    assert mesh.vertex_colors is not None
    return np.einsum("nk,nkc->nc", weights, mesh.vertex_colors[mesh.faces[face]])


def lookup(
    surface: ColoredSurface, points: Float[np.ndarray, "n 3"], normals: Float[np.ndarray, "n 3"]
) -> tuple[Float[np.ndarray, "n 3"], Bool[np.ndarray, "n"]]:
    """The scan's colours at places on the registered head, and which of them the scan really shows."""
    assert surface.colors is not None
    tree = cKDTree(surface.points)
    distance, index = tree.query(points, k=4, workers=-1, distance_upper_bound=2 * MAX_DISTANCE_MM)
    index = np.minimum(index, len(surface.points) - 1)
    seen = distance[:, 0] < MAX_DISTANCE_MM
    seen &= np.einsum("nc,nc->n", surface.normals[index[:, 0]], normals) > MIN_NORMAL_COSINE
    if surface.mesh is not None and surface.faces is not None:
        face = surface.faces[index[:, 0]]
        weights = _closest_barycentric(surface.mesh.vertices[surface.mesh.faces[face]], points)
        return face_colors(surface.mesh, face, weights), seen
    weight = np.where(np.isfinite(distance), 1 / (distance**2 + 0.05), 0)
    colors = np.einsum("nk,nkc->nc", weight, surface.colors[index]) / np.maximum(weight.sum(axis=1), 1e-9)[:, None]
    return colors, seen


def _closest_barycentric(
    corner: Float[np.ndarray, "n 3 3"], points: Float[np.ndarray, "n 3"]
) -> Float[np.ndarray, "n 3"]:
    """Barycentric weights of the projection onto each triangle's plane, clamped into the triangle."""
    a, ab, ac = corner[:, 0], corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    ap = points - a
    d00, d01, d11 = ((x * y).sum(axis=1) for x, y in ((ab, ab), (ab, ac), (ac, ac)))
    d20, d21 = (ap * ab).sum(axis=1), (ap * ac).sum(axis=1)
    det = np.maximum(d00 * d11 - d01**2, 1e-12)
    v, w = (d11 * d20 - d01 * d21) / det, (d00 * d21 - d01 * d20) / det
    weights = np.clip(np.stack([1 - v - w, v, w], axis=1), 0, None)
    return weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)


def bake(
    model: HeadModel,
    vertices_mm: Float[np.ndarray, "v 3"],
    scan: Mesh | PointCloud | Rgbd,
    *,
    size: int = 1024,
    appearance: Appearance | None = None,
) -> Baked:
    """Bake the skin texture of a person.

    Args:
        model: topology and UVs.
        vertices_mm: the person at rest, registered to the scan.
        scan: in canonical millimetres; without colour the skin is procedural throughout.
        size: texture rows; columns are that times the atlas's tiles.
        appearance: of the procedural skin; the plain person's if None.
    """
    atlas = skin_atlas(model)
    face_id, bary = _rasterise_atlas(atlas, size)
    faces = np.ascontiguousarray(model.faces[atlas.face_ids], np.int32)
    hit = face_id >= 0
    positions = interpolate(face_id, bary, faces, vertices_mm.astype(np.float32))[hit]
    normals = interpolate(face_id, bary, faces, vertex_normals(vertices_mm, model.faces).astype(np.float32))[hit]
    painted = paint(model, appearance or default_appearance())
    surface = colored_surface(scan)
    texture = np.zeros((*face_id.shape, 3), np.float32)
    inferred = np.ones(face_id.shape, bool)
    if surface.colors is None:
        texture[hit] = interpolate(face_id, bary, faces, painted)[hit]
    else:
        colors, seen = lookup(surface, positions.astype(np.float64), normals)
        own, known = lookup(surface, vertices_mm.astype(np.float64), vertex_normals(vertices_mm, model.faces))
        correction = _spread(model, own - painted, known)
        filled = interpolate(face_id, bary, faces, np.clip(painted + correction, 0, 1).astype(np.float32))
        # Feather the border of what was seen over about four millimetres.
        sharp = np.zeros(face_id.shape)
        sharp[hit] = seen
        inside = ndimage.distance_transform_edt(sharp > 0)
        weight = np.clip(inside / (size / 85), 0, 1)[..., None]
        baked = np.zeros_like(texture)
        baked[hit] = colors
        texture = np.where(hit[..., None], weight * baked + (1 - weight) * filled, 0).astype(np.float32)
        inferred[hit] = ~seen
    # Pad the charts' borders, or mip levels would bleed black into the seams.
    nearest = ndimage.distance_transform_edt(~hit, return_distances=False, return_indices=True)
    texture = texture[nearest[0], nearest[1]]
    return Baked(texture=np.clip(texture, 0, 1).astype(np.float32), inferred=inferred)


def _rasterise_atlas(atlas: Atlas, size: int) -> tuple[Int[np.ndarray, "h w"], Float[np.ndarray, "h w 3"]]:
    """Face and barycentric weights of every texel."""
    height, width = size, size * atlas.num_tiles
    screen = np.stack(
        [atlas.uv[:, 0] * width, (1 - atlas.uv[:, 1]) * height, np.ones(len(atlas.uv))], axis=1
    ).astype(np.float64)
    face_id = np.empty((height, width), np.int32)
    bary = np.empty((height, width, 3), np.float32)
    depth = np.empty((height, width), np.float32)
    fill(screen, np.ascontiguousarray(atlas.faces_uv, np.int32), 0.5, False, face_id, bary, depth)
    return face_id, bary


def _spread(
    model: HeadModel, difference: Float[np.ndarray, "v 3"], known: Bool[np.ndarray, "v"]
) -> Float[np.ndarray, "v 3"]:
    """Harmonic extension of a known per-vertex difference over the mesh, damped far from what is known."""
    size = len(difference)
    edges = unique_edges(model.faces)
    adjacency = sp.coo_matrix((np.ones(2 * len(edges)), (edges.ravel(), edges[:, ::-1].ravel())), shape=(size, size))
    degree = np.asarray(adjacency.sum(axis=1)).ravel()
    laplacian = sp.diags(degree + 1e-6) - adjacency.tocsr()
    skin = np.zeros(size, bool)
    skin[model.part_vertices("skin")] = True
    weight = np.where(known & skin, 1.0, 0.0)
    if weight.sum() == 0:
        return np.zeros_like(difference)
    typical = np.median(difference[weight > 0], axis=0)
    solve = spla.factorized((laplacian + sp.diags(weight + 2e-4)).tocsc())
    right = weight[:, None] * difference + 2e-4 * typical
    return np.stack([solve(right[:, k]) for k in range(3)], axis=1)
