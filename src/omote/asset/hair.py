"""The hair that a scan shows, used to colour the back of the head, which no camera saw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from omote.head.model import HeadModel
from omote.rendering.appearance import Rgb
from omote.rendering.paint_regions import paint_regions

# Range above the median hairline (mm) in which a person's hairline is searched; below it lies forehead.
LOWEST_MM, HIGHEST_MM, STEP_MM, FOREHEAD_MM, BROW_MM = -24.0, 36.0, 2.0, 20.0, 6.0
# Smaller differences of colour across the line (sRGB), or a smaller explained share of the variance, come from light or shadow.
MIN_DIFFERENCE, MIN_EXPLAINED = 0.12, 0.6
MIN_VERTICES = 30


@dataclass(frozen=True, kw_only=True)
class Hair:
    """Hair in the terms of `Appearance`.

    Attributes:
        color: colour in sRGB.
        hairline_mm: height of the hairline above (+) or below (-) the median hairline.
    """

    color: Rgb
    hairline_mm: float


def match_hair(model: HeadModel, colors: Float[np.ndarray, "v 3"], seen: Bool[np.ndarray, "v"]) -> Hair | None:
    """The hairline that best divides forehead and scalp into two colours; None if one colour fits as well.

    Args:
        model: head model.
        colors: scan colour per vertex, sRGB in [0, 1].
        seen: mask of the vertices that have a scan colour.

    Source: Otsu, "A Threshold Selection Method from Gray-Level Histograms" (1979): the threshold of least variance within
        classes.
    """
    place = paint_regions(model)
    asked = seen & (place.skin > 0.5) & (place.hairless < 0.5)
    asked &= (place.hair_mm > LOWEST_MM - FOREHEAD_MM) & (place.brow_mm > BROW_MM)
    height, color = place.hair_mm[asked], colors[asked].astype(np.float64)
    best: Hair | None = None
    most = MIN_EXPLAINED
    for line in np.arange(LOWEST_MM, HIGHEST_MM + STEP_MM, STEP_MM):
        above = height > line
        if min(above.sum(), (~above).sum()) < MIN_VERTICES:
            continue
        means = color[above].mean(axis=0), color[~above].mean(axis=0)
        within = ((color - np.where(above[:, None], *means)) ** 2).sum()
        explained = 1 - within / max(((color - color.mean(axis=0)) ** 2).sum(), 1e-12)
        if explained > most and np.linalg.norm(means[0] - means[1]) > MIN_DIFFERENCE:
            most = explained
            r, g, b = (float(x) for x in np.median(color[above], axis=0))
            best = Hair(color=(r, g, b), hairline_mm=float(line))
    return best
