"""CNN from registered views to 3D: the vertices of the face in correspondence.

    views x (b, v, 5, s, s) → coefficients (ridge regression + correction by a per-view CNN) → coarse face
                            → features of every view at the face's projected texels → UV map → U-Net → offset and confidence

The coarse face is a linear regression from the views at 16², which a CNN trained on as much data does not match
(docs/candidates.md); the CNN learns the residual. Each pass samples colour, CNN features and, for views with depth, the signed
distance from the face to the measured surface at the vertices of the previous pass (as Li et al., "ToFu", ICCV 2021, refine from
volumes). Without depth, a view still contributes colour and features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Bool, Float
from torch import Tensor, nn

from omote.geometry.rig import NUM_CAMERA, Rig, flattened
from omote.multiview.basis import NUM_POSE, FaceBasis
from omote.multiview.face_map import FaceTensors
from omote.rgbd.codec import DEPTH, DEPTH_SCALE_MM, NUM_CHANNELS

LUMA = (0.299, 0.587, 0.114)
REACH_MM = 12.0  # a measurement farther from the face than this is of another surface
OFFSET_MM = 5.0  # offset for a U-Net output of 1
PATCH = 4


@dataclass(frozen=True, kw_only=True)
class FaceGuess:
    """The face after one pass.

    Attributes:
        vertices_mm: vertices of the `FaceMap` in the rig frame, mm.
        log_error: log of the expected error in mm at each vertex; None for the coarse face.
    """

    vertices_mm: Float[Tensor, "b n 3"]
    log_error: Float[Tensor, "b n"] | None = None


def regressors(x: Float[Tensor, "b v 5 s s"], pooled: int) -> Float[Tensor, "b d"]:
    """Regressors of the ridge regression: brightness, depth and mask of the views pooled to ``pooled``², and a constant 1."""
    luma = (x[:, :, :3] * x.new_tensor(LUMA).view(1, 1, 3, 1, 1)).sum(dim=2, keepdim=True)
    read = torch.cat([luma, x[:, :, 3:]], dim=2)
    small = F.avg_pool2d(read.flatten(0, 1), x.shape[-1] // pooled).reshape(len(x), -1)
    return torch.cat([small, small.new_ones(len(x), 1)], dim=1)


def without_depth(x: Float[Tensor, "b v 5 s s"], given: Bool[Tensor, "b"]) -> Float[Tensor, "b v 5 s s"]:
    """Views with the depth channel set to zero where depth is not given."""
    kept = given.view(-1, 1, 1, 1, 1).to(x.dtype)
    return torch.cat([x[:, :, :3], x[:, :, DEPTH] * kept, x[:, :, 4:]], dim=2)


class ViewsToMesh(ModelMixin, ConfigMixin):
    """Face from registered views.

    Args:
        num_vertices: number of vertices of the face map.
        num_components: number of shape components of the coarse face.
        pooled: side of the pooled views that the regression reads, pixels.
        yaw_deg: of each view of the `Rig`.
        pitch_deg: of each view.
        distance_mm: of the cameras.
        field_mm: width that each camera sees.
        sample_size: side of a view, pixels.
        features: number of CNN channels that are sampled at the texels.
        width: channels of the CNN at s/4.
        map_widths: channels of the U-Net at S/2, S/4 and S/8.
        passes: number of refinement passes, which share their weights.
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
        map_widths: Sequence[int] = (48, 72, 96),
        passes: int = 2,
    ) -> None:
        super().__init__()
        views = len(yaw_deg)
        self.basis = FaceBasis(num_vertices, num_components)
        num_coefficients = num_components + NUM_POSE
        read = views * 3 * pooled**2 + 1
        # One regression for views with depth, and one for views without.
        self.register_buffer("ridge", torch.zeros(2, read, num_coefficients, dtype=torch.float16))
        self.encoder = ViewEncoder(views, width, features, num_coefficients, sample_size)
        seen = views * 5 + 2 * features + 3 + 3 + 3
        self.unet = MapUNet(4 * seen, 4 * 4, map_widths)
        cameras = self.rig.cameras(sample_size)
        for name, value in (
            ("rotation", np.stack([c.cam_from_world[:3, :3] for c in cameras])),
            ("translation", np.stack([c.cam_from_world[:3, 3] for c in cameras])),
            # Focal length in units of half the image, the coordinates of `grid_sample`.
            ("focal", np.array([2 * c.intrinsics[0, 0] / sample_size for c in cameras])),
            ("matrices", flattened(cameras)),
        ):
            self.register_buffer(name, torch.from_numpy(value.astype(np.float32)), persistent=False)

    rotation: Tensor
    translation: Tensor
    focal: Tensor
    matrices: Tensor
    ridge: Tensor

    @property
    def rig(self) -> Rig:
        """The camera rig of the views."""
        c: Any = self.config
        return Rig(
            yaw_deg=tuple(c.yaw_deg), pitch_deg=tuple(c.pitch_deg), distance_mm=c.distance_mm, field_mm=c.field_mm
        )

    def regressed(self, x: Float[Tensor, "b v 5 s s"], given: Bool[Tensor, "b"]) -> Float[Tensor, "b c"]:
        """Coefficients from ridge regression alone.

        Args:
            x: packed views, with zero depth where depth is not given.
            given: whether each set has depth.
        """
        weights, read = self.ridge.to(x.dtype), regressors(x, self.config.pooled)
        return torch.where(given[:, None], read @ weights[0], read @ weights[1])

    def regressed_views(self, x: Float[Tensor, "b v 5 s s"]) -> Float[Tensor, "b v 5 s s"]:
        """The part of the network's input that the coarse regression reads, as views."""
        return x

    def forward(
        self,
        x: Float[Tensor, "b v 5 s s"],
        face: FaceTensors,
        *,
        given: Bool[Tensor, "b"] | None = None,
        coarse: Float[Tensor, "b c"] | None = None,
    ) -> list[FaceGuess]:
        """The face after each pass, the coarse face first.

        Args:
            x: packed views from the rig's cameras.
            face: face map of the head model.
            given: whether each set has depth to read; if None, all have.
            coarse: coefficients of the coarse face before the CNN's correction; if None, those of `regressed`.
        """
        given = torch.ones(len(x), dtype=torch.bool, device=x.device) if given is None else given
        x = without_depth(x, given)
        with torch.autocast(x.device.type, enabled=False):
            coefficients = self.regressed(x.float(), given) if coarse is None else coarse
        correction, features = self.encoder(x, self.matrices)
        # Geometry in float32 under any autocast: half precision resolves head coordinates only to a millimetre.
        with torch.autocast(x.device.type, enabled=False):
            vertices = self.basis(coefficients + correction.float())
        guesses = [FaceGuess(vertices_mm=vertices)]
        for _ in range(self.config.passes):
            with torch.autocast(x.device.type, enabled=False):
                seen, pull = self.gathered(x.float(), features.float(), guesses[-1].vertices_mm.detach(), face, given)
            out = F.pixel_shuffle(self.unet(F.pixel_unshuffle(seen, 2)), 2).float()
            read = face.read(torch.cat([OFFSET_MM * out[:, :3] + pull, out[:, 3:]], dim=1))
            guesses.append(
                FaceGuess(vertices_mm=guesses[-1].vertices_mm.detach() + read[..., :3], log_error=read[..., 3])
            )
        return guesses

    def gathered(
        self,
        x: Float[Tensor, "b v 5 s s"],
        features: Float[Tensor, "b v c h w"],
        vertices: Float[Tensor, "b n 3"],
        face: FaceTensors,
        given: Bool[Tensor, "b"],
    ) -> tuple[Float[Tensor, "b k S S"], Float[Tensor, "b 3 S S"]]:
        """Features of the views at a face's texels, and the offset (mm) towards the surface that the views measured."""
        count, views = x.shape[:2]
        points, normals = face.surface(vertices)
        seen = torch.einsum("vij,bmj->bvmi", self.rotation, points) + self.translation[:, None]
        grid = self.focal[:, None, None] * seen[..., :2] / seen[..., 2:]
        flat = grid.flatten(0, 1)[:, None]

        def at(maps: Tensor) -> Tensor:
            return F.grid_sample(maps.flatten(0, 1), flat, align_corners=False)[:, :, 0].unflatten(0, (count, views))

        shown, felt = at(x), at(features)
        # Ray to each texel, scaled to unit z; the measured point lies on it.
        ray = torch.einsum("vji,bvmj->bvmi", self.rotation, seen / seen[..., 2:])
        along = (ray * normals[:, None]).sum(dim=-1)
        cosine = (-along / ray.norm(dim=-1)).clamp_min(0)
        deeper = shown[:, :, 3] * DEPTH_SCALE_MM + self.config.distance_mm - seen[..., 2]
        depth_known = given.view(-1, 1, 1)
        on_face = (shown[:, :, 4] > 0) & ((deeper.abs() < REACH_MM) | ~depth_known)
        weight = cosine * on_face
        distance = torch.where(on_face & depth_known, (deeper * along).clamp(-REACH_MM, REACH_MM), 0.0)
        total = weight.sum(dim=1)
        share = (weight / total.clamp_min(1e-3)[:, None])[:, :, None]
        pull = (share[:, :, 0] * distance).sum(dim=1)[..., None] * normals
        mean = (share * felt).sum(dim=1)
        variance = (share * (felt - mean[:, None]) ** 2).sum(dim=1)
        typical = self.basis.mean[face.corners]
        typical = (typical * face.shares[:, :, None]).sum(dim=1)
        parts = [
            (points - typical) / 20,
            normals,
            (shown[:, :, :3] * on_face[:, :, None]).flatten(1, 2).transpose(1, 2),
            weight.transpose(1, 2),
            distance.transpose(1, 2) / OFFSET_MM,
            mean.transpose(1, 2),
            variance.transpose(1, 2),
            total[..., None],
            depth_known.expand(-1, points.shape[1], 1).to(points.dtype),
            torch.ones_like(points[..., :1]),
        ]
        return face.drawn(torch.cat(parts, dim=2)), face.drawn(pull)


class ViewEncoder(nn.Module):
    """Per-view CNN: features of each view at s/4, and one correction of the coefficients from all views.

    Normalisation only at s/16: on larger maps it costs more than the convolutions.
    """

    def __init__(self, views: int, width: int, features: int, num_coefficients: int, size: int) -> None:
        super().__init__()
        self.camera = nn.Linear(NUM_CAMERA, width)
        self.stem = nn.Conv2d(NUM_CHANNELS * PATCH**2, width, 3, padding=1)
        self.block = nn.Sequential(nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))
        self.to_features = nn.Conv2d(width, features, 1)
        self.down = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(width, width + width // 3, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width + width // 3, 2 * width, 3, stride=2, padding=1),
            nn.GroupNorm(8, 2 * width),
            nn.ReLU(),
        )
        side = size // PATCH // 4
        self.per_view = nn.Linear(2 * width * side**2, 64)
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(64 * views, 256), nn.ReLU(), nn.Linear(256, num_coefficients))
        last: Any = self.head[-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(
        self, x: Float[Tensor, "b v 5 s s"], matrices: Float[Tensor, "v 16"]
    ) -> tuple[Float[Tensor, "b c"], Float[Tensor, "b v f h w"]]:
        """Correction of the coefficients, and features, from views and their flattened camera matrices."""
        count, views = x.shape[:2]
        h = self.stem(F.pixel_unshuffle(x.flatten(0, 1), PATCH))
        h = h + self.camera(matrices).repeat(count, 1)[:, :, None, None]
        h = h + self.block(h)
        features = self.to_features(h).unflatten(0, (count, views))
        return self.head(self.per_view(self.down(h).flatten(1)).view(count, -1)), features


class MapUNet(nn.Module):
    """A U-Net over the face map with three resolutions, whose output is zero at initialisation."""

    def __init__(self, channels_in: int, channels_out: int, widths: Sequence[int]) -> None:
        super().__init__()
        a, b, c = widths
        self.first = nn.Sequential(
            nn.Conv2d(channels_in, a, 3, padding=1), nn.ReLU(), nn.Conv2d(a, a, 3, padding=1), nn.ReLU()
        )
        self.second = nn.Sequential(
            nn.Conv2d(a, b, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(b, b, 3, padding=1), nn.ReLU()
        )
        self.third = nn.Sequential(
            nn.Conv2d(b, c, 3, stride=2, padding=1), nn.GroupNorm(8, c), nn.ReLU(),
            nn.Conv2d(c, c, 3, padding=1), nn.ReLU(), nn.Conv2d(c, c, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.up_second = nn.Sequential(
            nn.Conv2d(c + b, b, 3, padding=1), nn.ReLU(), nn.Conv2d(b, b, 3, padding=1), nn.ReLU()
        )
        self.up_first = nn.Sequential(
            nn.Conv2d(b + a, a, 3, padding=1), nn.ReLU(), nn.Conv2d(a, a, 3, padding=1), nn.ReLU()
        )
        self.last = nn.Conv2d(a, channels_out, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h w"]:
        """Output map from an input map."""
        a = self.first(x)
        b = self.second(a)
        b = self.up_second(torch.cat([F.interpolate(self.third(b), scale_factor=2.0), b], dim=1))
        out: Tensor = self.last(self.up_first(torch.cat([F.interpolate(b, scale_factor=2.0), a], dim=1)))
        return out
