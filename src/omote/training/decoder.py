"""Last polish: the decoder learns to draw from what the editor makes, not from perfect latents.

The encoder and the editor stay as they are. With ARKit weights given the truth is determined, so the editor's one- or
few-step answer has a right image to decode to; the decoder learns to undo the editor's blur with the source's help.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from omote.data.pairs import PairBatch
from omote.ldm.autoencoder import RgbdAutoencoder
from omote.ldm.denoiser import LatentEditor
from omote.ldm.editing import EditingModel, EditSettings
from omote.ldm.losses import ReconstructionLoss
from omote.training.autoencoder import PairSource, packed
from omote.training.editor import condition_of_batch
from omote.training.engine import EngineConfig
from omote.training.warm_start import load_pretrained


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """A decoder polish.

    Attributes:
        population: folder of rendered shards.
        autoencoder, editor: folders of the exported stages.
        engine: length and optimiser.
        loss: reconstruction terms.
        steps: of the editor, per latent.
        clean_share: share of batches decoded from the truth's own latent, so that the ceiling does not sink.
        targets_per_source: per source.
    """

    population: Path
    autoencoder: Path
    editor: Path
    engine: EngineConfig
    loss: ReconstructionLoss = ReconstructionLoss()
    steps: int = 2
    clean_share: float = 0.35
    targets_per_source: int = 4


class DecoderModule(nn.Module):
    """Decoder parameters and their loss."""

    def __init__(self, autoencoder: RgbdAutoencoder, config: DecoderConfig) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.config = config

    def forward(self, item: tuple[PairBatch, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of decoding given latents to the truth."""
        pairs, z = item
        repeat = len(pairs.target.rgb) // len(pairs.source.rgb)
        source, target = packed(pairs.source), packed(pairs.target)
        with torch.no_grad():
            features = [f.repeat_interleave(repeat, 0) for f in self.autoencoder.features(source)]
        source = source.repeat_interleave(repeat, 0)
        image = self.autoencoder.decode(z, source, features)
        return self.config.loss(image, target, self.config.loss.weights(pairs.landmarks, source, target))


class DecoderTask:
    """The polish as a `training.engine.Task`."""

    def __init__(self, config: DecoderConfig) -> None:
        self.config = config
        autoencoder = load_pretrained(RgbdAutoencoder, config.autoencoder)
        self.model = EditingModel(autoencoder, load_pretrained(LatentEditor, config.editor))
        encoder = (autoencoder.stem, autoencoder.encoder_blocks, autoencoder.downsamplers, autoencoder.to_latent)
        autoencoder.requires_grad_(True)
        for part in encoder:
            part.requires_grad_(False)
        self._module = DecoderModule(autoencoder, config)
        self.pairs = PairSource(config.population)

    @property
    def module(self) -> nn.Module:
        """The autoencoder, its decoder trainable."""
        return self._module

    @torch.no_grad()
    def batch(self, step: int, seed: int, size: int, rank: int, world: int) -> tuple[PairBatch, Tensor]:
        """Pairs and the latents to decode: mostly the editor's, sometimes the truth's."""
        pairs = self.pairs.batch(step, seed, size, rank, world, self.config.targets_per_source)
        seed_of_step = seed * 1_000_003 + step * world + rank
        generator = torch.Generator().manual_seed(seed_of_step)
        if float(torch.rand((), generator=generator)) < self.config.clean_share:
            return pairs, self.model.encode(packed(pairs.target))
        repeat = self.config.targets_per_source
        source = self.model.encode(packed(pairs.source)).repeat_interleave(repeat, 0)
        settings = EditSettings(steps=self.config.steps, seed=seed_of_step)
        return pairs, self.model.edit_latents(source, condition_of_batch(pairs), settings)

    def schedule(self, images: int) -> None:
        """Nothing changes along the run."""

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Averaged weights in diffusers' format."""
        autoencoder = RgbdAutoencoder.from_config(self._module.autoencoder.config)
        autoencoder.load_state_dict({k.removeprefix("autoencoder."): v.cpu() for k, v in weights.items()})
        autoencoder.save_pretrained(folder / "autoencoder")
