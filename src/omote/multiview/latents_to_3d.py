"""CNN from latents straight to 3D (candidate 2): `ViewsToMesh` behind layers that raise latents to the views' resolution.

The coarse regression reads the latents' pooled channels, which are the views at 16². The layers begin as the first stage's
decoder and are trained through the loss on the face alone: what they give is read as views are, but need not look like them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.configuration_utils import register_to_config
from jaxtyping import Bool, Float
from torch import Tensor, nn

from omote.geometry.rig import Rig
from omote.multiview.face_map import FaceTensors
from omote.multiview.first_stage import ViewAutoencoder
from omote.multiview.to_3d import FaceGuess, ViewsToMesh
from omote.rgbd.codec import NUM_CHANNELS


class LatentsToMesh(ViewsToMesh):
    """Face from latents.

    Args:
        learned_channels, stage_widths, fine_width: as in the `ViewAutoencoder` of colour and depth whose latents are read.
        num_vertices, num_components, pooled, yaw_deg, pitch_deg, distance_mm, field_mm, sample_size, features, width, map_widths,
            passes: as in `ViewsToMesh`; ``sample_size`` is the side of the views that the latents encode.
    """

    @register_to_config
    def __init__(
        self,
        *,
        num_vertices: int,
        learned_channels: int = 8,
        stage_widths: Sequence[int] = (64, 96),
        fine_width: int = 32,
        num_components: int = 192,
        pooled: int = 16,
        yaw_deg: Sequence[float] = Rig.yaw_deg,
        pitch_deg: Sequence[float] = Rig.pitch_deg,
        distance_mm: float = Rig.distance_mm,
        field_mm: float = Rig.field_mm,
        sample_size: int = 128,
        features: int = 12,
        width: int = 48,
        map_widths: Sequence[int] = (48, 72, 96),
        passes: int = 2,
    ) -> None:
        super().__init__(
            num_vertices=num_vertices,
            num_components=num_components,
            pooled=pooled,
            yaw_deg=yaw_deg,
            pitch_deg=pitch_deg,
            distance_mm=distance_mm,
            field_mm=field_mm,
            sample_size=sample_size,
            features=features,
            width=width,
            map_widths=map_widths,
            passes=passes,
        )
        self.raising = ViewAutoencoder(
            modality="rgbd",
            sample_size=sample_size,
            learned_channels=learned_channels,
            widths=stage_widths,
            fine_width=fine_width,
        )
        self.raising.encoder = nn.Sequential()  # never encodes

    def begin_with(self, first_stage: ViewAutoencoder) -> None:
        """Take a first stage's decoder, and the units of its latents, as the first layers."""
        weights = first_stage.state_dict()
        self.raising.load_state_dict({k: v for k, v in weights.items() if not k.startswith("encoder.")})

    def regressed_views(self, z: Float[Tensor, "b v d h w"]) -> Float[Tensor, "b v 5 h w"]:
        """The pooled channels of the latents, unscaled."""
        stage: Any = self.raising
        return z[:, :, :NUM_CHANNELS] * stage.latent_std[:NUM_CHANNELS] + stage.latent_mean[:NUM_CHANNELS]

    def forward(
        self,
        z: Float[Tensor, "b v d h w"],
        face: FaceTensors,
        *,
        given: Bool[Tensor, "b"] | None = None,
        coarse: Float[Tensor, "b c"] | None = None,
    ) -> list[FaceGuess]:
        """The face after each pass, from scaled latents; see `ViewsToMesh.forward`."""
        if coarse is None:
            with torch.autocast(z.device.type, enabled=False):
                every = torch.ones(len(z), dtype=torch.bool, device=z.device)
                coarse = self.regressed(self.regressed_views(z.float()), every)
        raised = self.raising.decoded(z.flatten(0, 1)).unflatten(0, z.shape[:2])
        return super().forward(raised, face, given=given, coarse=coarse)
