"""Training of the second stage: the latent editor, and the locator beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor, nn

from omote.config import Range
from omote.data.cache import NO_CATEGORY
from omote.data.pairs import PairBatch, draw_pairs
from omote.errors import ConfigError
from omote.ldm.autoencoder import RgbdAutoencoder
from omote.ldm.conditioners import Condition, make_condition
from omote.ldm.denoiser import LatentEditor, drop_conditions
from omote.ldm.flow import noised
from omote.ldm.motion import IMAGE_SIZE
from omote.ldm.objective import Objective
from omote.training.autoencoder import PairSource, packed, preview_rngs, step_generator
from omote.training.engine import EngineConfig
from omote.training.preview import grid
from omote.training.warm_start import load_pretrained


@dataclass(frozen=True, kw_only=True)
class EditorConfig:
    """A second-stage run.

    Attributes:
        population: folder of rendered shards.
        autoencoder: folder of the exported first stage; frozen.
        engine: length and optimiser.
        patch, channels, layers_per_block, context_width, head_channels: of `LatentEditor`.
        objective: prediction, weighting and times; the first (or only) step of a sampler is taken at t = 1.
        drop_category: share of items that see ARKit weights alone.
        drop_arkit: share that see category and intensity alone.
        drop_both: share that see nothing, for guidance.
        drop_source: share that do not see the source either, for guidance by the source.
        moved_weight: how much more a latent pixel counts that the expression moved.
        locator_weight: of the landmarks' L1 in pixels.
        channel_weight: of the latent's colour, depth, mask and learned channels. Captures' holes inflate the deviation
            that depth is measured in, and a depth is what an avatar is made of.
        huber: where the loss of a first step turns from a square into an absolute value, in deviations: an edge that may
            lie here or there should not become the mean of both (Song & Dhariwal, "Improved Techniques for Training
            Consistency Models", 2023, §3.3).
        targets_per_source: edits trained per source.
        start_from: exported weights to start from, or None.
    """

    population: Path
    autoencoder: Path
    engine: EngineConfig
    patch: int = 2
    channels: tuple[int, ...] = (64, 128, 128)
    layers_per_block: int = 1
    context_width: int = 128
    head_channels: int = 32
    objective: Objective = Objective(at_noise=0.5)
    drop_category: float = 0.2
    drop_arkit: float = 0.3
    drop_both: float = 0.05
    drop_source: Annotated[float, Range(0, 1)] = 0.0
    moved_weight: float = 1.0
    locator_weight: float = 0.1
    channel_weight: tuple[float, float, float, float] = (2.0, 6.0, 0.5, 1.0)
    huber: float = 0.3
    targets_per_source: int = 4
    start_from: Path | None = None


def condition_of_batch(pairs: PairBatch) -> Condition:
    """Everything known about the targets."""
    named = pairs.category != NO_CATEGORY
    return make_condition(
        category=pairs.category.clamp_min(0),
        intensity=pairs.intensity,
        arkit=pairs.arkit,
        has_category=named,
        has_arkit=torch.ones_like(named),
        faces=pairs.faces,
    )


@dataclass(frozen=True, kw_only=True)
class LatentBatch:
    """A training batch in latent space.

    Attributes:
        source: scaled source latents.
        delta: scaled target - source.
        condition: with guidance dropout applied.
        t: times.
        noise: z_1.
        landmarks_px: of the source's person at rest.
    """

    source: Tensor
    delta: Tensor
    condition: Condition
    t: Tensor
    noise: Tensor
    landmarks_px: Tensor


class EditorModule(nn.Module):
    """The editor with the flow-matching loss as forward."""

    channel_weight: Tensor

    def __init__(self, editor: LatentEditor, config: EditorConfig) -> None:
        super().__init__()
        self.editor = editor
        self.config = config
        color, depth, mask, learned = config.channel_weight
        weights = [color] * 3 + [depth, mask] + [learned] * (editor.config.latent_channels - 5)
        weight = torch.tensor(weights).view(1, -1, 1, 1)
        self.register_buffer("channel_weight", weight / weight.mean(), persistent=False)

    def forward(self, batch: LatentBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """w(t)‖v_θ - (ε - z_0)‖², weighted to what moved."""
        z_t = noised(batch.delta, batch.noise, batch.t)
        v = self.editor(z_t, batch.t, batch.source, batch.condition)
        counts = self.config.objective.weight(batch.t).view(-1, 1, 1, 1)
        error = counts * (v - (batch.noise - batch.delta)).square()
        moved = batch.delta.abs().mean(dim=1, keepdim=True).clamp(0, 3)
        weight = 1 + self.config.moved_weight * moved
        first = batch.t == 1
        c = self.config.huber
        charged = torch.where(first.view(-1, 1, 1, 1), 2 * c * (torch.sqrt(error + c**2) - c), error)
        charged = weight * self.channel_weight * charged
        loss = charged.sum(dim=(1, 2, 3)) / (weight.sum(dim=(1, 2, 3)) * error.shape[1])
        # The locator learns beside the editor; the editor always reads what the locator really says.
        seen = batch.source.flatten(1).any(dim=1).view(-1, 1, 1)
        located = (self.editor.locator(batch.source) - batch.landmarks_px).abs() * seen
        metrics = {"mse": error.detach().mean(), "landmark_px": located.detach().mean()}
        if bool(first.any()):
            metrics["mse_first_step"] = error.detach()[first].mean()
        return loss.mean() + self.config.locator_weight * located.mean(), metrics


class EditorTask:
    """The second stage as a `training.engine.Task`."""

    def __init__(self, config: EditorConfig) -> None:
        self.config = config
        self.autoencoder = load_pretrained(RgbdAutoencoder, config.autoencoder).eval().requires_grad_(False)
        if config.start_from is not None:
            editor = load_pretrained(LatentEditor, config.start_from)
            if editor.config.prediction != config.objective.prediction:
                raise ConfigError(
                    f"objective.prediction: {config.start_from} predicts {editor.config.prediction}, "
                    f"not {config.objective.prediction}; give that, or train from nothing"
                )
        else:
            torch.manual_seed(config.engine.seed)
            editor = LatentEditor(
                sample_size=self.autoencoder.config.sample_size // self.autoencoder.factor,
                latent_channels=self.autoencoder.latent_channels,
                patch=config.patch,
                channels=config.channels,
                layers_per_block=config.layers_per_block,
                context_width=config.context_width,
                head_channels=config.head_channels,
                prediction=config.objective.prediction,
            )
            editor.use_units_of(self.autoencoder)
        self._module = EditorModule(editor, config)
        self.pairs = PairSource(config.population)

    @property
    def module(self) -> nn.Module:
        """The editor with its loss."""
        return self._module

    def batch(self, step: int, seed: int, size: int, part: int, parts: int) -> LatentBatch:
        """Latents of a step's pairs, with times, noise and dropout drawn from (seed, step)."""
        config = self.config
        pairs = self.pairs.batch(step, seed, size, part, config.targets_per_source)
        generator, mine = step_generator(seed, step), slice(part * size, (part + 1) * size)
        device = next(self._module.parameters()).device
        source, delta = encode_pairs(self.autoencoder.to(device), pairs, device)
        condition = drop_conditions(
            condition_of_batch(pairs),
            torch.rand(size * parts, generator=generator)[mine],
            category=config.drop_category,
            arkit=config.drop_arkit,
            both=config.drop_both,
        )
        unseen = torch.rand(size * parts, generator=generator)[mine] < config.drop_source
        if config.drop_source:
            nothing = condition.dropped()
            condition = replace(
                condition,
                has_category=condition.has_category & ~unseen,
                has_arkit=condition.has_arkit & ~unseen,
                motion=torch.where(unseen.view(-1, 1, 1, 1), nothing.motion, condition.motion),
            )
            source = source * ~unseen.view(-1, 1, 1, 1).to(device)
        return LatentBatch(
            source=source,
            delta=delta,
            condition=condition.to(device),
            t=config.objective.draw(size * parts, generator)[mine].to(device),
            noise=torch.randn((size * parts, *delta.shape[1:]), generator=generator)[mine].to(device),
            landmarks_px=(pairs.rest_landmarks * (IMAGE_SIZE / pairs.source.rgb.shape[-1])).to(device),
        )

    def schedule(self, images: int) -> None:
        """Nothing changes along the run."""

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Averaged weights in diffusers' format."""
        editor = LatentEditor.from_config(self._module.editor.config)
        editor.load_state_dict({k.removeprefix("editor."): v.cpu() for k, v in weights.items()})
        editor.save_pretrained(folder / "editor")

    @torch.no_grad()
    def preview(self) -> Tensor:
        """Sources, targets, and one-step edits, decoded by the first stage."""
        pairs = draw_pairs(self.pairs.shards, preview_rngs(), targets_per_source=4)
        editor, device = self._module.editor, next(self._module.parameters()).device
        autoencoder, condition = self.autoencoder.to(device), condition_of_batch(pairs).to(device)
        source, _ = encode_pairs(autoencoder, pairs, device)
        noise = torch.randn(source.shape, generator=torch.Generator().manual_seed(11)).to(device)
        delta = noise - editor(noise, torch.ones(len(noise), device=device), source, condition)
        z = source * autoencoder.latent_std + autoencoder.latent_mean + delta * autoencoder.delta_std
        before = packed(pairs.source).repeat_interleave(4, 0)
        return grid([before, packed(pairs.target), autoencoder.decode(z, before.to(device), condition.motion)])


@torch.no_grad()
def encode_pairs(autoencoder: RgbdAutoencoder, pairs: PairBatch, device: torch.device) -> tuple[Tensor, Tensor]:
    """Pairs → (scaled source latents, scaled differences), both per target."""
    repeat = len(pairs.target.rgb) // len(pairs.source.rgb)
    source = autoencoder.encode(packed(pairs.source).to(device)).mode().repeat_interleave(repeat, 0)
    target = autoencoder.encode(packed(pairs.target).to(device)).mode()
    return autoencoder.scale(source), (target - source) / autoencoder.delta_std
