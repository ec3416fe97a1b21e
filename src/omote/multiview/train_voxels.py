"""Training of the 3D encoder (candidate 2): surface points → the first stage's latents of their views.

Points are dropped at random and perturbed with noise, as in scans; the target is the latents of the unperturbed views.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor, nn

from omote.config import Range
from omote.datasets.population import PopulationConfig
from omote.engine.loop import BaseTask, EngineConfig
from omote.engine.seeds import step_generator
from omote.engine.weights import built
from omote.head.model import HeadModel
from omote.multiview.data import ViewSource, joined, sets_of
from omote.multiview.first_stage import ViewAutoencoder, load_frozen
from omote.multiview.voxels import ColoredPoints, VoxelEncoder, points_of_views
from omote.rgbd.codec import NUM_CHANNELS

# The face is reconstructed mostly from the pooled channels.
POOLED_WEIGHT = 2.0


@dataclass(frozen=True, kw_only=True)
class VoxelEncoderConfig:
    """Configuration of a training run of the 3D encoder.

    Attributes:
        population: population of view shards, or configuration of a population with a rig.
        first_stage: exported first stage for views, whose latents are the target.
        engine: length and optimiser of the run; an image is a face.
        widths, view_width: as in `VoxelEncoder`.
        most_dropped: greatest share of the points that is dropped.
        most_noise_mm: greatest standard deviation of the noise on the points, mm.
        ict: folder of ICT-FaceKit, for populations that are rendered during training.
    """

    population: Path | PopulationConfig
    first_stage: Path
    engine: EngineConfig
    widths: tuple[int, int] = (12, 24)
    view_width: Annotated[int, Range(8)] = 64
    most_dropped: Annotated[float, Range(0, 0.99)] = 0.7
    most_noise_mm: Annotated[float, Range(0, 5)] = 0.5
    ict: Path | None = None


@dataclass(frozen=True, kw_only=True)
class PointBatch:
    """A batch of views, with the perturbation of their points.

    Attributes:
        x: packed views.
        dropped: share of each face's points that is dropped.
        noise_mm: standard deviation of the noise on each face's points, mm.
        seed: seed of the dropped points and of the noise.
    """

    x: Float[Tensor, "b v 5 s s"]
    dropped: Float[Tensor, "b"]
    noise_mm: Float[Tensor, "b"]
    seed: int


class VoxelEncoderModule(nn.Module):
    """The encoder, with its loss as the forward pass."""

    def __init__(self, encoder: VoxelEncoder, first_stage: ViewAutoencoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.frozen = (first_stage,)

    def forward(self, batch: PointBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Error of the latents, in units of their standard deviation."""
        device = next(self.parameters()).device
        x = batch.x.to(device)
        with torch.no_grad():
            wanted = self.frozen[0].to(device).encoded(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        found = self.encoder(disturbed(points_of_views(x, self.encoder.rig), batch))
        error = (found - wanted).abs().mean(dim=(0, 1, 3, 4))
        pooled, learned = error[:NUM_CHANNELS].mean(), error[NUM_CHANNELS:].mean()
        return POOLED_WEIGHT * pooled + learned, {"pooled": pooled.detach(), "learned": learned.detach()}


def disturbed(points: ColoredPoints, batch: PointBatch) -> ColoredPoints:
    """Points with a random share dropped and with noise added."""
    generator = torch.Generator().manual_seed(batch.seed)
    draw = torch.rand(len(points.item), generator=generator).to(points.item.device)
    noise = torch.randn(points.points_mm.shape, generator=generator).to(points.item.device)
    moved = points.points_mm + batch.noise_mm.to(points.item.device)[points.item, None] * noise
    kept = draw >= batch.dropped.to(points.item.device)[points.item]
    return replace(points, points_mm=moved[kept], colors=points.colors[kept], item=points.item[kept])


class VoxelEncoderTask(BaseTask):
    """Training of the 3D encoder as an `omote.engine.loop.Task`."""

    module: VoxelEncoderModule

    def __init__(self, config: VoxelEncoderConfig, heads: Sequence[HeadModel]) -> None:
        self.config = config
        self.source = ViewSource(config.population, heads)
        first_stage = load_frozen(config.first_stage, self.source.image_size)
        torch.manual_seed(config.engine.seed)
        rig = self.source.rig
        encoder = built(
            VoxelEncoder,
            config,
            latent_size=first_stage.latent_size,
            latent_channels=first_stage.latent_channels,
            **vars(rig),
        )
        self.module = VoxelEncoderModule(encoder, first_stage)

    def batch(self, step: int, seed: int, size: int, part: int, parts: int) -> PointBatch:
        """Faces of persons, one face per person."""
        sets, dropped, noise = [], [], []
        for shard, row, rng in self.source.drawn(step, seed, size, part, parts):
            sets.append(sets_of(shard, [(row, int(rng.integers(shard.num_images)))]))
            dropped.append(float(rng.random()) * self.config.most_dropped)
            noise.append(float(rng.random()) * self.config.most_noise_mm)
        own = int(torch.randint(2**31, (parts,), generator=step_generator(seed, step))[part])
        return PointBatch(x=joined(sets).x, dropped=torch.tensor(dropped), noise_mm=torch.tensor(noise), seed=own)

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Save the averaged weights in diffusers' format."""
        self.averaged("encoder", weights).save_pretrained(folder / "encoder")
