"""3D → latents: a 3D CNN over coloured points, with features projected into the rig's cameras and no image in between.

    points → occupancy, colour and mean offset in 48³ voxels → 3D CNN → features along each latent ray, weighted by learned
    visibility (as in volume rendering; Mildenhall et al., "NeRF", ECCV 2020, eq. 3) → 2D CNN → V latents

The mean offset of a voxel's points keeps detail that a 5 mm grid would lose.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float, Int
from torch import Tensor, nn

from omote.geometry.camera import FRONT_TARGET_MM
from omote.geometry.rig import NUM_CAMERA, Rig, flattened
from omote.rgbd.autoencoder import ResBlock
from omote.rgbd.codec import DEPTH_SCALE_MM

VOXELS, SIDE_MM = 48, 240.0
NUM_VOXEL = 8
NEAR_MM, FAR_MM, SAMPLES = -120.0, 90.0, 28


@dataclass(frozen=True, kw_only=True)
class ColoredPoints:
    """Surface points of a batch of faces in the rig frame.

    Attributes:
        points_mm: positions of the points, mm.
        colors: colours of the points, [-1, 1].
        item: index of the face that each point belongs to.
        count: number of faces in the batch.
    """

    points_mm: Float[Tensor, "n 3"]
    colors: Float[Tensor, "n 3"]
    item: Int[Tensor, "n"]
    count: int


def points_of_views(x: Float[Tensor, "b v 5 s s"], rig: Rig) -> ColoredPoints:
    """The surface points that registered views show."""
    count, _views, _, size, _ = x.shape
    cameras = rig.cameras(size)
    pixel = torch.arange(size, device=x.device) + 0.5
    v, u = torch.meshgrid(pixel, pixel, indexing="ij")
    focal = float(cameras[0].intrinsics[0, 0])
    ray = torch.stack([(u - size / 2) / focal, (v - size / 2) / focal, torch.ones_like(u)], dim=-1)
    depth = x[:, :, 3] * DEPTH_SCALE_MM + rig.distance_mm
    out = []
    for k, camera in enumerate(cameras):
        matrix = torch.as_tensor(camera.cam_from_world, dtype=torch.float32, device=x.device)
        out.append((ray * depth[:, k, ..., None] - matrix[:3, 3]) @ matrix[:3, :3])
    points, seen = torch.stack(out, dim=1), x[:, :, 4] > 0
    item = torch.arange(count, device=x.device).view(-1, 1, 1, 1).expand_as(seen)
    return ColoredPoints(
        points_mm=points[seen], colors=x[:, :, :3].permute(0, 1, 3, 4, 2)[seen], item=item[seen], count=count
    )


def voxelised(points: ColoredPoints) -> Float[Tensor, "b 8 48 48 48"]:
    """Occupancy, log number of points, mean colour, and mean offset from the voxel centre in voxels."""
    target = torch.as_tensor(FRONT_TARGET_MM, dtype=torch.float32, device=points.points_mm.device)
    place = (points.points_mm - target) / (SIDE_MM / VOXELS) + VOXELS / 2
    cell = place.floor().long()
    inside = ((cell >= 0) & (cell < VOXELS)).all(dim=1)
    place, cell, colors, item = place[inside], cell[inside], points.colors[inside], points.item[inside]
    key = ((item * VOXELS + cell[:, 2]) * VOXELS + cell[:, 1]) * VOXELS + cell[:, 0]
    values = torch.cat([torch.ones_like(place[:, :1]), colors, place - cell - 0.5], dim=1)
    sums = values.new_zeros(points.count * VOXELS**3, 7).index_add_(0, key, values)
    number = sums[:, :1]
    grid = torch.cat([(number > 0).to(sums.dtype), torch.log1p(number) / 3, sums[:, 1:] / number.clamp_min(1)], dim=1)
    return grid.view(points.count, VOXELS, VOXELS, VOXELS, NUM_VOXEL).permute(0, 4, 1, 2, 3).contiguous()


class VoxelEncoder(ModelMixin, ConfigMixin):
    """Scaled latents of V views from coloured points.

    Args:
        latent_size: side of a latent, pixels.
        latent_channels: channels of a view's latent.
        yaw_deg, pitch_deg, distance_mm, field_mm: parameters of the `Rig`.
        widths: channels of the 3D CNN at 48³ and 24³.
        view_width: channels of the 2D CNN.
    """

    @register_to_config
    def __init__(
        self,
        *,
        latent_size: int,
        latent_channels: int,
        yaw_deg: Sequence[float] = Rig.yaw_deg,
        pitch_deg: Sequence[float] = Rig.pitch_deg,
        distance_mm: float = Rig.distance_mm,
        field_mm: float = Rig.field_mm,
        widths: Sequence[int] = (12, 24),
        view_width: int = 64,
    ) -> None:
        super().__init__()
        fine, coarse = widths
        self.fine = nn.Sequential(nn.Conv3d(NUM_VOXEL, fine, 3, padding=1), nn.ReLU())
        self.coarse = nn.Sequential(
            nn.Conv3d(fine, coarse, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv3d(coarse, coarse, 3, padding=1),
            nn.ReLU(),
            nn.Conv3d(coarse, coarse, 3, padding=1),
        )
        felt = fine + coarse
        self.density = nn.Sequential(nn.Linear(felt + 1, 16), nn.ReLU(), nn.Linear(16, 1))
        self.camera = nn.Linear(NUM_CAMERA, view_width)
        # Features, expected depth and coverage of each ray, with 2 × 2 rays per latent pixel.
        self.stem = nn.Conv2d(felt + 2, view_width, 3, stride=2, padding=1)
        self.views = nn.Sequential(
            ResBlock(view_width, view_width),
            ResBlock(view_width, view_width),
            nn.SiLU(),
            nn.Conv2d(view_width, latent_channels, 3, padding=1),
        )
        cameras = self.rig.cameras(2 * latent_size)
        self.register_buffer("matrices", torch.from_numpy(flattened(cameras)), persistent=False)
        self.register_buffer("places", _ray_samples(self.rig, 2 * latent_size), persistent=False)

    matrices: Tensor
    places: Tensor

    @property
    def rig(self) -> Rig:
        """The camera rig of the latents."""
        c: Any = self.config
        return Rig(
            yaw_deg=tuple(c.yaw_deg), pitch_deg=tuple(c.pitch_deg), distance_mm=c.distance_mm, field_mm=c.field_mm
        )

    def forward(self, points: ColoredPoints) -> Float[Tensor, "b v d h w"]:
        """Latents in the scaled units of the first stage."""
        grid = voxelised(points)
        fine = self.fine(grid)
        coarse = self.coarse(fine)
        views, rays, samples, _ = self.places.shape
        place = self.places.view(1, views, rays, samples, 3).expand(points.count, -1, -1, -1, -1)
        occupied = F.grid_sample(grid[:, :1], place, align_corners=False)[:, 0]
        # Empty voxels occlude nothing and show nothing, whatever the network predicts, so that features are read only where
        # there is surface: a few percent of the samples.
        filled = occupied > 0
        item = torch.arange(points.count, device=grid.device).view(-1, 1, 1, 1).expand_as(filled)[filled]
        felt = torch.cat([sampled(level, place[filled], item) for level in (fine, coarse)], dim=1)
        there = F.softplus(self.density(torch.cat([felt, occupied[filled, None]], dim=1))[:, 0]) * occupied[filled]
        density = torch.zeros_like(occupied).masked_scatter(filled, there.to(occupied.dtype))
        through = torch.exp(-torch.cumsum(density, dim=-1) + density)
        weight = through * (1 - torch.exp(-density))
        depth = torch.linspace(-1, 1, samples, device=felt.device, dtype=weight.dtype)
        cover, expected = weight.sum(dim=-1), (weight * depth).sum(dim=-1)
        ray_id = torch.arange(filled[..., 0].numel(), device=grid.device).view(*filled.shape[:3], 1).expand_as(filled)
        seen = felt.new_zeros(filled[..., 0].numel(), felt.shape[1], dtype=weight.dtype)
        seen = seen.index_add(0, ray_id[filled], weight[filled][:, None] * felt.to(weight.dtype))
        ray = torch.cat([seen.view(*cover.shape, -1), expected[..., None], cover[..., None]], dim=-1)
        side = int(rays**0.5)
        maps = ray.view(points.count * views, side, side, -1).permute(0, 3, 1, 2)
        h = self.stem(maps) + self.camera(self.matrices).repeat(points.count, 1)[:, :, None, None]
        out: Tensor = self.views(h)
        return out.unflatten(0, (points.count, views))


def sampled(
    volume: Float[Tensor, "b c d h w"], place: Float[Tensor, "n 3"], item: Int[Tensor, "n"]
) -> Float[Tensor, "n c"]:
    """Trilinear samples of a batch of volumes; ``F.grid_sample`` with places that differ in number between items.

    Args:
        volume: volumes, zero outside.
        place: places (x, y, z) in [-1, 1], as ``align_corners=False`` defines them.
        item: volume of each place.
    """
    _, channels, *shape = volume.shape
    flat = volume.permute(0, 2, 3, 4, 1).reshape(-1, channels)
    size = torch.tensor(shape[::-1], device=place.device)
    at = ((place + 1) * size - 1) / 2
    low = at.floor().long()
    out = flat.new_zeros(len(place), channels)
    for corner in itertools.product((0, 1), repeat=3):
        cell = low + torch.tensor(corner, device=place.device)
        share = (1 - (at - cell).abs()).prod(dim=1) * ((cell >= 0) & (cell < size)).all(dim=1)
        cell = cell.clamp_min(0).minimum(size - 1)
        row = ((item * shape[0] + cell[:, 2]) * shape[1] + cell[:, 1]) * shape[2] + cell[:, 0]
        out = out + share[:, None].to(flat.dtype) * flat[row]
    return out


def _ray_samples(rig: Rig, side: int) -> Float[Tensor, "v r s 3"]:
    """Points along the rays through the side × side pixels of each view, in grid coordinates [-1, 1]."""
    cameras = rig.cameras(side)
    pixel = torch.arange(side) + 0.5
    v, u = torch.meshgrid(pixel, pixel, indexing="ij")
    focal = float(cameras[0].intrinsics[0, 0])
    ray = torch.stack([(u - side / 2) / focal, (v - side / 2) / focal, torch.ones_like(u)], dim=-1).view(-1, 1, 3)
    depth = torch.linspace(NEAR_MM, FAR_MM, SAMPLES).view(1, -1, 1) + rig.distance_mm
    out = []
    for camera in cameras:
        matrix = torch.as_tensor(camera.cam_from_world, dtype=torch.float32)
        world = (ray * depth - matrix[:3, 3]) @ matrix[:3, :3]
        out.append((world - torch.as_tensor(FRONT_TARGET_MM, dtype=torch.float32)) / (SIDE_MM / 2))
    return torch.stack(out)
