"""Training of the decoder with a warped source, on latents of the ground truth first, then on the editor's.

The encoder and the editor stay fixed. Given ARKit weights, the decoder sees the source warped by their motion image and can copy
from it at full resolution. The weights also determine the target, so that the decoder learns to undo the blur of the latents that
an editor makes in one or few steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from omote.config import Range
from omote.datasets.pair_source import PairSource
from omote.datasets.pairs import PairBatch
from omote.datasets.population import PopulationConfig
from omote.engine.loop import BaseTask, EngineConfig
from omote.engine.seeds import step_generator
from omote.engine.weights import load_pretrained
from omote.head.model import HeadModel
from omote.nets.adversarial import AdversarialModule, LossTerms
from omote.nets.discriminator import PatchDiscriminator
from omote.rgbd.autoencoder import RgbdAutoencoder
from omote.rgbd.codec import NUM_CHANNELS, RGB
from omote.rgbd.conditions.arkit import Arkit
from omote.rgbd.conditions.category import Category
from omote.rgbd.conditions.identity import Identity
from omote.rgbd.conditions.kinds import condition_of_pairs
from omote.rgbd.conditions.motion import Motion, motion_of
from omote.rgbd.latent_editor import LatentEditor
from omote.rgbd.losses import ReconstructionLoss
from omote.rgbd.model import EditingModel, EditSettings
from omote.rgbd.networks import Networks
from omote.rgbd.train.autoencoder import packed, preview_rngs
from omote.rgbd.train.preview import grid
from omote.rgbd.warp import NUM_READ, READ, moved


@dataclass(frozen=True, kw_only=True)
class DecoderConfig(LossTerms):
    """A run of the decoder.

    Attributes:
        population: folder of rendered shards.
        allow_pipe: run the commands (``pipe:``) that a population's file of URLs lists.
        autoencoder: folder of the exported first stage.
        editor: folder of the exported editor; None decodes disturbed latents of the ground truth.
        engine: length and optimiser of the run.
        loss: terms of the reconstruction loss.
        steps: sampler steps of the editor.
        clean_share: share of batches decoded from the true latent, to preserve the ceiling.
        unmoved_share: share of clean batches with an unmoved source, as in edits by category alone.
        alone_share: share of batches decoded without a source, as sampled persons are.
        disturbance: standard deviation of the noise on disturbed latents, in units of the edits' deviation.
        targets_per_source: edits decoded per source.
    """

    population: Path | PopulationConfig
    autoencoder: Path
    editor: Path | None
    engine: EngineConfig
    loss: ReconstructionLoss = ReconstructionLoss()
    steps: int = 1
    clean_share: float = 0.3
    unmoved_share: float = 0.3
    alone_share: Annotated[float, Range(0, 1)] = 0.0
    disturbance: float = 0.25
    adversarial_start: int = 2_000
    targets_per_source: int = 4
    allow_pipe: bool = False


@dataclass(frozen=True, kw_only=True)
class DecoderBatch:
    """Latents to decode, and the true images.

    Attributes:
        pairs: sources and targets.
        z: latents to decode.
        motion: motion image of each target.
        alone: whether to decode without the source.
    """

    pairs: PairBatch
    z: Tensor
    motion: Tensor
    alone: bool = False


class DecoderModule(AdversarialModule):
    """Decoder parameters and their loss."""

    def __init__(self, autoencoder: RgbdAutoencoder, config: DecoderConfig) -> None:
        judge = PatchDiscriminator(NUM_CHANNELS + NUM_READ) if config.adversarial > 0 else None
        super().__init__(autoencoder, judge, config)
        self.config = config

    def forward(self, batch: DecoderBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of the decoded latents against the true images."""
        device = batch.z.device
        repeat = len(batch.z) // len(batch.pairs.source.rgb)
        source = packed(batch.pairs.source).to(device).repeat_interleave(repeat, 0)
        target = packed(batch.pairs.target).to(device)
        beside = () if batch.alone else (source, batch.motion)
        image = self.autoencoder.decode(batch.z, *beside)
        # Without a source, there is no motion.
        before = target if batch.alone else source
        weight = self.config.loss.weights(batch.pairs.landmarks.to(device), before, target)
        loss, terms = self.config.loss(image, target, weight)
        condition = torch.cat([moved(source, batch.motion), batch.motion[:, READ]], dim=1) * (not batch.alone)
        loss, judged = self.judged(loss, image[:, RGB], target[:, RGB], condition, weight)
        return loss, terms | judged


class DecoderTask(BaseTask):
    """The decoder as an `omote.engine.loop.Task`."""

    module: DecoderModule

    def __init__(self, config: DecoderConfig, heads: Sequence[HeadModel]) -> None:
        self.config = config
        self.autoencoder = load_pretrained(RgbdAutoencoder, config.autoencoder)
        # Features of the warped source are the encoder's; the latent's own layers must not change under the editor.
        encoder = (
            self.autoencoder.stem,
            self.autoencoder.encoder_blocks,
            self.autoencoder.downsamplers,
            self.autoencoder.to_latent,
        )
        self.autoencoder.requires_grad_(True)
        for part in encoder:
            part.requires_grad_(False)
        self.model: EditingModel | None = None
        if config.editor is not None:
            # A separate copy, since Networks freezes its networks.
            self.model = EditingModel(
                Networks(
                    load_pretrained(RgbdAutoencoder, config.autoencoder), load_pretrained(LatentEditor, config.editor)
                ),
                heads[0],
            )
        # The discriminator's initialisation is random.
        torch.manual_seed(config.engine.seed)
        self.module = DecoderModule(self.autoencoder, config)
        self.pairs = PairSource(config.population, heads, allow_pipe=config.allow_pipe)

    @torch.no_grad()
    def batch(self, step: int, seed: int, size: int, part: int, parts: int) -> DecoderBatch:
        """Pairs, with latents of the editor or of the ground truth."""
        config = self.config
        pairs = self.pairs.batch(step, seed, size, part, config.targets_per_source, parts)
        generator, mine = step_generator(seed, step), slice(part * size, (part + 1) * size)
        clean = float(torch.rand((), generator=generator)) < config.clean_share
        unmoved = clean and float(torch.rand((), generator=generator)) < config.unmoved_share
        target = packed(pairs.target)
        # The target's geometry stays unknown, since it would reveal the edit.
        condition = condition_of_pairs(pairs, target, (Category, Arkit, Identity))
        condition = condition.including(Motion.drawn(condition[Arkit], pairs.faces))
        alone = bool(config.alone_share) and float(torch.rand((), generator=generator)) < config.alone_share
        if self.model is not None and not clean and not alone:
            source = self.model.networks.encode(packed(pairs.source)).repeat_interleave(config.targets_per_source, 0)
            settings = EditSettings(steps=config.steps, seed=(seed * 1_000_003 + step) * size * parts + part * size)
            z, motion = self.model.edit_latents(source, condition, settings)
            return DecoderBatch(pairs=pairs, z=z, motion=motion)
        z = self.autoencoder.encode(target).mode()
        if not clean:
            z = self._disturbed(z, generator, mine, size * parts)
        motion = motion_of(condition.unconditional() if unmoved or alone else condition, z)
        return DecoderBatch(pairs=pairs, z=z, motion=motion, alone=alone)

    @torch.no_grad()
    def preview(self) -> Tensor:
        """Sources, targets, and targets decoded from their own latents."""
        pairs = self.pairs.draw(preview_rngs(), 4)
        device = self.device
        source, target = packed(pairs.source).repeat_interleave(4, 0), packed(pairs.target)
        z = self.autoencoder.encode(target.to(device)).mode()
        motion = Motion.drawn(Arkit.of_pairs(pairs, target), pairs.faces).image
        image = self.autoencoder.decode(z, source.to(device), motion.to(device))
        return grid([source, target, image])

    def _disturbed(self, z: Tensor, generator: torch.Generator, mine: slice, total: int) -> Tensor:
        """Latents like those of an imperfect editor: blurred and slightly wrong."""
        softness, strength = torch.rand(2, total, 1, 1, 1, generator=generator)[:, mine]
        soft = torch.lerp(z, F.avg_pool2d(z, 3, 1, 1), softness)
        side = z.shape[-1]
        wrong = torch.randn(total, z.shape[1], side // 2, side // 2, generator=generator)[mine]
        wrong = F.interpolate(wrong, size=(side, side), mode="bilinear", align_corners=False)
        strength = self.config.disturbance * strength
        return soft + strength * wrong * self.autoencoder.delta_std

    def schedule(self, images: int) -> None:
        """Turn the adversarial loss on."""
        self.module.paying = images >= self.config.adversarial_start

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Averaged weights in diffusers' format."""
        self.averaged("autoencoder", weights).save_pretrained(folder / "autoencoder")
