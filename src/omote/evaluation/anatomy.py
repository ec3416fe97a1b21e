"""Anatomical plausibility of an avatar's mesh: teeth at rest, folded skin, crossing lips, movement of the mouth's corners.

Everything is measured on the drawn meshes alone, as a viewer has them: skin, teeth and the mouth's lining with their morph
targets, front to +z, in millimetres. No head model is needed, so an avatar of any origin can be measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

from omote.compiled import kernel
from omote.geometry.camera import orbit_camera
from omote.geometry.cloud import closest_on_mesh
from omote.geometry.mesh import face_normals, unique_edges, vertex_normals
from omote.head.expressions import ARKIT_NAMES, CATEGORIES
from omote.lift.solids import FRONT_DEPTH_MM
from omote.rendering.zbuffer import rasterize

FRONT_COSINE = 0.3
VIEW_MM, VIEW_PX, VIEW_DISTANCE_MM = 200.0, 500, 20_000.0  # nearly parallel rays
LIP_FACING = 0.25  # y component of a lip's normal from which on it faces the other lip
LIP_PAIR_MM = 3.0
CORNER_MM = 1.5  # distance from the outermost vertices of the facing lips
CROSSING_MM = 1.0
PAIR_WEIGHT = 0.7


@dataclass(frozen=True, kw_only=True)
class DrawnFace:
    """An avatar's parts as drawn.

    Attributes:
        vertices_mm: vertices of all parts at rest, with coincident vertices merged.
        targets_mm: offsets per morph target.
        triangles: triangles per part ("skin", "teeth", "mouth", "eyes", "tongue"), counter-clockwise seen from outside.
    """

    vertices_mm: Float[np.ndarray, "v 3"]
    targets_mm: Mapping[str, Float[np.ndarray, "v 3"]]
    triangles: Mapping[str, Int[np.ndarray, "_ 3"]]


def welded(
    parts: Mapping[str, tuple[Float[np.ndarray, "_ 3"], Int[np.ndarray, "_ 3"], Float[np.ndarray, "k _ 3"]]],
    names: Iterable[str],
) -> DrawnFace:
    """Parts with their own vertices (positions in mm, triangles, targets in mm) merged into one face; ``names`` of targets."""
    positions = np.concatenate([p for p, _, _ in parts.values()])
    # Vertices are duplicated at UV seams, and where two parts meet.
    _, first, inverse = np.unique(np.round(positions, 4), axis=0, return_index=True, return_inverse=True)
    inverse = inverse.ravel()
    targets = np.concatenate([t for _, _, t in parts.values()], axis=1)[:, first]
    triangles, start = {}, 0
    for name, (own, faces, _) in parts.items():
        triangles[name] = inverse[faces.astype(np.int64) + start]
        start += len(own)
    return DrawnFace(
        vertices_mm=positions[first].astype(np.float64),
        targets_mm=dict(zip(names, targets.astype(np.float64), strict=True)),
        triangles=triangles,
    )


def measure_anatomy(face: DrawnFace) -> dict[str, float]:
    """All measures of this module: at rest, per expression, per ARKit unit, and per pair of expressions at .7 each."""
    lips = find_lips(face)
    front = front_triangles(face)
    out = {
        "rest/teeth_mm2": visible_mm2(face, "teeth"),
        "front_triangles": float(front.sum()),
    }
    expressions = [n for n in CATEGORIES if n in face.targets_mm and n != "neutral"]
    poses = {n: face.targets_mm[n] for n in (*expressions, *(u for u in ARKIT_NAMES if u in face.targets_mm))}
    for a, b in combinations(expressions, 2):
        poses[f"{a}+{b}"] = PAIR_WEIGHT * (face.targets_mm[a] + face.targets_mm[b])
    for name, offset in poses.items():
        posed = face.vertices_mm + offset
        kind = "expression" if name in expressions else "pair" if "+" in name else "unit"
        out[f"{kind}/folded/{name}"] = float(folded(face, front, posed).sum())
        out[f"{kind}/lips_crossing/{name}"] = float(lips.crossing(posed).sum())
        out[f"{kind}/corner_mm/{name}"] = lips.corner_travel(offset)
        out[f"{kind}/motion_max_mm/{name}"] = float(np.linalg.norm(offset, axis=1).max())
    return out


def front_triangles(face: DrawnFace) -> Bool[np.ndarray, " f"]:
    """Mask of the skin's triangles that are visible from the front at rest."""
    v, t = face.vertices_mm, face.triangles["skin"]
    normal = face_normals(v, t)
    near = v[t].mean(axis=1)[:, 2] > v[np.unique(t), 2].max() - FRONT_DEPTH_MM
    out: Bool[np.ndarray, " f"] = near & (normal[:, 2] > FRONT_COSINE * np.linalg.norm(normal, axis=1))
    return out


def folded(
    face: DrawnFace, front: Bool[np.ndarray, " f"], posed_mm: Float[np.ndarray, "v 3"]
) -> Bool[np.ndarray, " f"]:
    """Mask of front triangles whose normal is turned by more than 90 degrees from rest."""
    t = face.triangles["skin"]
    turned = np.einsum("fc,fc->f", face_normals(face.vertices_mm, t), face_normals(posed_mm, t)) < 0
    out: Bool[np.ndarray, " f"] = front & turned
    return out


def visible_mm2(face: DrawnFace, part: str, posed_mm: Float[np.ndarray, "v 3"] | None = None) -> float:
    """Visible area (mm², seen from the front) of a part."""
    camera = orbit_camera(
        size=VIEW_PX, distance_mm=VIEW_DISTANCE_MM, field_mm=VIEW_MM, target_mm=np.array([0.0, -30.0, 0.0])
    )
    posed = np.ascontiguousarray(face.vertices_mm if posed_mm is None else posed_mm, np.float32)
    names = [n for n, t in face.triangles.items() if len(t)]
    if part not in names:
        return 0.0
    faces = np.concatenate([face.triangles[n] for n in names]).astype(np.int32)
    owner = np.repeat(np.arange(len(names)), [len(face.triangles[n]) for n in names])
    raster = rasterize(camera, posed, faces)
    seen = raster.face_id[raster.face_id >= 0]
    return float((owner[seen] == names.index(part)).sum() * (VIEW_MM / VIEW_PX) ** 2)


@dataclass(frozen=True, kw_only=True)
class Lips:
    """The facing surfaces of the two lips at rest.

    Attributes:
        upper: vertices of the upper lip that face the lower one.
        lower: vertices of the lower lip that face the upper one.
        upper_patch: triangles around ``upper``.
        lower_patch: triangles around ``lower``.
        surface: triangles of skin and the mouth's lining, which enclose the flesh.
        at_rest: mask of the vertices (upper, then lower) that already cross at rest.
        corners: vertices at the left and at the right corner.
    """

    upper: Int[np.ndarray, " n"]
    lower: Int[np.ndarray, " m"]
    upper_patch: Int[np.ndarray, "_ 3"]
    lower_patch: Int[np.ndarray, "_ 3"]
    surface: Int[np.ndarray, "_ 3"]
    at_rest: Bool[np.ndarray, " k"]
    corners: tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"]]

    def crossing(self, posed_mm: Float[np.ndarray, "v 3"]) -> Bool[np.ndarray, " k"]:
        """Mask of vertices (upper, then lower) more than `CROSSING_MM` inside the other lip, but not at rest.

        A vertex counts if it lies that far behind the other lip's nearest triangle and the point as far behind it, inside its own
        lip, also lies inside the other lip's flesh: the surface winds around that point twice (Jacobson et al., "Robust Inside-
        Outside Segmentation using Generalized Winding Numbers", SIGGRAPH 2013). The nearest triangle alone is wrong at the
        corners, where the lips meet at an angle; the winding number alone is wrong where a lip is rolled in.
        """
        ids = np.concatenate([self.upper, self.lower])
        out = np.zeros(len(ids), bool)
        suspects = np.flatnonzero(_depths(self, posed_mm) > CROSSING_MM)
        if len(suspects):
            normals = vertex_normals(posed_mm, self.surface)[ids[suspects]]
            behind = posed_mm[ids[suspects]] - CROSSING_MM * normals
            out[suspects] = _winding(behind, posed_mm[self.surface]) > 1.5
        return out & ~self.at_rest

    def corner_travel(self, offset_mm: Float[np.ndarray, "v 3"]) -> float:
        """Movement (mm) of the corner that moves farther."""
        return max(self._travels(offset_mm), default=0.0)

    def corner_difference(self, offset_mm: Float[np.ndarray, "v 3"]) -> float:
        """How much farther (mm) one corner moves than the other."""
        travels = self._travels(offset_mm)
        return max(travels, default=0.0) - min(travels, default=0.0)

    def _travels(self, offset_mm: Float[np.ndarray, "v 3"]) -> list[float]:
        return [float(np.linalg.norm(offset_mm[ids].mean(axis=0))) for ids in self.corners if len(ids)]


def find_lips(face: DrawnFace) -> Lips:
    """The lips of a face at rest: skin above and below the teeth's line with opposing normals within `LIP_PAIR_MM`."""
    v = face.vertices_mm
    surface = np.concatenate([face.triangles[n] for n in ("skin", "mouth") if n in face.triangles])
    normals = vertex_normals(v, surface)
    teeth = v[np.unique(face.triangles["teeth"])]
    middle = teeth[teeth[:, 2] > teeth[:, 2].max() - 8.0].mean(axis=0)
    skin = np.unique(face.triangles["skin"])
    near = skin[(np.abs(v[skin] - middle) < [38.0, 18.0, 40.0]).all(axis=1) & (v[skin, 2] > middle[2] - 20.0)]
    upper, lower = near[normals[near, 1] < -LIP_FACING], near[normals[near, 1] > LIP_FACING]
    corners = (np.zeros(0, np.int64), np.zeros(0, np.int64))
    if len(upper) and len(lower):
        distance, index = cKDTree(v[lower]).query(v[upper])
        facing = (distance < LIP_PAIR_MM) & (v[upper, 1] - v[lower[index], 1] > -LIP_PAIR_MM / 2)
        upper, lower = upper[facing], np.unique(lower[index[facing]])
        both, x = np.union1d(upper, lower), v[np.union1d(upper, lower), 0]
        if len(both):
            corners = (both[x > x.max() - CORNER_MM], both[x < x.min() + CORNER_MM])
    lips = Lips(
        upper=upper,
        lower=lower,
        upper_patch=_patch(surface, upper, lower),
        lower_patch=_patch(surface, lower, upper),
        surface=surface,
        at_rest=np.zeros(len(upper) + len(lower), bool),
        corners=corners,
    )
    return replace(lips, at_rest=lips.crossing(v))


def _patch(
    triangles: Int[np.ndarray, "f 3"], own: Int[np.ndarray, " n"], other: Int[np.ndarray, " m"]
) -> Int[np.ndarray, "_ 3"]:
    """Triangles within two rings of a lip's vertices that contain no vertex of the other lip."""
    size = int(triangles.max()) + 1
    chosen, taken = np.zeros(size, bool), np.zeros(size, bool)
    chosen[own], taken[other] = True, True
    edges = unique_edges(triangles)
    for _ in range(2):
        chosen[edges[chosen[edges].any(axis=1)].ravel()] = True
        chosen &= ~taken
    return triangles[chosen[triangles].all(axis=1)]


def _depths(lips: Lips, posed_mm: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, " k"]:
    """Depth of each lip vertex behind the other lip's nearest triangle."""
    out = []
    for ids, patch in ((lips.upper, lips.lower_patch), (lips.lower, lips.upper_patch)):
        if not len(ids) or not len(patch):
            out.append(np.zeros(len(ids)))
            continue
        _, where, triangle = closest_on_mesh(posed_mm[ids], posed_mm, patch, nearest_vertices=3)
        normal = face_normals(posed_mm, patch)[triangle]
        normal = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
        out.append(np.einsum("nc,nc->n", where - posed_mm[ids], normal))
    return np.concatenate(out)


@kernel()
def _winding(points: np.ndarray, corners: np.ndarray) -> Float[np.ndarray, " n"]:
    """Winding number of a surface around each point: its triangles' solid angles (Van Oosterom & Strackee, 1983) / 4π."""
    out = np.zeros(len(points))
    for i in range(len(points)):
        total = 0.0
        px, py, pz = points[i, 0], points[i, 1], points[i, 2]
        for t in range(len(corners)):
            ax, ay, az = corners[t, 0, 0] - px, corners[t, 0, 1] - py, corners[t, 0, 2] - pz
            bx, by, bz = corners[t, 1, 0] - px, corners[t, 1, 1] - py, corners[t, 1, 2] - pz
            cx, cy, cz = corners[t, 2, 0] - px, corners[t, 2, 1] - py, corners[t, 2, 2] - pz
            la = np.sqrt(ax * ax + ay * ay + az * az)
            lb = np.sqrt(bx * bx + by * by + bz * bz)
            lc = np.sqrt(cx * cx + cy * cy + cz * cz)
            volume = ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)
            ab, bc, ca = ax * bx + ay * by + az * bz, bx * cx + by * cy + bz * cz, cx * ax + cy * ay + cz * az
            below = la * lb * lc + ab * lc + bc * la + ca * lb
            total += 2.0 * np.arctan2(volume, below)
        out[i] = total / (4.0 * np.pi)
    return out
