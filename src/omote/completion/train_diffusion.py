"""Training of the completion by diffusion on partial scans of a population (`omote.completion.diffusion`)."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from omote.completion.base import PartialScan
from omote.completion.coarse_head import coarse_head
from omote.completion.diffusion import GROUPS, PRIOR, UNITS, DiffusionCompletion, bare_conditions
from omote.completion.displacement_prior import DisplacementPrior, displacement_prior
from omote.completion.partial_source import KnownScan, PartialSource
from omote.completion.partial_views import partial_views
from omote.completion.train import sigma_factor
from omote.config import Range
from omote.datasets.population import PopulationConfig
from omote.diffusion.flow import noised
from omote.diffusion.objective import Objective
from omote.engine.loop import BaseTask, EngineConfig
from omote.engine.weights import begin_from, built, load_pretrained
from omote.errors import ConfigError
from omote.geometry.camera import transform
from omote.head.model import HeadModel
from omote.multiview.data import sets_of
from omote.multiview.denoiser import ViewUNet
from omote.multiview.first_stage import ViewAutoencoder
from omote.multiview.latent_views import ViewEncoders
from omote.rgbd.codec import NUM_CHANNELS

MEASURED = 24


@dataclass(frozen=True, kw_only=True)
class DiffusionCompletionConfig:
    """Configuration of a training run of a completion by diffusion.

    Attributes:
        population: population of view shards (`omote population --views`), or configuration of a population with a rig.
        first_stage: exported first stage for views with depth (`views-cpu-rgbd`).
        engine: length and optimiser of the run; an image is a partial scan.
        channels, attended, layers_per_block, head_channels, context_width: as in `ViewUNet`.
        objective: prediction, loss weighting and distribution of times.
        initial: exported denoiser of the same size to start from; None starts untrained.
        num_calibration: number of partial scans of persons of the validation split on which the standard deviation is calibrated.
        num_prior: number of partial scans of the population that the distribution of the fit's errors is learned from.
        ict: folder of ICT-FaceKit, for populations with persons of that family.
    """

    population: Path | PopulationConfig
    first_stage: Path
    engine: EngineConfig
    channels: tuple[int, ...] = (64, 64, 96)
    attended: tuple[bool, ...] = (False, True, True)
    layers_per_block: Annotated[int, Range(1)] = 1
    head_channels: Annotated[int, Range(1)] = 32
    context_width: Annotated[int, Range(1)] = 32
    objective: Objective = Objective(at_noise=0.5)
    initial: Path | None = None
    num_calibration: Annotated[int, Range(1)] = 96
    num_prior: Annotated[int, Range(2)] = 300
    ict: Path | None = None


@dataclass(frozen=True, kw_only=True)
class InpaintingBatch:
    """Partial scans in views, with the whole heads.

    Attributes:
        composite, supported: views of the partial scans (`PartialViews`).
        whole: packed views of the whole heads.
        noise: standard normal noise of the latents' shape.
        t: time on the path, [0, 1].
    """

    composite: Float[Tensor, "b v 5 s s"]
    supported: Float[Tensor, "b v 5 s s"]
    whole: Float[Tensor, "b v 5 s s"]
    noise: Float[Tensor, "b v d h w"]
    t: Float[Tensor, "b"]


class InpaintingModule(nn.Module):
    """The denoiser, with its loss as the forward pass."""

    delta_std: Tensor

    def __init__(self, denoiser: ViewUNet, first_stage: ViewAutoencoder, objective: Objective) -> None:
        super().__init__()
        self.denoiser, self.objective = denoiser, objective
        self.register_buffer("delta_std", torch.ones(denoiser.latent_channels, 1, 1))
        # Frozen: no submodule, and no part of the run's state.
        self.encoders = ViewEncoders(first_stage=first_stage.eval().requires_grad_(False), encoder=None)

    @torch.no_grad()
    def latents(self, batch: InpaintingBatch, device: torch.device) -> tuple[Tensor, Tensor]:
        """Latents of the composites and of the whole heads."""
        views = self.encoders(batch.composite, batch.whole, device)
        return views.source, views.target

    def forward(self, batch: InpaintingBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error of the prediction, with the weighting of the objective."""
        device = next(self.parameters()).device
        source, target = self.latents(batch, device)
        z_0 = (target - source) / self.delta_std
        noise, t = batch.noise.to(device), batch.t.to(device)
        conditions = bare_conditions(source, batch.supported.to(device))
        velocity = self.denoiser(noised(z_0, noise, t), t, conditions)
        loss = (self.objective.weight(t).view(-1, 1, 1, 1, 1) * (velocity - (noise - z_0)) ** 2).mean()
        return loss, {self.objective.prediction: loss.detach()}


class DiffusionCompletionTask(BaseTask):
    """Training of a completion by diffusion as an `omote.engine.loop.Task`.

    Raises:
        ConfigError: a first stage without depth, or a population with persons of a head family whose model is not given.
    """

    module: InpaintingModule

    def __init__(self, config: DiffusionCompletionConfig, heads: Sequence[HeadModel]) -> None:
        self.config = config
        self.source = PartialSource(config.population, heads)
        self.head, self.rig = heads[0], self.source.views.rig
        self.first_stage = first_stage = load_pretrained(ViewAutoencoder, config.first_stage).float()
        if len(first_stage.channels) != NUM_CHANNELS:
            raise ConfigError(f"first_stage: expected one with depth (views-cpu-rgbd), got {config.first_stage}")
        torch.manual_seed(config.engine.seed)
        denoiser = built(
            ViewUNet,
            config,
            latent_size=first_stage.latent_size,
            latent_channels=first_stage.latent_channels,
            depth="concat",
            **vars(self.rig),
            prediction=config.objective.prediction,
        )
        if config.initial is not None:
            begin_from(denoiser, config.initial)
        # Nothing is asked for in words, so these are never read.
        for unread in (denoiser.category, denoiser.intensity, denoiser.text):
            unread.requires_grad_(False)
        self._prior: DisplacementPrior | None = None
        self.module = InpaintingModule(denoiser, first_stage, config.objective)
        source, target = self.module.latents(self.batch(0, 7, MEASURED, 0, 1), torch.device("cpu"))
        std = (target - source).flatten(0, 1).std(dim=(0, 2, 3)).clamp_min(1e-3)
        self.module.delta_std.copy_(std[:, None, None])

    def batch(self, step: int, seed: int, size: int, part: int, parts: int) -> InpaintingBatch:
        """Partial scans of persons, one face per person."""
        composite, supported, whole, noise = [], [], [], []
        denoiser = self.module.denoiser
        shape = (self.rig.num_views, denoiser.latent_channels, denoiser.latent_size, denoiser.latent_size)
        for shard, row, rng in self.source.views.drawn(step, seed, size, part, parts):
            image = int(rng.integers(shard.num_images))
            known = self.source.of_face(shard, row, image, rng)
            views = partial_views(in_rig(known), self.head, self.rig, shard.rgb.shape[3])
            composite.append(views.composite)
            supported.append(views.supported)
            whole.append(sets_of(shard, [(row, image)]).x[0])
            noise.append(torch.from_numpy(rng.standard_normal(shape).astype(np.float32)))
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        t = self.module.objective.draw(size * parts, generator)[part * size : (part + 1) * size]
        return InpaintingBatch(
            composite=torch.stack(composite),
            supported=torch.stack(supported),
            whole=torch.stack(whole),
            noise=torch.stack(noise),
            t=t,
        )

    def prior(self) -> DisplacementPrior:
        """Distribution of the fitted heads' errors, of partial scans that no step of training draws."""
        if self._prior is None:
            seed = self.config.engine.seed + 1
            errors = [
                errors_of_fit(self.source.of_face(shard, row, int(rng.integers(shard.num_images)), rng), self.head)
                for shard, row, rng in self.source.views.drawn(0, seed, self.config.num_prior, 0, 1)
            ]
            self._prior = displacement_prior(np.stack(errors))
        return self._prior

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Save the averaged weights with the first stage, and the standard deviation's calibrated factors."""
        target = folder / "completion"
        denoiser = self.averaged("denoiser", weights)
        delta_std = weights["delta_std"].cpu().float().contiguous()
        prior = self.prior()
        completion = DiffusionCompletion(
            denoiser=denoiser,
            first_stage=self.first_stage.cpu(),
            delta_std=delta_std,
            sigma_scale=torch.ones(len(GROUPS)),
            prior=prior,
            head=self.head,
        )
        scale = calibrated(completion, self.source.held_out(self.config.num_calibration))
        denoiser.save_pretrained(target / "denoiser")
        learned = {f"prior_{name}": torch.from_numpy(getattr(prior, name)).float().contiguous() for name in PRIOR}
        save_file({"delta_std": delta_std, "sigma_scale": scale, **learned}, target / "denoiser" / UNITS)
        if not (target / "first_stage" / "config.json").exists():
            shutil.copytree(self.config.first_stage, target / "first_stage", dirs_exist_ok=True)


def errors_of_fit(known: KnownScan, head: HeadModel) -> Float[np.ndarray, " n"]:
    """How far the true head lies outside the fitted one at the coarse vertices, along the fitted normals, mm."""
    coarse, fitted = coarse_head(head), known.partial.fitted_mm
    return ((known.truth_mm - fitted)[coarse.ids] * coarse.normals_of(fitted, head)).sum(axis=1)


def in_rig(known: KnownScan) -> PartialScan:
    """A partial scan in the frame of the views that it was made from."""
    rig_from_canonical = np.linalg.inv(known.canonical_from_rig)
    partial = known.partial
    return replace(
        partial,
        points_mm=transform(rig_from_canonical, partial.points_mm),
        normals=partial.normals @ rig_from_canonical[:3, :3].T,
        fitted_mm=transform(rig_from_canonical, partial.fitted_mm.astype(np.float64)),
    )


def calibrated(completion: DiffusionCompletion, scans: Sequence[KnownScan]) -> Float[Tensor, "3"]:
    """Factors of a completion's standard deviation (`sigma_factor`) for each group of vertices."""
    ratios: list[list[np.ndarray]] = [[] for _ in GROUPS]
    for scan in scans:
        found = completion.sampled(scan.partial)
        outward = completion.coarse.normals_of(scan.partial.fitted_mm, completion.head)
        error = np.abs(errors_of_fit(scan, completion.head) - (found.offset_mm.mean(axis=0) * outward).sum(axis=1))
        for group, parts in enumerate(ratios):
            parts.append((error / found.sigma_mm)[found.group == group])
    joined = [np.concatenate(parts) if parts else np.empty(0) for parts in ratios]
    return torch.tensor([sigma_factor(ratio) if len(ratio) else 1.0 for ratio in joined])
