"""Offsets of a face's vertices → the whole head: bounded units first, then a residual that fades out beyond the face.

The counterpart of `omote.lift.register` for networks that predict vertices instead of images. Units carry teeth, tongue, eyes
and the inside of the mouth, which these networks don't predict.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from omote.geometry.mesh import adjacency
from omote.head.expressions import ARKIT_NAMES
from omote.head.model import HeadModel
from omote.lift.register import PRIOR_SIGMA, Registered, bounded, prior_terms, settled
from omote.lift.untangle import RestSkin

OFFSET_SIGMA_MM = 1.0  # error of a predicted offset if none is given
LEAST_SIGMA_MM = 0.2
# Errors of neighbouring vertices are correlated: this many vertices count as one observation.
TOGETHER = 40.0
SMOOTH_ROUNDS = 3


def register_offsets(
    model: HeadModel,
    neutral_mm: Float[np.ndarray, "v 3"],
    ids: Int[np.ndarray, " n"],
    offsets_mm: Float[np.ndarray, "n 3"],
    *,
    belief: Float[np.ndarray, " n"],
    sigma_mm: Float[np.ndarray, " n"] | None = None,
    units_mm: Float[np.ndarray, "52 v 3"] | None = None,
    prior: Float[np.ndarray, "52"] | None = None,
    skin: RestSkin | None = None,
    within_reach: bool = True,
) -> Registered:
    """Register the head to offsets of some of its vertices.

    Args:
        model: head model with topology and units.
        neutral_mm: vertices of the person at rest, canonical frame.
        ids: ids of the vertices with an offset.
        offsets_mm: offsets of those vertices from rest.
        belief: share of the units' residual that is kept, [0, 1]; lower towards the border.
        sigma_mm: expected error of each offset; `OFFSET_SIGMA_MM` if None.
        units_mm: units personalised to this person; the model's own if None.
        prior: expected ARKit weights; zero if None.
        skin: the person's skin at rest, as for `omote.lift.register.register_expression`.
        within_reach: whether to limit travel, as for `omote.lift.register.register_expression`.
    """
    units = model.expression_mm if units_mm is None else units_mm
    prior = np.zeros(len(ARKIT_NAMES)) if prior is None else np.asarray(prior, np.float64)
    sigma = np.full(len(ids), OFFSET_SIGMA_MM) if sigma_mm is None else np.maximum(sigma_mm, LEAST_SIGMA_MM)
    weight = belief / sigma**2 / TOGETHER
    free = np.arange(len(ARKIT_NAMES))
    precision, target = prior_terms(prior, free, PRIOR_SIGMA)
    basis = units[:, ids].astype(np.float64).reshape(len(units), -1)
    weighted = basis * np.repeat(weight, 3)
    found = bounded(precision + weighted @ basis.T, target + weighted @ offsets_mm.astype(np.float64).ravel())
    found = np.where(found > 0.01, found, 0.0)
    used = np.flatnonzero(found)
    posed = neutral_mm + np.tensordot(found[used].astype(np.float32), units[used], 1)
    left = np.zeros(neutral_mm.shape)
    left[ids] = belief[:, None] * (neutral_mm[ids] + offsets_mm - posed[ids])
    links, degree = adjacency(model.faces, model.num_vertices)
    for _ in range(SMOOTH_ROUNDS):
        left[ids] = 0.5 * left[ids] + 0.5 * (links @ left / np.maximum(degree, 1)[:, None])[ids]
    vertices = settled(model, neutral_mm, posed + left, prior, skin=skin, within_reach=within_reach)
    residual = np.linalg.norm(vertices[ids] - neutral_mm[ids] - offsets_mm, axis=1)
    return Registered(
        vertices_mm=vertices.astype(np.float32),
        weights=found.astype(np.float32),
        residual_mm=float(np.median(residual)),
    )
