"""Training of the completions on partial scans of a population.

The displacement is trained by its distance from the truth, and the standard deviation by the likelihood of the error that is left
(Laplace; Kendall and Gal, "What Uncertainties Do We Need in Bayesian Deep Learning for Computer Vision?", NeurIPS 2017, eq.
5), which leaves the displacement alone: weighted by the likelihood, it would neglect what is hard (Seitzer et al., "On the
Pitfalls of Heteroscedastic Uncertainty Estimation", ICLR 2022).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from omote.completion.coarse_head import coarse_head
from omote.completion.network import CompletionNetwork, Displacement
from omote.completion.partial_source import KnownScan, PartialSource
from omote.completion.scan_batch import ScanBatch, scan_batch
from omote.completion.trained import NETWORKS
from omote.config import Range
from omote.datasets.population import PopulationConfig
from omote.engine.loop import BaseTask, EngineConfig
from omote.engine.weights import built
from omote.errors import ConfigError
from omote.head.model import HeadModel

ASIDE_WEIGHT, SIGMA_WEIGHT = 0.3, 0.3
WITHIN_SIGMA, WITHIN_2_SIGMA = 0.683, 0.954  # shares of normal errors


@dataclass(frozen=True, kw_only=True)
class CompletionConfig:
    """Configuration of a training run of a completion.

    Attributes:
        kind: which network.
        population: population of view shards (`omote population --views`), or configuration of a population with a rig.
        engine: length and optimiser of the run; an image is a partial scan.
        side: voxels per side of the grid (volume, sparse).
        widths, part_widths: as in the network of that kind.
        num_calibration: number of partial scans of persons of the validation split on which the standard deviation is calibrated.
        ict: folder of ICT-FaceKit, for populations with persons of that family.
    """

    kind: Literal["volume", "sparse", "part-graph"]
    population: Path | PopulationConfig
    engine: EngineConfig
    side: Annotated[int, Range(16)] = 64
    widths: tuple[int, ...]
    part_widths: tuple[int, int] = (32, 48)
    num_calibration: Annotated[int, Range(1)] = 96
    ict: Path | None = None


@dataclass(frozen=True, kw_only=True)
class CompletionBatch:
    """Partial scans with the heads to find.

    Attributes:
        scans: the partial scans.
        truth_mm: true coarse vertices, in the frame of each scan.
    """

    scans: ScanBatch
    truth_mm: Float[Tensor, "b n 3"]


def errors(found: Displacement, batch: CompletionBatch) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n"]]:
    """Errors along the fitted normal, signed, and aside from it, mm."""
    off = batch.truth_mm - batch.scans.fitted_mm - found.offset_mm
    along = (off * batch.scans.normals_fitted).sum(dim=2)
    aside = torch.sqrt(((off - along[..., None] * batch.scans.normals_fitted) ** 2).sum(dim=2) + 1e-4)
    return along, aside


class CompletionModule(nn.Module):
    """The network, with its loss as the forward pass."""

    def __init__(self, network: CompletionNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: CompletionBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Distance from the truth, and negative log likelihood of what is left."""
        device = next(self.parameters()).device
        batch = CompletionBatch(scans=batch.scans.to(device), truth_mm=batch.truth_mm.to(device))
        found = self.network(batch.scans)
        along, aside = errors(found, batch)
        distance = torch.sqrt(along**2 + 1e-3)
        likelihood = (along.detach().abs() / found.sigma_mm + torch.log(found.sigma_mm)).mean()
        loss = distance.mean() + ASIDE_WEIGHT * aside.mean() + SIGMA_WEIGHT * likelihood
        with torch.no_grad():
            seen = batch.scans.seen
            before = errors(replace(found, offset_mm=torch.zeros_like(found.offset_mm)), batch)[0]
            metrics = {
                "seen_mm": _mean(along.abs(), seen),
                "missing_mm": _mean(along.abs(), ~seen),
                "fit_seen_mm": _mean(before.abs(), seen),
                "fit_missing_mm": _mean(before.abs(), ~seen),
                "aside_mm": aside.mean(),
                "likelihood": likelihood,
            }
        return loss, {name: value.detach() for name, value in metrics.items()}


def _mean(values: Float[Tensor, "b n"], among: Bool[Tensor, "b n"]) -> Tensor:
    return (values * among).sum() / among.sum().clamp_min(1)


class CompletionTask(BaseTask):
    """Training of a completion as an `omote.engine.loop.Task`.

    Raises:
        ConfigError: the population has persons of a head family whose model is not given, or the widths are not the kind's.
    """

    module: CompletionModule

    def __init__(self, config: CompletionConfig, heads: Sequence[HeadModel]) -> None:
        self.config = config
        self.source = PartialSource(config.population, heads)
        self.head, self.coarse = heads[0], coarse_head(heads[0])
        torch.manual_seed(config.engine.seed)
        try:
            network = built(NETWORKS[config.kind], config)
        except ValueError as error:
            raise ConfigError(f"widths: {error}, for {config.kind}; see its recipes for how many it takes") from None
        network.on(self.coarse)
        self.module = CompletionModule(network)
        self._held_out: list[CompletionBatch] = []

    def batch(self, step: int, seed: int, size: int, part: int, parts: int) -> CompletionBatch:
        """Partial scans of persons, one face per person."""
        drawn = self.source.views.drawn(step, seed, size, part, parts)
        known = [self.source.of_face(shard, row, int(rng.integers(shard.num_images)), rng) for shard, row, rng in drawn]
        return completion_batch(known, self.head)

    def held_out(self) -> list[CompletionBatch]:
        """Partial scans of persons of the validation split, each as a batch of its own."""
        if not self._held_out:
            held_out = self.source.held_out(self.config.num_calibration)
            self._held_out = [completion_batch([scan], self.head) for scan in held_out]
        return self._held_out

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Save the averaged weights in diffusers' format, with their standard deviation calibrated."""
        network: CompletionNetwork = self.averaged("network", weights)
        network.on(self.coarse)
        calibrate(network.eval(), self.held_out())
        network.save_pretrained(folder / "completion")


def completion_batch(known: Sequence[KnownScan], head: HeadModel) -> CompletionBatch:
    """Partial scans with the heads to find, as a batch."""
    coarse = coarse_head(head)
    truth = np.stack([scan.truth_mm[coarse.ids] for scan in known]).astype(np.float32)
    scans = scan_batch([scan.partial for scan in known], head, coarse)
    return CompletionBatch(scans=scans, truth_mm=torch.from_numpy(truth))


def sigma_factor(ratio: Float[np.ndarray, " n"]) -> float:
    """Factor that brings a standard deviation's shares of errors, within it and within twice of it, near a normal's.

    Errors of completions have heavier tails than normal ones, so that no factor fits both; this is the mean of the two that
    fit one each, as their logarithms have it.

    Args:
        ratio: absolute errors divided by their standard deviations.
    """
    one, two = np.quantile(ratio, (WITHIN_SIGMA, WITHIN_2_SIGMA)) / (1.0, 2.0)
    return float(np.sqrt(one * two))


@torch.no_grad()
def calibrate(network: CompletionNetwork, batches: Sequence[CompletionBatch]) -> None:
    """Set the factors of a network's standard deviation, for seen and for missing vertices (`sigma_factor`)."""
    ratios: dict[bool, list[Tensor]] = {False: [], True: []}
    for batch in batches:
        found = network(batch.scans)
        ratio = errors(found, batch)[0].abs() / found.sigma_mm
        for seen in ratios:
            ratios[seen].append(ratio[batch.scans.seen == seen])
    for seen, parts in ratios.items():
        ratio = torch.cat(parts)
        if len(ratio):
            network.sigma_scale[int(seen)] = sigma_factor(ratio.numpy())
