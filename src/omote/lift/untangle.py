"""Project an expression to the nearest one whose triangles keep within strain limits, so that skin doesn't fold or tear.

A triangle's deformation from the person's own rest is a 3 × 2 gradient F, written in its rest frame: a 2 × 2 part A within
the rest plane, and a row out of it. Two limits hold: no direction is stretched beyond `MAX_STRETCH` (σ₁(F) ≤ s), and the
symmetric part of A stays at least `MIN_FACING` (½(A + Aᵀ) ⪰ ε), which keeps the triangle's facing under rotation and
compression. Both sets are convex in the vertices, as in Lipman, "Bounded Distortion Mapping Spaces for Triangular Meshes",
SIGGRAPH 2012, so every blend between two expressions within the limits is within them too. With ε ≥ 2/7 even the sum of two
expressions at .7 each keeps det A > 0 and doesn't fold: ½(A + Aᵀ) of the sum is at least 1.4 ε − .4.

The nearest vertices are found by alternating a projection per triangle with one linear solve, as for the strain limits of
Bouaziz et al., "Projective Dynamics", SIGGRAPH 2014, but with the multipliers of ADMM (Overby et al., "ADMM ⊇ Projective
Dynamics", TVCG 2017), without which the limits are only approached. Contacts are solved in the same loop: lips and lids
pushed apart only after the last solve would fold again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

from omote.compiled import kernel
from omote.geometry.mesh import face_normals, factor_spd, vertex_normals
from omote.head.model import PARTS, HeadModel, once_per_head
from omote.lift.contact import Contact, contact_of, lip_pairs
from omote.lift.motion_limits import motion_limits
from omote.lift.solids import Solids, find_solids

MIN_FACING, FIRM_FACING = 0.3, 0.5
CREASING, CREASE_MM = slice(27, 68), 14.0  # nose, lids and lips, of the 68 landmarks; skin farther away is firmer
MAX_STRETCH = 2.0
LENGTH_MM = 4.0  # distance over which a correction spreads
SPREAD_MM = 9.0  # distance around a strained triangle within which vertices may move
DEPTH_MM = 100.0  # folds deeper than this behind the foremost skin are never seen
FACING_COSINE = 0.2  # a triangle that faces farther away at rest may turn over
ITERATIONS = 16
CONTACT_EVERY = 8
TOLERANCE = 0.02
LIP_OVERLAP_MM = 0.3  # overlap allowed for soft flesh that presses together
SEAL_MM = 0.2  # largest gap between lips that stay closed
LIP_WEIGHT = 8.0
LIP_RANGE_MM, LIP_NEIGHBORS = 4.0, 4


# Parts that must not pass through each other, by the names of `omote.lift.solids`.
SOLID = {"skin": ("skin",), "teeth": ("teeth_upper", "teeth_lower"), "eyes": ("eye_left", "eye_right")}

LipsMay = Literal["part", "close", "cross"]


@dataclass(frozen=True, kw_only=True)
class RestSkin:
    """A person's skin at rest, the reference for strain.

    Attributes:
        vertices_mm: vertices of the whole head.
        triangles: movable triangles of the skin and of the mouth's lining.
        frame: rest frame of each triangle, in rows: two tangents and the normal.
        gradient: weights of each triangle's corners in the derivative along each tangent.
        weight: weight of each triangle in the objective.
        area_mm2: each vertex's share of the area of the triangles around it.
        least_facing: lower limit of ½(A + Aᵀ) for each triangle; -inf if the triangle may turn over.
        movable: mask of the movable vertices.
        stiffness: matrix of the objective over all vertices.
        lips: contact of the lips.
        contact: contacts of lids and lining.
        solids: skin, teeth and eyeballs that must not pass through each other.
    """

    vertices_mm: Float[np.ndarray, "v 3"]
    triangles: Int[np.ndarray, "t 3"]
    frame: Float[np.ndarray, "t 3 3"]
    gradient: Float[np.ndarray, "t 3 2"]
    weight: Float[np.ndarray, " t"]
    area_mm2: Float[np.ndarray, " v"]
    least_facing: Float[np.ndarray, " t"]
    movable: Bool[np.ndarray, " v"]
    stiffness: sp.csr_matrix
    lips: LipContact
    contact: Contact
    solids: Solids


@dataclass(frozen=True, kw_only=True)
class LipContact:
    """Pairs of vertices that face each other across the closed mouth.

    Attributes:
        upper: ids of vertices on the upper lip.
        lower: ids of vertices on the lower lip.
        facing: unit vectors from the lower to the upper vertex at rest.
        least_mm: smallest distance along ``facing``; negative where flesh presses together.
        most_mm: largest distance while the mouth stays closed.
        weight: weight of each pair in the objective.
    """

    upper: Int[np.ndarray, " p"]
    lower: Int[np.ndarray, " p"]
    facing: Float[np.ndarray, "p 3"]
    least_mm: Float[np.ndarray, " p"]
    most_mm: Float[np.ndarray, " p"]
    weight: Float[np.ndarray, " p"]

    def gap_mm(self, vertices: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, " p"]:
        """Distance of each pair along ``facing``."""
        return np.einsum("pc,pc->p", vertices[self.upper] - vertices[self.lower], self.facing)


def rest_skin(model: HeadModel, neutral_mm: Float[np.ndarray, "v 3"]) -> RestSkin:
    """Precompute the data that `untangle` needs of a person at rest, for any number of expressions.

    Args:
        model: head model with topology, parts and units.
        neutral_mm: vertices of the person at rest, canonical frame.
    """
    rest = neutral_mm.astype(np.float64)
    motion = motion_limits(model)
    movable = motion.skin & (motion.mobility_mm > 0.05) & (rest[:, 2] > rest[motion.skin, 2].max() - DEPTH_MM)
    triangles = model.faces[movable[model.faces].any(axis=1) & motion.skin[model.faces].all(axis=1)].astype(np.int64)

    normal = face_normals(rest, triangles)
    area = np.linalg.norm(normal, axis=1) / 2
    triangles, normal, area = triangles[area > 1e-6], normal[area > 1e-6], area[area > 1e-6]

    first = rest[triangles[:, 1]] - rest[triangles[:, 0]]
    normal = normal / (2 * area[:, None])
    tangent = first / np.linalg.norm(first, axis=1, keepdims=True)
    frame = np.stack([tangent, np.cross(normal, tangent), normal], axis=1)
    corners = rest[triangles] - rest[triangles[:, :1]]
    flat = np.einsum("tkc,tjc->tkj", corners[:, 1:], frame[:, :2])  # edges × tangents
    inverse = np.linalg.inv(flat).transpose(0, 2, 1)
    gradient = np.concatenate([-inverse.sum(axis=1, keepdims=True), inverse], axis=1)

    # By area alone the smallest triangles, which fold first, would count least.
    weight = np.sqrt(area) * (area.sum() / np.sqrt(area).sum()) * LENGTH_MM**2
    area_mm2 = np.bincount(triangles.ravel(), np.repeat(area / 3, 3), minlength=len(rest))
    blocks = np.einsum("tki,tli->tkl", gradient, gradient) * weight[:, None, None]
    rows, columns = np.repeat(triangles, 3, axis=1).ravel(), np.tile(triangles, (1, 3)).ravel()

    lips = _lip_contact(model, rest)
    ties = lips.weight
    blocks = np.concatenate([blocks.ravel(), ties, ties, -ties, -ties])
    rows = np.concatenate([rows, lips.upper, lips.lower, lips.upper, lips.lower])
    columns = np.concatenate([columns, lips.upper, lips.lower, lips.lower, lips.upper])
    stiffness = sp.csr_matrix((blocks, (rows, columns)), shape=(len(rest), len(rest)))

    return RestSkin(
        vertices_mm=rest,
        triangles=triangles,
        frame=frame,
        gradient=gradient,
        weight=weight,
        area_mm2=np.maximum(area_mm2, 0.02),
        least_facing=np.where(frame[:, 2, 2] > FACING_COSINE, _least_facing(model)[triangles].mean(axis=1), -np.inf),
        movable=movable,
        stiffness=stiffness,
        lips=lips,
        contact=contact_of(model, neutral_mm),
        solids=find_solids(rest, _solid_parts(model, movable)),
    )


def _solid_parts(model: HeadModel, movable: Bool[np.ndarray, " v"]) -> dict[str, Int[np.ndarray, "_ 3"]]:
    """Triangles of skin, teeth and eyes; skin that never moves pierces nothing."""
    parts = {
        name: model.faces[np.isin(model.face_part, [PARTS.index(p) for p in own])].astype(np.int64)
        for name, own in SOLID.items()
    }
    return {**parts, "skin": parts["skin"][movable[parts["skin"]].any(axis=1)]}


@once_per_head
def _least_facing(model: HeadModel) -> Float[np.ndarray, " v"]:
    """Lower limit of ½(A + Aᵀ) per vertex: lids and lips may roll and crease, brows and cheeks may only shrink by half."""
    template = model.template_mm.astype(np.float64)
    landmarks = model.landmarks(template)
    soft = cKDTree(landmarks[CREASING]).query(template)[0]
    return np.where(soft < CREASE_MM, MIN_FACING, FIRM_FACING)


def _lip_contact(model: HeadModel, rest: Float[np.ndarray, "v 3"]) -> LipContact:
    upper, lower = lip_pairs(model)
    if not len(upper):
        empty = np.zeros(0)
        return LipContact(
            upper=upper, lower=lower, facing=np.zeros((0, 3)), least_mm=empty, most_mm=empty, weight=empty
        )
    upper, lower = np.unique(upper), np.unique(lower)

    # Lips slide along each other, so each vertex has several partners, found on the template, whose lips meet evenly.
    template = model.template_mm.astype(np.float64)
    below = cKDTree(template[lower]).query(template[upper], k=LIP_NEIGHBORS, distance_upper_bound=LIP_RANGE_MM)[1]
    above = cKDTree(template[upper]).query(template[lower], k=LIP_NEIGHBORS, distance_upper_bound=LIP_RANGE_MM)[1]
    first, second = np.repeat(upper, LIP_NEIGHBORS), np.repeat(lower, LIP_NEIGHBORS)
    pairs = np.concatenate([
        np.stack([first, np.append(lower, -1)[below.ravel()]], axis=1),
        np.stack([np.append(upper, -1)[above.ravel()], second], axis=1),
    ])  # fmt: skip
    pairs = np.unique(pairs[(pairs >= 0).all(axis=1)], axis=0)
    upper, lower = pairs[:, 0], pairs[:, 1]

    normals = vertex_normals(rest, model.faces)
    facing = normals[lower] - normals[upper]
    facing /= np.maximum(np.linalg.norm(facing, axis=1, keepdims=True), 1e-9)
    apart = np.einsum("pc,pc->p", rest[upper] - rest[lower], facing)
    count = np.bincount(pairs.ravel(), minlength=len(rest))

    return LipContact(
        upper=upper,
        lower=lower,
        facing=facing,
        least_mm=np.minimum(apart, 0.0) - LIP_OVERLAP_MM,
        most_mm=np.maximum(apart, 0.0) + SEAL_MM,
        weight=LIP_WEIGHT / np.sqrt(count[upper] * count[lower]),
    )


def untangle(
    rest: RestSkin,
    vertices_mm: Float[np.ndarray, "v 3"],
    *,
    contact: bool = True,
    lips: LipsMay = "part",
) -> Float[np.ndarray, "v 3"]:
    """Move vertices as little as possible so that skin neither folds nor tears.

    Args:
        rest: skin of the same person at rest.
        vertices_mm: vertices of an expression.
        contact: whether to resolve contacts of lids and lining; false for expressions that move neither.
        lips: whether lips may part, stay as closed as at rest, or even pass through each other.
    """
    target = vertices_mm.astype(np.float64)
    current = rest.contact.apart(target) if contact else target
    strained = _strained(rest, target, rest.vertices_mm)
    if contact:
        strained |= _strained(rest, current, target)

    least = np.full(len(rest.lips.upper), -np.inf) if lips == "cross" else rest.lips.least_mm
    most = rest.lips.most_mm if lips == "close" else np.full(len(rest.lips.upper), np.inf)
    gap = rest.lips.gap_mm(current)
    crossed = (gap < least - TOLERANCE) | (gap > most + TOLERANCE)
    if not strained.any() and not crossed.any():
        return current

    free = _window(rest, strained, crossed)
    ids = np.flatnonzero(free)
    inside = free[rest.triangles].any(axis=1)
    triangles, frame, gradient = rest.triangles[inside], rest.frame[inside], rest.gradient[inside]
    weight, least_facing = rest.weight[inside], rest.least_facing[inside]
    met = free[rest.lips.upper] | free[rest.lips.lower]
    upper, lower, facing = rest.lips.upper[met], rest.lips.lower[met], rest.lips.facing[met]
    lip_weight, least, most = rest.lips.weight[met, None], least[met], most[met]

    matrix = rest.stiffness[ids][:, ids] + sp.diags(rest.area_mm2[ids])
    factor = factor_spd(matrix)
    touched = np.unique(np.concatenate([triangles.ravel(), upper, lower]))
    border = touched[~free[touched]]
    coupling = rest.stiffness[ids][:, border]
    dual, lip_dual = np.zeros((len(triangles), 2, 3)), np.zeros((len(upper), 3))

    goal = current.copy()
    for iteration in range(ITERATIONS):
        right = np.zeros_like(current)
        _project(current, triangles, frame, gradient, weight, least_facing, dual, right, MAX_STRETCH)
        apart = current[upper] - current[lower] + lip_dual
        gap = np.einsum("pc,pc->p", apart, facing)
        change = (np.clip(gap, least, most) - gap)[:, None] * facing
        lip_dual = -change
        wanted = lip_weight * (apart + 2 * change)
        np.add.at(right, upper, wanted)
        np.add.at(right, lower, -wanted)
        known = coupling @ current[border]
        current[ids] = factor.solve(right[ids] + rest.area_mm2[ids, None] * goal[ids] - known)
        if contact and iteration % CONTACT_EVERY == CONTACT_EVERY - 1:
            moved = rest.contact.apart(current)
            # Contact moves the goal too, or the next solve would undo it.
            goal += moved - current
            current = moved
    return current


def _strained(
    rest: RestSkin, vertices: Float[np.ndarray, "v 3"], before: Float[np.ndarray, "v 3"]
) -> Bool[np.ndarray, " t"]:
    """Triangles beyond the limits, among those that moved from where they were ``before``."""
    low, high = np.ones(len(rest.triangles)), np.ones(len(rest.triangles))
    _strain(vertices, before, rest.triangles, rest.frame, rest.gradient, low, high)
    out: Bool[np.ndarray, " t"] = (low < rest.least_facing - TOLERANCE) | (high > MAX_STRETCH + TOLERANCE)
    return out


def _window(
    rest: RestSkin, strained: Bool[np.ndarray, " t"], crossed: Bool[np.ndarray, " p"]
) -> Bool[np.ndarray, " v"]:
    """Movable vertices around strained triangles and crossing lips."""
    movable = np.flatnonzero(rest.movable)
    centers = np.concatenate([
        rest.vertices_mm[rest.triangles[strained]].mean(axis=1), rest.vertices_mm[rest.lips.upper[crossed]]
    ])  # fmt: skip
    near = cKDTree(centers).query(rest.vertices_mm[movable], distance_upper_bound=SPREAD_MM)[0] < np.inf
    out = np.zeros(len(rest.vertices_mm), bool)
    out[movable[near]] = True
    return out


@kernel()
def _local_gradient(
    vertices: np.ndarray, triangle: np.ndarray, frame: np.ndarray, gradient: np.ndarray, out: np.ndarray
) -> None:
    """Write F in the rest frame to ``out[tangent, axis]``."""
    for i in range(2):
        for j in range(3):
            total = 0.0
            for c in range(3):
                along = 0.0
                for k in range(3):
                    along += gradient[k, i] * vertices[triangle[k], c]
                total += along * frame[j, c]
            out[i, j] = total


@kernel()
def _strain(
    vertices: np.ndarray,
    before: np.ndarray,
    triangles: np.ndarray,
    frame: np.ndarray,
    gradient: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
) -> None:
    """Smallest eigenvalue of the in-plane symmetric part (``low``) and largest stretch (``high``) of each triangle that moved."""
    f = np.zeros((2, 3))
    for t in range(len(triangles)):
        moved = False
        for k in range(3):
            for c in range(3):
                moved |= vertices[triangles[t, k], c] != before[triangles[t, k], c]
        if not moved:
            continue
        _local_gradient(vertices, triangles[t], frame[t], gradient[t], f)
        a, b, c = f[0, 0], 0.5 * (f[0, 1] + f[1, 0]), f[1, 1]
        low[t] = 0.5 * (a + c) - np.sqrt(0.25 * (a - c) ** 2 + b * b)
        p = f[0, 0] ** 2 + f[0, 1] ** 2 + f[0, 2] ** 2
        q = f[0, 0] * f[1, 0] + f[0, 1] * f[1, 1] + f[0, 2] * f[1, 2]
        r = f[1, 0] ** 2 + f[1, 1] ** 2 + f[1, 2] ** 2
        high[t] = np.sqrt(0.5 * (p + r) + np.sqrt(0.25 * (p - r) ** 2 + q * q))


@kernel()
def _project(
    vertices: np.ndarray,
    triangles: np.ndarray,
    frame: np.ndarray,
    gradient: np.ndarray,
    weight: np.ndarray,
    least_facing: np.ndarray,
    dual: np.ndarray,
    right: np.ndarray,
    most: float,
) -> None:
    """One local step: project F + dual per triangle, update ``dual``, add the right-hand side of the global step."""
    f, g = np.zeros((2, 3)), np.zeros((2, 3))
    for t in range(len(triangles)):
        _local_gradient(vertices, triangles[t], frame[t], gradient[t], f)
        for i in range(2):
            for j in range(3):
                f[i, j] += dual[t, i, j]
                g[i, j] = f[i, j]

        p = g[0, 0] ** 2 + g[0, 1] ** 2 + g[0, 2] ** 2
        q = g[0, 0] * g[1, 0] + g[0, 1] * g[1, 1] + g[0, 2] * g[1, 2]
        r = g[1, 0] ** 2 + g[1, 1] ** 2 + g[1, 2] ** 2
        middle, half = 0.5 * (p + r), np.sqrt(0.25 * (p - r) ** 2 + q * q)
        if middle + half > most * most:
            # Left singular directions of the 2 × 3 gradient, and its singular values clamped.
            angle = 0.5 * np.arctan2(2 * q, p - r)
            co, si = np.cos(angle), np.sin(angle)
            first = min(1.0, most / np.sqrt(middle + half))
            second = 1.0
            if middle - half > most * most:
                second = most / np.sqrt(middle - half)
            m00 = first * co * co + second * si * si
            m01 = (first - second) * co * si
            m11 = first * si * si + second * co * co
            for j in range(3):
                x, y = g[0, j], g[1, j]
                g[0, j] = m00 * x + m01 * y
                g[1, j] = m01 * x + m11 * y

        a, b, c = g[0, 0], 0.5 * (g[0, 1] + g[1, 0]), g[1, 1]
        mean, radius = 0.5 * (a + c), np.sqrt(0.25 * (a - c) ** 2 + b * b)
        if mean - radius < least_facing[t]:
            # Raise the eigenvalues of the symmetric part; its skew part stays.
            angle = 0.5 * np.arctan2(2 * b, a - c)
            co, si = np.cos(angle), np.sin(angle)
            up1 = max(least_facing[t] - (mean + radius), 0.0)
            up2 = least_facing[t] - (mean - radius)
            g[0, 0] += up1 * co * co + up2 * si * si
            g[1, 1] += up1 * si * si + up2 * co * co
            shift = (up1 - up2) * co * si
            g[0, 1] += shift
            g[1, 0] += shift

        for i in range(2):
            for j in range(3):
                dual[t, i, j] = f[i, j] - g[i, j]
                g[i, j] -= dual[t, i, j]
        for k in range(3):
            for c in range(3):
                total = 0.0
                for i in range(2):
                    along = g[i, 0] * frame[t, 0, c] + g[i, 1] * frame[t, 1, c] + g[i, 2] * frame[t, 2, c]
                    total += gradient[t, k, i] * along
                right[triangles[t, k], c] += weight[t] * total
