"""Training of the first stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from omote.data.cache import read_shard, shard_folders
from omote.data.pairs import ImageBatch, PairBatch, draw_pairs
from omote.ldm.autoencoder import RgbdAutoencoder
from omote.ldm.losses import ReconstructionLoss
from omote.ldm.representation import pack
from omote.training.engine import EngineConfig
from omote.training.warm_start import load_pretrained


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """A first-stage run.

    Attributes:
        population: folder of rendered shards.
        engine: length and optimiser.
        learned_channels, patch, channels, blocks, fine_channels, fine_blocks: of `RgbdAutoencoder`.
        sample_size: pixels.
        loss: reconstruction terms.
        kl_weight: of the KL penalty (paper: "slight", 1e-6 of a sum; here per latent value).
        source_dropout: share of batches decoded without a source, so that it stays an autoencoder.
        gate_from: share of the run after which the copy gate opens.
        latent_noise: deviation of noise on the pooled channels while decoding, so that edits need not be perfect.
        targets_per_source: images decoded per source.
        start_from: exported weights to start from, or None.
    """

    population: Path
    engine: EngineConfig
    learned_channels: int = 4
    patch: int = 4
    channels: tuple[int, ...] = (48,)
    blocks: int = 2
    fine_channels: int = 48
    fine_blocks: int = 2
    sample_size: int = 128
    loss: ReconstructionLoss = ReconstructionLoss()
    kl_weight: float = 1e-4
    source_dropout: float = 0.1
    gate_from: float = 0.5
    latent_noise: float = 0.015
    targets_per_source: int = 4
    start_from: Path | None = None


def packed(images: ImageBatch) -> Tensor:
    """`pack` of an `ImageBatch`: (b, 5, s, s)."""
    return pack(images.rgb, images.depth_mm, images.mask)


class PairSource:
    """Batches of pairs from a population's shards; shards added while it runs are found at the next refresh."""

    def __init__(self, folder: Path, *, refresh_steps: int = 200) -> None:
        self.folder = folder
        self.refresh_steps = refresh_steps
        self.shards = [read_shard(p) for p in shard_folders(folder)]

    def batch(self, step: int, seed: int, size: int, rank: int, world: int, targets_per_source: int) -> PairBatch:
        """The pairs of a step, a pure function of its arguments and the shards present."""
        if step % self.refresh_steps == 0:
            self.shards = [read_shard(p) for p in shard_folders(self.folder)]
        rng = np.random.default_rng([seed, step, rank, world])
        return draw_pairs(
            self.shards, rng, num_sources=size // targets_per_source, targets_per_source=targets_per_source
        )


class AutoencoderModule(nn.Module):
    """The autoencoder with its loss as forward."""

    def __init__(self, autoencoder: RgbdAutoencoder, config: AutoencoderConfig) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.config = config

    def forward(self, item: tuple[PairBatch, int]) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch; the int seeds its noise."""
        pairs, seed = item
        device = next(self.parameters()).device
        generator = torch.Generator().manual_seed(seed)
        repeat = len(pairs.target.rgb) // len(pairs.source.rgb)
        source = packed(pairs.source).to(device)
        target = packed(pairs.target).to(device)
        features = [f.repeat_interleave(repeat, 0) for f in self.autoencoder.features(source)]
        source = source.repeat_interleave(repeat, 0)
        posterior = self.autoencoder.encode(target)
        noise = torch.randn(posterior.mean.shape, generator=generator).to(device)
        learned = posterior.mean + torch.exp(0.5 * posterior.log_variance) * noise
        jitter = torch.randn(posterior.pooled.shape, generator=generator).to(device) * self.config.latent_noise
        z = torch.cat([posterior.pooled + jitter, learned], dim=1)
        alone = float(torch.rand((), generator=generator)) < self.config.source_dropout
        image = self.autoencoder.decode(z) if alone else self.autoencoder.decode(z, source, source_features=features)
        weight = self.config.loss.weights(pairs.landmarks.to(device), source, target)
        loss, terms = self.config.loss(image, target, weight)
        kl = posterior.kl()
        return loss + self.config.kl_weight * kl, {**terms, "kl": kl.detach()}


class AutoencoderTask:
    """The first stage as a `training.engine.Task`."""

    def __init__(self, config: AutoencoderConfig) -> None:
        self.config = config
        if config.start_from is not None:
            autoencoder = load_pretrained(RgbdAutoencoder, config.start_from)
        else:
            torch.manual_seed(config.engine.seed)
            autoencoder = RgbdAutoencoder(
                sample_size=config.sample_size,
                learned_channels=config.learned_channels,
                patch=config.patch,
                channels=config.channels,
                blocks=config.blocks,
                fine_channels=config.fine_channels,
                fine_blocks=config.fine_blocks,
            )
        self._module = AutoencoderModule(autoencoder, config)
        self.pairs = PairSource(config.population)

    @property
    def module(self) -> nn.Module:
        """The autoencoder with its loss."""
        return self._module

    def batch(self, step: int, seed: int, size: int, rank: int, world: int) -> tuple[PairBatch, int]:
        """Pairs and a noise seed."""
        pairs = self.pairs.batch(step, seed, size, rank, world, self.config.targets_per_source)
        return pairs, seed * 1_000_003 + step * world + rank

    def schedule(self, images: int) -> None:
        """Open the gate over a tenth of the run."""
        total = self.config.engine.total_images
        opened = (images / total - self.config.gate_from) / 0.1
        self._module.autoencoder.gate_open.fill_(min(max(opened, 0.0), 1.0))

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Averaged weights with measured latent statistics, in diffusers' format."""
        own = self._module.autoencoder
        autoencoder = RgbdAutoencoder.from_config(own.config)
        autoencoder.load_state_dict({k.removeprefix("autoencoder."): v.cpu() for k, v in weights.items()})
        measure_latents(autoencoder.eval(), self.pairs)
        autoencoder.save_pretrained(folder / "autoencoder")


@torch.no_grad()
def measure_latents(autoencoder: RgbdAutoencoder, pairs: PairSource, num_batches: int = 8) -> None:
    """Fill the latent's mean and deviation, and that of target-source differences, per channel (paper, D.1)."""
    latents, deltas = [], []
    for step in range(num_batches):
        batch = draw_pairs(pairs.shards, np.random.default_rng([7, step]), num_sources=8, targets_per_source=4)
        source = autoencoder.encode(packed(batch.source)).mode()
        target = autoencoder.encode(packed(batch.target)).mode()
        latents.append(target)
        deltas.append(target - source.repeat_interleave(4, 0))
    z, delta = torch.cat(latents), torch.cat(deltas)
    autoencoder.latent_mean.copy_(z.mean(dim=(0, 2, 3))[:, None, None])
    autoencoder.latent_std.copy_(z.std(dim=(0, 2, 3))[:, None, None].clamp_min(1e-3))
    autoencoder.delta_std.copy_(delta.std(dim=(0, 2, 3))[:, None, None].clamp_min(1e-3))
