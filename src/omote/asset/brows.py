"""Brow hairs drawn on a texture: paint per vertex is too coarse for them, and leaves a blurred stamp above the eyes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter, map_coordinates

from omote.head.model import HeadModel
from omote.rendering.appearance import Appearance, brow_color, brow_half_width
from omote.rendering.paint_regions import brow_lines, line_distance

PX_PER_MM = 8
REACH_MM = 10.0  # of the drawn strip, beyond the line's ends and to both sides of it
HAIRS_PER_MM = 10.0  # of the line's length, at density 1
LENGTH_MM = 4.0, 8.0
POINTS = 24  # of each hair
HAIR_MM = 0.22  # half width
# Angle (rad) between a hair and the line: hairs stand at the inner end; farther out, those below the line rise to it and
# those above it bend down to it.
INNER_ANGLE, LOWER_ANGLE, UPPER_ANGLE, INNER_SHARE = 1.25, 0.55, -0.25, 0.3
OPACITY = 0.62  # of one hair
TEXEL_MM = 0.3  # blur of the strip, to the size of a texture's texels
UP = np.array([0.0, 1.0, 0.0])


@dataclass(frozen=True, kw_only=True)
class BrowLine:
    """Place of points relative to the nearer brow's line.

    Attributes:
        left: whether the person's left brow is nearer.
        along_mm: position along the line, 0 at its inner end; it goes on straight for `REACH_MM` beyond its ends.
        above_mm: distance from the line, positive above it.
    """

    left: Bool[np.ndarray, "n"]
    along_mm: Float[np.ndarray, "n"]
    above_mm: Float[np.ndarray, "n"]


def add_brow_hairs(
    color: Float[np.ndarray, "n 3"], points_mm: Float[np.ndarray, "n 3"], model: HeadModel, appearance: Appearance
) -> Float[np.ndarray, "n 3"]:
    """Skin colours with brow hairs over them.

    Args:
        color: sRGB [0, 1] of each texel's skin.
        points_mm: the texels' points on the head model's template, those near the brows or more.
        model: head model, whose template places the brows.
        appearance: hair colour, and density, width and seed of the brows.
    """
    lines = brow_lines(model)
    place = nearest_line(points_mm, lines)
    out = color.copy()
    for left, line in enumerate(lines):
        own = (place.left == bool(left)) & (np.abs(place.above_mm) < REACH_MM)
        cover = _strip(_length(line), appearance.brow_density, appearance.brow_width_mm, appearance.seed + left)
        at = np.stack([REACH_MM + place.above_mm[own], REACH_MM + place.along_mm[own]]) * PX_PER_MM
        opacity = map_coordinates(cover, at, order=1, mode="constant")[:, None]
        out[own] = color[own] * (1 - opacity) + opacity * brow_color(appearance)
    return out


def nearest_line(points_mm: Float[np.ndarray, "n 3"], lines: Float[np.ndarray, "2 k 3"]) -> BrowLine:
    """Place of points relative to two polylines, the person's right and left brow from the inner end outwards."""
    right, left = (_place(points_mm.astype(np.float64), line) for line in lines)
    is_left = left[2] < right[2]
    along, above = (np.where(is_left, left[k], right[k]) for k in (0, 1))
    return BrowLine(left=is_left, along_mm=along, above_mm=above)


def _place(
    points: Float[np.ndarray, "n 3"], line: Float[np.ndarray, "k 3"]
) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    """(position along a polyline, height above it, distance), in mm.

    The line's chords pass beneath the skin between its points: only the distance across the line counts as height.
    """
    ends = line[[0, -1]] - line[[1, -2]]
    ends *= REACH_MM / np.linalg.norm(ends, axis=1, keepdims=True)
    longer = np.concatenate([line[:1] + ends[:1], line, line[-1:] + ends[1:]])
    distance, share = line_distance(points, longer)
    at = share * (len(longer) - 1)
    index = np.arange(len(longer))
    foot = np.stack([np.interp(at, index, x) for x in longer.T], axis=1)
    steps = np.diff(longer, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    up = UP - (steps @ UP / lengths**2)[:, None] * steps
    up /= np.linalg.norm(up, axis=1, keepdims=True)
    above = np.einsum("nc,nc->n", points - foot, up[np.minimum(at.astype(int), len(up) - 1)])
    return np.interp(at, index, np.concatenate([[0.0], np.cumsum(lengths)])) - REACH_MM, above, distance


def _length(line: Float[np.ndarray, "k 3"]) -> float:
    return float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum())


def _strip(length_mm: float, density: float, width_mm: float, seed: int) -> Float[np.ndarray, "h w"]:
    """Opacity of a brow's hairs over (above, along), each from -`REACH_MM` on, `PX_PER_MM` pixels a millimetre."""
    rng = np.random.default_rng(seed)
    count = round(HAIRS_PER_MM * density * length_mm)
    # As many roots per area everywhere: the tapered end has few.
    grid = np.linspace(0, 1, 256)
    wide = brow_half_width(width_mm, grid)
    share = np.interp(rng.uniform(0, 1, count), np.cumsum(wide) / wide.sum(), grid)
    half = brow_half_width(width_mm, share)
    # The root; -1 is the lower edge. Hairs grow outwards, so the inner end keeps its roots inside.
    across = rng.triangular(-1, -0.3, 1, count)
    angle = np.interp(across, [-1, 1], [LOWER_ANGLE, UPPER_ANGLE])
    inner = np.clip(1 - share / INNER_SHARE, 0, 1)
    angle = angle * (1 - inner) + INNER_ANGLE * inner + rng.normal(0, 0.12, count)
    reach = rng.uniform(*LENGTH_MM, count) * np.interp(share, [0, 0.2, 0.7, 1], [0.7, 1, 0.9, 0.6])
    reach *= np.clip(half / width_mm, 0.45, 1)
    step = np.linspace(0, 1, POINTS)
    # Each hair bends towards the line's direction.
    bent = angle[:, None] * (1 - 0.6 * step)
    along = share[:, None] * length_mm + np.cumsum(np.cos(bent), axis=1) * reach[:, None] / POINTS
    above = (across * half)[:, None] + np.cumsum(np.sin(bent), axis=1) * reach[:, None] / POINTS
    thickness = np.interp(step, [0, 0.3, 1], [0.8, 1, 0.15]) * rng.uniform(0.5, 1, count)[:, None]

    shape = tuple(int(np.ceil((2 * REACH_MM + extent) * PX_PER_MM)) for extent in (0.0, length_mm))
    rows, columns = ((np.round((REACH_MM + x) * PX_PER_MM)).astype(int) for x in (above, along))
    inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    drawn = np.zeros(shape)
    np.add.at(drawn, (rows[inside], columns[inside]), thickness[inside])
    sigma = HAIR_MM * PX_PER_MM
    # A hair is a line of points: blurred, their sum is 1 on its axis.
    spacing_px = float(np.mean(LENGTH_MM)) / POINTS * PX_PER_MM
    layers = gaussian_filter(drawn, sigma) * np.sqrt(2 * np.pi) * sigma * spacing_px
    # A texel would alias finer hairs.
    return gaussian_filter(1 - (1 - OPACITY) ** layers, TEXEL_MM * PX_PER_MM)
