"""What the three networks share: their output, how it is read at a vertex, and the calibration of its standard deviation.

A network gives every coarse vertex features of its surroundings. From those, what was measured at the vertex and an embedding
that stands for the place on the head, the same small network reads the displacement of the fitted surface and the standard
deviation of its error, so that the three differ only in how they carry what was seen into what was not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from jaxtyping import Bool, Float
from torch import Tensor, nn

from omote.completion.coarse_head import NUM_COARSE, CoarseHead
from omote.completion.scan_batch import NUM_MEASURED, UNIT_MM, ScanBatch
from omote.errors import CheckpointError

EMBEDDING, HIDDEN = 8, 64
LEAST_SIGMA_MM, MOST_SIGMA_MM = 0.02, 30.0


@dataclass(frozen=True, kw_only=True)
class Displacement:
    """Displacement of the fitted head's coarse vertices.

    Attributes:
        offset_mm: displacement, canonical frame.
        sigma_mm: standard deviation of its error along the fitted normal.
    """

    offset_mm: Float[Tensor, "b n 3"]
    sigma_mm: Float[Tensor, "b n"]


class Readout(nn.Module):
    """Displacement and standard deviation at every coarse vertex from features.

    Args:
        features: channels of the network's features.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(0.1 * torch.randn(NUM_COARSE, EMBEDDING))
        given = features + NUM_MEASURED + 3 + EMBEDDING
        self.hidden = nn.Sequential(nn.Linear(given, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, HIDDEN), nn.SiLU())
        self.out = nn.Linear(HIDDEN + NUM_MEASURED, 4)
        # It begins as most of the way to the points nearby, and surer where they are: training need not find that first.
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        with torch.no_grad():
            self.out.weight[0, HIDDEN : HIDDEN + 2] = 0.4
            self.out.weight[3, HIDDEN + 3], self.out.bias[3] = -2.0, 1.0

    def forward(self, features: Float[Tensor, "b n f"], scans: ScanBatch) -> Displacement:
        """The displacement, of which one channel lies along the normal and three are free."""
        own = self.embedding.expand(scans.count, -1, -1)
        hidden = self.hidden(torch.cat([features.float(), scans.measured, scans.normals_fitted, own], dim=2))
        read = self.out(torch.cat([hidden, scans.measured], dim=2))
        # The normal's channel is the measured distance's own, so that a linear map can copy it.
        along, aside = read[..., :1], read[..., 1:3]
        first, second = tangents(scans.normals_fitted)
        offset = along * scans.normals_fitted + aside[..., :1] * first + aside[..., 1:] * second
        sigma = torch.exp(read[..., 3]).clamp(LEAST_SIGMA_MM, MOST_SIGMA_MM)
        return Displacement(offset_mm=UNIT_MM * offset, sigma_mm=sigma)


def tangents(normals: Float[Tensor, "b n 3"]) -> tuple[Float[Tensor, "b n 3"], Float[Tensor, "b n 3"]]:
    """Two tangents of a surface, the first level and the second as far upwards as it goes.

    They turn smoothly along the surface except at the crown and under the chin, where up is no direction.
    """
    up = torch.zeros_like(normals)
    up[..., 1] = 1.0
    level = torch.linalg.cross(up, normals)
    level = level / level.norm(dim=-1, keepdim=True).clamp_min(1e-4)
    return level, torch.linalg.cross(normals, level)


class CompletionNetwork(ModelMixin, ConfigMixin):
    """A network that completes partial scans; `features` is what its kind adds.

    Attributes:
        sigma_scale: factors of the standard deviation at (missing, seen) vertices, found on persons of the validation split.
        vertices: the head model's coarse vertices.
    """

    readout: Readout
    sigma_scale: Tensor
    vertices: Tensor

    def add_readout(self, features: int) -> None:
        """Add what all kinds share, given the channels of their features; the last thing that a kind's constructor does."""
        self.readout = Readout(features)
        self.register_buffer("sigma_scale", torch.ones(2))
        self.register_buffer("vertices", torch.zeros(NUM_COARSE, dtype=torch.int64))

    def on(self, coarse: CoarseHead) -> None:
        """Tell the network a head model's coarse vertices, before its first use.

        Raises:
            CheckpointError: it was trained on other vertices.
        """
        ids = torch.from_numpy(coarse.ids).to(self.vertices.device)
        if bool(self.vertices.any()) and not torch.equal(self.vertices, ids):
            raise CheckpointError("these weights complete another head model; train them again (omote train)")
        self.vertices.copy_(ids)

    def features(self, scans: ScanBatch) -> Float[Tensor, "b n f"]:
        """Features of the surroundings of every coarse vertex."""
        raise NotImplementedError

    def forward(self, scans: ScanBatch) -> Displacement:
        """Displacement of each scan's fitted head, before the calibration of its standard deviation."""
        out: Displacement = self.readout(self.features(scans), scans)
        return out

    def calibrated(self, scans: ScanBatch) -> Displacement:
        """The displacement with the calibrated standard deviation."""
        found: Any = self(scans)
        return Displacement(offset_mm=found.offset_mm, sigma_mm=self.scaled(found.sigma_mm, scans.seen))

    def scaled(self, sigma_mm: Float[Tensor, "b n"], seen: Bool[Tensor, "b n"]) -> Float[Tensor, "b n"]:
        """Standard deviations with the factors of their calibration."""
        return sigma_mm * self.sigma_scale[seen.long()]
