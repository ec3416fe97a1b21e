"""Repairs that need to know where lids and lips are: rings around the openings, seated eyes, sealed lips, closing lids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from head_build.topology import Cage, boundary_vertices, rings

# Radii as multiples of the eyeball's: ring 0 is the hidden end of the lid rim and stays inside the ball, ring 1 the rim's
# back edge, ring 2 its front edge; the cornea bulges by 4.5 %.
RIM_INSIDE = 0.90
RIM_OUTSIDE = (1.075, 1.105)
SKIN_OUTSIDE = 1.12
LIP_OVERLAP_MM = 0.35  # subdivision rounds the contact away by about this much


@dataclass(frozen=True, kw_only=True)
class Openings:
    """Rings of cage vertices.

    Attributes:
        lids: per side, rings from the rim's hidden end outward.
        lips_out: from the mouth's inner border outward over the lips.
        lips_in: the same inward, without the border.
    """

    lids: dict[str, list[np.ndarray]]
    lips_out: list[np.ndarray]
    lips_in: list[np.ndarray]


def find_openings(cage: Cage, vertices: np.ndarray) -> Openings:
    """Rings around eyes and mouth; ``vertices`` tell left from right and eyes from neck."""
    skin = cage.quads[~cage.quad_is_mouth]
    border = boundary_vertices(cage.quads)
    eye_height = vertices[:, 1].min() * 0.4
    lids = {}
    for side, sign in (("left", 1), ("right", -1)):
        at_eye = border[(vertices[border, 1] > eye_height) & (vertices[border, 0] * sign > 0)]
        lids[side] = rings(skin, at_eye, 10)
    mouth = cage.quads[cage.quad_is_mouth]
    lip = np.intersect1d(mouth, skin)
    return Openings(lids=lids, lips_out=rings(skin, lip, 9), lips_in=rings(mouth, lip, 7)[1:])


def seat_lids(vertices: np.ndarray, opening: list[np.ndarray], center: np.ndarray, radius: float) -> None:
    """Move lid vertices radially, in place, so that the eyeball lies behind the lids and in front of the rim's end."""
    for k, ring in enumerate(opening):
        arm = vertices[ring] - center
        length = np.linalg.norm(arm, axis=1, keepdims=True)
        front = arm[:, 2:] > 0  # far from the lids nothing has to clear the ball
        if k == 0:
            wanted = np.minimum(length, RIM_INSIDE * radius)
        else:
            least = RIM_OUTSIDE[k - 1] if k <= len(RIM_OUTSIDE) else SKIN_OUTSIDE
            wanted = np.where(front, np.maximum(length, least * radius), length)
        vertices[ring] = center + arm * (wanted / np.maximum(length, 1e-6))


def _upper_lower(vertices: np.ndarray, ring: np.ndarray, quads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split a ring at its two corners (extreme x) into upper and lower vertices, both with corners, each sorted by x."""
    inside = set(ring.tolist())
    neighbours: dict[int, set[int]] = {i: set() for i in inside}
    for quad in quads[np.isin(quads, ring).any(axis=1)].tolist():
        for a, b in zip(quad, quad[1:] + quad[:1], strict=True):
            if a in inside and b in inside:
                neighbours[a].add(b)
                neighbours[b].add(a)
    right, left = int(ring[np.argmin(vertices[ring, 0])]), int(ring[np.argmax(vertices[ring, 0])])
    chains = []
    for first in neighbours[right]:
        chain = [right, first]
        while chain[-1] != left:
            chain.append(next(n for n in neighbours[chain[-1]] if n not in chain[-2:]))
        chains.append(np.array(chain))
    first, second = sorted(chains, key=lambda c: -vertices[c, 1].mean())
    return first[np.argsort(vertices[first, 0])], second[np.argsort(vertices[second, 0])]


def lip_halves(vertices: np.ndarray, openings: Openings, quads: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Upper and lower vertices of the lip rings, outermost last; made once, on the symmetric base."""
    order = [*openings.lips_in[:4][::-1], *openings.lips_out]
    pairs = [_upper_lower(vertices, ring, quads) for ring in order]
    return [p[0] for p in pairs], [p[1] for p in pairs]


NUM_INNER = 4  # rings before the mouth's border in `lip_halves`


def seal_lips(vertices: np.ndarray, upper: list[np.ndarray], lower: list[np.ndarray]) -> None:
    """Close the gap between the lips, in place, half from each side, fading over the lips.

    The gap of a column is the smallest of the rings that face each other; the corners stay.
    """
    x = np.linspace(-1, 1, 41)
    border = NUM_INNER
    half_width = min(vertices[upper[border + 1]][:, 0].max(), -vertices[upper[border + 1]][:, 0].min())
    gap = np.full(len(x), np.inf)
    for k in (border, border + 1, border + 2):
        above = np.interp(x * half_width, vertices[upper[k], 0], vertices[upper[k], 1])
        below = np.interp(x * half_width, vertices[lower[k], 0], vertices[lower[k], 1])
        gap = np.minimum(gap, above - below)
    gap = (gap + LIP_OVERLAP_MM) * np.clip((1 - np.abs(x)) / 0.12, 0, 1)
    for k in range(len(upper)):
        depth = k - border
        fade = np.clip(1 - max(depth - 3, 0) / 5, 0, 1) if depth >= 0 else np.clip(1 + depth / 4, 0, 1)
        for half, sign in ((upper[k], -0.5), (lower[k], 0.5)):
            inner = half[1:-1] if len(half) > 2 else half
            shift = np.interp(vertices[inner, 0] / half_width, x, gap, left=0, right=0)
            vertices[inner, 1] += sign * fade * shift


def close_lids(rest: np.ndarray, blink: np.ndarray, opening: list[np.ndarray], quads: np.ndarray) -> np.ndarray:
    """Scale a blink per column so that the upper rim lands on the lower rim.

    Args:
        rest: cage at rest.
        blink: its offsets at weight 1.
        opening: that eye's lid rings.
        quads: the cage's faces.
    """
    out = blink.copy()
    upper, lower = _upper_lower(rest, opening[1], quads)
    moved = rest + blink
    target = np.interp(moved[upper, 0], moved[lower, 0], moved[lower, 1])
    drop = blink[upper, 1]
    inner = np.abs(drop) > 0.8
    factor = np.where(inner, (target - rest[upper, 1]) / np.where(inner, drop, 1.0), 1.0)
    factor = np.clip(factor, 0.3, 1.4)
    x = rest[upper, 0]
    # Columns without a clear drop take their neighbours' factor.
    factor = np.interp(x, x[inner], factor[inner])
    falling = blink[:, 1] < -0.05
    scale = np.interp(rest[:, 0], x, factor)
    use = falling & (np.abs(rest[:, 0]) < np.abs(x).max() + 12)
    out[use] *= scale[use, None]
    # What is left over in x and y goes to the rim and fades over the next rings of the same column.
    for _ in range(3):
        moved = rest + out
        for k in range(5):
            up, low = _upper_lower(rest, opening[k], quads)
            if k == 1:
                target = np.interp(moved[up, 0], moved[low, 0], moved[low, 1])
                miss = (target - moved[up, 1])[1:-1]
                at = moved[up[1:-1], 0]
        for k, fade in enumerate((1.0, 1.0, 0.85, 0.6, 0.3)):
            up, _ = _upper_lower(rest, opening[k], quads)
            out[up[1:-1], 1] += fade * np.interp(moved[up[1:-1], 0], at, miss, left=0, right=0)
    return out
