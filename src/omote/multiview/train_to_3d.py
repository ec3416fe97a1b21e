"""Training of views → mesh on a population, with the errors of generated images and with varied head poses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from omote.config import Range
from omote.datasets.population import PopulationConfig
from omote.engine.loop import BaseTask, EngineConfig
from omote.engine.weights import begin_from, built
from omote.errors import ConfigError
from omote.head.model import HeadModel
from omote.multiview.basis import FaceFamily, face_families
from omote.multiview.data import ViewSource, joined, sets_of, with_faults
from omote.multiview.face_map import FaceTensors, face_map
from omote.multiview.first_stage import ViewAutoencoder, load_frozen
from omote.multiview.latents_to_3d import LatentsToMesh
from omote.multiview.ridge import FILE, Coarse, fit_coarse, load_coarse, save_coarse
from omote.multiview.to_3d import FaceGuess, ViewsToMesh, regressors, without_depth
from omote.multiview.volume import VolumeToMesh
from omote.progress import finish
from omote.rgbd.codec import NUM_CHANNELS

MEASURED = 32  # persons by which the change of latents is measured
SMOOTH = 4  # latent pixels over which the smooth half of the noise is constant
EDGE_WEIGHT, COARSE_WEIGHT, ERROR_WEIGHT = 0.3, 0.3, 0.05


@dataclass(frozen=True, kw_only=True)
class ViewsToMeshConfig:
    """Configuration of a training run of views → mesh.

    Attributes:
        population: population of view shards (`omote population --views`), or configuration of a population with a rig.
        ict: folder of ICT-FaceKit, for populations with persons of that family.
        coarse: folder of the coarse regression, which is fitted there once if it is missing.
        engine: length and optimiser of the run; an image is a view set.
        refinement: refinement in the UV map, in a voxel volume, or in the UV map straight from the latents of ``first_stage``.
        num_components, pooled: shape components and pooled view size of the coarse regression.
        features, width, map_widths, volume_widths, passes: as in `ViewsToMesh` and `VolumeToMesh`.
        drop_depth: share of sets without depth.
        faulty: share of sets with the faults of generated images (`with_faults`).
        first_stage: first stage for views, through which some sets are passed with noise (`decoded`); None for none.
        decoded: share of sets passed through the first stage, [0, 1].
        latent_noise: greatest standard deviation of the noise on their latents, in units of what an expression changes in them,
            which is what a denoiser's errors scale with.
        initial: exported network of the same kind and size to start from, or one of views for what a network of latents shares
            with it; None starts untrained.
    """

    population: Path | PopulationConfig
    engine: EngineConfig
    coarse: Path
    ict: Path | None = None
    refinement: Literal["map", "volume", "latents"] = "map"
    num_components: Annotated[int, Range(1)] = 192
    pooled: Annotated[int, Range(1)] = 16
    features: Annotated[int, Range(1)] = 12
    width: Annotated[int, Range(8)] = 48
    map_widths: tuple[int, int, int] = (48, 72, 96)
    volume_widths: tuple[int, int, int] = (16, 32, 48)
    passes: Annotated[int, Range(1)] = 2
    drop_depth: Annotated[float, Range(0, 1)] = 0.2
    faulty: Annotated[float, Range(0, 1)] = 0.5
    first_stage: Path | None = None
    decoded: Annotated[float, Range(0, 1)] = 0.3
    latent_noise: Annotated[float, Range(0, 2)] = 0.7
    initial: Path | None = None

    def __post_init__(self) -> None:
        """Refuse settings that no network can be built from.

        Raises:
            ValueError: refinement from latents without a first stage.
        """
        if self.refinement == "latents" and self.first_stage is None:
            raise ValueError("refinement: latents are of a first stage; give first_stage")


@dataclass(frozen=True, kw_only=True)
class FaceBatch:
    """A batch of view sets with the faces to learn.

    Attributes:
        x: packed views.
        truth: ground-truth vertices of the face in the rig frame, mm.
        given: whether each set has depth.
        odd: whether the person's index is odd, which tells the fold of the regression that was not fitted to the person.
        noise: deviation of the noise on the latents of sets passed through the first stage, in units of the change's deviation.
    """

    x: Float[Tensor, "b v 5 s s"]
    truth: Float[Tensor, "b n 3"]
    given: Bool[Tensor, "b"]
    odd: Bool[Tensor, "b"]
    noise: Float[Tensor, "b"]


class ViewsToMeshModule(nn.Module):
    """The network, with its loss as the forward pass."""

    def __init__(self, network: ViewsToMesh, coarse: Coarse, face: FaceTensors, first_stage: NoisyStage | None) -> None:
        super().__init__()
        self.network = network
        # Frozen and trained in other runs, so not part of this module's state.
        self.frozen = (coarse.folds, face, first_stage)

    def forward(self, batch: FaceBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of the vertices and edges against the ground truth, over all passes."""
        device = next(self.parameters()).device
        folds, face, first_stage = self.frozen
        face = FaceTensors(*(t.to(device) for t in face))
        x, truth, given = batch.x.to(device), batch.truth.to(device), batch.given.to(device)
        if first_stage is not None and isinstance(self.network, LatentsToMesh):
            x = first_stage.latents(x, batch.noise.to(device))
        elif first_stage is not None:
            x = first_stage.through(x, batch.noise.to(device))
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            views = without_depth(self.network.regressed_views(x.float()), given)
            read = regressors(views, self.network.config.pooled)
            # The fold fitted to the other half of the persons.
            fold, depth = (~batch.odd).long().to(device), (~given).long()
            both = torch.einsum("bd,hgdc->bhgc", read, folds.to(device))
            coarse = both[torch.arange(len(x), device=device), fold, depth]
        guesses = self.network(x, face, given=given, coarse=coarse)
        total = torch.zeros((), device=device)
        for number, guess in enumerate(guesses):
            weight = COARSE_WEIGHT if number == 0 else (1.0 if number + 1 == len(guesses) else 0.5)
            total = total + weight * face_loss(guess, truth, face)
        means = {
            f"{name}_mm": (guess.vertices_mm - truth).norm(dim=2)[:, face.region].mean().detach()
            for name, guess in (("coarse", guesses[0]), ("vertex", guesses[-1]))
        }
        return total, means


class NoisyStage:
    """A first stage with noise on its latents, as a denoiser leaves it there.

    Args:
        first_stage: first stage of views.
        change_std: standard deviation, per channel, of what an expression changes in the latents.
    """

    def __init__(self, first_stage: ViewAutoencoder, change_std: Float[Tensor, "d 1 1"]) -> None:
        self.first_stage, self.change_std = first_stage, change_std

    @torch.no_grad()
    def latents(self, x: Float[Tensor, "b v 5 s s"], noise: Float[Tensor, "b"]) -> Float[Tensor, "b v d h w"]:
        """Scaled latents of view sets, with the given noise level for each set; half of its variance is smooth."""
        z = self.first_stage.to(x.device).encoded(x.flatten(0, 1))
        smooth = F.interpolate(torch.randn_like(F.avg_pool2d(z, SMOOTH)), size=z.shape[2:], mode="nearest")
        rough = (smooth + torch.randn_like(z)) / 2**0.5 * self.change_std.to(z)
        z = z.unflatten(0, x.shape[:2])
        return z + noise.view(-1, 1, 1, 1, 1) * rough.unflatten(0, x.shape[:2])

    @torch.no_grad()
    def through(self, x: Float[Tensor, "b v 5 s s"], noise: Float[Tensor, "b"]) -> Float[Tensor, "b v 5 s s"]:
        """View sets, with those of positive noise level replaced by views decoded from noisy latents."""
        chosen = noise > 0
        if not chosen.any():
            return x
        z = self.latents(x[chosen], noise[chosen]).flatten(0, 1)
        out = x.clone()
        decoded = self.first_stage.decoded(z, x[chosen].flatten(0, 1))
        out[chosen] = decoded.unflatten(0, (-1, x.shape[1])).to(out.dtype)
        return out


@torch.no_grad()
def change_deviation(source: ViewSource, first_stage: ViewAutoencoder, seed: int) -> Float[Tensor, "d 1 1"]:
    """Standard deviation, per channel, of the difference between a person's latents with an expression and at rest.

    Raises:
        ConfigError: a person of the population has only one face.
    """
    rest, moved = [], []
    for shard, row, rng in source.drawn(0, seed, MEASURED, 0, 1):
        if shard.num_images < 2:
            raise ConfigError(
                "first_stage: expected a population with two faces of each person or more; give --images 2"
            )
        rest.append(sets_of(shard, [(row, 0)]).x)
        moved.append(sets_of(shard, [(row, int(rng.integers(1, shard.num_images)))]).x)
    change = first_stage.encoded(torch.cat(moved).flatten(0, 1)) - first_stage.encoded(torch.cat(rest).flatten(0, 1))
    return change.std(dim=(0, 2, 3)).clamp_min(1e-3)[:, None, None]


def face_loss(guess: FaceGuess, truth: Float[Tensor, "b n 3"], face: FaceTensors) -> Float[Tensor, ""]:
    """Loss: confidence-weighted vertex distance (mm), edge-vector error, and Laplace likelihood of the expected error."""
    off = guess.vertices_mm - truth
    distance = torch.sqrt((off**2).sum(dim=2) + 1e-4)
    loss = (distance * face.weight).mean() / face.weight.mean()
    edges = off[:, face.edges[:, 0]] - off[:, face.edges[:, 1]]
    # Ten edges span some 20 mm, the scale of shape errors; the error of a single edge would be negligible beside the vertices'.
    loss = loss + EDGE_WEIGHT * 10 * torch.sqrt((edges**2).sum(dim=2) + 1e-6).mean()
    if guess.log_error is not None:
        scale = guess.log_error.clamp(-4, 3)
        loss = loss + ERROR_WEIGHT * (distance.detach() * torch.exp(-scale) + scale).mean()
    return loss


class ViewsToMeshTask(BaseTask):
    """Training of views → mesh as an `omote.engine.loop.Task`.

    Raises:
        ConfigError: the population has persons of a head family whose model is not given.
    """

    module: ViewsToMeshModule

    def __init__(self, config: ViewsToMeshConfig, heads: Sequence[HeadModel]) -> None:
        self.config = config
        self.source = ViewSource(config.population, heads)
        if max(int(shard.head.max()) for shard in self.source.shards) >= len(heads):
            raise ConfigError("ict: expected ICT-FaceKit, of which the population has persons; give --set ict=PATH")
        face = face_map(heads[0])
        self.families: list[FaceFamily] = face_families(heads, face)
        coarse = coarse_at(config, self.source, heads, self.families)
        torch.manual_seed(config.engine.seed)
        first_stage = None
        if config.first_stage is not None:
            first_stage = load_frozen(config.first_stage, self.source.image_size)
        network = network_of(config, self.source, coarse, first_stage)
        noisy = None
        if first_stage is not None:
            noisy = NoisyStage(first_stage, change_deviation(self.source, first_stage, config.engine.seed))
        self.module = ViewsToMeshModule(network, coarse, face.tensors(), noisy)

    def batch(self, step: int, seed: int, size: int, part: int, parts: int) -> FaceBatch:
        """View sets of persons, one face per person."""
        sets, views, given, noise = [], [], [], []
        for shard, row, rng in self.source.drawn(step, seed, size, part, parts):
            one = sets_of(shard, [(row, int(rng.integers(shard.num_images)))])
            sets.append(one)
            views.append(with_faults(one.x, rng, self.config.faulty))
            # Latents always include the depth of their first stage, so there is no depth to drop.
            given.append(self.config.refinement == "latents" or rng.random() >= self.config.drop_depth)
            noise.append(rng.random() * self.config.latent_noise if rng.random() < self.config.decoded else 0.0)
        whole = joined(sets)
        return FaceBatch(
            x=torch.cat(views),
            truth=whole.posed(self.families),
            given=torch.tensor(given),
            odd=whole.person % 2 == 1,
            noise=torch.tensor(noise, dtype=torch.float32),
        )

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Save the averaged weights in diffusers' format."""
        self.averaged("network", weights).save_pretrained(folder / "to_3d")


def coarse_at(
    config: ViewsToMeshConfig, source: ViewSource, heads: Sequence[HeadModel], families: Sequence[FaceFamily]
) -> Coarse:
    """The coarse regression in the configured folder, fitted first if it is missing.

    Raises:
        ConfigError: it is missing, and the population is no folder of shards.
    """
    if not (config.coarse / FILE).is_file():
        if isinstance(config.population, PopulationConfig) or source.tars is not None:
            raise ConfigError(
                f"population: expected a folder of shards, because {config.coarse} is fitted first, to all persons at once; got "
                "persons that are read one by one; make a folder with `omote population`"
            )
        coarse = finish(
            fit_coarse(
                source,
                heads,
                families,
                num_components=config.num_components,
                pooled=config.pooled,
                seed=config.engine.seed,
            ),
            None,
        )
        save_coarse(coarse, config.coarse)
    return load_coarse(config.coarse)


def _stage_sizes(first_stage: ViewAutoencoder) -> dict[str, Any]:
    c: Any = first_stage.config
    return {"learned_channels": c.learned_channels, "stage_widths": tuple(c.widths), "fine_width": c.fine_width}


KINDS = {"map": ViewsToMesh, "volume": VolumeToMesh, "latents": LatentsToMesh}


def network_of(
    config: ViewsToMeshConfig, source: ViewSource, coarse: Coarse, first_stage: ViewAutoencoder | None
) -> ViewsToMesh:
    """The network, untrained or with its initial weights, and with the coarse regression.

    Raises:
        ConfigError: the coarse regression has another rig or number of components, the latents hold no depth, or the initial
            network is another one.
        CheckpointError: missing or damaged initial weights.
    """
    rig, size = source.rig, source.image_size
    if config.refinement == "latents" and (first_stage is None or len(first_stage.channels) != NUM_CHANNELS):
        raise ConfigError("first_stage: expected one of colour and depth (views-cpu-rgbd)")
    network: ViewsToMesh = built(
        KINDS[config.refinement],
        config,
        num_vertices=len(coarse.basis["mean"]),
        sample_size=size,
        **(_stage_sizes(first_stage) if first_stage and config.refinement == "latents" else {}),
        **vars(rig),
    )
    if network.ridge.shape != coarse.ridge.shape:
        raise ConfigError(
            f"{config.coarse}: a regression of shape {tuple(coarse.ridge.shape)}, expected {tuple(network.ridge.shape)}; "
            "give another folder"
        )
    if isinstance(network, LatentsToMesh) and first_stage is not None:
        network.begin_with(first_stage)
    if config.initial is not None:
        begin_from(network, config.initial, ViewsToMesh)
    network.basis.load_state_dict(coarse.basis)
    network.ridge.copy_(coarse.ridge)
    return network
