"""Training of the second stage: the latent editor, and the locator beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from omote.config import Range
from omote.datasets.pair_source import PairSource
from omote.datasets.pairs import PairBatch
from omote.datasets.population import PopulationConfig
from omote.diffusion.flow import heun, noised
from omote.diffusion.objective import Objective, pseudo_huber
from omote.diffusion.settings import DRAW_SETTINGS
from omote.engine.loop import BaseTask, EngineConfig
from omote.engine.seeds import step_generator
from omote.engine.weights import built, load_extended
from omote.errors import ConfigError
from omote.files import atomic_folder
from omote.head.model import HeadModel
from omote.rgbd.conditions.arkit import Arkit
from omote.rgbd.conditions.base import Condition, Kind, drop, dropout_columns, kind_named
from omote.rgbd.conditions.geometry import GeometryKind, GeometryPath
from omote.rgbd.conditions.kinds import KINDS
from omote.rgbd.conditions.motion import motion_of
from omote.rgbd.identity_stage import FirstStage, IdentityStage, load_first_stage
from omote.rgbd.latent_editor import LatentEditor
from omote.rgbd.train.autoencoder import measure_latents, packed, preview_rngs
from omote.rgbd.train.latent_cache import CachedLatentPairs
from omote.rgbd.train.latent_pairs import LatentPairs, encode_batch
from omote.rgbd.train.preview import grid

AT_ONCE = 16
POPULATION_SEED = 13


def default_dropout() -> dict[str, float]:
    """Dropout of the kinds of condition that come with the package, by name."""
    return {kind.name: kind.dropout for kind in KINDS if kind.part_of is None}


@dataclass(frozen=True, kw_only=True)
class EditorConfig:
    """Settings of a run of the second stage.

    Attributes:
        population: folder of rendered shards.
        allow_pipe: run the commands (``pipe:``) that a population's file of URLs lists.
        autoencoder: folder of the exported first stage; frozen.
        pixels: without a first stage: ``autoencoder`` is the folder of an `IdentityStage`, which the run measures on the
            population and writes there if it is missing.
        engine: length and optimiser.
        patch, channels, layers_per_block, context_width, head_channels: settings of `LatentEditor`.
        objective: prediction, weighting and times; the first (or only) step of a sampler is taken at t = 1.
        dropout: share of items without each kind of condition, by its name; the kind's own default if it is not listed.
        drop_everything: share of items without any condition, for guidance.
        drop_source: share of items without the source as well, for guidance by the source.
        draw_share: share of items without a source from which whole persons are learned, given no ARKit weights.
        moved_weight: additional weight of latent pixels that the expression moved.
        locator_weight: weight of the L1 loss of landmarks in pixels.
        channel_weight: weights of the latent's colour, depth, mask and learned channels. Holes in captures increase the deviation
            that depth is scaled by, and avatars are made from depth.
        huber: error, in deviations, above which the loss of a first step is absolute instead of squared, so that an edge of
            uncertain position is not blurred to a mean (Song & Dhariwal, "Improved Techniques for Training Consistency
            Models", 2023, §3.3).
        targets_per_source: edits trained per source.
        start_from: exported weights to start from, or None; conditions that they do not read are added.
        geometry, geometry_by: of `LatentEditor`: the image of the target's geometry that it learns to read.
        identity: whether to learn to read the identity coefficients of the source's fitted head.
        kinds: names of further kinds of condition that it learns to read (`omote.rgbd.conditions.base.Kind`).
        unit_style: whether faces move their units in individual styles; False for the head model's units alone, if the other
            head families that `omote.head.unit_style` was learned from must stay unseen.
        latents: folder of the population's latent pairs from `omote encode`, or None to encode in every step.
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
    dropout: dict[str, Annotated[float, Range(0, 1)]] = field(default_factory=default_dropout)
    drop_everything: Annotated[float, Range(0, 1)] = 0.05
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
    kinds: tuple[str, ...] = ()
    unit_style: bool = True
    latents: Path | None = None
    pixels: bool = False
    allow_pipe: bool = False

    def __post_init__(self) -> None:
        """Refuse kinds of condition that do not exist.

        Raises:
            ConfigError: an unknown name among ``dropout`` or ``kinds``.
        """
        for name in (*self.dropout, *self.kinds):
            kind_named(name)

    def shares(self) -> dict[type[Kind], float]:
        """Share of items without each kind of condition that is dropped on its own, in the order of the draws."""
        kinds = (*KINDS, *map(kind_named, self.kinds))
        return {kind: self.dropout.get(kind.name, kind.dropout) for kind in kinds if kind.part_of is None}

    def reads(self, head: HeadModel) -> dict[str, Any]:
        """What the network reads besides category and ARKit weights, as arguments of `LatentEditor`.

        Args:
            head: head model that is fitted to the population.
        """
        asked: dict[str, Any] = {"unit_style": self.unit_style}
        if self.draw_share > 0:
            asked["draws"] = True
        if self.geometry != "none":
            asked |= {"geometry": self.geometry, "geometry_by": self.geometry_by}
        if self.identity:
            asked["num_identity"] = head.num_identity
        if self.kinds:
            asked["kinds"] = self.kinds
        return asked


@dataclass(frozen=True, kw_only=True)
class LatentBatch:
    """A training batch in latent space.

    Attributes:
        source: scaled source latents; 0 for items without a source.
        delta: scaled target - source; the scaled target itself for the items in ``drawn``.
        condition: conditions after guidance dropout.
        t: times in [0, 1].
        noise: standard normal noise, z_1.
        landmarks_px: landmarks of the source's person at rest.
        drawn: mask of the items from which whole persons are learned.
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
        """w(t)‖v_θ - (ε - z_0)‖², weighted to moved pixels, and the locator's L1."""
        config = self.config
        z_t = noised(batch.delta, batch.noise, batch.t)
        v = self.editor(z_t, batch.t, batch.source, batch.condition, batch.drawn if config.draw_share > 0 else None)
        error = (v - (batch.noise - batch.delta)).square() * config.objective.weight(batch.t).view(-1, 1, 1, 1)
        first = batch.t == 1

        # For a whole person, delta is the latent itself and not a change, so its size says nothing about motion.
        moved = batch.delta.abs().mean(dim=1, keepdim=True).clamp(0, 3) * ~batch.drawn.view(-1, 1, 1, 1)
        weight = 1 + config.moved_weight * moved
        robust = torch.where(first.view(-1, 1, 1, 1), pseudo_huber(error, config.huber), error)
        weighted = (weight * self.channel_weight * robust).sum(dim=(1, 2, 3))
        loss = weighted / (weight.sum(dim=(1, 2, 3)) * error.shape[1])

        # The locator is trained with the editor, on items with a source.
        seen = batch.source.flatten(1).any(dim=1).view(-1, 1, 1)
        located = (self.editor.locator(batch.source) - batch.landmarks_px).abs() * seen
        metrics = {"mse": error.detach().mean(), "landmark_px": located.detach().mean()}
        # Divided by expected shares, not by counts, so that the parts of a batch add up to the whole.
        each, draws = error.detach().mean(dim=(1, 2, 3)), config.draw_share
        if firsts := config.objective.at_noise * (1 - draws):
            metrics["mse_first_step"] = (each * first).mean() / firsts
        if draws > 0:
            metrics["mse_drawn"] = (each * batch.drawn).mean() / draws
        return loss.mean() + config.locator_weight * located.mean(), metrics


class EditorTask(BaseTask):
    """The second stage as an `omote.engine.loop.Task`."""

    module: EditorModule

    def __init__(self, config: EditorConfig, heads: Sequence[HeadModel]) -> None:
        self.config = config
        self.pairs = PairSource(config.population, heads, allow_pipe=config.allow_pipe)
        self.autoencoder = self._first_stage().eval().requires_grad_(False)
        torch.manual_seed(config.engine.seed)
        editor = self._new_editor(heads[0]) if config.start_from is None else self._extended_editor(heads[0])
        self.module = EditorModule(editor, config)
        self.kinds = editor.conditioner.kinds
        self.cached = (
            None
            if config.latents is None
            else CachedLatentPairs(config.latents, self.autoencoder, unit_style=config.unit_style, kinds=self.kinds)
        )
        if editor.people is not None and not editor.people.variances.any():
            editor.people.fit(population_latents(self.autoencoder, self.pairs))

    def _new_editor(self, head: HeadModel) -> LatentEditor:
        editor = built(
            LatentEditor,
            self.config,
            sample_size=self.autoencoder.config.sample_size // self.autoencoder.factor,
            latent_channels=self.autoencoder.latent_channels,
            prediction=self.config.objective.prediction,
            **self.config.reads(head),
        )
        editor.use_units_of(self.autoencoder)
        editor.locator.start_from(head)
        return editor

    def _extended_editor(self, head: HeadModel) -> LatentEditor:
        config = self.config
        assert config.start_from is not None
        editor = load_extended(LatentEditor, config.start_from, **config.reads(head))
        if editor.config.prediction != config.objective.prediction:
            raise ConfigError(
                f"objective.prediction: {config.start_from} predicts {editor.config.prediction}, "
                f"not {config.objective.prediction}; give that, or train from nothing"
            )
        return editor

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
        """Write the `IdentityStage` that was measured to ``autoencoder``, if it is missing there.

        Raises:
            OutputError: the folder cannot be written.
        """
        folder = self.config.autoencoder
        if self.config.pixels and not (folder / "config.json").exists():
            # Several processes may start at once; all have measured the same.
            with atomic_folder(folder) as temporary:
                self.autoencoder.save_pretrained(temporary)

    def batch(self, step: int, seed: int, size: int, part: int, parts: int) -> LatentBatch:
        """Latents of a step's pairs, with times, noise and dropout drawn from (seed, step)."""
        config, autoencoder, total = self.config, self.autoencoder, size * parts
        edits = self._edits(step, seed, size, part, parts)
        generator, mine = step_generator(seed, step), slice(part * size, (part + 1) * size)
        device = self.device
        source, delta = edits.source.to(device), edits.delta.to(device)
        whole = source + delta * (autoencoder.delta_std / autoencoder.latent_std)

        shares = config.shares()
        first_draw = torch.rand(total, generator=generator)
        unseen = torch.rand(total, generator=generator)[mine] < config.drop_source
        t = config.objective.draw(total, generator)[mine]
        noise = torch.randn((total, *delta.shape[1:]), generator=generator)[mine]
        more_draws = torch.rand(total, len(dropout_columns(shares)) - 1, generator=generator)
        draws = torch.cat([first_draw[:, None], more_draws], dim=1)[mine]
        condition = drop(edits.condition, draws, shares, everything=config.drop_everything)
        source = source * ~unseen.view(-1, 1, 1, 1).to(device)
        condition = condition.masked(dict.fromkeys(shares, unseen))

        drawn = torch.zeros(size, dtype=torch.bool)
        if config.draw_share > 0:
            drawn = torch.rand(total, generator=generator)[mine] < config.draw_share
            # A person is sampled in many steps, of which only one is at t = 1, so that t = 1 gets no extra share.
            t = torch.where(drawn, replace(config.objective, at_noise=0.0).draw(total, generator)[mine], t)
            # Without a source there is no face for ARKit weights to move.
            condition = condition.masked({Arkit: drawn})
            no_source = drawn.view(-1, 1, 1, 1).to(device)
            source, delta = source * ~no_source, torch.where(no_source, whole, delta)
        return LatentBatch(
            source=source,
            delta=delta,
            condition=replace(edits, condition=condition).with_motion().condition.to(device),
            t=t.to(device),
            noise=noise.to(device),
            drawn=drawn.to(device),
            landmarks_px=edits.landmarks_px.to(device),
        )

    def _edits(self, step: int, seed: int, size: int, part: int, parts: int) -> LatentPairs:
        """A step's pairs, as latents."""
        per_source, device = self.config.targets_per_source, self.device
        self.autoencoder.to(device)
        if self.cached is not None:
            return self.cached.batch(step, seed, size, part, per_source)
        pairs = self.pairs.batch(step, seed, size, part, per_source, parts)
        return self._encoded(pairs, device)

    def _encoded(self, pairs: PairBatch, device: torch.device) -> LatentPairs:
        return encode_batch(self.autoencoder, pairs, device, unit_style=self.config.unit_style, kinds=self.kinds)

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Averaged weights in diffusers' format."""
        self.averaged("editor", weights).save_pretrained(folder / "editor")

    @torch.no_grad()
    def preview(self) -> Tensor:
        """Sources, targets, and one-step edits, decoded by the first stage; sampled persons, if that is learned."""
        pairs = self.pairs.draw(preview_rngs(), 4)
        editor, device = self.module.editor, self.device
        autoencoder = self.autoencoder.to(device)
        edits = self._encoded(pairs, device).with_motion()
        source, condition = edits.source, edits.condition.to(device)
        noise = torch.randn(source.shape, generator=torch.Generator().manual_seed(11)).to(device)
        delta = noise - editor(noise, torch.ones(len(noise), device=device), source, condition)
        z = source * autoencoder.latent_std + autoencoder.latent_mean + delta * autoencoder.delta_std
        before = packed(pairs.source).repeat_interleave(4, 0)
        rows = [before, packed(pairs.target), autoencoder.decode(z, before.to(device), motion_of(condition, z))]
        if editor.people is not None:
            alone, every = condition.without([Arkit]), torch.ones(len(source), dtype=torch.bool, device=device)
            steps, shift = DRAW_SETTINGS.steps // 2, DRAW_SETTINGS.shift
            *_, last = heun(lambda z, t: editor(z, t, source, alone, every), noise, steps, shift=shift)
            rows.append(autoencoder.decode(last.z * autoencoder.latent_std + autoencoder.latent_mean))
        return grid(rows)


@torch.no_grad()
def population_latents(
    autoencoder: FirstStage, pairs: PairSource, *, per_person: int = 2, most: int = 2_048
) -> Float[Tensor, "n d h w"]:
    """Scaled latents of a population, augmented as in training, to fit a `PopulationPrior` to."""
    num_persons = most // per_person
    if not pairs.endless:
        num_persons = min(num_persons, sum(shard.num_persons for shard in pairs.shards))
    out = []
    for step, start in enumerate(range(0, num_persons, AT_ONCE)):
        count = min(AT_ONCE, num_persons - start)
        batch = pairs.batch(step, POPULATION_SEED, count * per_person, 0, per_person)
        out.append(autoencoder.scale(autoencoder.encode(packed(batch.target)).mode()))
    return torch.cat(out)
