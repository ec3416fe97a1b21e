"""Training of the first stage for views (Rombach et al., CVPR 2022, §3.1): losses of L1, gradients, surface slope and KL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from omote.config import Range
from omote.datasets.population import PopulationConfig
from omote.engine.loop import BaseTask, EngineConfig
from omote.engine.weights import built
from omote.head.model import HeadModel
from omote.multiview.data import ViewSource, sets_of
from omote.multiview.first_stage import FACTOR, Modality, ViewAutoencoder
from omote.rgbd.codec import MASK, NUM_CHANNELS
from omote.rgbd.losses import ReconstructionLoss
from omote.rgbd.train.preview import grid

MEASURED, PREVIEWS = 64, 6


@dataclass(frozen=True, kw_only=True)
class ViewFirstStageConfig:
    """Configuration of a training run of a first stage for views.

    Attributes:
        population: population of view shards, or configuration of a population with a rig.
        engine: length and optimiser of the run; an image is a view.
        modality, learned_channels, widths, fine_width: as in `ViewAutoencoder`.
        kl_weight: weight of the KL divergence per latent value.
        loss: weights of the reconstruction loss.
    """

    population: Path | PopulationConfig
    engine: EngineConfig
    modality: Modality = "rgb"
    learned_channels: Annotated[int, Range(1)] = 8
    widths: tuple[int, int] = (64, 96)
    fine_width: Annotated[int, Range(8)] = 32
    kl_weight: float = 1e-4
    loss: ReconstructionLoss = ReconstructionLoss(normal=0.2)


class ViewFirstStageModule(nn.Module):
    """The first stage, with its loss as the forward pass."""

    def __init__(self, autoencoder: ViewAutoencoder, config: ViewFirstStageConfig) -> None:
        super().__init__()
        self.autoencoder, self.config = autoencoder, config
        blind = {"depth": 0.0, "depth_gradient": 0.0, "normal": 0.0}
        self.loss = config.loss if config.modality == "rgbd" else replace(config.loss, **blind)

    def forward(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of the reconstruction of packed views and of the posterior's KL divergence."""
        device = next(self.parameters()).device
        x, noise = (part.to(device) for part in batch)
        posterior = self.autoencoder.encode(x)
        own = self.autoencoder.decode(posterior.sample(noise)).float()
        image = own if own.shape[1] == NUM_CHANNELS else torch.cat([own[:, :3], x[:, 3:4], own[:, 3:]], dim=1)
        # The face has twice the weight of the grey background.
        weight = 0.5 + 0.5 * (x[:, MASK] > 0).to(x.dtype)
        loss, terms = self.loss(image, x, weight)
        kl = posterior.penalty()
        return loss + self.config.kl_weight * kl, {**terms, "kl": kl.detach()}


class ViewFirstStageTask(BaseTask):
    """Training of the first stage for views as an `omote.engine.loop.Task`."""

    module: ViewFirstStageModule

    def __init__(self, config: ViewFirstStageConfig, heads: Sequence[HeadModel]) -> None:
        self.config = config
        self.source = ViewSource(config.population, heads)
        self.size = self.source.image_size
        torch.manual_seed(config.engine.seed)
        self.module = ViewFirstStageModule(built(ViewAutoencoder, config, sample_size=self.size), config)

    def batch(self, step: int, seed: int, size: int, part: int, parts: int) -> tuple[Tensor, Tensor]:
        """Views of persons, one per person, and the noise for sampling their posterior."""
        views, noise = [], []
        side = self.size // FACTOR
        for shard, row, rng in self.source.drawn(step, seed, size, part, parts):
            x = sets_of(shard, [(row, int(rng.integers(shard.num_images)))]).x[0]
            views.append(x[int(rng.integers(len(x)))])
            noise.append(rng.standard_normal((self.config.learned_channels, side, side)).astype(np.float32))
        return torch.stack(views), torch.from_numpy(np.stack(noise))

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Save the averaged weights with the scaling of the latents."""
        autoencoder: ViewAutoencoder = self.averaged("autoencoder", weights).eval()
        with torch.no_grad():
            z = autoencoder.encode(self.batch(0, 7, MEASURED, 0, 1)[0]).mode()
            autoencoder.latent_mean.copy_(z.mean(dim=(0, 2, 3))[:, None, None])
            autoencoder.latent_std.copy_(z.std(dim=(0, 2, 3)).clamp_min(1e-3)[:, None, None])
        autoencoder.save_pretrained(folder / "first_stage")

    @torch.no_grad()
    def preview(self) -> Float[Tensor, "3 h w"]:
        """Views above their reconstructions."""
        x = sets_of(self.source.shards[0], [(0, k % self.source.shards[0].num_images) for k in range(2)]).x.flatten(
            0, 1
        )[:PREVIEWS]
        own = self.module.autoencoder
        latents = own.encode(x.to(self.device)).mode()
        return grid([x, own.decoded(own.scale(latents), x.to(self.device)).cpu()])
