"""Self-intersections of a face: edges that pierce triangles without touching them at rest, and how an expression avoids them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

from omote.compiled import kernel
from omote.geometry.mesh import unique_edges

FRONT_DEPTH_MM = 90.0  # depth of the front behind the foremost skin; ears and neck lie deeper
CELL_MM = 2.0  # on a head's triangles of 1 to 2 mm, twice as fast as 4 mm
DEPTH_MM = 0.5  # least depth of an edge's end behind a triangle; soft flesh is compressed by less
# Pairs of parts that must not intersect: edges of the first, triangles of the second.
PAIRS = (("skin", "skin"), ("teeth", "skin"), ("skin", "teeth"))
LID_MM = 6.0  # largest distance of a lid's vertices from an eyeball

MARGIN_MM = 0.1  # mended expressions stay so much below that depth, for what is done to them afterwards
# In each round, skin around skin that pierces it moves more like its surroundings, and skin around teeth and eyeballs moves less;
# both with a Gaussian of this deviation.
ROUNDS, MENDED_MM = 16, 5.0
PATIENCE = 4  # rounds without fewer intersections after which further ones are not tried
# Share of the motion replaced by that of the surroundings, which is a mean taken so often over neighbours.
EVENING, EVENINGS = 0.5, 6
# Surfaces within this distance at rest move more alike too: along the skin alone, one lip is far from the other.
FACING_MM = 1.5
DAMPING, MOST_DAMPED = 0.12, 0.35  # share of the motion taken away in a round, and in all rounds together
NO_EDGES = np.zeros((0, 2), np.int64)
REACH_MM = 20.0  # beyond this distance nothing changes by more than 1e-3


@dataclass(frozen=True, kw_only=True)
class Solids:
    """Edges and triangles at the front of a face, with the intersections that exist at rest.

    Attributes:
        rest_mm: vertices of the face at rest.
        pairs: edges and triangles that must not intersect.
        at_rest: mask of each pair's edges that intersect at rest.
        rigid: whether a pair is of skin and teeth, instead of skin alone.
        eyes: per eyeball its centre, its radius in mm, and the vertices of the lids that are outside at rest.
        around: matrix of the mean over a skin vertex, its neighbours, and the skin that faces it; the identity elsewhere.
    """

    rest_mm: Float[np.ndarray, "v 3"]
    pairs: tuple[tuple[Int[np.ndarray, "_ 2"], Int[np.ndarray, "_ 3"]], ...]
    at_rest: tuple[Bool[np.ndarray, " _"], ...]
    rigid: tuple[bool, ...]
    eyes: tuple[tuple[Float[np.ndarray, "3"], float, Int[np.ndarray, " _"]], ...]
    around: sp.csr_matrix

    def piercing(self, posed_mm: Float[np.ndarray, "v 3"]) -> int:
        """Number of edges that pierce a triangle, and lid vertices inside an eyeball, by more than `DEPTH_MM` and not at rest."""
        return sum(map(len, self._found(posed_mm, DEPTH_MM)))

    def apart(self, posed_mm: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "v 3"]:
        """An expression without what pierces, or with the least of it where that would take more than a part of its motion.

        Skin pierces skin where neighbouring parts move differently, at the corners of the mouth above all: the motion there is
        evened out, and the corner keeps going as far as its surroundings do. Only skin in front of teeth and eyeballs, which
        stay where they are, goes less far itself. Skin may fold where the motion changes; `omote.lift.untangle` mends that.

        Args:
            posed_mm: vertices of the expression; the result if nothing pierces.
        """
        near = self
        offset = posed_mm.astype(np.float64) - self.rest_mm
        share = np.ones(len(offset))
        best, least, best_round = posed_mm, len(self.rest_mm), 0
        for number in range(ROUNDS):
            moved = self.rest_mm + share[:, None] * offset if number else posed_mm
            skin, teeth, lids = near._found(moved, DEPTH_MM - MARGIN_MM)
            count = len(skin) + len(teeth) + len(lids)
            if count < least:
                best, least, best_round = moved, count, number
            if not count or number - best_round == PATIENCE:
                break
            uneven, blocked = np.unique(skin), np.unique(np.concatenate([teeth.ravel(), lids]))
            if number == 0:
                near = self._around(self._away(np.concatenate([uneven, blocked])) < REACH_MM)
            if len(uneven):
                even = offset
                for _ in range(EVENINGS):
                    even = self.around @ even
                offset = offset + EVENING * self._weight(uneven)[:, None] * (even - offset)
            if len(blocked):
                share = np.maximum(share * (1 - DAMPING * self._weight(blocked)), 1 - MOST_DAMPED)
        return best

    def _away(self, ids: Int[np.ndarray, " n"]) -> Float[np.ndarray, " v"]:
        """Distance of each vertex at rest from some; infinite beyond `REACH_MM`."""
        some = self.rest_mm[ids]
        low, high = some.min(axis=0) - REACH_MM, some.max(axis=0) + REACH_MM
        close = np.flatnonzero(((self.rest_mm >= low) & (self.rest_mm <= high)).all(axis=1))
        away = np.full(len(self.rest_mm), np.inf)
        away[close] = cKDTree(some).query(self.rest_mm[close], distance_upper_bound=REACH_MM)[0]
        return away

    def _weight(self, ids: Int[np.ndarray, " n"]) -> Float[np.ndarray, " v"]:
        """1 at some vertices, falling off around them."""
        return np.asarray(np.exp(-0.5 * (self._away(ids) / MENDED_MM) ** 2))

    def _found(
        self, posed_mm: Float[np.ndarray, "v 3"], least_mm: float
    ) -> tuple[Int[np.ndarray, "_ 2"], Int[np.ndarray, "_ 2"], Int[np.ndarray, " _"]]:
        """Edges of skin that pierce skin, edges of skin or teeth that pierce the other, and lid vertices inside an eyeball."""
        found: tuple[list[np.ndarray], list[np.ndarray]] = ([NO_EDGES], [NO_EDGES])
        for (edges, triangles), before, rigid in zip(self.pairs, self.at_rest, self.rigid, strict=True):
            found[rigid].append(edges[_pierced(posed_mm, edges, triangles, least_mm) & ~before])
        lids = [
            lid[np.linalg.norm(posed_mm[lid] - center, axis=1) < radius - least_mm] for center, radius, lid in self.eyes
        ]
        return np.concatenate(found[0]), np.concatenate(found[1]), np.concatenate([NO_EDGES[:, 0], *lids])

    def _around(self, wanted: Bool[np.ndarray, " v"]) -> Solids:
        """The part of the edges and triangles with a vertex among those wanted."""
        kept = [wanted[edges].any(axis=1) for edges, _ in self.pairs]
        pairs = tuple(
            (edges[keep], triangles[wanted[triangles].any(axis=1)])
            for keep, (edges, triangles) in zip(kept, self.pairs, strict=True)
        )
        at_rest = tuple(before[keep] for keep, before in zip(kept, self.at_rest, strict=True))
        some = [n for n, (edges, triangles) in enumerate(pairs) if len(edges) and len(triangles)]
        return replace(
            self,
            pairs=tuple(pairs[n] for n in some),
            at_rest=tuple(at_rest[n] for n in some),
            rigid=tuple(self.rigid[n] for n in some),
        )


def find_solids(rest_mm: Float[np.ndarray, "v 3"], parts: Mapping[str, Int[np.ndarray, "_ 3"]]) -> Solids:
    """The parts at the front of a face that can intersect.

    Args:
        rest_mm: vertices of the face at rest.
        parts: triangles of "skin", "teeth" and "eyes"; others are ignored.
    """
    v, skin = rest_mm.astype(np.float64), parts["skin"]
    front = v[np.unique(skin), 2].max() - FRONT_DEPTH_MM
    triangles = {name: t[(v[t, 2] > front).all(axis=1)] for name, t in parts.items()}
    chosen = [(a, b) for a, b in PAIRS if len(triangles.get(a, ())) and len(triangles.get(b, ()))]
    pairs = tuple((unique_edges(triangles[a]), triangles[b]) for a, b in chosen)
    return Solids(
        rest_mm=v,
        pairs=pairs,
        at_rest=tuple(_pierced(v, edges, faces, least_mm=0.0) for edges, faces in pairs),
        rigid=tuple("teeth" in pair for pair in chosen),
        eyes=tuple(_eyes(v, parts)),
        around=_mean_around(np.concatenate([unique_edges(skin), _facing(v, np.unique(triangles["skin"]))]), len(v)),
    )


def _facing(v: Float[np.ndarray, "v 3"], ids: Int[np.ndarray, " n"]) -> Int[np.ndarray, "p 2"]:
    """Pairs of vertices that are near each other at rest, whether or not the skin connects them."""
    return ids[cKDTree(v[ids]).query_pairs(FACING_MM, output_type="ndarray").reshape(-1, 2)]


def _mean_around(edges: Int[np.ndarray, "e 2"], count: int) -> sp.csr_matrix:
    """Matrix of the mean over each vertex and those it is paired with."""
    ones, diagonal = np.ones(2 * len(edges)), np.arange(count)
    rows, columns = np.concatenate([edges, edges[:, ::-1]]).T
    total = sp.csr_matrix((ones, (rows, columns)), shape=(count, count)) + sp.identity(count, format="csr")
    return sp.csr_matrix(sp.diags(1 / np.asarray(total.sum(axis=1)).ravel()[diagonal]) @ total)


def _eyes(
    v: Float[np.ndarray, "v 3"], parts: Mapping[str, Int[np.ndarray, "_ 3"]]
) -> Iterator[tuple[Float[np.ndarray, "3"], float, Int[np.ndarray, " n"]]]:
    skin = np.unique(parts["skin"])
    for side in (-1, 1):
        ball = np.unique(parts.get("eyes", np.zeros((0, 3), np.int64)))
        ball = ball[side * v[ball, 0] > 0]
        if len(ball):
            center = (v[ball].min(axis=0) + v[ball].max(axis=0)) / 2
            radius = float(np.median(np.linalg.norm(v[ball] - center, axis=1)))
            away = np.linalg.norm(v[skin] - center, axis=1)
            yield center, radius, skin[(away > radius) & (away < radius + LID_MM) & (v[skin, 2] > center[2])]


def _pierced(
    vertices: Float[np.ndarray, "v 3"],
    edges: Int[np.ndarray, "e 2"],
    triangles: Int[np.ndarray, "t 3"],
    least_mm: float,
) -> Bool[np.ndarray, " e"]:
    """Mask of the edges that pass through a triangle without a common vertex."""
    if not len(edges) or not len(triangles):
        return np.zeros(len(edges), bool)
    vertices = np.ascontiguousarray(vertices, np.float64)
    boxes = _boxes(vertices, triangles)
    low = boxes[:, 0].min(axis=0)
    shape = np.floor((boxes[:, 1].max(axis=0) - low) / CELL_MM).astype(np.int64) + 1
    start, filled = _gridded(boxes, low, shape)
    # Cell by cell and side by side, so that the comparisons of a cell are vectorised; rounding keeps their order.
    return np.asarray(_pierce(vertices, edges, triangles, _sides(boxes, filled), low, shape, start, filled, least_mm))


@kernel()
def _boxes(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Least and largest coordinates of each triangle."""
    out = np.zeros((len(triangles), 2, 3))
    for t in range(len(triangles)):
        for c in range(3):
            a, b, d = vertices[triangles[t, 0], c], vertices[triangles[t, 1], c], vertices[triangles[t, 2], c]
            out[t, 0, c] = min(a, b, d)
            out[t, 1, c] = max(a, b, d)
    return out


@kernel()
def _gridded(boxes: np.ndarray, low: np.ndarray, shape: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Triangles by the grid cells that their boxes overlap: first index of each cell, and the triangles' ids."""
    first = np.zeros((len(boxes), 3), np.int64)
    last = np.zeros((len(boxes), 3), np.int64)
    start = np.zeros(shape[0] * shape[1] * shape[2] + 1, np.int64)
    for t in range(len(boxes)):
        for c in range(3):
            first[t, c] = int((boxes[t, 0, c] - low[c]) / CELL_MM)
            last[t, c] = int((boxes[t, 1, c] - low[c]) / CELL_MM)
        for i in range(first[t, 0], last[t, 0] + 1):
            for j in range(first[t, 1], last[t, 1] + 1):
                for k in range(first[t, 2], last[t, 2] + 1):
                    start[(i * shape[1] + j) * shape[2] + k + 1] += 1
    for cell in range(len(start) - 1):
        start[cell + 1] += start[cell]
    at = start.copy()
    filled = np.zeros(start[-1], np.int64)
    for t in range(len(boxes)):
        for i in range(first[t, 0], last[t, 0] + 1):
            for j in range(first[t, 1], last[t, 1] + 1):
                for k in range(first[t, 2], last[t, 2] + 1):
                    cell = (i * shape[1] + j) * shape[2] + k
                    filled[at[cell]] = t
                    at[cell] += 1
    return start, filled


@kernel()
def _sides(boxes: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """The six coordinates of some boxes, an array each."""
    out = np.empty((6, len(ids)), np.float32)
    for n in range(len(ids)):
        for c in range(3):
            out[c, n], out[3 + c, n] = boxes[ids[n], 0, c], boxes[ids[n], 1, c]
    return out


@kernel(error_model="numpy")
def _pierce(
    vertices: np.ndarray,
    edges: np.ndarray,
    triangles: np.ndarray,
    sides: np.ndarray,
    low: np.ndarray,
    shape: np.ndarray,
    start: np.ndarray,
    filled: np.ndarray,
    least_mm: float,
) -> np.ndarray:
    """Mask of the edges that pass through a triangle by more than ``least_mm``.

    An edge is compared with all boxes of a line of cells at once, and those that it overlaps are gathered, both without a branch:
    so the compiler vectorises the comparisons, which take most of the time.
    """
    out = np.zeros(len(edges), np.bool_)
    lows_x, lows_y, lows_z, highs_x, highs_y, highs_z = sides[0], sides[1], sides[2], sides[3], sides[4], sides[5]
    first, last = np.zeros(3, np.int64), np.zeros(3, np.int64)
    most = 0
    for line in range(shape[0] * shape[1]):
        most = max(most, start[(line + 1) * shape[2]] - start[line * shape[2]])
    overlaps, found = np.zeros(most, np.uint32), np.zeros(most + 1, np.int64)
    for e in range(len(edges)):
        p, q = edges[e, 0], edges[e, 1]
        for c in range(3):
            a, b = vertices[p, c], vertices[q, c]
            first[c] = max(int(np.floor((min(a, b) - low[c]) / CELL_MM)), 0)
            last[c] = min(int(np.floor((max(a, b) - low[c]) / CELL_MM)), shape[c] - 1)
        if last[2] < first[2]:
            continue
        x, far_x = _ordered(vertices[p, 0], vertices[q, 0])
        y, far_y = _ordered(vertices[p, 1], vertices[q, 1])
        z, far_z = _ordered(vertices[p, 2], vertices[q, 2])
        for i in range(first[0], last[0] + 1):
            for j in range(first[1], last[1] + 1):
                # The cells along z follow each other.
                cell = (i * shape[1] + j) * shape[2]
                begin, end = start[cell + first[2]], start[cell + last[2] + 1]
                x0, y0, z0 = lows_x[begin:end], lows_y[begin:end], lows_z[begin:end]
                x1, y1, z1 = highs_x[begin:end], highs_y[begin:end], highs_z[begin:end]
                for s in range(end - begin):
                    overlaps[s] = (
                        (x0[s] <= far_x)
                        & (x1[s] >= x)
                        & (y0[s] <= far_y)
                        & (y1[s] >= y)
                        & (z0[s] <= far_z)
                        & (z1[s] >= z)
                    )
                count = 0
                for s in range(end - begin):
                    found[count] = filled[begin + s]
                    count += overlaps[s]
                for s in range(count):
                    a, b, d = triangles[found[s], 0], triangles[found[s], 1], triangles[found[s], 2]
                    if out[e] or a in (p, q) or b in (p, q) or d in (p, q):
                        continue
                    out[e] = _depth(vertices[p], vertices[q], vertices[a], vertices[b], vertices[d]) > least_mm
    return out


@kernel()
def _ordered(a: float, b: float) -> tuple[np.float32, np.float32]:
    """The less and the greater of two numbers, in the precision of boxes."""
    return np.float32(min(a, b)), np.float32(max(a, b))


@kernel()
def _depth(p: np.ndarray, q: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> float:
    """Depth (mm) of a segment's deeper end behind a triangle that it passes through; -1 if it does not.

    Möller & Trumbore, "Fast, Minimum Storage Ray/Triangle Intersection", J. Graphics Tools 1997.
    """
    n0 = (b[1] - a[1]) * (c[2] - a[2]) - (b[2] - a[2]) * (c[1] - a[1])
    n1 = (b[2] - a[2]) * (c[0] - a[0]) - (b[0] - a[0]) * (c[2] - a[2])
    n2 = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    length = np.sqrt(n0 * n0 + n1 * n1 + n2 * n2)
    if length < 1e-12:
        return -1.0
    before = ((p[0] - a[0]) * n0 + (p[1] - a[1]) * n1 + (p[2] - a[2]) * n2) / length
    after = ((q[0] - a[0]) * n0 + (q[1] - a[1]) * n1 + (q[2] - a[2]) * n2) / length
    if before * after >= 0.0:
        return -1.0
    share = before / (before - after)
    x0 = p[0] + share * (q[0] - p[0])
    x1 = p[1] + share * (q[1] - p[1])
    x2 = p[2] + share * (q[2] - p[2])
    for i in range(3):
        if i == 0:
            u, w = a, b
        elif i == 1:
            u, w = b, c
        else:
            u, w = c, a
        side = (
            ((w[1] - u[1]) * (x2 - u[2]) - (w[2] - u[2]) * (x1 - u[1])) * n0
            + ((w[2] - u[2]) * (x0 - u[0]) - (w[0] - u[0]) * (x2 - u[2])) * n1
            + ((w[0] - u[0]) * (x1 - u[1]) - (w[1] - u[1]) * (x0 - u[0])) * n2
        )
        if side < 0.0:
            return -1.0
    return -min(before, after)
