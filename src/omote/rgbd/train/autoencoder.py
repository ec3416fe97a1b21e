"""Training of the first stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from omote.datasets.pair_source import PairSource
from omote.datasets.pairs import PairBatch, RgbdBatch
from omote.datasets.population import PopulationConfig
from omote.engine.loop import BaseTask, EngineConfig
from omote.engine.seeds import step_generator
from omote.engine.weights import built, load_pretrained
from omote.head.model import HeadModel
from omote.nets.adversarial import AdversarialModule, LossTerms
from omote.nets.discriminator import PatchDiscriminator
from omote.nets.quantiser import codebook_use
from omote.rgbd.autoencoder import QuantisedLatent, RgbdAutoencoder
from omote.rgbd.codec import MASK, NUM_CHANNELS, pack, shrunk
from omote.rgbd.identity_stage import FirstStage
from omote.rgbd.losses import ReconstructionLoss
from omote.rgbd.train.preview import grid

# Batches, and sources and targets of each, on which the latents' scale is measured.
MEASURED_BATCHES, MEASURED_SOURCES, MEASURED_TARGETS = 8, 8, 4


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig(LossTerms):
    """A run of the first stage.

    Attributes:
        population: folder of rendered shards, or a config whose persons are rendered as they are drawn (`PairSource`).
        allow_pipe: run the commands (``pipe:``) that a population's file of URLs lists.
        engine: length and optimiser.
        regularisation, num_codes, learned_channels, patch, channels, blocks, fine_channels, fine_blocks: of
            `RgbdAutoencoder`.
        sample_size: pixels.
        loss: reconstruction terms.
        kl_weight: weight of the KL penalty (paper: "slight", 1e-6 of a sum; here per latent value).
        commitment_weight: weight of a codebook's commitment loss (van den Oord et al. 2017, eq. 3).
        source_dropout: share of batches decoded without a source, so that it remains an autoencoder.
        gate_from: share of the run after which the copy gate opens.
        latent_noise: deviation of noise on the pooled channels while decoding, so that the decoder tolerates imperfect edits.
        targets_per_source: images decoded per source.
        start_from: exported weights to start from, or None.
    """

    population: Path | PopulationConfig
    engine: EngineConfig
    regularisation: Literal["kl", "vq"] = "kl"
    num_codes: int = 1024
    learned_channels: int = 4
    patch: int = 4
    channels: tuple[int, ...] = (48,)
    blocks: int = 2
    fine_channels: int = 48
    fine_blocks: int = 2
    sample_size: int = 128
    loss: ReconstructionLoss = ReconstructionLoss()
    kl_weight: float = 1e-4
    commitment_weight: float = 0.25
    source_dropout: float = 0.1
    gate_from: float = 0.5
    latent_noise: float = 0.015
    targets_per_source: int = 4
    start_from: Path | None = None
    allow_pipe: bool = False


def packed(images: RgbdBatch, size: int | None = None) -> Tensor:
    """`pack` of an `RgbdBatch`, shrunk to ``size`` pixels of a side: (b, 5, s, s)."""
    x = pack(images.rgb, images.depth_mm, images.mask)
    return x if size is None else shrunk(x, size)


@dataclass(frozen=True, kw_only=True)
class AutoencoderBatch:
    """Images to reconstruct.

    Attributes:
        pairs: sources and targets.
        noise: noise of the draw from the posterior.
        jitter: noise on the pooled channels, in units of `AutoencoderConfig.latent_noise`.
        alone: decode without the source.
    """

    pairs: PairBatch
    noise: Tensor
    jitter: Tensor
    alone: bool


class AutoencoderModule(AdversarialModule):
    """The autoencoder with its loss as forward."""

    def __init__(self, autoencoder: RgbdAutoencoder, config: AutoencoderConfig) -> None:
        judge = PatchDiscriminator(1, image_channels=4) if config.adversarial > 0 else None
        super().__init__(autoencoder, judge, config)
        self.config = config

    def forward(self, batch: AutoencoderBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch."""
        pairs, size = batch.pairs, self.config.sample_size
        device = next(self.parameters()).device
        repeat = len(pairs.target.rgb) // len(pairs.source.rgb)
        source = packed(pairs.source, size).to(device)
        target = packed(pairs.target, size).to(device)
        features = None if batch.alone else [f.repeat_interleave(repeat, 0) for f in self.autoencoder.features(source)]
        source = source.repeat_interleave(repeat, 0)
        posterior = self.autoencoder.encode(target)
        z = posterior.sample(batch.noise.to(device))
        pooled = z[:, :NUM_CHANNELS] + batch.jitter.to(device) * self.config.latent_noise
        z = torch.cat([pooled, z[:, NUM_CHANNELS:]], dim=1)
        image = (
            self.autoencoder.decode(z) if batch.alone else self.autoencoder.decode(z, source, source_features=features)
        )
        landmarks = pairs.landmarks.to(device) * (size / pairs.target.rgb.shape[-1])
        weight = self.config.loss.weights(landmarks, source, target)
        loss, terms = self.config.loss(image, target, weight)
        # Colour and depth; the true mask is given, so that outlines alone do not identify decoded images.
        loss, judged = self.judged(loss, image[:, :4], target[:, :4], target[:, MASK], weight)
        penalty = posterior.penalty()
        name, penalty_weight = (
            ("kl", self.config.kl_weight)
            if self.autoencoder.quantiser is None
            else ("commitment", self.config.commitment_weight)
        )
        terms |= {**judged, name: penalty.detach()}
        if isinstance(posterior, QuantisedLatent):
            use = codebook_use(posterior.quantised.indices, self.config.num_codes)
            terms |= {"codes_used": torch.tensor(use.share_used), "code_perplexity": torch.tensor(use.perplexity)}
        return loss + penalty_weight * penalty, terms


class AutoencoderTask(BaseTask):
    """The first stage as an `omote.engine.loop.Task`."""

    module: AutoencoderModule

    def __init__(self, config: AutoencoderConfig, heads: Sequence[HeadModel]) -> None:
        self.config = config
        torch.manual_seed(config.engine.seed)
        if config.start_from is not None:
            autoencoder = load_pretrained(RgbdAutoencoder, config.start_from)
        else:
            autoencoder = built(RgbdAutoencoder, config)
        self.module = AutoencoderModule(autoencoder, config)
        self.pairs = PairSource(config.population, heads, allow_pipe=config.allow_pipe)

    def batch(self, step: int, seed: int, size: int, part: int, parts: int) -> AutoencoderBatch:
        """Pairs and their noise."""
        pairs = self.pairs.batch(step, seed, size, part, self.config.targets_per_source, parts)
        generator = step_generator(seed, step)
        alone = float(torch.rand((), generator=generator)) < self.config.source_dropout
        side = self.config.sample_size // self.module.autoencoder.factor
        channels = self.module.autoencoder.latent_channels
        noise = torch.randn((size * parts, channels, side, side), generator=generator)[part * size : (part + 1) * size]
        return AutoencoderBatch(pairs=pairs, jitter=noise[:, :NUM_CHANNELS], noise=noise[:, NUM_CHANNELS:], alone=alone)

    def schedule(self, images: int) -> None:
        """Open the gate over a tenth of the run; turn the adversarial loss on."""
        total = self.config.engine.total_images
        opened = (images / total - self.config.gate_from) / 0.1
        self.module.autoencoder.gate_open.fill_(min(max(opened, 0.0), 1.0))
        self.module.paying = images >= self.config.adversarial_start

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Averaged weights with measured latent statistics, in diffusers' format."""
        autoencoder = self.averaged("autoencoder", weights)
        # A trial of a few steps is measured on no more images than it has seen, which would take longer than its steps.
        most = self.config.engine.total_images // (MEASURED_SOURCES * MEASURED_TARGETS)
        measure_latents(autoencoder.eval(), self.pairs, min(MEASURED_BATCHES, max(most, 1)))
        autoencoder.save_pretrained(folder / "autoencoder")

    @torch.no_grad()
    def preview(self) -> Tensor:
        """Sources, targets, and targets through the autoencoder with their sources."""
        pairs = self.pairs.draw(preview_rngs(), 4)
        size = self.config.sample_size
        source, target = packed(pairs.source, size).repeat_interleave(4, 0), packed(pairs.target, size)
        autoencoder = self.module.autoencoder
        device = next(autoencoder.parameters()).device
        # A decoder trained without sources is shown without.
        seen = None if self.config.source_dropout >= 1 else source.to(device)
        image = autoencoder.decode(autoencoder.encode(target.to(device)).mode(), seen)
        return grid([source, target, image])


def preview_rngs() -> list[np.random.Generator]:
    """The two sources of every preview."""
    return [np.random.default_rng([11, i]) for i in range(2)]


@torch.no_grad()
def measure_latents(autoencoder: FirstStage, pairs: PairSource, num_batches: int = MEASURED_BATCHES) -> None:
    """Fill the latent's mean and deviation, and that of target-source differences, per channel (paper, D.1)."""
    latents, deltas, size = [], [], autoencoder.config.sample_size
    for step in range(num_batches):
        rngs = [np.random.default_rng([7, step, i]) for i in range(MEASURED_SOURCES)]
        batch = pairs.draw(rngs, MEASURED_TARGETS)
        source = autoencoder.encode(packed(batch.source, size)).mode()
        target = autoencoder.encode(packed(batch.target, size)).mode()
        latents.append(target)
        deltas.append(target - source.repeat_interleave(MEASURED_TARGETS, 0))
    z, delta = torch.cat(latents), torch.cat(deltas)
    autoencoder.latent_mean.copy_(z.mean(dim=(0, 2, 3))[:, None, None])
    autoencoder.latent_std.copy_(z.std(dim=(0, 2, 3))[:, None, None].clamp_min(1e-3))
    autoencoder.delta_std.copy_(delta.std(dim=(0, 2, 3))[:, None, None].clamp_min(1e-3))
