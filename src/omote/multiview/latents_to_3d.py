"""CNN from latents straight to 3D (candidate 2): `ViewsToMesh` behind a few layers that upsample the latents.

The pooled channels of a first stage's latent are the views at 16², which the coarse regression reads unchanged. The upsampled
maps are trained through the loss on the face alone, and are not images.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from jaxtyping import Bool, Float
from torch import Tensor, nn

from omote.geometry.rig import Rig
from omote.multiview.face_map import FaceTensors
from omote.multiview.first_stage import FACTOR
from omote.multiview.to_3d import FaceGuess, ViewsToMesh
from omote.rgbd.codec import NUM_CHANNELS

RAISED = 4  # resolution of the upsampled maps, relative to the latent


class LatentsToMesh(ViewsToMesh):
    """Face from latents.

    Args:
        latent_channels: channels of a view's latent, the pooled ones first.
        num_vertices, num_components, pooled, yaw_deg, pitch_deg, distance_mm, field_mm, features, width, map_widths, passes: as
            in `ViewsToMesh`.
        sample_size: side of the views that the latents encode, pixels.
    """

    @register_to_config
    def __init__(
        self,
        *,
        latent_channels: int,
        num_vertices: int,
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
            sample_size=sample_size // FACTOR * RAISED,
            features=features,
            width=width,
            map_widths=map_widths,
            passes=passes,
        )
        # The parent's registration has overwritten the requested value.
        self.register_to_config(sample_size=sample_size)
        self.register_buffer("pooled_mean", torch.zeros(NUM_CHANNELS, 1, 1))
        self.register_buffer("pooled_std", torch.ones(NUM_CHANNELS, 1, 1))
        last = nn.Conv2d(width, NUM_CHANNELS * RAISED**2, 3, padding=1)
        nn.init.zeros_(last.weight)
        assert last.bias is not None
        nn.init.zeros_(last.bias)
        self.raising = nn.Sequential(
            nn.Conv2d(latent_channels, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            last,
        )

    pooled_mean: Tensor
    pooled_std: Tensor

    def regressed_views(self, z: Float[Tensor, "b v d h w"]) -> Float[Tensor, "b v 5 h w"]:
        """The pooled channels of the latents, unscaled."""
        return z[:, :, :NUM_CHANNELS] * self.pooled_std + self.pooled_mean

    def forward(
        self,
        z: Float[Tensor, "b v d h w"],
        face: FaceTensors,
        *,
        given: Bool[Tensor, "b"] | None = None,
        coarse: Float[Tensor, "b c"] | None = None,
    ) -> list[FaceGuess]:
        """The face after each pass, from scaled latents; see `ViewsToMesh.forward`."""
        pooled = self.regressed_views(z)
        if coarse is None:
            with torch.autocast(z.device.type, enabled=False):
                coarse = self.regressed(pooled.float(), torch.ones(len(z), dtype=torch.bool, device=z.device))
        base = F.interpolate(pooled.flatten(0, 1), scale_factor=float(RAISED), mode="bilinear", align_corners=False)
        raised = base + F.pixel_shuffle(self.raising(z.flatten(0, 1)), RAISED)
        return super().forward(raised.unflatten(0, z.shape[:2]), face, given=given, coarse=coarse)
