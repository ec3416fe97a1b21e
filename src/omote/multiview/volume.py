"""Volumetric alternative to the UV map: views unprojected into voxels around the head, a 3D CNN, and offsets at the vertices.

Bolkart et al., "Instant Multi-View Head Capture through Learnable Registration" (TEMPEH, CVPR 2023), §3.2: each voxel holds the
mean and the variance, over views, of the features at its projections. It refines the same coarse face as `ViewsToMesh`, so that
the two differ only in the refinement.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from jaxtyping import Bool, Float
from torch import Tensor, nn

from omote.geometry.camera import FRONT_TARGET_MM
from omote.geometry.rig import Rig
from omote.multiview.face_map import FaceTensors
from omote.multiview.to_3d import OFFSET_MM, FaceGuess, ViewsToMesh, without_depth
from omote.rgbd.codec import DEPTH_SCALE_MM

VOXELS, SIDE_MM = 32, 240.0
FORWARD_MM = 20.0  # distance of the volume's centre in front of the head's, towards the face
TRUNCATION_MM = 20.0


class VolumeToMesh(ViewsToMesh):
    """Face from registered views, refined in a volume.

    Args:
        num_vertices, num_components, pooled, yaw_deg, pitch_deg, distance_mm, field_mm, sample_size, features, width, passes: as
            in `ViewsToMesh`.
        volume_widths: channels of the 3D CNN at 32³, 16³ and 8³.
    """

    @register_to_config
    def __init__(
        self,
        *,
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
        passes: int = 2,
        volume_widths: Sequence[int] = (16, 32, 48),
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
            passes=passes,
        )

        del self.unet
        a, b, c = volume_widths
        self.first = nn.Sequential(
            nn.Conv3d(2 * (4 + features) + 2, a, 3, padding=1), nn.ReLU(), nn.Conv3d(a, a, 3, padding=1), nn.ReLU()
        )
        self.second = nn.Sequential(
            nn.Conv3d(a, b, 3, stride=2, padding=1), nn.ReLU(), nn.Conv3d(b, b, 3, padding=1), nn.ReLU()
        )
        self.third = nn.Sequential(
            nn.Conv3d(b, c, 3, stride=2, padding=1), nn.ReLU(), nn.Conv3d(c, c, 3, padding=1), nn.ReLU()
        )
        self.up_second = nn.Sequential(nn.Conv3d(c + b, b, 3, padding=1), nn.ReLU())
        self.up_first = nn.Sequential(nn.Conv3d(b + a, a, 3, padding=1), nn.ReLU())

        self.vertex = nn.Parameter(0.1 * torch.randn(num_vertices, 8))
        self.read = nn.Sequential(
            nn.Linear(a + b + c + 8 + 3, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4)
        )
        last = self.read[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

        step = (torch.arange(VOXELS) + 0.5) / VOXELS * 2 - 1
        z, y, x = torch.meshgrid(step, step, step, indexing="ij")
        middle = torch.tensor(FRONT_TARGET_MM, dtype=torch.float32) + torch.tensor([0.0, 0.0, FORWARD_MM])
        self.register_buffer("middle", middle, persistent=False)
        self.register_buffer(
            "voxels", torch.stack([x, y, z], dim=-1).view(-1, 3) * SIDE_MM / 2 + middle, persistent=False
        )

    middle: Tensor
    voxels: Tensor

    def forward(
        self,
        x: Float[Tensor, "b v 5 s s"],
        face: FaceTensors,
        *,
        given: Bool[Tensor, "b"] | None = None,
        coarse: Float[Tensor, "b c"] | None = None,
    ) -> list[FaceGuess]:
        """The face after each pass, the coarse face first; see `ViewsToMesh.forward`."""
        given = torch.ones(len(x), dtype=torch.bool, device=x.device) if given is None else given
        x = without_depth(x, given)
        with torch.autocast(x.device.type, enabled=False):
            coefficients = self.regressed(x.float(), given) if coarse is None else coarse
        correction, features = self.encoder(x, self.matrices)
        with torch.autocast(x.device.type, enabled=False):
            vertices = self.basis(coefficients + correction.float())
        a = self.first(self.unprojected(x, features, given))
        b = self.second(a)
        c = self.third(b)
        b = self.up_second(torch.cat([F.interpolate(c, scale_factor=2.0), b], dim=1))
        a = self.up_first(torch.cat([F.interpolate(b, scale_factor=2.0), a], dim=1))
        guesses = [FaceGuess(vertices_mm=vertices)]
        for _ in range(self.config.passes):
            now = guesses[-1].vertices_mm.detach()
            place = ((now - self.middle) / (SIDE_MM / 2))[:, None, None]
            felt = [F.grid_sample(level.float(), place, align_corners=False)[:, :, 0, 0] for level in (a, b, c)]
            own = self.vertex.expand(len(x), -1, -1)
            read = self.read(
                torch.cat([*(f.transpose(1, 2) for f in felt), own, (now - self.basis.mean) / 20], dim=2)
            ).float()
            guesses.append(FaceGuess(vertices_mm=now + OFFSET_MM * read[..., :3], log_error=read[..., 3]))
        return guesses

    def unprojected(
        self, x: Float[Tensor, "b v 5 s s"], features: Float[Tensor, "b v f h w"], given: Bool[Tensor, "b"]
    ) -> Float[Tensor, "b k 32 32 32"]:
        """Mean and variance over views of colour, truncated ray distance and features at every voxel, and the number of views."""
        count, views = x.shape[:2]
        seen = torch.einsum("vij,nj->vni", self.rotation, self.voxels) + self.translation[:, None]
        grid = (self.focal[:, None, None] * seen[..., :2] / seen[..., 2:]).repeat(count, 1, 1)[:, None].to(x.dtype)

        def at(maps: Tensor) -> Tensor:
            return F.grid_sample(maps.flatten(0, 1), grid.to(maps.dtype), align_corners=False)[:, :, 0].unflatten(
                0, (count, views)
            )

        shown, felt = at(x), at(features)
        before = (shown[:, :, 3] * DEPTH_SCALE_MM + self.config.distance_mm - seen[..., 2]) / TRUNCATION_MM
        before = before.clamp(-1, 1) * given.view(-1, 1, 1)
        inside = (shown[:, :, 4] > 0).to(x.dtype)[:, :, None]
        values = torch.cat([shown[:, :, :3], before[:, :, None], felt.to(x.dtype)], dim=2)
        total = inside.sum(dim=1)
        share = inside / total.clamp_min(1)[:, None]
        mean = (share * values).sum(dim=1)
        variance = (share * (values - mean[:, None]) ** 2).sum(dim=1)
        known = given.view(-1, 1, 1).to(x.dtype).expand(-1, 1, len(self.voxels))
        return torch.cat([mean, variance, total / views, known], dim=1).view(count, -1, VOXELS, VOXELS, VOXELS)
