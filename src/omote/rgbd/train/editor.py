"""Training of the second stage: the latent editor, and the locator beside it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from omote.config import Range
from omote.datasets.pair_source import PairSource
from omote.datasets.population import PopulationConfig
from omote.diffusion.flow import heun, noised
from omote.diffusion.objective import Objective
from omote.diffusion.settings import DRAW_SETTINGS
from omote.engine.loop import EngineConfig
from omote.engine.seeds import step_generator
from omote.engine.weights import load_extended
from omote.errors import ConfigError, OutputError
from omote.head.model import HeadModel
from omote.head.shipped import shipped_head
from omote.rgbd.conditions.base import Condition, drop_conditions, with_motion
from omote.rgbd.conditions.geometry import GeometryKind, GeometryPath
from omote.rgbd.editor import LatentEditor
from omote.rgbd.identity_stage import FirstStage, IdentityStage, load_first_stage
from omote.rgbd.train.autoencoder import measure_latents, packed, preview_rngs
from omote.rgbd.train.edit_cache import EncodedEdits
from omote.rgbd.train.edits import Edits, encoded
from omote.rgbd.train.preview import grid

AT_ONCE = 16
POPULATION_SEED = 13


@dataclass(frozen=True, kw_only=True)
class EditorConfig:
    """A second-stage run.

    Attributes:
        population: folder of rendered shards.
        autoencoder: folder of the exported first stage; frozen.
        pixels: there is no first stage: ``autoencoder`` is the folder of an `IdentityStage`, which the run measures on the
            population and writes there unless it is there.
        engine: length and optimiser.
        patch, channels, layers_per_block, context_width, head_channels: of `LatentEditor`.
        objective: prediction, weighting and times; the first (or only) step of a sampler is taken at t = 1.
        drop_category: share of items that see ARKit weights alone.
        drop_arkit: share that see category and intensity alone.
        drop_both: share that see nothing, for guidance.
        drop_geometry: share that do not see the geometry, where it can be given.
        drop_identity: share that do not see the identity.
        drop_source: share that do not see the source either, for guidance by the source.
        draw_share: share that have no source: the whole person is drawn, from category and intensity alone.
        moved_weight: how much more a latent pixel counts that the expression moved.
        locator_weight: of the landmarks' L1 in pixels.
        channel_weight: of the latent's colour, depth, mask and learned channels. Captures' holes inflate the deviation
            that depth is measured in, and a depth is what an avatar is made of.
        huber: where the loss of a first step turns from a square into an absolute value, in deviations: an edge that may
            lie here or there should not become the mean of both (Song & Dhariwal, "Improved Techniques for Training
            Consistency Models", 2023, §3.3).
        targets_per_source: edits trained per source.
        start_from: exported weights to start from, or None; what they lack of the conditions is added to them.
        geometry, geometry_by: of `LatentEditor`: the image of the target's geometry that it is trained to read.
        identity: it is trained to read the identity coefficients of the source's fitted head.
        unit_style: faces move by the units of people like them; without, by the shipped head's own alone, as where the
            other families that `omote.head.unit_style` learned from are to stay unknown.
        latents: folder of the population's edits as `omote encode` writes them, or None to encode at every step.
    """

    population: Path | PopulationConfig
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
    drop_geometry: Annotated[float, Range(0, 1)] = 0.4
    drop_identity: Annotated[float, Range(0, 1)] = 0.4
    drop_source: Annotated[float, Range(0, 1)] = 0.0
    draw_share: Annotated[float, Range(0, 1)] = 0.0
    moved_weight: float = 1.0
    locator_weight: float = 0.1
    channel_weight: tuple[float, float, float, float] = (2.0, 6.0, 0.5, 1.0)
    huber: float = 0.3
    targets_per_source: int = 4
    start_from: Path | None = None
    geometry: GeometryKind = "none"
    geometry_by: GeometryPath = "both"
    identity: bool = False
    unit_style: bool = True
    latents: Path | None = None
    pixels: bool = False

    def conditions(self) -> dict[str, Any]:
        """What the network is given beside an expression, as `LatentEditor`'s arguments; of what can be, what is asked for."""
        asked: dict[str, Any] = {"unit_style": self.unit_style}
        if self.draw_share > 0:
            asked["draws"] = True
        if self.geometry != "none":
            asked |= {"geometry": self.geometry, "geometry_by": self.geometry_by}
        if self.identity:
            asked["num_identity"] = shipped_head().num_identity
        return asked


@dataclass(frozen=True, kw_only=True)
class LatentBatch:
    """A training batch in latent space.

    Attributes:
        source: scaled source latents; 0 where it is not seen.
        delta: scaled target - source; the scaled target itself where a person is drawn.
        condition: with guidance dropout applied.
        t: times.
        noise: z_1.
        landmarks_px: of the source's person at rest.
        drawn: where a person is drawn.
    """

    source: Tensor
    delta: Tensor
    condition: Condition
    t: Tensor
    noise: Tensor
    landmarks_px: Tensor
    drawn: Tensor


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
        # Where a whole person is drawn nothing moved: a latent's size is not a change's.
        edited = ~batch.drawn.view(-1, 1, 1, 1)
        weight = 1 + self.config.moved_weight * moved * edited
        first = batch.t == 1
        c = self.config.huber
        charged = torch.where(first.view(-1, 1, 1, 1), 2 * c * (torch.sqrt(error + c**2) - c), error)
        charged = weight * self.channel_weight * charged
        loss = charged.sum(dim=(1, 2, 3)) / (weight.sum(dim=(1, 2, 3)) * error.shape[1])
        # The locator learns beside the editor; the editor always reads what the locator really says.
        seen = batch.source.flatten(1).any(dim=1).view(-1, 1, 1)
        located = (self.editor.locator(batch.source) - batch.landmarks_px).abs() * seen
        metrics = {"mse": error.detach().mean(), "landmark_px": located.detach().mean()}
        # Over the share of items that is expected, not counted: so the parts of a batch add up to what the whole says.
        each, draws = error.detach().mean(dim=(1, 2, 3)), self.config.draw_share
        if firsts := self.config.objective.at_noise * (1 - draws):
            metrics["mse_first_step"] = (each * first).mean() / firsts
        if draws > 0:
            metrics["mse_drawn"] = (each * batch.drawn).mean() / draws
        return loss.mean() + self.config.locator_weight * located.mean(), metrics


class EditorTask:
    """The second stage as a `training.engine.Task`."""

    def __init__(self, config: EditorConfig, heads: Sequence[HeadModel]) -> None:
        self.config = config
        self.pairs = PairSource(config.population, heads)
        self.autoencoder = self._first_stage().eval().requires_grad_(False)
        if config.start_from is not None:
            torch.manual_seed(config.engine.seed)
            editor = load_extended(LatentEditor, config.start_from, **config.conditions())
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
                **config.conditions(),
            )
            editor.use_units_of(self.autoencoder)
        self._module = EditorModule(editor, config)
        self.cached = (
            None
            if config.latents is None
            else EncodedEdits(config.latents, self.autoencoder, unit_style=config.unit_style)
        )
        if editor.people is not None and not editor.people.variances.any():
            editor.people.fit(population_latents(self.autoencoder, self.pairs))

    def _first_stage(self) -> FirstStage:
        folder = self.config.autoencoder
        if not self.config.pixels:
            return load_first_stage(folder)
        if (folder / "config.json").exists():
            found = load_first_stage(folder)
            if not isinstance(found, IdentityStage):
                raise ConfigError(
                    f"autoencoder: with pixels = true expected the folder of an IdentityStage, {folder} holds an "
                    f"{type(found).__name__}; give another folder or pixels = false"
                )
            return found
        measured = IdentityStage(sample_size=self.pairs.shards[0].rgb.shape[-2])
        measure_latents(measured, self.pairs)
        return measured

    def keep_first_stage(self) -> None:
        """Write the identity that was measured where the config says, unless one is there; nothing for other stages.

        Raises:
            OutputError: the folder cannot be written.
        """
        folder = self.config.autoencoder
        if not self.config.pixels or (folder / "config.json").exists():
            return
        # Whole or not at all, as several processes start at once: each measured the same.
        temporary = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
        try:
            self.autoencoder.save_pretrained(temporary)
            temporary.rename(folder)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if not (folder / "config.json").exists():
                raise OutputError(
                    f"cannot write {folder}: {error.strerror or error}; give another autoencoder"
                ) from None

    @property
    def module(self) -> nn.Module:
        """The editor with its loss."""
        return self._module

    def batch(self, step: int, seed: int, size: int, part: int, parts: int) -> LatentBatch:
        """Latents of a step's pairs, with times, noise and dropout drawn from (seed, step)."""
        config = self.config
        edits = self._edits(step, seed, size, part, parts)
        generator, mine = step_generator(seed, step), slice(part * size, (part + 1) * size)
        device = next(self._module.parameters()).device
        autoencoder = self.autoencoder
        source, delta = edits.source.to(device), edits.delta.to(device)
        whole = source + delta * (autoencoder.delta_std / autoencoder.latent_std)
        expression = torch.rand(size * parts, generator=generator)
        unseen = torch.rand(size * parts, generator=generator)[mine] < config.drop_source
        source = source * ~unseen.view(-1, 1, 1, 1).to(device)
        t = config.objective.draw(size * parts, generator)[mine]
        noise = torch.randn((size * parts, *delta.shape[1:]), generator=generator)[mine]
        others = torch.rand(size * parts, 2, generator=generator)
        condition = drop_conditions(
            edits.condition,
            torch.cat([expression[:, None], others], dim=1)[mine],
            category=config.drop_category,
            arkit=config.drop_arkit,
            both=config.drop_both,
            geometry=config.drop_geometry,
            identity=config.drop_identity,
        ).without(category=unseen, arkit=unseen, geometry=unseen, identity=unseen)
        drawn = torch.zeros(size, dtype=torch.bool)
        if config.draw_share > 0:
            drawn = torch.rand(size * parts, generator=generator)[mine] < config.draw_share
            # Drawing takes many steps, of which the first is one: no share of the times is its own.
            t = torch.where(drawn, replace(config.objective, at_noise=0.0).draw(size * parts, generator)[mine], t)
            condition = without_source(condition, drawn)
            here = drawn.view(-1, 1, 1, 1).to(device)
            source, delta = source * ~here, torch.where(here, whole, delta)
        if edits.faces is not None:
            condition = with_motion(condition, edits.faces)
        return LatentBatch(
            source=source,
            delta=delta,
            condition=condition.to(device),
            t=t.to(device),
            noise=noise.to(device),
            drawn=drawn.to(device),
            landmarks_px=edits.landmarks_px.to(device),
        )

    def _edits(self, step: int, seed: int, size: int, part: int, parts: int) -> Edits:
        """A step's pairs, as latents."""
        per_source, device = self.config.targets_per_source, next(self._module.parameters()).device
        self.autoencoder.to(device)
        if self.cached is not None:
            return self.cached.batch(step, seed, size, part, per_source)
        pairs = self.pairs.batch(step, seed, size, part, per_source, parts)
        return encoded(self.autoencoder, pairs, device, unit_style=self.config.unit_style)

    def schedule(self, images: int) -> None:
        """Nothing changes along the run."""

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Averaged weights in diffusers' format."""
        editor = LatentEditor.from_config(self._module.editor.config)
        editor.load_state_dict({k.removeprefix("editor."): v.cpu() for k, v in weights.items()})
        editor.save_pretrained(folder / "editor")

    @torch.no_grad()
    def preview(self) -> Tensor:
        """Sources, targets, and one-step edits, decoded by the first stage; people drawn, if that is learned."""
        pairs = self.pairs.draw(preview_rngs(), 4)
        editor, device = self._module.editor, next(self._module.parameters()).device
        autoencoder = self.autoencoder.to(device)
        edits = encoded(autoencoder, pairs, device, unit_style=self.config.unit_style)
        source, condition = edits.source, with_motion(edits.condition, edits.faces).to(device)
        noise = torch.randn(source.shape, generator=torch.Generator().manual_seed(11)).to(device)
        delta = noise - editor(noise, torch.ones(len(noise), device=device), source, condition)
        z = source * autoencoder.latent_std + autoencoder.latent_mean + delta * autoencoder.delta_std
        before = packed(pairs.source).repeat_interleave(4, 0)
        rows = [before, packed(pairs.target), autoencoder.decode(z, before.to(device), condition.motion)]
        if editor.people is not None:
            alone = without_source(condition, torch.ones_like(condition.has_category))
            *_, last = heun(
                lambda z, t: editor(z, t, source, alone), noise, DRAW_SETTINGS.steps // 2, shift=DRAW_SETTINGS.shift
            )
            rows.append(autoencoder.decode(last.z * autoencoder.latent_std + autoencoder.latent_mean))
        return grid(rows)


def without_source(condition: Condition, drawn: Bool[Tensor, "b"]) -> Condition:
    """The condition with people drawn where ``drawn`` says so: weights move a face that is there, and there is none."""
    return replace(condition.without(arkit=drawn), draws=drawn)


@torch.no_grad()
def population_latents(
    autoencoder: FirstStage, pairs: PairSource, *, per_person: int = 2, most: int = 2_048
) -> Float[Tensor, "n d h w"]:
    """Scaled latents of a population, augmented as in training: what a `PopulationPrior` is fitted to."""
    num_persons = most // per_person
    if not pairs.endless:
        num_persons = min(num_persons, sum(shard.num_persons for shard in pairs.shards))
    out = []
    for step, start in enumerate(range(0, num_persons, AT_ONCE)):
        count = min(AT_ONCE, num_persons - start)
        batch = pairs.batch(step, POPULATION_SEED, count * per_person, 0, per_person)
        out.append(autoencoder.scale(autoencoder.encode(packed(batch.target)).mode()))
    return torch.cat(out)
