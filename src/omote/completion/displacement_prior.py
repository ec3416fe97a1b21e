"""A Gaussian model of how far fitted heads are off, which extends what is known at some vertices to all others.

Errors of a fit at the coarse vertices, along the normal, are modelled by their mean, a few principal components and independent
noise (probabilistic PCA: Tipping and Bishop, "Probabilistic Principal Component Analysis", JRSS B 1999). Given the errors at the
vertices that a camera sees, mean and variance of the errors elsewhere have a closed form (Albrecht et al., "Posterior shape
models", Medical Image Analysis 2013, §3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

NUM_MODES = 32
# What is known errs by .5 mm, but neighbouring vertices err alike, so that each must count for much less than it would alone.
KNOWN_SIGMA_MM = 4.0


@dataclass(frozen=True, kw_only=True, eq=False)
class DisplacementPrior:
    """Gaussian distribution of displacements along the normal of n coarse vertices.

    Attributes:
        mean_mm: mean displacement.
        modes_mm: principal components, scaled to one standard deviation.
        rest_mm: standard deviation of what the components leave.
    """

    mean_mm: Float[np.ndarray, " n"]
    modes_mm: Float[np.ndarray, "m n"]
    rest_mm: Float[np.ndarray, " n"]

    def given(
        self, displaced_mm: Float[np.ndarray, "k n"], known: Bool[np.ndarray, " n"]
    ) -> tuple[Float[np.ndarray, "k n"], Float[np.ndarray, " n"]]:
        """Mean of all displacements of ``k`` heads, given those of the known vertices, and its standard deviation, mm."""
        seen = self.modes_mm[:, known] / KNOWN_SIGMA_MM
        apart = (displaced_mm - self.mean_mm)[:, known] / KNOWN_SIGMA_MM
        covariance = np.linalg.inv(seen @ seen.T + np.eye(len(self.modes_mm)))
        mean = self.mean_mm + apart @ seen.T @ covariance @ self.modes_mm
        variance = np.einsum("kn,kl,ln->n", self.modes_mm, covariance, self.modes_mm) + self.rest_mm**2
        return mean, np.sqrt(variance)


def displacement_prior(displaced_mm: Float[np.ndarray, "k n"], num_modes: int = NUM_MODES) -> DisplacementPrior:
    """Fit the model to the displacements of ``k`` heads, at most half as many components as heads."""
    mean = displaced_mm.mean(axis=0)
    apart = displaced_mm - mean
    _, deviation, directions = np.linalg.svd(apart, full_matrices=False)
    count = min(num_modes, max(len(apart) // 2, 1))
    directions = directions[:count]
    left = apart - (apart @ directions.T) @ directions
    return DisplacementPrior(
        mean_mm=mean,
        modes_mm=directions * deviation[:count, None] / np.sqrt(len(apart)),
        rest_mm=np.sqrt((left**2).mean(axis=0)),
    )
