"""Multi-view editor: source views or latents → edited latents → edited views and vertices of the face.

Candidates 1 and 2 share this editor and differ at both ends: candidate 1 encodes images and reconstructs the face from decoded
images; candidate 2 encodes 3D points and reconstructs the face from latents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from omote.config import Range, check_ranges
from omote.diffusion.flow import guided, initial_noise
from omote.diffusion.sampling import sampled
from omote.diffusion.settings import SamplerName
from omote.engine.weights import load_pretrained
from omote.errors import CheckpointError
from omote.files import reading
from omote.geometry.rig import Rig
from omote.head.expressions import CATEGORIES
from omote.head.model import HeadModel
from omote.multiview.denoiser import (
    NULL_CATEGORY,
    TEXT_WIDTH,
    MultiviewDenoiser,
    ViewConditions,
    ViewUNet,
    depth_maps,
)
from omote.multiview.face_map import FaceMap, face_map
from omote.multiview.first_stage import ViewAutoencoder, ViewFirstStage
from omote.multiview.latents_to_3d import LatentsToMesh
from omote.multiview.stable_diffusion import StableDiffusionViews, load_stage
from omote.multiview.to_3d import ViewsToMesh
from omote.multiview.train_denoiser import UNITS
from omote.multiview.volume import VolumeToMesh
from omote.multiview.voxels import VoxelEncoder, points_of_views
from omote.multiview.words import text_tokens
from omote.rgbd.codec import NUM_CHANNELS
from omote.types import Expression

Candidate = Literal["multiview", "latent-views"]
TextReader = Callable[[Sequence[str]], Tensor]


@dataclass(frozen=True, kw_only=True)
class ViewEditSettings:
    """Settings of a view edit.

    Attributes:
        steps: number of sampler steps.
        sampler: name of the sampler.
        guidance_scale: scale of the guidance by texts and categories; 1 means none. A single step without guidance gives the mean
            of all faces that a condition allows, which is milder than any of them.
        depth_weight: weight of the source depth: 0 ignores it, 1 is as in training, above 1 is guidance by depth.
        source_scale: scale of the guidance by the source views; 1 means none.
        seed: seed of the noise; expression i uses seed + i.
    """

    steps: Annotated[int, Range(1, 1000)] = 1
    sampler: SamplerName = "flow_euler"
    guidance_scale: Annotated[float, Range(0, 20)] = 1.5
    depth_weight: Annotated[float, Range(0, 4)] = 1.0
    source_scale: Annotated[float, Range(0, 20)] = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class EditedFaces:
    """Edited faces of one person.

    Attributes:
        views: packed views of each edit, after those of the person at rest.
        vertices_mm: vertices of each face in the rig frame, mm.
        sigma_mm: expected error of each vertex, mm.
    """

    views: Float[Tensor, "n v 5 s s"]
    vertices_mm: Float[np.ndarray, "n m 3"]
    sigma_mm: Float[np.ndarray, "n m"]


class ViewEditor:
    """The networks of candidate 1 or 2, as an editor.

    Args:
        denoiser: multi-view denoiser, ours or any other that follows the protocol.
        first_stage: first stage of the denoiser's latents.
        to_3d: network that reconstructs the face from decoded views, or from latents (`LatentsToMesh`).
        delta_std: standard deviation, per channel, of the latent difference that is diffused.
        face: face map of the head model.
        encoder: encoder from 3D points to source latents (candidate 2); if None, the source views are encoded.
        read_text: function from texts to the denoiser's text embeddings.
    """

    def __init__(
        self,
        *,
        denoiser: MultiviewDenoiser,
        first_stage: ViewFirstStage,
        to_3d: ViewsToMesh,
        delta_std: Float[Tensor, "d 1 1"],
        face: FaceMap,
        encoder: VoxelEncoder | None = None,
        read_text: TextReader = text_tokens,
    ) -> None:
        self.denoiser, self.first_stage, self.to_3d, self.encoder = denoiser, first_stage, to_3d, encoder
        self.delta_std, self.face, self.read_text = delta_std, face, read_text
        self._face = face.tensors()

    @property
    def rig(self) -> Rig:
        """The camera rig of the source views."""
        return self.denoiser.rig

    @property
    def sample_size(self) -> int:
        """Side of a view, pixels."""
        return self.first_stage.image_size

    @torch.no_grad()
    def edit(
        self, x: Float[Tensor, "v 5 s s"], expressions: Sequence[Expression], settings: ViewEditSettings
    ) -> EditedFaces:
        """Edit the face of a person; the first result is the source itself, passed through the same networks.

        Args:
            x: packed source views.
            expressions: target expressions; each is conditioned on its text if it has one, otherwise on its category.
            settings: settings of the edit.
        """
        source = self.source_latents(x)
        conditions = self.conditions(x, source, expressions)
        shape = tuple(source.shape)
        noise = initial_noise(shape, [settings.seed + i for i in range(len(expressions))])
        z = self._sampled(conditions, noise, settings)
        changed = source[None] + z * self.delta_std if self.denoiser.diffuses_change else z
        z = torch.cat([source[None], changed])
        views = self.first_stage.decoded(z.flatten(0, 1), x.repeat(len(z), 1, 1, 1)).unflatten(0, z.shape[:2])
        vertices, sigma = self.faces(z, views)
        return EditedFaces(views=views, vertices_mm=vertices, sigma_mm=sigma)

    def source_latents(self, x: Float[Tensor, "v 5 s s"]) -> Float[Tensor, "v d h w"]:
        """Latents of the source, encoded from its views or straight from its surface points."""
        if self.encoder is None:
            return self.first_stage.encoded(x)
        found: Tensor = self.encoder(points_of_views(x[None], self.rig))[0]
        return found

    def conditions(
        self, x: Float[Tensor, "v 5 s s"], source: Float[Tensor, "v d h w"], expressions: Sequence[Expression]
    ) -> ViewConditions:
        """The denoiser's conditions for each expression."""
        count = len(expressions)
        written = [i for i, e in enumerate(expressions) if e.text is not None]
        text = torch.zeros(count, TEXT_WIDTH)
        if written:
            found = self.read_text([expressions[i].text or "" for i in written]).float()
            text = found.new_zeros(count, *found.shape[1:])
            text[written] = found
        has_text = torch.zeros(count, dtype=torch.bool)
        has_text[written] = True
        category = [NULL_CATEGORY if e.text is not None else CATEGORIES.index(e.category) for e in expressions]
        every = torch.ones(count, dtype=torch.bool)
        return ViewConditions(
            source=source.expand(count, *source.shape),
            depth=depth_maps(x[None], self.denoiser.latent_size).expand(count, -1, -1, -1, -1),
            category=torch.tensor(category),
            intensity=torch.tensor([float(e.intensity) for e in expressions]),
            text=text,
            has_source=every,
            has_depth=every,
            has_text=has_text,
        )

    def _sampled(
        self, conditions: ViewConditions, noise: Float[Tensor, "n v d h w"], settings: ViewEditSettings
    ) -> Float[Tensor, "n v d h w"]:
        def by(given: ViewConditions) -> Callable[[Tensor, Tensor], Tensor]:
            return lambda z, t: self.denoiser.velocity(z, t, given)

        velocity = guided(
            by(conditions),
            by(conditions.without("words")),
            settings.guidance_scale,
            source_free=by(conditions.without("words", "source")),
            source_scale=settings.source_scale,
            partial=[(by(conditions.without("depth")), settings.depth_weight)],
        )
        z = noise
        seeds = [settings.seed + i for i in range(len(noise))]
        for step in sampled(velocity, noise, settings.steps, settings.sampler, seeds=seeds):
            z = step.z
        return z

    def faces(
        self, z: Float[Tensor, "n v d h w"], views: Float[Tensor, "n v 5 s s"]
    ) -> tuple[Float[np.ndarray, "n m 3"], Float[np.ndarray, "n m"]]:
        """Vertices of the face and their expected errors (mm), from latents or from decoded views."""
        if isinstance(self.to_3d, LatentsToMesh):
            guess = self.to_3d(z, self._face)[-1]
        else:
            # A first stage of colour alone keeps the source's depth, which does not show the edit.
            depth = len(self.first_stage.channels) == NUM_CHANNELS
            guess = self.to_3d(views, self._face, given=torch.full((len(views),), depth))[-1]
        assert guess.log_error is not None
        return guess.vertices_mm.numpy(), torch.exp(guess.log_error.clamp(-4, 3)).numpy()


def load_view_editor(folder: Path, head: HeadModel) -> ViewEditor:
    """Load the networks in a folder: ``denoiser``, ``first_stage``, ``to_3d`` and, for candidate 2, ``encoder``.

    Args:
        folder: folder of a run's export, with ``to_3d`` added.
        head: head model that the face map is made from.

    Raises:
        CheckpointError: a network is missing or damaged, or its rig or latents differ from those of the others.
    """
    hint = (
        "train it with candidate1-cpu or candidate2-cpu, and put the export of to3d-cpu beside it (docs/candidates.md)"
    )

    denoiser: Any = load_pretrained(ViewUNet, folder / "denoiser", StableDiffusionViews, hint=hint)
    first_stage: Any
    if isinstance(denoiser, StableDiffusionViews):
        first_stage, read_text = load_stage(folder / "first_stage", denoiser.latent_size), denoiser.read_texts
    else:
        first_stage, read_text = load_pretrained(ViewAutoencoder, folder / "first_stage", hint=hint), text_tokens
    denoiser, first_stage = denoiser.float().eval(), first_stage.float().eval()
    to_3d = load_pretrained(ViewsToMesh, folder / "to_3d", VolumeToMesh, LatentsToMesh, hint=hint).float().eval()

    encoder = None
    if (folder / "encoder").is_dir():
        encoder = load_pretrained(VoxelEncoder, folder / "encoder", hint=hint).float().eval()
    with reading(folder / "denoiser" / UNITS, CheckpointError, "damaged", hint):
        delta_std = load_file(folder / "denoiser" / UNITS)["delta_std"].float()

    face = face_map(head)
    for name, network in (("to_3d", to_3d), ("encoder", encoder)):
        if network is not None and network.rig != denoiser.rig:
            raise CheckpointError(f"{folder / name}: of another rig than the denoiser; train both on one population")
    if denoiser.latent_channels != first_stage.latent_channels or len(to_3d.basis.mean) != len(face.ids):
        raise CheckpointError(f"{folder}: networks that do not belong together; export them again")

    return ViewEditor(
        denoiser=denoiser,
        first_stage=first_stage,
        to_3d=to_3d,
        delta_std=delta_std,
        face=face,
        encoder=encoder,
        read_text=read_text,
    )
