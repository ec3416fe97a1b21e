"""The decoder with a moved source, on true latents first, then on the editor's own.

The encoder and the editor stay as they are. Where ARKit weights are given, the decoder sees the source moved by their motion
image, so that what moved can be taken from it at full resolution; and the truth is determined, so the editor's one- or
few-step answer has a right image to decode to: the decoder learns to undo the editor's blur.
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
from omote.nets.adversarial import AdversarialModule
from omote.nets.discriminator import PatchDiscriminator
from omote.rgbd.autoencoder import RgbdAutoencoder
from omote.rgbd.codec import NUM_CHANNELS, RGB
from omote.rgbd.conditions.arkit import Arkit
from omote.rgbd.conditions.category import Category
from omote.rgbd.conditions.identity import Identity
from omote.rgbd.conditions.kinds import condition_of_pairs
from omote.rgbd.conditions.motion import Motion, motion_of
from omote.rgbd.editor import LatentEditor
from omote.rgbd.losses import ReconstructionLoss
from omote.rgbd.model import EditingModel, EditSettings
from omote.rgbd.networks import Networks
from omote.rgbd.train.autoencoder import packed, preview_rngs
from omote.rgbd.train.preview import grid
from omote.rgbd.warp import NUM_READ, READ, moved


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """A decoder polish.

    Attributes:
        population: folder of rendered shards.
        autoencoder: folder of the exported first stage.
        editor: folder of the exported editor; None decodes latents of the truth, disturbed.
        engine: length and optimiser.
        loss: reconstruction terms.
        steps: of the editor, per latent.
        clean_share: share of batches decoded from the truth's own latent, so that the ceiling does not sink.
        unmoved_share: share of those whose source is not moved, as where a category alone is given.
        alone_share: share of batches decoded without a source, as people are who were drawn and not edited.
        disturbance: deviation of noise on disturbed latents, in deviations of the edit.
        adversarial: how strong a patch discriminator's gradient is against the reconstruction's, at the last layer; 0 for
            none.
        matching: weight of the discriminator's features beside it.
        adversarial_start: images from which on the decoder pays; until then, the discriminator learns alone.
        targets_per_source: per source.
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
    adversarial: float = 0.0
    matching: float = 0.0
    adversarial_start: int = 2_000
    targets_per_source: int = 4


@dataclass(frozen=True, kw_only=True)
class DecoderBatch:
    """What to decode, and to what.

    Attributes:
        pairs: the truth.
        z: latents.
        motion: how each target's source is moved.
        alone: the decoder does not see the source.
    """

    pairs: PairBatch
    z: Tensor
    motion: Tensor
    alone: bool = False


class DecoderModule(AdversarialModule):
    """Decoder parameters and their loss."""

    def __init__(self, autoencoder: RgbdAutoencoder, config: DecoderConfig) -> None:
        judge = PatchDiscriminator(NUM_CHANNELS + NUM_READ) if config.adversarial > 0 else None
        super().__init__(autoencoder, judge, adversarial=config.adversarial, matching=config.matching)
        self.config = config

    def forward(self, batch: DecoderBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of decoding given latents to the truth."""
        device = batch.z.device
        repeat = len(batch.z) // len(batch.pairs.source.rgb)
        source = packed(batch.pairs.source).to(device).repeat_interleave(repeat, 0)
        target = packed(batch.pairs.target).to(device)
        beside = () if batch.alone else (source, batch.motion)
        image = self.autoencoder.decode(batch.z, *beside)
        # Against what was not seen nothing moved.
        before = target if batch.alone else source
        weight = self.config.loss.weights(batch.pairs.landmarks.to(device), before, target)
        loss, terms = self.config.loss(image, target, weight)
        if self.discriminator is None:
            return loss, terms
        condition = torch.cat([moved(source, batch.motion), batch.motion[:, READ]], dim=1) * (not batch.alone)
        loss, judged = self.judged(loss, image[:, RGB], target[:, RGB], condition, weight)
        return loss, terms | judged


class DecoderTask(BaseTask):
    """The decoder as an `omote.engine.loop.Task`."""

    module: DecoderModule

    def __init__(self, config: DecoderConfig, heads: Sequence[HeadModel]) -> None:
        self.config = config
        self.autoencoder = load_pretrained(RgbdAutoencoder, config.autoencoder)
        # Features of the moved source are the encoder's; the latent's own layers must not move under the editor.
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
            # Its own copy: EditingModel freezes what it holds.
            self.model = EditingModel(
                Networks(
                    load_pretrained(RgbdAutoencoder, config.autoencoder), load_pretrained(LatentEditor, config.editor)
                ),
                heads[0],
            )
        # A discriminator begins as a draw.
        torch.manual_seed(config.engine.seed)
        self.module = DecoderModule(self.autoencoder, config)
        self.pairs = PairSource(config.population, heads)

    @torch.no_grad()
    def batch(self, step: int, seed: int, size: int, part: int, parts: int) -> DecoderBatch:
        """Pairs and the latents to decode: the editor's, or the truth's."""
        config = self.config
        pairs = self.pairs.batch(step, seed, size, part, config.targets_per_source, parts)
        generator, mine = step_generator(seed, step), slice(part * size, (part + 1) * size)
        clean = float(torch.rand((), generator=generator)) < config.clean_share
        unmoved = clean and float(torch.rand((), generator=generator)) < config.unmoved_share
        target = packed(pairs.target)
        # The target's geometry stays unknown: it would give the edit away.
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
        """Latents as an imperfect editor would give them: softened and a little wrong."""
        softness, strength = torch.rand(2, total, 1, 1, 1, generator=generator)[:, mine]
        soft = torch.lerp(z, F.avg_pool2d(z, 3, 1, 1), softness)
        side = z.shape[-1]
        wrong = torch.randn(total, z.shape[1], side // 2, side // 2, generator=generator)[mine]
        wrong = F.interpolate(wrong, size=(side, side), mode="bilinear", align_corners=False)
        strength = self.config.disturbance * strength
        return soft + strength * wrong * self.autoencoder.delta_std

    def schedule(self, images: int) -> None:
        """The decoder begins to pay the discriminator."""
        self.module.paying = images >= self.config.adversarial_start

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Averaged weights in diffusers' format."""
        self.averaged("autoencoder", weights).save_pretrained(folder / "autoencoder")
