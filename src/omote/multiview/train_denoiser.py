"""Training of a multi-view denoiser: views of a person at rest → views of the person with an expression, as latents.

The difference between the latents of the target views and of the source views is diffused, in units of its standard deviation,
since most of a face does not change. Source, depth and words are dropped at random and independently, for separate guidance.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from omote.config import Range
from omote.datasets.population import PopulationConfig
from omote.datasets.view_shards import ViewShard
from omote.diffusion.flow import noised
from omote.diffusion.objective import Objective
from omote.engine.loop import BaseTask, EngineConfig
from omote.engine.weights import begin_from, built, load_pretrained
from omote.errors import ConfigError
from omote.head.model import HeadModel
from omote.images.stable_diffusion.checkpoint import load_stable_diffusion
from omote.multiview.data import ViewSource, sets_of
from omote.multiview.denoiser import NULL_CATEGORY, TEXT_WIDTH, DepthPath, ViewConditions, ViewUNet
from omote.multiview.first_stage import ViewFirstStage, load_frozen
from omote.multiview.latent_views import EncodedViews, LatentViews, ViewEncoders, joined_latents
from omote.multiview.stable_diffusion import StableDiffusionStage, StableDiffusionViews, views_denoiser
from omote.multiview.voxels import VoxelEncoder
from omote.multiview.words import Captions, text_tokens

MEASURED = 32
# Probabilities of conditioning on the category and on text; otherwise on neither.
ASKED = (0.45, 0.45)
UNITS = "units.safetensors"


@dataclass(frozen=True, kw_only=True)
class ViewDenoiserConfig:
    """Configuration of a training run of a multi-view denoiser.

    Attributes:
        population: population of view shards with at least two faces of each person.
        first_stage: exported first stage for views.
        encoder: exported encoder from 3D points to the same latents, which then provides the source latents (candidate 2); if
            None, the source views are encoded (candidate 1).
        engine: length and optimiser of the run; an image is a view set.
        channels, attended, layers_per_block, head_channels, context_width, depth, rays: as in `ViewUNet`.
        objective: prediction, loss weighting and distribution of times.
        num_captions: number of captions to train on; 0 trains without text, which needs no text encoders.
        drop_source, drop_depth: share of sets without source views, and without depth.
        stable_diffusion: checkpoint of Stable Diffusion, whose VAE and U-Net then take the place of ours.
        ict: folder of ICT-FaceKit, for populations that are rendered during training.
        initial: exported denoiser of the same size to start from; None starts untrained.
        latents: folder of the population's views encoded by the same networks (``omote encode``); if None, views are encoded in
            every step.
    """

    population: Path | PopulationConfig
    first_stage: Path
    engine: EngineConfig
    encoder: Path | None = None
    channels: tuple[int, ...] = (64, 96, 128)
    attended: tuple[bool, ...] = (False, True, True)
    layers_per_block: Annotated[int, Range(1)] = 1
    head_channels: Annotated[int, Range(1)] = 32
    context_width: Annotated[int, Range(1)] = 128
    depth: DepthPath = "concat"
    rays: bool = False
    objective: Objective = Objective(at_noise=0.5)
    num_captions: Annotated[int, Range(0)] = 1_400
    drop_source: Annotated[float, Range(0, 1)] = 0.05
    drop_depth: Annotated[float, Range(0, 1)] = 0.15
    stable_diffusion: Path | None = None
    ict: Path | None = None
    initial: Path | None = None
    latents: Path | None = None

    def __post_init__(self) -> None:
        """Refuse settings that no network can be built from.

        Raises:
            ValueError: widths and attended resolutions differ in number, or Stable Diffusion with what it does not take.
        """
        if self.stable_diffusion is not None and (self.depth == "added" or self.rays or self.encoder is not None):
            raise ValueError("stable_diffusion takes depth as concat or none, no rays and no encoder")
        if self.latents is not None and (self.stable_diffusion is not None or not isinstance(self.population, Path)):
            raise ValueError("latents: expected a population of view shards, and networks of our own")
        if len(self.channels) != len(self.attended):
            raise ValueError(
                f"attended: expected one for each of {len(self.channels)} channels, got {len(self.attended)}"
            )


@dataclass(frozen=True, kw_only=True)
class EditBatch:
    """Persons before and after an edit.

    Attributes:
        views: packed views of the persons before the edit and with the target expression, or their latents.
        noise: standard normal noise of the target latents' shape.
        t: time on the path, [0, 1].
        words: conditions other than the latents, which the module encodes.
    """

    views: tuple[Float[Tensor, "b v 5 s s"], Float[Tensor, "b v 5 s s"]] | LatentViews
    noise: Float[Tensor, "b v d h w"]
    t: Float[Tensor, "b"]
    words: dict[str, Tensor]


class ViewDenoiserModule(nn.Module):
    """The denoiser, with its loss as the forward pass."""

    delta_std: Tensor

    def __init__(
        self,
        denoiser: ViewUNet | StableDiffusionViews,
        first_stage: ViewFirstStage,
        encoder: VoxelEncoder | None,
        objective: Objective,
    ) -> None:
        super().__init__()
        self.denoiser, self.objective = denoiser, objective
        # Deviation of the latent difference, per channel; measured at the start of training and exported with the weights.
        self.register_buffer("delta_std", torch.ones(denoiser.latent_channels, 1, 1))
        self.encoders = ViewEncoders(first_stage=first_stage, encoder=encoder)

    def latents(self, batch: EditBatch, device: torch.device) -> LatentViews:
        """Latents of the source and the target, encoded now unless they were before."""
        if isinstance(batch.views, LatentViews):
            return batch.views.to(device)
        return self.encoders(*batch.views, device)

    def forward(self, batch: EditBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error of the prediction, with the weighting of the objective."""
        device = next(self.parameters()).device
        views = self.latents(batch, device)
        z_0 = (views.target - views.source) / self.delta_std if self.denoiser.diffuses_change else views.target
        noise, t = batch.noise.to(device), batch.t.to(device)
        words = {name: value.to(device) for name, value in batch.words.items()}
        conditions = ViewConditions(source=views.source, depth=views.depth, **words)
        velocity = self.denoiser(noised(z_0, noise, t), t, conditions)
        loss = (self.objective.weight(t).view(-1, 1, 1, 1, 1) * (velocity - (noise - z_0)) ** 2).mean()
        return loss, {self.objective.prediction: loss.detach()}


class ViewDenoiserTask(BaseTask):
    """Training of a multi-view denoiser as an `omote.engine.loop.Task`.

    Raises:
        ConfigError: a person of the population has only one face, or its views are of another size than the first stage's.
    """

    module: ViewDenoiserModule
    encoded: EncodedViews | None = None

    def __init__(self, config: ViewDenoiserConfig, heads: Sequence[HeadModel]) -> None:
        self.config = config
        self.source = ViewSource(config.population, heads)
        shard = self.source.shards[0]
        if shard.num_images < 2:
            raise ConfigError(f"{config.population}: expected two faces of each person or more, got 1; give --images 2")
        if config.stable_diffusion is not None:
            self._of_stable_diffusion(config.stable_diffusion)
            return
        first_stage = load_frozen(config.first_stage, self.source.image_size)
        encoder = None
        if config.encoder is not None:
            encoder = load_pretrained(VoxelEncoder, config.encoder).eval().requires_grad_(False)
        self.captions = Captions(config.num_captions, config.engine.seed) if config.num_captions else None
        self.tokens = torch.zeros(1, TEXT_WIDTH) if self.captions is None else text_tokens(self.captions.texts)
        torch.manual_seed(config.engine.seed)
        rig = self.source.rig
        denoiser = built(
            ViewUNet,
            config,
            latent_size=first_stage.latent_size,
            latent_channels=first_stage.latent_channels,
            **vars(rig),
            prediction=config.objective.prediction,
        )
        if config.initial is not None:
            begin_from(denoiser, config.initial)
        self.module = ViewDenoiserModule(denoiser, first_stage, encoder, config.objective)
        if config.latents is not None:
            self.encoded = EncodedViews(config.latents, self.module.encoders)
        with torch.no_grad():
            views = self.module.latents(self.batch(0, 7, MEASURED, 0, 1), torch.device("cpu"))
            std = (views.target - views.source).flatten(0, 1).std(dim=(0, 2, 3)).clamp_min(1e-3)
            self.module.delta_std.copy_(std[:, None, None])

    def _of_stable_diffusion(self, checkpoint: Path) -> None:
        """A checkpoint's VAE and U-Net as the task's networks."""
        config, base = self.config, load_stable_diffusion(checkpoint)
        first_stage = StableDiffusionStage(base.vae, self.source.image_size).eval().requires_grad_(False)
        torch.manual_seed(config.engine.seed)
        denoiser = views_denoiser(
            base, self.source.rig, latent_size=first_stage.latent_size, depth=config.depth != "none"
        )
        self.captions = Captions(config.num_captions, config.engine.seed, "en") if config.num_captions else None
        self.tokens = denoiser.read_texts([""] if self.captions is None else self.captions.texts)
        self.module = ViewDenoiserModule(denoiser, first_stage, None, base.objective())

    def batch(self, step: int, seed: int, size: int, part: int, parts: int) -> EditBatch:
        """Views of persons at rest, paired with views of them with an expression or, at times, at rest again."""
        shape = self._shape()
        faces: list[tuple[ViewShard, int, int]] = []
        noise, rows = [], []
        for shard, row, rng in self.source.drawn(step, seed, size, part, parts):
            # Mostly from rest to an expression, sometimes from rest to rest.
            wanted = int(rng.integers(1, shard.num_images)) if rng.random() < 0.9 else 0
            faces.append((shard, row, wanted))
            noise.append(rng.standard_normal(shape).astype(np.float32))
            rows.append(self._words(int(shard.category[row, wanted]), float(shard.intensity[row, wanted]), rng))
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        t = self.module.objective.draw(size * parts, generator)[part * size : (part + 1) * size]
        return EditBatch(
            views=self._views(faces),
            noise=torch.from_numpy(np.stack(noise)),
            t=t,
            words={name: torch.stack([row[name] for row in rows]) for name in rows[0]},
        )

    def _views(self, faces: Sequence[tuple[ViewShard, int, int]]) -> tuple[Tensor, Tensor] | LatentViews:
        """Views, or latents, of persons (shard, row) at rest and in one of their images."""
        if self.encoded is not None:
            return joined_latents([self.encoded.edit(*face) for face in faces])
        rest = [sets_of(shard, [(row, 0)]).x for shard, row, _ in faces]
        moved = [sets_of(shard, [(row, image)]).x for shard, row, image in faces]
        return torch.cat(rest), torch.cat(moved)

    def _shape(self) -> tuple[int, int, int, int]:
        denoiser = self.module.denoiser
        return (self.source.rig.num_views, denoiser.latent_channels, denoiser.latent_size, denoiser.latent_size)

    def _words(self, category: int, intensity: float, rng: np.random.Generator) -> dict[str, Tensor]:
        """Conditions of a face: its category, a text or neither, and which of them are dropped."""
        draw = rng.random()
        by_text = self.captions is not None and ASKED[0] <= draw < sum(ASKED)
        by_category = draw < ASKED[0] or (self.captions is None and draw < sum(ASKED))
        text = torch.zeros(self.tokens.shape[1:])
        if by_text and self.captions is not None:
            text = self.tokens[self.captions.like(category, intensity, rng)]
        return {
            "category": torch.tensor(category if by_category else NULL_CATEGORY),
            "intensity": torch.tensor(intensity),
            "text": text,
            "has_text": torch.tensor(by_text),
            "has_source": torch.tensor(bool(rng.random() >= self.config.drop_source)),
            "has_depth": torch.tensor(bool(rng.random() >= self.config.drop_depth) and self.config.depth != "none"),
        }

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Save the averaged weights, the deviation of the differences, and copies of the first stage and the encoder."""
        from safetensors.torch import save_file

        self.averaged("denoiser", weights).save_pretrained(folder / "denoiser")
        save_file({"delta_std": weights["delta_std"].cpu().contiguous()}, folder / "denoiser" / UNITS)
        for name in (field.name for field in fields(self.config) if field.name in ("first_stage", "encoder")):
            origin: Path | None = getattr(self.config, name)
            if name == "first_stage" and isinstance(
                first_stage := self.module.encoders.first_stage, StableDiffusionStage
            ):
                first_stage.vae.save_pretrained(folder / name)
                continue
            if origin is not None and not (folder / name / "config.json").exists():
                shutil.copytree(origin, folder / name, dirs_exist_ok=True)
