"""Repairs that need to know where lids and lips are: rings around the openings, seated eyes, sealed lips, closing lids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from head_build.topology import Cage, boundary_vertices, rings

# Radii as multiples of the eyeball's: ring 0 is the hidden end of the lid rim and stays inside the ball, ring 1 the rim's
# back edge, ring 2 its front edge; the cornea bulges by 4.5 %.
RIM_INSIDE = 0.90
RIM_OUTSIDE = (1.075, 1.105)
SKIN_OUTSIDE = 1.12
LIP_OVERLAP_MM = 0.5  # subdivision rounds the contact away by about this much


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


def lip_halves(
    vertices: np.ndarray, openings: Openings, quads: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray]]:
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
    gap = (gap + LIP_OVERLAP_MM) * np.clip((1 - np.abs(x)) / 0.05, 0, 1)
    for k in range(len(upper)):
        depth = k - border
        fade = np.clip(1 - max(depth - 3, 0) / 5, 0, 1) if depth >= 0 else np.clip(1 + depth / 4, 0, 1)
        for half, sign in ((upper[k], -0.5), (lower[k], 0.5)):
            inner = half[1:-1] if len(half) > 2 else half
            shift = np.interp(vertices[inner, 0] / half_width, x, gap, left=0, right=0)
            vertices[inner, 1] += sign * fade * shift


# How much of the blink the lower rim keeps, per ring: MakeHuman's pulls the outer corner into a notch.
LOWER_LID = (0.25, 0.25, 0.25, 0.3, 0.4, 0.55, 0.75)
FOLLOW = (1.0, 1.0, 1.0, 0.85, 0.65, 0.4, 0.2)  # how far each ring takes part in closing the last gap

FRONT_GAP_MM = 0.12


def close_lids(rest: np.ndarray, blink: np.ndarray, opening: list[np.ndarray], quads: np.ndarray) -> np.ndarray:
    """Scale a blink per column so that the upper rim lands on the lower rim.

    Args:
        rest: cage at rest.
        blink: its offsets at weight 1.
        opening: that eye's lid rings.
        quads: the cage's faces.
    """
    out = blink.copy()
    chains = [_upper_lower(rest, ring, quads) for ring in opening[: len(FOLLOW)]]
    for (_, lower), keep in zip(chains, LOWER_LID, strict=True):
        out[lower] *= keep
    upper, lower = chains[1]
    target = np.interp(rest[upper, 0], (rest + out)[lower, 0], (rest + out)[lower, 1])
    drop = blink[upper, 1]
    inner = np.abs(drop) > 0.25 * np.abs(drop).max()
    factor = np.clip((target - rest[upper, 1])[inner] / drop[inner], 0.3, 1.2)
    x = rest[upper, 0]
    scale = np.interp(rest[:, 0], x[inner], factor)
    lower_side = np.concatenate([low for _, low in chains])
    use = (blink[:, 1] < -0.05) & (np.abs(rest[:, 0]) < np.abs(x).max() + 12)
    use[lower_side] = False
    out[use] *= scale[use, None]
    # What is left over goes to the rim, along the column, and fades over the next rings.
    share = (x - x[0]) / (x[-1] - x[0])
    low = rest[lower] + out[lower]
    low_share = (low[:, 0] - low[0, 0]) / (low[-1, 0] - low[0, 0])
    wanted = np.stack([np.interp(share, low_share, low[:, c]) for c in range(3)], axis=1)
    miss = (wanted - rest[upper] - out[upper])[1:-1]
    for (up, _), fade in zip(chains, FOLLOW, strict=True):
        across = (rest[up, 0] - rest[up[0], 0]) / (rest[up[-1], 0] - rest[up[0], 0])
        for c in (0, 1, 2):
            out[up[1:-1], c] += fade * np.interp(across[1:-1], share[1:-1], miss[:, c])
    # The rims' front edges meet as well: neither crossing nor agape.
    for _ in range(4):
        upper, lower = chains[2]
        moved = rest + out
        gap = moved[upper, 1] - np.interp(moved[upper, 0], moved[lower, 0], moved[lower, 1])
        shift = (FRONT_GAP_MM - gap)[1:-1]
        for (up, _), fade in zip(chains[2:], (1.0, 0.8, 0.6, 0.4, 0.2), strict=True):
            out[up[1:-1], 1] += (
                0.8 * fade * np.interp(moved[up[1:-1], 0], moved[upper[1:-1], 0], shift, left=0, right=0)
            )
    return out


def part_lips(rest: np.ndarray, shape: np.ndarray, upper: list[np.ndarray], lower: list[np.ndarray], *,
              give_upper: float) -> np.ndarray:  # fmt: skip
    """Make the lips of a unit touch: of an overlap or gap the upper lip takes ``give_upper``, the lower the rest."""
    out = shape.copy()
    border = NUM_INNER
    overlap = np.full(41, -np.inf)
    moved = rest + out
    span = rest[upper[border + 1]][:, 0]
    x = np.linspace(-1, 1, 41) * min(span.max(), -span.min())
    for k in (border, border + 1, border + 2):
        above = np.interp(x, moved[upper[k], 0], moved[upper[k], 1])
        below = np.interp(x, moved[lower[k], 0], moved[lower[k], 1])
        overlap = np.maximum(overlap, below - above - LIP_OVERLAP_MM)
    overlap = np.convolve(np.pad(overlap, 2), np.ones(5) / 5, "valid") * np.clip((1 - np.abs(x / x[-1])) / 0.05, 0, 1)
    for k in range(len(upper)):
        depth = k - border
        fade = np.clip(1 - max(depth - 4, 0) / 5, 0, 1) if depth >= 0 else np.clip(1 + depth / 4, 0, 1)
        for half, share in ((upper[k], give_upper), (lower[k], give_upper - 1)):
            inner = half[1:-1]
            out[inner, 1] += share * fade * np.interp(moved[inner, 0], x, overlap, left=0, right=0)
    return out


def smoothed(values: np.ndarray, quads: np.ndarray, steps: int) -> np.ndarray:
    """Average offsets over the cage's edges ``steps`` times, then restore their rms."""
    edge = np.concatenate([quads[:, [k, (k + 1) % 4]] for k in range(4)])
    edge = np.unique(np.concatenate([edge, edge[:, ::-1]]), axis=0)
    degree = np.maximum(np.bincount(edge[:, 0], minlength=len(values)), 1)
    out = values.copy()
    for _ in range(steps):
        mean = np.stack([np.bincount(edge[:, 0], out[edge[:, 1], c], len(values)) for c in range(3)], axis=1)
        out = 0.5 * out + 0.5 * mean / degree[:, None]
    return out * np.sqrt((values**2).sum() / (out**2).sum())


def clear_ball(
    rest: np.ndarray, shape: np.ndarray, operator: csr_matrix, center: np.ndarray, radius: float, *, steps: int = 6
) -> np.ndarray:
    """Push the cage outward until the subdivided lids of ``rest + shape`` lie outside the eyeball.

    Skin counts that lies outside the ball at rest and before its middle; the rim's hidden end does not.
    """
    out = shape.copy()
    arm = operator @ rest - center
    length = np.linalg.norm(arm, axis=1)
    outer = np.flatnonzero((length > 1.035 * radius) & (length < 2 * radius) & (arm[:, 2] > 0))
    rows = operator[outer]
    pull = rows.T.tocsr()
    pull.data = np.ones_like(pull.data)
    for _ in range(steps):
        deficit = 1.03 * radius - np.linalg.norm(rows @ (rest + out) - center, axis=1)
        if deficit.max() < 0.02:
            break
        most = np.asarray((pull.multiply(np.maximum(deficit, 0)[None, :])).max(axis=1).todense()).ravel()
        direction = rest + out - center
        out += 0.8 * most[:, None] * direction / np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-6)
    return out
